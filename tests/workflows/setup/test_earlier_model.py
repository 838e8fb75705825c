"""A run that goes on from an earlier model: more classes, corrected labels."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import tf_image_classification as tfic
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.config import make_settings
from tf_image_classification.errors import ConfigError, LabelError, RunMismatchError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import make_manifest
from tf_image_classification.workflows.setup.context import Sources
from tf_image_classification.workflows.setup.earlier_model import (
    in_earlier_order,
    with_earlier_model,
)


def pictures(folder, counts):
    for kind, count in counts.items():
        random = np.random.RandomState(ord(kind[0]))  # no copies in two classes
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = random.randint(0, 255, [32, 32, 3], np.uint8)
            Image.fromarray(pixels).save(folder / kind / f"{kind}{i}.png")
    return str(folder)


def weights(folder):
    return CheckpointStore(str(folder / "checkpoints")).newest().tensors


BEGUN = {
    "backbone": "mobilenet_v1_025",
    "image_size": 32,
    "eval_crop": 0.8,
    "eval_split": 0.4,
}


def manifest_of(data, fingerprint="one"):
    settings = make_settings({"train_metadata": data, **BEGUN})
    label = Label("label", depth=2, class_names=("cat", "dog"))
    return make_manifest(
        spec="tf_image_classification:BackboneSpec", spec_source="", schema=LabelSchema((label,)),
        train_data=fingerprint, num_train_examples=6, eval_data="", settings=settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A folder with a set of two classes and the manifest and a checkpoint of a model of it."""
    here = tmp_path_factory.mktemp("earlier")
    pets = pictures(here / "pets", {"cat": 5, "dog": 5})
    (here / "old").mkdir()
    folder = ModelFolder(str(here / "old"))
    folder.write_manifest(manifest_of(pets))
    CheckpointStore(folder.best).save(1, {"model/x": np.zeros(1)}, {})
    return here


def opened(data, earlier, **options):
    """The settings of a run that goes on from the earlier model, its note and its labels."""
    from tf_image_classification.workflows.setup.backbone_spec import make_backbone_spec

    given = {"train_metadata": data, "from_model": str(earlier / "old"), "model_dir": "unused"}
    sources = Sources()
    settings, note = with_earlier_model(make_settings({**given, **options}), sources)
    return settings, note, make_backbone_spec(settings, sources).class_dict


def test_a_new_class_comes_last_and_the_earlier_set_is_trained_on_again(earlier, tmp_path):
    new = pictures(tmp_path / "new", {"ant": 3})
    settings, note, (label,) = opened(new, earlier)
    assert settings.data.train_metadata == (new, str(earlier / "pets"))
    assert (
        "also trains on" in note
        and "may have pictures" not in note
        and "no examples of cat, dog" in note
    )
    assert label.class_names == ("cat", "dog", "ant")
    assert settings.data.image_size == 32 and settings.backbone_spec.eval_crop == 0.8
    assert settings.backbone_spec.backbone == "mobilenet_v1_025"
    assert settings.model.checkpoint_path == str(earlier / "old")


def test_a_set_with_every_earlier_class_is_trained_on_alone(earlier, tmp_path):
    corrected = pictures(tmp_path / "corrected", {"dog": 3, "cat": 3})
    settings, note, (label,) = opened(corrected, earlier)
    assert settings.data.train_metadata == (corrected,)
    assert "may have pictures that" in note and "--eval_metadata" in note
    assert not opened(corrected, earlier, eval_metadata=corrected)[1]
    assert not opened(str(earlier / "pets"), earlier)[1]  # divided as before
    assert label.class_names == ("cat", "dog")
    both = pictures(tmp_path / "both", {"dog": 3, "cat": 3, "ant": 2})
    assert opened(both, earlier)[2][0].class_names == ("cat", "dog", "ant")


def test_without_from_nothing_changes(earlier, tmp_path):
    made = make_settings({"train_metadata": "x"})
    assert with_earlier_model(made, Sources()) == (made, "")
    assert in_earlier_order([], made) == []


def test_a_class_in_another_case_is_refused(earlier, tmp_path):
    data = pictures(tmp_path / "new", {"Cat": 3, "ant": 3})
    with pytest.raises(LabelError, match=r"'Cat' differs only in upper and lower case .*'cat'"):
        opened(data, earlier)


