"""Training without a class of one's own: a network by name, from a checkpoint, by the recipe."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from checkpoints.test_slim_names import write_as_slim
from tf_image_classification import backbones
from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.cli import export as export_verb
from tf_image_classification.cli import train as train_verb
from tf_image_classification.config import BackboneSettings, make_settings
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.labels import Label
from tf_image_classification.optim.param_groups import rate_factors
from tf_image_classification.train_estimator import train
from tf_image_classification.workflows.setup import backbone_spec, context, recipe, run_data
from tf_image_classification.workflows.setup.context import make_context

NETWORK, SIZE = "mobilenet_v1_025", 32


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Class folders with images whose colour says their class, and a checkpoint."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.RandomState(0)
    for split, count in (("train", 12), ("eval", 5)):
        for number, name in enumerate(("blue", "green", "red")):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                image = random.randint(0, 120, [36, 44, 3], np.uint8)
                image[..., 2 - number] += 60
                path = folder / split / name / f"{i}.png"
                path.write_bytes(tf.io.encode_png(image).numpy())
    keras.utils.clear_session(free_memory=False)
    network = backbones.create(NETWORK, (SIZE, SIZE, 3), outputs=1001)
    for variable in network.trainable_variables:  # large enough for the signal to come through
        if variable.path.endswith("kernel"):
            inputs = 9 if "_dw_" in variable.path else int(np.prod(variable.shape[:-1]))
            variable.assign(random.normal(0, (2 / inputs) ** 0.5, variable.shape))
    checkpoint, _ = write_as_slim(network, folder / "model.ckpt")
    return {"train": str(folder / "train"), "eval": str(folder / "eval"), "from": checkpoint,
            "cache": str(folder / "cache")}  # fmt: skip


def settings_for(pictures, model_dir, **changes):
    defaults = {
        "backbone": NETWORK, "train_metadata": [pictures["train"]],
        "eval_metadata": [pictures["eval"]], "model_dir": str(model_dir),
        "checkpoint_path": pictures["from"], "cache_dir": pictures["cache"], "progress": False,
        "image_size": SIZE, "batch_size": 12, "train_steps": 6, "save_summary_steps": 0,
        "export_saved_model": False, "strategy": "one_device", "eval_every_steps": 6,
    }  # fmt: skip
    return backbone_spec.backbone_settings(make_settings(defaults | changes))


def run(pictures, model_dir, **changes):
    settings = settings_for(pictures, model_dir, **changes)
    result = train(backbone_spec.make_backbone_spec(settings), settings)
    return result, tiny_runs.last_checkpoint(model_dir)


def test_each_source_is_found_once_in_a_run(pictures, tmp_path, monkeypatch):
    found = []
    find = context.find_examples
    monkeypatch.setattr(
        context,
        "find_examples",
        lambda patterns, **more: found.append(patterns) or find(patterns, **more),
    )
    settings, sources = settings_for(pictures, tmp_path, recipe="auto"), context.Sources()
    spec = backbone_spec.make_backbone_spec(settings, sources)
    settled, _ = recipe.settle(make_context(spec, settings, sources=sources))
    data = run_data.read_data(settled)
    assert data.train.num_examples == 36 and data.evaluation.num_examples == 15
    assert sorted(map(tuple, found)) == sorted([(pictures["train"],), (pictures["eval"],)])


@pytest.mark.slow
def test_the_verb_trains_a_network_by_its_name(pictures, tmp_path, capsys):
    line = f"--backbone {NETWORK} --train_metadata {pictures['train']} --image_size {SIZE} "
    line += f"--checkpoint_path {pictures['from']} --model_dir {tmp_path} --train_steps 1 "
    line += f"--cache_dir {pictures['cache']} --noprogress --nohead_phase --noexport_saved_model"
    assert train_verb.main(line.split()) == 0
    printed = capsys.readouterr().out
    assert "recipe auto chooses:\n" in printed and "135 variables loaded" in printed
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["labels"][0]["class_names"] == ["blue", "green", "red"]
    assert record["origins"]["train_steps"] == "flag"
    assert tiny_runs.last_checkpoint(tmp_path).step == 1


@pytest.mark.slow
def test_a_folder_and_a_checkpoint_are_enough(pictures, tmp_path, capsys, monkeypatch):
    line = f"--backbone {NETWORK} --train_metadata {pictures['train']} --eval_metadata "
    line += f"{pictures['eval']} --checkpoint_path {pictures['from']} --image_size {SIZE} "
    line += f"--model_dir {tmp_path} --cache_dir {pictures['cache']} --train_steps 4 --noprogress"
    assert train_verb.main(line.split()) == 0
    printed = capsys.readouterr().out
    assert "recipe auto chooses:\n" in printed and "head_phase = True: " in printed
    assert "epochs" not in printed.partition("warm start")[0].partition("recipe")[2].split("=")[0]
    assert "135 variables loaded" in printed and "2 new for these classes" in printed
    assert re.search(
        r"fitted to the features of 36 images: label \d+\.\d% right in 3-fold", printed
    )
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["labels"][0]["class_names"] == ["blue", "green", "red"]
    assert record["settings"]["head_phase"] is True and record["origins"]["head_phase"] == "recipe"
    assert record["origins"]["train_steps"] == "flag"
    report = json.loads((tmp_path / "warm_start.json").read_text())
    assert "logits/kernel" in report["mismatched"][0]
    exported = tf.saved_model.load(str(tmp_path / "saved_model"))
    with open(os.path.join(pictures["eval"], "red", "0.png"), "rb") as stream:
        found = exported.serve(tf.constant([stream.read()]))
    assert found["label"].numpy().tolist() == [2]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["accuracy"] > 0.7
    monkeypatch.setenv("XDG_CACHE_HOME", pictures["cache"])
    assert export_verb.main([str(tmp_path), "--format", "keras"]) == 0  # the record has its spec
    path = tmp_path / "exports" / "keras" / "model.keras"
    assert keras.saving.load_model(path, compile=False).output_shape == (None, 3)


@pytest.mark.exhaustive
def test_a_run_that_goes_on_ends_with_the_same_bits(pictures, tmp_path):
    fixed = {"learning_rate_decay_type": "fixed", "warmup_steps": 0}
    _, straight = run(pictures, tmp_path / "straight", **fixed)
    run(pictures, tmp_path / "parts", train_steps=3, **fixed)
    _, parts = run(pictures, tmp_path / "parts", **fixed)
    tiny_runs.assert_same_bits(parts, straight)


def start_of(model_dir):
    return CheckpointStore(os.path.join(str(model_dir), "checkpoints"), -1).load(0).tensors


@pytest.mark.slow
def test_fitted_outputs_predict_before_the_first_step(pictures, tmp_path):
    result, end = run(
        pictures, tmp_path / "m", train_steps=1, learning_rate=0.0, eval_every_steps=1,
        moving_average_decay=0.0, learning_rate_decay_type="fixed", warmup_steps=0,
    )  # fmt: skip
    assert result.metrics["accuracy"] > 0.7
    start = start_of(tmp_path / "m")
    assert np.array_equal(start["model/logits/kernel"], end.tensors["model/logits/kernel"])
    assert list(Path(pictures["cache"], "features").glob("*/*.npz"))
    _, plain = run(pictures, tmp_path / "plain", train_steps=1, head_phase=False, learning_rate=0.0)
    assert not np.array_equal(start["model/logits/kernel"], plain.tensors["model/logits/kernel"])


@pytest.mark.slow
def test_fitted_outputs_are_the_same_with_a_cache_that_has_some_of_the_features(
    pictures, tmp_path, capsys
):
    def kernel(name, **changes):
        changes = {"cache_dir": str(tmp_path / "cache"), "train_steps": 1} | changes
        run(pictures, tmp_path / name, **changes)
        return start_of(tmp_path / name)["model/logits/kernel"], capsys.readouterr().out

    fewer = tmp_path / "fewer"
    shutil.copytree(pictures["train"], fewer)
    for path in sorted(fewer.rglob("*.png"))[::2]:
        path.unlink()
    _, text = kernel("some", train_metadata=[str(fewer)])
    assert "18 images, 18 computed" in text
    partly, text = kernel("partly")
    assert "36 images, 18 computed" in text
    again, text = kernel("again")
    assert "36 images, 0 computed" in text
    anew, text = kernel("anew", cache_dir=str(tmp_path / "other"))
    assert "36 images, 36 computed" in text
    for other in (partly, again):
        np.testing.assert_array_equal(other, anew)


@pytest.mark.slow
def test_an_inspection_leaves_the_features_that_a_training_takes(pictures, tmp_path, capsys):
    from tf_image_classification.cli import inspect as inspect_verb

    weights = tmp_path / "w.weights.h5"
    size = backbones.find(NETWORK).image_size
    backbones.create(NETWORK, (size, size, 3)).save_weights(weights)
    shared = {"checkpoint_path": str(weights), "cache_dir": str(tmp_path / "cache")}
    flags = [f"--{name}={value}" for name, value in shared.items()]
    inspect_verb.main([pictures["train"], "--backbone", NETWORK, "--page", "", *flags])
    assert "36 images, 36 computed" in capsys.readouterr().out
    run(pictures, tmp_path / "m", train_steps=1, image_size=size, recipe="auto", **shared)
    assert "36 images, 0 computed" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_outputs_are_fitted_to_features_of_lower_precision(pictures, tmp_path, precision):
    result, _ = run(pictures, tmp_path, train_steps=1, eval_every_steps=1, precision=precision)
    assert result.metrics["accuracy"] > 0.7


@pytest.mark.slow
def test_a_run_of_an_earlier_version_keeps_its_recipe(pictures, tmp_path, capsys, monkeypatch):
    """Neither choices that its recipe did not know nor an edited package start another run."""
    new, choose = ("freeze_layers", "eval_stretch"), recipe.choose
    assert set(new) <= {c.name for c in choose(recipe.Facts(36, True, True))}
    with monkeypatch.context() as earlier:
        earlier.setattr(recipe, "choose", lambda f: [c for c in choose(f) if c.name not in new])
        run(pictures, tmp_path, train_steps=1)
    values = json.loads((tmp_path / "run.json").read_text())
    values["spec_source"] = "of an earlier version"
    for name in new:
        del values["settings"][name]
    (tmp_path / "run.json").write_text(json.dumps(values))
    result, _ = run(pictures, tmp_path, train_steps=2)
    assert result.step == 2 and "resumed at step 1" in capsys.readouterr().out


def moved(model_dir, end):
    """How far each variable of the model went from its start, on average."""
    start = start_of(model_dir)
    return {
        name.removeprefix("model/"): float(np.abs(end.tensors[name] - value).mean())
        for name, value in start.items()
        if name.startswith("model/")
    }


@pytest.mark.slow
def test_layers_near_the_image_change_less(pictures, tmp_path):
    sgd = {"optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 0.0, "train_steps": 1,
           "gradient_clip_norm": 0.0, "warmup_steps": 0, "learning_rate_decay_type": "fixed",
           "moving_average_decay": 0.0}  # fmt: skip
    _, even = run(pictures, tmp_path / "even", layer_decay=1.0, **sgd)
    _, decayed = run(pictures, tmp_path / "decayed", layer_decay=0.5, **sgd)
    a, b = moved(tmp_path / "even", even), moved(tmp_path / "decayed", decayed)
    assert b["logits/kernel"] == pytest.approx(a["logits/kernel"], rel=1e-3)
    assert b["conv1/kernel"] == pytest.approx(a["conv1/kernel"] * 0.5**12, rel=0.05)
    assert b["conv_pw_13/kernel"] == pytest.approx(a["conv_pw_13/kernel"] * 0.5, rel=0.01)


def test_factors_fall_from_the_outputs_to_the_image():
    model = keras.Sequential([keras.Input([4])])
    for number in range(24):
        model.add(keras.layers.Dense(4, name=f"d{number}"))
    model.add(keras.layers.Dense(2, name="logits"))
    factors = rate_factors(model, model.trainable_variables, 0.9)
    assert factors[0] == pytest.approx(0.9**12) and factors[-3:] == [0.9, 1.0, 1.0]
    assert sorted(factors) == factors
    assert set(rate_factors(model, model.trainable_variables, 1.0)) == {1.0}


@pytest.mark.exhaustive
def test_frozen_batch_norm_stays_as_it_was(pictures, tmp_path):
    names = ("conv1_bn/moving_mean", "conv1_bn/gamma")
    for freeze in (True, False):
        _, end = run(pictures, tmp_path / f"{freeze}", freeze_batch_norm=freeze, train_steps=2)
        far = moved(tmp_path / f"{freeze}", end)
        assert [far[name] == 0 for name in names] == [freeze, freeze]
        assert far["conv1/kernel"] > 0


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
    "augmentation", ["none", "flip", "translate", "crop", "colour", "rand", "trivial", "augmix"]
)
def test_augmentation_dropout_and_eval_crop_reach_the_images(augmentation):
    spec = BackboneSpec(
        [Label("label", depth=2)],
        BackboneSettings(backbone=NETWORK, augmentation=augmentation, eval_crop=0.5),
    )
    image = tf.cast(tf.constant(np.random.default_rng(0).integers(0, 256, [64, 64, 3])), tf.uint8)
    train, evaluation = spec.get_preproc_fn(True), spec.get_preproc_fn(False)
    middle = evaluation(image, 32, 32)
    np.testing.assert_allclose(middle, tf.cast(image[16:48, 16:48], tf.float32), atol=1e-3)
    wide = tf.concat([image, image], axis=1)
    for stretch, columns in ((1.0, 32), (1.5, 48), (9.0, 64)):
        settings = BackboneSettings(backbone=NETWORK, eval_crop=0.5, eval_stretch=stretch)
        shown = BackboneSpec(spec.class_dict, settings).get_preproc_fn(False)(wide, 32, 32)
        part = tf.cast(wide[16:48, 64 - columns // 2 : 64 + columns // 2], tf.float32)
        expected = tf.image.resize(part, [32, 32], antialias=True)
        np.testing.assert_allclose(shown, expected, atol=1e-3)
    if augmentation == "none":
        np.testing.assert_array_equal(train(image, 32, 32), middle)
        return
    seen = [train(image, 32, 32, seed=tf.constant([0, n], tf.int64)).numpy() for n in range(12)]
    different = len({picture.tobytes() for picture in seen})
    assert different == 2 if augmentation == "flip" else different > 8
    for rate in (0.0, 0.4):
        spec = BackboneSpec(
            [Label("label", depth=2)], BackboneSettings(backbone=NETWORK, dropout=rate)
        )
        layers = spec.get_model_fn(None)((32, 32, 3), {}).layers
        rates = [layer.rate for layer in layers if layer.name == "dropout"]
        assert rates == ([rate] if rate else [])


def test_crop_area_is_the_least_part_that_is_seen():
    least = {}
    for area in (0.5, 0.05):
        settings = BackboneSettings(backbone=NETWORK, crop_area=area)
        prepare = BackboneSpec([Label("label", depth=2)], settings).get_preproc_fn(True)
        shares = []
        for n in range(40):
            window = prepare._window(32, 32, tf.constant([0, n], tf.int64))
            shares.append(np.prod(window(tf.constant([100, 100]))[1]) / 100**2)
        least[area] = min(shares)
    assert 0.45 <= least[0.5] < 0.7 and 0.04 <= least[0.05] < 0.2


def of_classes(name, *class_names, kind=""):
    return Label(name, depth=len(class_names), class_names=class_names, kind=kind)


def write_table(folder, rows):
    """A CSV whose images, called by single letters, are there."""
    (folder / "t.csv").write_text(rows)
    for letter in "abc":
        (folder / letter).write_bytes(b"x")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("URIs,labels\na,cat\nb,dog\n", [of_classes("label", "cat", "dog")]),
        ("a,cat\nb,dog\nc,emu\n", [of_classes("label", "cat", "dog", "emu")]),
        ("URIs,labels\na,10\nb,3\n", [of_classes("label", "3", "10")]),
        (
            "URIs,age,kind\na,0.5,x\nb,,y\n",
            [Label("age", one_hot=False), of_classes("kind", "x", "y")],
        ),
        ("URIs,tags\na,x|y\nb,z\nc,|\n", [of_classes("tags", "x", "y", "z", kind="several")]),
    ],
)
def test_labels_are_told_from_a_csv(rows, expected, tmp_path):
    write_table(tmp_path, rows)
    settings = make_settings(
        {"backbone": NETWORK, "train_metadata": [str(tmp_path / "t.csv")],
         "model_dir": str(tmp_path / "m")}
    )  # fmt: skip
    assert backbone_spec.make_backbone_spec(settings).class_dict == expected


def test_label_columns_and_label_kinds_say_what_a_csv_cannot(tmp_path):
    write_table(tmp_path, "URIs,person,age,tags\na,p1,3,x\nb,p2,0,y\n")
    given = {"backbone": NETWORK, "train_metadata": [str(tmp_path / "t.csv")],
             "model_dir": str(tmp_path / "m"), "label_columns": ["age", "tags"],
             "label_kinds": ["age=ordinal", "tags=several"]}  # fmt: skip
    assert backbone_spec.make_backbone_spec(make_settings(given)).class_dict == [
        of_classes("age", "0", "3", kind="ordinal"),
        of_classes("tags", "x", "y", kind="several"),
    ]
    for changes, message in (
        ({"label_columns": ["ages"]}, "no label 'ages'"),
        ({"label_kinds": ["person=value"]}, "no label 'person'"),
        ({"label_kinds": ["age=ordinary"]}, "of the form name=kind"),
    ):
        with pytest.raises(ConfigError, match=message):
            backbone_spec.make_backbone_spec(make_settings(given | changes))


@pytest.mark.slow
def test_outputs_of_every_kind_are_fitted_before_the_first_step(pictures, tmp_path):
    rows = ["URIs,size,tags,height"]
    for number, name in enumerate(("blue", "green", "red")):
        tags = ("cold", "cold|warm", "warm")[number]
        rows += [
            f"{pictures['train']}/{name}/{i}.png,{number},{tags},{number}.5" for i in range(12)
        ]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    result, _ = run(
        pictures, tmp_path / "m", train_metadata=[str(tmp_path / "t.csv")], train_steps=1,
        eval_metadata=[str(tmp_path / "t.csv")], eval_every_steps=1, learning_rate=0.0,
        moving_average_decay=0.0, label_kinds=["size=ordinal"],
        learning_rate_decay_type="fixed", warmup_steps=0,
    )  # fmt: skip
    assert result.metrics["size/accuracy"] > 0.6
    assert result.metrics["tags/exact_match"] > 0.6
    assert result.metrics["height/mean_absolute_error"] < 0.5


def test_labels_are_told_from_records(tmp_path):
    pattern = tiny_runs.write_records(tmp_path)
    settings = make_settings(
        {"backbone": NETWORK, "train_metadata": [pattern], "model_dir": str(tmp_path / "m")}
    )
    labels = backbone_spec.make_backbone_spec(settings).class_dict
    assert labels == [of_classes("kind", "0", "1", "2")]


def test_a_source_with_one_class_is_refused(tmp_path):
    write_table(tmp_path, "URIs,labels\na,cat\nb,cat\n")
    settings = make_settings({"backbone": NETWORK, "train_metadata": [str(tmp_path / "t.csv")],
                              "model_dir": str(tmp_path / "m")})  # fmt: skip
    with pytest.raises(DataError, match=r"the same for all examples \(cat\)"):
        backbone_spec.make_backbone_spec(settings)


def test_a_folder_around_the_class_folders_is_refused(tmp_path):
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    settings = make_settings({"backbone": NETWORK, "train_metadata": [str(tmp_path)],
                              "model_dir": str(tmp_path / "m")})  # fmt: skip
    with pytest.raises(DataError, match=r"holds no images in its class folders \(pictures\)"):
        backbone_spec.make_backbone_spec(settings)


def test_the_recipe_evaluates_each_epoch_of_a_small_set_by_accuracy():
    def chosen(num_images, **facts):
        facts = recipe.Facts(num_images, True, True, **facts)
        names = ("eval_every_steps", "best_metric")
        return {c.name: c.value for c in recipe.choose(facts) if c.name in names}

    assert chosen(300) == {}  # nothing to evaluate on
    both = chosen(300, has_evaluation=True, is_one_class=True)
    assert both == {"eval_every_steps": 10, "best_metric": "accuracy"}
    assert chosen(200_000, has_evaluation=True, is_one_class=True) == {"best_metric": "accuracy"}
    assert chosen(300, has_evaluation=True, batch_size=7) == {"eval_every_steps": 43}
    given = make_settings({"eval_throttle_secs": 5.0, "eval_metadata": ("x",)})
    assert given.with_choices(both, "recipe").evaluation.eval_every_steps is None


def test_the_recipe_freezes_early_layers_of_a_pretrained_network_for_few_images():
    def freezes(num_images, **facts):
        facts = recipe.Facts(num_images, True, **facts)
        return "freeze_layers" in {c.name for c in recipe.choose(facts)}

    assert freezes(300, has_warm_start=True)
    assert not freezes(300, has_warm_start=False)
    assert not freezes(5_000, has_warm_start=True)
    assert not freezes(300, has_warm_start=True, trains_all=False)
    assert not freezes(300, has_warm_start=True, is_backbone_spec=False)


def test_the_recipe_counts_the_steps_of_the_batches_that_it_chooses():
    for n, warm in ((300, True), (30_000, True), (300, False)):
        chosen = {c.name: c.value for c in recipe.choose(recipe.Facts(n, True, warm))}
        same = recipe.Facts(n, True, warm, epochs=chosen["epochs"])
        assert {c.name: c.value for c in recipe.choose(same)} == chosen
    parts = {c.name: c.value for c in recipe.choose(recipe.Facts(300, True, True, batch_parts=3))}
    assert parts["batch_size"] == 30


@pytest.mark.parametrize(
    "given",
    [{"gradient_clip_value": 0.5}, {"batch_norm_momentum": 0.9}, {"input_mode": "streaming"}],
    ids=lambda given: next(iter(given)),
)
def test_the_recipe_leaves_out_what_does_not_go_with_what_is_given(given):
    settings = make_settings(given | {"backbone": NETWORK, "checkpoint_path": "x"})
    is_indexed = settings.data.input_mode == "indexed"
    facts = recipe.Facts(300, True, True, is_indexed=is_indexed)
    chosen = {c.name: c.value for c in recipe.choose(facts)}
    settled = settings.with_choices(chosen, "recipe")
    assert {name: settled.values()[name] for name in given} == given
    assert settled.origin("gradient_clip_norm") != "recipe" or "gradient_clip_value" not in given
    assert not (settled.model.freeze_batch_norm and "batch_norm_momentum" in given)
    assert settled.model.head_phase is is_indexed


@pytest.mark.exhaustive
def test_a_run_of_the_recipe_can_be_made_longer(pictures, tmp_path):
    changes = {"batch_size": 6, "train_steps": None, "eval_every_steps": 12}
    run(pictures, tmp_path, epochs=2.0, **changes)
    before = json.loads((tmp_path / "run.json").read_text())["settings"]
    _, end = run(pictures, tmp_path, epochs=5.0, **changes)
    after = json.loads((tmp_path / "run.json").read_text())["settings"]
    assert end.step == 30 and before["warmup_steps"] == after["warmup_steps"] == 1


def test_the_recipe_depends_on_the_facts_and_gives_way_to_what_is_given():
    small = {c.name: c.value for c in recipe.choose(recipe.Facts(300, True, True))}
    large = {c.name: c.value for c in recipe.choose(recipe.Facts(200_000, True, True))}
    fresh_start = {c.name: c.value for c in recipe.choose(recipe.Facts(300, True, False))}
    assert small["epochs"] > large["epochs"] and small["batch_size"] < large["batch_size"]
    assert small["freeze_batch_norm"] and "freeze_batch_norm" not in large
    assert small["head_phase"] and "head_phase" not in fresh_start
    assert "label_smoothing" not in {c.name for c in recipe.choose(recipe.Facts(9, False, True))}
    assert all(c.reason for c in recipe.choose(recipe.Facts(300, True, True)))
    start = {"backbone": NETWORK, "checkpoint_path": "x"}
    given = make_settings({"optimizer": "sgd", "learning_rate_decay_type": "one_cycle"} | start)
    settled = given.with_choices(small, "recipe")
    assert settled.optimizer.optimizer == "sgd" and settled.origin("optimizer") == "argument"
    assert settled.training.epochs == small["epochs"] and settled.origin("epochs") == "recipe"
    assert settled.schedule.warmup_steps == 0  # which one_cycle does not have
    assert (
        make_settings({"train_steps": 5} | start).with_choices(small, "recipe").training.epochs
        is None
    )


def test_small_images_get_a_smaller_network_input_unless_it_is_given(pictures, tmp_path):
    given = {
        "backbone": NETWORK, "train_metadata": [pictures["train"]], "cache_dir": pictures["cache"],
        "model_dir": str(tmp_path), "checkpoint_path": pictures["from"],
    }  # fmt: skip
    for changes, size, origin in (
        ({}, 128, "recipe"),
        ({"checkpoint_path": "none"}, 64, "recipe"),
        ({"image_size": 96}, 96, "argument"),
        ({"recipe": "none"}, 224, "backbone"),
    ):
        settings = backbone_spec.backbone_settings(make_settings(given | changes))
        spec = backbone_spec.make_backbone_spec(settings)
        chosen, text = recipe.settle(make_context(spec, settings))
        settled = chosen.settings
        assert settled.data.image_size == size and settled.origin("image_size") == origin
        assert ("images of 36 pixels" in text) == (origin == "recipe")
        assert settled.origin("recipe") == ("argument" if "recipe" in changes else "backbone")
    large = recipe.choose(recipe.Facts(300, True, True, image_side=200))
    assert "image_size" not in {choice.name for choice in large}


def test_a_pretrained_network_is_the_default_and_none_starts_from_scratch(tmp_path):
    settings = backbone_spec.backbone_settings(make_settings({"backbone": "inception_v3"}))
    assert settings.model.checkpoint_path == "imagenet" and settings.data.image_size == 299
    assert settings.backbone_spec.recipe == "auto"
    scratch = backbone_spec.backbone_settings(
        make_settings({"backbone": "inception_v3", "checkpoint_path": "none", "recipe": "none"})
    )
    assert scratch.model.checkpoint_path == "" and scratch.backbone_spec.recipe == "none"


def test_a_spec_of_ones_own_refuses_what_only_ready_networks_have(tmp_path):
    records = tiny_runs.write_records(tmp_path)
    with pytest.raises(ConfigError, match="backbone .* has no effect"):
        tiny_runs.run(
            tiny_runs.plain_spec(), tmp_path / "m", records, backbone=NETWORK, train_steps=1
        )


def test_outputs_cannot_be_fitted_where_there_are_none(tmp_path):
    from tf_image_classification.workflows.setup.head_init import output_layers

    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(2, name="last")])
    with pytest.raises(ConfigError, match="a keras.layers.Dense called 'logits'"):
        output_layers(model, ("label",))


def test_weights_of_keras_that_cannot_be_had_are_an_error(monkeypatch):
    from tf_image_classification.checkpoints.warm_start import load_values

    def downloaded(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(keras.utils, "get_file", downloaded)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", downloaded)
    with pytest.raises(ConfigError, match="cannot be downloaded by Keras: no network"):
        backbones.imagenet_values("efficientnet_b0")
    with pytest.raises(ConfigError, match="Neither Keras nor a package has"):
        backbones.imagenet_values("resnet_v1_50")
    model = backbones.create(NETWORK, (32, 32, 3), outputs=2)
    with pytest.raises(Exception, match="Nothing fits"):
        load_values(model, {"a/b": np.zeros(3)}, "elsewhere")


@pytest.mark.slow
def test_preview_draws_examples_and_what_training_makes_of_them(pictures, tmp_path, capsys):
    from tf_image_classification.cli import preview as preview_verb

    path = tmp_path / "sheet.png"
    line = f"--backbone {NETWORK} --train_metadata {pictures['train']} --image_size {SIZE} "
    line += f"--checkpoint_path none --cache_dir {pictures['cache']} --output {path} "
    assert preview_verb.main([*line.split(), "--model_dir", str(tmp_path / "m")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 9 and printed[0].startswith("row 1: ") and ".png" in printed[0]
    image = tf.io.decode_png(path.read_bytes())
    assert image.shape[0] > 1000 and image.shape[1] > 1000 and np.asarray(image).std() > 20
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_the_learning_rate_is_found_where_the_loss_falls(tmp_path):
    from tf_image_classification.workflows import find_learning_rate

    records = tiny_runs.write_records(tmp_path)
    settings = tiny_runs.tiny_settings(tmp_path / "m", records, train_steps=200)
    found = find_learning_rate.find_learning_rate(make_context(tiny_runs.plain_spec(), settings))
    assert list(found.rates) == sorted(found.rates) and found.rates[0] == pytest.approx(1e-7)
    assert 1e-5 < found.suggestion < 1.0
    assert found.losses[np.searchsorted(found.rates, 1e-5)] > min(found.losses)
    find_learning_rate.draw_learning_rates(found, str(tmp_path / "plot.png"))
    assert tf.io.decode_png((tmp_path / "plot.png").read_bytes()).shape[:2] == (400, 700)
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_the_batch_size_is_the_smallest_that_is_fast(tmp_path, monkeypatch):
    from tf_image_classification.training.stepper import Stepper
    from tf_image_classification.workflows import find_batch_size

    records = tiny_runs.write_records(tmp_path)
    settings = tiny_runs.tiny_settings(tmp_path / "m", records, train_steps=200)
    secs = {8: 8 / 100, 16: 16 / 190, 32: 32 / 199, 64: 64 / 200}

    def time_steps(self, count):
        if self.batch_size not in secs:
            raise tf.errors.ResourceExhaustedError(None, None, "no memory")
        return secs[self.batch_size]

    monkeypatch.setattr(Stepper, "time_steps", time_steps)
    found = find_batch_size.find_batch_size(make_context(tiny_runs.plain_spec(), settings))
    assert found.largest == 64 and found.suggestion == 16
    assert found.images_per_second[8] == pytest.approx(100)


@pytest.mark.exhaustive
def test_two_workers_fit_the_same_outputs_and_train_as_one(pictures, tmp_path):
    fixed = {"dropout": 0.0, "mixup_alpha": 0.3, "train_steps": 4, "balanced_sampling": "label"}
    _, one = run(pictures, tmp_path / "one", **fixed)
    line = f"train --backbone {NETWORK} --train_metadata {pictures['train']} --noprogress "
    line += f"--eval_metadata {pictures['eval']} --checkpoint_path {pictures['from']} "
    line += f"--image_size {SIZE} --batch_size 12 --train_steps 4 --dropout 0 --mixup_alpha 0.3 "
    line += f"--balanced_sampling label --cache_dir {tmp_path / 'cache'} --model_dir "
    line += f"{tmp_path / 'two'} --save_summary_steps 0 --noexport_saved_model"
    tfic = [sys.executable, "-m", "tf_image_classification.cli.main"]
    done = subprocess.run(
        [*tfic, "launch", "--workers", "2", "--", *tfic, *line.split()],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count("outputs fitted to the features of 36 images") == 1
    two = tiny_runs.last_checkpoint(tmp_path / "two")
    kernel = "model/logits/kernel"
    assert np.array_equal(start_of(tmp_path / "two")[kernel], start_of(tmp_path / "one")[kernel])
    assert tiny_runs.largest_difference(two, one) < 5e-4


@pytest.mark.parametrize("num_images", [20, 299, 5_000, 100_000])
@pytest.mark.parametrize("is_pretrained", [True, False])
def test_the_reasons_of_the_recipe_are_true_of_its_numbers(num_images, is_pretrained):
    facts = recipe.Facts(num_images, True, is_pretrained)
    chosen = {c.name: c for c in recipe.choose(facts)}
    batch = chosen["batch_size"].value
    steps = max(1, math.ceil(chosen["epochs"].value * num_images / batch))
    if is_pretrained:
        fraction = re.match(r"(\d+)% of the run", chosen["warmup_steps"].reason)[1]
        assert int(fraction) == round(100 * chosen["warmup_steps"].value / steps)
    averaged = re.search(r"about (\d+) of the (\d+) steps", chosen["moving_average_decay"].reason)
    assert int(averaged[1]) == round(1 / (1 - chosen["moving_average_decay"].value))
    assert int(averaged[2]) == steps
    if "save_summary_steps" in chosen:
        assert steps / chosen["save_summary_steps"].value >= min(50, steps)
    else:
        assert steps >= 5_000