def test_forgetting_is_refused_where_the_earlier_set_is_gone(earlier, tmp_path):
    shutil.copytree(earlier / "old", tmp_path / "old")
    manifest = json.loads((tmp_path / "old" / "run.json").read_text())
    manifest["settings"]["train_metadata"] = [str(tmp_path / "gone")]
    (tmp_path / "old" / "run.json").write_text(json.dumps(manifest))
    new = pictures(tmp_path / "new", {"ant": 3})
    with pytest.raises(ConfigError, match=r"no examples of cat, dog.*cannot be read.*MORE_DATA"):
        opened(new, tmp_path)
    settings, note, _ = opened((new, str(earlier / "pets")), tmp_path)
    assert "also trains on" not in note and len(settings.data.train_metadata) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from_model": "nowhere"}, "no such folder"),
        ({"from_model": "{pets}"}, "no model folder, without a run.json"),
        ({"checkpoint_path": "imagenet"}, "both name initial weights"),
        ({"backbone": "resnet50"}, "backbone is resnet50, but .* was trained with mobilenet"),
        ({"model_dir": "{old}"}, "a folder of its own"),
        ({"evaluate": True}, "no effect with --evaluate"),
        ({"label_kinds": "label=multilabel"}, r"label \(multilabel\).*label \(single-label\)"),
    ],
)
def test_what_contradicts_the_earlier_model_is_refused(earlier, options, message):
    places = {"pets": str(earlier / "pets"), "old": str(earlier / "old")}
    options = {n: v.format(**places) if isinstance(v, str) else v for n, v in options.items()}
    with pytest.raises(ConfigError, match=message):
        opened(places["pets"], earlier, **options)


def test_an_exported_model_and_one_without_checkpoints_are_refused(earlier, tmp_path):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ConfigError, match="an exported model. Expected the model folder"):
        opened(str(earlier / "pets"), earlier, from_model=str(tmp_path / "exported"))
    (tmp_path / "begun").mkdir()
    shutil.copy(earlier / "old" / "run.json", tmp_path / "begun")
    with pytest.raises(ConfigError, match="it has no checkpoint"):
        opened(str(earlier / "pets"), earlier, from_model=str(tmp_path / "begun"))


def test_other_data_for_a_model_folder_point_to_from(earlier):
    folder = ModelFolder(str(earlier / "old"))
    now = manifest_of(str(earlier / "pets"), "two")
    with pytest.raises(RunMismatchError, match=r"corrected labels\), add --from .*old"):
        folder.check_same_run(now, allow_changes=False)
    other = dataclasses.replace(now, train_data="one", eval_data="", spec="mine.py:Spec")
    with pytest.raises(RunMismatchError) as raised:
        folder.check_same_run(other, allow_changes=False)
    assert "--from" not in str(raised.value)


@pytest.mark.slow
def test_a_run_keeps_the_earlier_rows_and_resumes_to_the_same_bits(tmp_path):
    pets, new = pictures(tmp_path / "pets", {"cat": 5, "dog": 5}), tmp_path / "new"
    pictures(new, {"ant": 5})
    quick = {"batch_size": 4, "recipe": "none", "export_saved_model": False, "eval_split": 0.4}
    old, still = tmp_path / "old", tmp_path / "still"
    begun = {n: v for n, v in BEGUN.items() if n != "eval_split"}
    tfic.train(pets, model_dir=old, checkpoint_path="none", train_steps=1, **begun, **quick)
    quick |= {"from_model": old}
    tfic.train(new, model_dir=still, train_steps=1, learning_rate=0.0, **quick)
    before, after = weights(old), weights(still)
    name = next(n for n in before if n.startswith("model/") and n.endswith("logits/kernel"))
    assert after[name].shape[-1] == 3
    np.testing.assert_array_equal(after[name][..., :2], before[name])
    assert json.loads((still / "run.json").read_text())["settings"]["from_model"] == str(old)
    held = [json.loads((each / "held_out.json").read_text())["examples"] for each in (old, still)]
    assert set(held[0]) < set(held[1])

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    tfic.train(new, model_dir=whole, train_steps=2, save_checkpoints_steps=1, **quick)
    shutil.copytree(whole, parts)
    for path in (parts / "checkpoints").glob("*2*"):
        path.unlink()
    shutil.rmtree(parts / "best")
    tfic.train(new, model_dir=parts, train_steps=2, save_checkpoints_steps=1, **quick)
    left, right = weights(whole), weights(parts)
    assert all(np.array_equal(left[n], right[n]) for n in left if n.startswith("model/"))
