"""The part of a training set that is held out for evaluation, and the default model folder."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.cli.evaluate import main as evaluate_verb
from tf_image_classification.cli.train import main as train_verb
from tf_image_classification.config import DEFAULT_BACKBONE, make_settings
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.errors import ConfigError, RunMismatchError
from tf_image_classification.evaluation.predictions import read_predictions
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import make_manifest
from tf_image_classification.system import files
from tf_image_classification.workflows import messages
from tf_image_classification.workflows.evaluate import inherited
from tf_image_classification.workflows.setup.backbone_spec import (
    backbone_settings,
    make_backbone_spec,
)
from tf_image_classification.workflows.setup.context import Sources, make_context
from tf_image_classification.workflows.setup.data_check import check_data
from tf_image_classification.workflows.setup.default_folder import name_of, with_default_folder
from tf_image_classification.workflows.setup.evaluation_split import (
    why_no_evaluation,
    with_own_evaluation,
)
from tf_image_classification.workflows.setup.fold_options import FoldOptions
from tf_image_classification.workflows.setup.folds import open_plan
from tf_image_classification.workflows.setup.run_data import read_data


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def image(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, [8, 8, 3]).astype(np.uint8)
    return tf.io.encode_png(pixels).numpy()


def write_folder(folder, **counts):
    """Class folders with different images."""
    for kind, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (folder / name / f"{i}.png").write_bytes(image([kind, i]))


def settings_for(*data, **given):
    """The settings of a run without a spec whose evaluation set is decided, and its sources."""
    sources = Sources()
    settings = backbone_settings(make_settings({"train_metadata": data, "model_dir": "m", **given}))
    return with_own_evaluation(settings, sources), sources


def parts(settings, sources=None):
    """The names of the training examples and of the held-out ones."""
    train, evaluation = (
        set((sources or Sources()).find(settings.data.train_metadata, option, settings)[0].names)
        for option in ("train_metadata", "eval_metadata")
    )
    assert not train & evaluation
    return train, evaluation


def data_of(settings, sources=None):
    """The examples of a run, and the manifest that they give."""
    sources = sources or Sources()
    spec = make_backbone_spec(settings, sources)
    data = read_data(make_context(spec, settings, sources=sources))
    evaluation = data.evaluation.fingerprint if data.evaluation else ""
    manifest = make_manifest(
        spec="a:B", spec_source="", schema=data.schema, train_data=data.train.fingerprint,
        num_train_examples=data.train.num_examples, eval_data=evaluation, settings=settings,
    )  # fmt: skip
    return data, manifest


def begin(*data, **given):
    """Write what a training writes before its first step; returns its manifest."""
    settings, sources = settings_for(*data, **given)
    _, manifest = data_of(settings, sources)
    folder = ModelFolder(settings.run.model_dir)
    files.make_folder(folder.path)
    if settings.data.eval_split:
        held = sources.held_out(data, "train_metadata", settings)
        files.write_json(folder.held_out, held.to_json())
    folder.write_manifest(manifest)
    return manifest


def test_a_fifth_of_each_class_is_held_out_and_the_rest_is_trained_on(here):
    write_folder(here / "pets", cat=20, dog=10, rare=1)
    settings, sources = settings_for("pets")
    data, manifest = data_of(settings, sources)
    counts = check_data(data).counts
    assert counts["train"]["classes"]["label"] == {"cat": 16, "dog": 8, "rare": 1}
    assert counts["eval"]["classes"]["label"] == {"cat": 4, "dog": 2, "rare": 0}
    assert counts["leaked"] == 0
    assert any("6 of the 31 examples of pets, held out" in note for note in data.notes)
    assert manifest.train_data != manifest.eval_data


def test_identical_images_are_on_one_side_whatever_their_class(here):
    write_folder(here / "pets", cat=12, dog=12)
    for i in range(12):
        (here / f"pets/cat/again{i}.png").write_bytes(image([0, i]))
        (here / f"pets/dog/wrong{i}.png").write_bytes(image([1, i]))
    (here / "pets/cat/wrong.png").write_bytes(image([1, 3]))
    train, evaluation = parts(settings_for("pets")[0])
    contents = [
        {(here / "pets" / name).read_bytes() for name in part} for part in (train, evaluation)
    ]
    assert not contents[0] & contents[1] and len(evaluation) == pytest.approx(10, abs=2)


def test_groups_are_on_one_side_and_their_column_is_no_label(here):
    write_folder(here / "pets", cat=20, dog=20)
    rows = [f"pets/{k}/{i}.png,{k},p{i // 2}" for k in ("cat", "dog") for i in range(20)]
    (here / "people.csv").write_text("\n".join(["image,label,person", *rows]))
    settings, sources = settings_for("people.csv", group_column="person")
    assert [label.name for label in make_backbone_spec(settings, sources).class_dict] == ["label"]
    train, evaluation = (
        set(sources.find(("people.csv",), option, settings)[0].columns["person"])
        for option in ("train_metadata", "eval_metadata")
    )
    assert evaluation and not train & evaluation and len(train | evaluation) == 10
    with pytest.raises(ConfigError, match="group_column: there is no column 'persn'. Did you mean"):
        settings_for("people.csv", group_column="persn")


def write_videos(folder, *, num_videos=6, num_frames=5):
    """Class folders with named frames of videos; returns the video of each name."""
    videos = {}
    for k, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for video in range(num_videos):
            for frame in range(num_frames):
                path = folder / name / f"clip{video}_frame_{frame:03d}.png"
                path.write_bytes(image([k, video, frame]))
                videos[f"{name}/{path.name}"] = f"{name}{video}"
    return videos


def test_frames_of_a_video_are_on_one_side_unless_told_otherwise(here):
    videos = write_videos(here / "pets")
    settings, sources = settings_for("pets")
    train, evaluation = ({videos[name] for name in part} for part in parts(settings, sources))
    assert evaluation and not train & evaluation
    [note] = [line for line in data_of(settings, sources)[0].notes if "groups" in line]
    assert "groups: 60 images in 12 videos, each on one side" in note
    train, evaluation = parts(settings_for("pets", groups="none")[0])
    assert {videos[name] for name in train} & {videos[name] for name in evaluation}


def test_folds_keep_videos_together_unless_told_otherwise(here):
    videos = write_videos(here / "pets")
    for groups, is_together in (("auto", True), ("none", False)):
        settings = backbone_settings(
            make_settings({"train_metadata": ("pets",), "model_dir": groups, "groups": groups})
        ).with_choices({"eval_split": 0.0}, "fold", over=("backbone",))
        sources = Sources()
        spec = make_backbone_spec(settings, sources)
        data = read_data(make_context(spec, settings, sources=sources))
        table = data.train.table
        plan = open_plan(settings, FoldOptions(3), sources, table, data.schema, "spec")
        folds = {}
        for own, fold in zip(plan.ids, plan.assigned[0].tolist(), strict=True):
            folds.setdefault(videos[own], set()).add(fold)
        assert all(len(of_video) == 1 for of_video in folds.values()) == is_together
        assert any("12 videos, each in one fold" in note for note in plan.notes) == is_together
        assert len(plan.found_groups) == (len(videos) if is_together else 0)
        again = open_plan(settings, FoldOptions(3), sources, table, data.schema, "spec")
        assert again.found_groups == plan.found_groups
        fold = plan.folds[0]
        part = settings.replace(eval_split=1 / 3, eval_metadata=("pets",))
        sources.divide(("pets",), part, plan.held(fold), plan.found_groups)
        assert sources.evaluation_groups(part).count("") == (0 if is_together else 20)


def test_a_class_of_one_video_is_divided_and_named(here):
    write_videos(here / "pets", num_videos=1, num_frames=10)
    settings, sources = settings_for("pets")
    _, evaluation = parts(settings, sources)
    assert len(evaluation) == 4
    text = " ".join(data_of(settings, sources)[0].notes)
    assert "all images of cat, dog seem to be of one video or burst" in text


def test_a_group_column_takes_the_place_of_videos(here):
    videos = write_videos(here / "pets")
    rows = [f"pets/{name},{name[:3]},{i % 10}" for i, name in enumerate(videos)]
    (here / "shots.csv").write_text("\n".join(["image,label,shot", *rows]))
    for groups in ("auto", "none"):
        settings, sources = settings_for("shots.csv", group_column="shot", groups=groups)
        train, evaluation = (
            set(sources.find(("shots.csv",), option, settings)[0].columns["shot"])
            for option in ("train_metadata", "eval_metadata")
        )
        assert evaluation and not train & evaluation


def test_a_folder_keeps_its_held_out_part_when_groups_are_found_later(here):
    write_videos(here / "pets")
    before = parts(settings_for("pets", groups="none")[0])
    begin("pets", groups="none")
    assert parts(settings_for("pets")[0]) == before


def test_records_are_divided_by_the_content_of_their_images(here):
    rows = [(image([7, i]), "", {"kind": float(i % 2)}) for i in range(20)]
    write_shards("a", "train", rows, num_shards=2)
    write_shards("b", "train", rows[::-1], num_shards=1)
    held = {}
    for folder in "ab":
        settings, sources = settings_for(f"{folder}/train-*", cache_dir=str(here / "cache"))
        held[folder] = sources.held_out(settings.data.train_metadata, "", settings).held
        data, manifest = data_of(settings, sources)
        assert (data.train.num_examples, data.evaluation.num_examples) == (16, 4)
        assert manifest.train_data != manifest.eval_data
    assert held["a"] == held["b"]


def test_a_resumed_run_and_an_evaluation_take_the_part_that_the_folder_lists(here):
    write_folder(here / "pets", cat=20, dog=10)
    manifest = begin("pets")
    _, before = parts(settings_for("pets")[0])
    assert data_of(settings_for("pets")[0])[1].differences(manifest) == []
    write_folder(here / "pets", cat=40, dog=40)
    train, evaluation = parts(settings_for("pets")[0])
    assert evaluation == before and len(train) == 74
    (difference,) = manifest.differences(data_of(settings_for("pets")[0])[1])
    assert re.match("training set: 24 examples .* there, 74 ", difference)
    for given in ({}, {"eval_metadata": ("./pets/",)}):
        settings = inherited(make_settings({"model_dir": "m", **given}), manifest)
        listing, note = Sources().find(settings.data.eval_metadata, "eval_metadata", settings)
        assert set(listing.names) == before and "6 of the 80 examples" in note
    (here / "pets" / min(before)).unlink()
    _, note = Sources().find(("pets",), "eval_metadata", settings)
    assert f"1 more are in the model folder's list but gone, e.g. {min(before)}" in note
    write_folder(here / "cars", bus=4, van=4)
    other = inherited(make_settings({"model_dir": "m", "eval_metadata": ("cars",)}), manifest)
    assert other.data.eval_split == 0
    assert len(Sources().find(("cars",), "eval_metadata", other)[0]) == 8
    with pytest.raises(RunMismatchError, match="lists 6 examples that were held out"):
        settings_for("cars")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eval_metadata": ("pets",)}, "eval_split .* has no effect: there is an evaluation set"),
        ({"input_mode": "streaming"}, "input_mode is streaming, and a stream is not divided"),
        ({"train_metadata": ("single",)}, "no class has examples that can be divided"),
        ({"train_metadata": ("divided",)}, "divided has an evaluation split"),
        ({"eval_split": 0.0, "group_column": "label"}, "group_column .*: nothing is held out"),
    ],
)
def test_an_eval_split_without_effect_is_refused_if_given_and_else_off(given, message, here):
    write_folder(here / "pets", cat=4, dog=4)
    write_folder(here / "single", cat=1, dog=1)
    write_folder(here / "divided/train", cat=2, dog=2)
    write_folder(here / "divided/val", cat=2, dog=2)
    with pytest.raises(ConfigError, match=message):
        settings_for("pets", **{"eval_split": 0.3, **given})
    kept = {n: v for n, v in given.items() if n not in ("eval_split", "group_column")}
    settings, _ = settings_for("pets", **{**kept, **({} if kept else {"eval_split": 0.0})})
    assert settings.data.eval_split == 0
    has_evaluation = bool({"divided", "pets"} & {*settings.data.eval_metadata})
    assert bool(why_no_evaluation(settings)) != has_evaluation


def test_options_of_evaluations_count_on_the_held_out_part(here):
    write_folder(here / "pets", cat=4, dog=4)
    settings_for("pets", best_metric="accuracy")
    with pytest.raises(ConfigError, match="best_metric .* has no effect without eval_metadata"):
        settings_for("pets", best_metric="accuracy", eval_split=0.0)


def test_a_run_of_an_earlier_version_goes_on_without_a_held_out_part(here):
    write_folder(here / "pets", cat=4, dog=4)
    begin("pets", eval_split=0.0)
    path = ModelFolder("m").manifest
    values = files.read_json(path)
    del values["settings"]["eval_split"], values["origins"]["eval_split"]
    files.write_json(path, values)
    settings, _ = settings_for("pets")
    assert settings.data.eval_split == 0 and not settings.data.eval_metadata
    assert data_of(settings)[0].train.num_examples == 8


def test_the_farewell_names_no_data_for_the_held_out_part(here):
    class Run:
        model_dir, stop_reason, step_secs = "m", "", 0.0

    write_folder(here / "pets", cat=4, dog=4)
    settings, _ = settings_for("pets")
    Run.settings = settings
    assert "evaluate m\n" in messages.farewell(Run(), settings)


def test_the_default_backbone_is_fine_tuned_if_neither_it_nor_a_spec_is_given(here):
    write_folder(here / "pets", cat=4, dog=4)
    settings, _ = settings_for("pets")
    assert settings.backbone_spec.backbone == DEFAULT_BACKBONE
    assert settings.model.checkpoint_path == "imagenet"
    assert settings.backbone_spec.recipe == "auto" and not settings.is_chosen("backbone")
    given, _ = settings_for("pets", backbone="vgg16")
    assert (given.backbone_spec.backbone, given.model.checkpoint_path) == ("vgg16", "imagenet")


def folder_for(*data, **given):
    settings, line = with_default_folder(make_settings({"train_metadata": data, **given}))
    assert line.startswith(f"model folder: {settings.run.model_dir} (")
    return settings.run.model_dir


def test_the_default_folder_has_the_name_of_the_data_and_one_run(here):
    write_folder(here / "my pets", cat=4, dog=4)
    assert folder_for("my pets/") == "models/my_pets"
    begin("my pets", model_dir="models/my_pets", image_size=32)
    for same in ("my pets", "./my pets/", str(here / "my pets")):
        assert folder_for(same, image_size=32) == "models/my_pets"
        assert folder_for(same, image_size=32, epochs=99.0) == "models/my_pets"
    assert folder_for("my pets") == "models/my_pets-2"
    assert folder_for("my pets", image_size=48) == "models/my_pets-2"
    assert folder_for("my pets", image_size=32, backbone="vgg16") == "models/my_pets-2"
    assert folder_for("other/my pets", image_size=32) == "models/my_pets-2"
    scratch = {"backbone": "vgg16", "checkpoint_path": "none"}
    begin("my pets", model_dir="models/my_pets-2", eval_split=0.5, **scratch)
    assert folder_for("my pets", eval_split=0.5, **scratch) == "models/my_pets-2"
    assert folder_for("my pets", eval_split=0.5, backbone="vgg16") == "models/my_pets-3"
    assert folder_for("my pets", image_size=48) == "models/my_pets-3"


def test_a_run_in_the_default_folder_of_an_earlier_version_goes_on(here):
    write_folder(here / "pets", cat=4, dog=4)
    begin("pets", model_dir="models", image_size=32)
    assert folder_for("pets", image_size=32) == "./models"
    assert folder_for("pets") == "models/pets"


def test_the_default_folder_is_apart_from_the_data(here):
    write_folder(here / "models/pets", cat=4, dog=4)
    (here / "models/cars").write_text("")
    assert folder_for("models/pets") == "models/pets-2"
    assert folder_for("cars.csv") == "models/cars-2"
    for data in (".", "models", str(here)):
        with pytest.raises(ConfigError, match="would lie in the training set .* Give --model_dir"):
            with_default_folder(make_settings({"train_metadata": (data,)}))
    settings = make_settings({"train_metadata": (".",), "model_dir": "/tmp/m"})
    assert with_default_folder(settings) == (settings, "")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("pets", "pets"), ("./My pets/", "My_pets"), ("a/pets.csv", "pets"),
        ("x/pets/train", "pets"), ("x/pets:train", "pets"),
        ("pets/train-00000-of-00002.tfrecord.gz", "pets"),
        ("gs://bucket/pets/train-?????-of-00010", "pets"), ("gs://bucket/train", "bucket"),
        ("tfds:mnist", "mnist"), ("cifar10", "cifar10"), ("x/*.tfrecord", "x"),
        ("données", "données"),
        ("/train", "run"), ("pets{0..3}.tar", "pets_0..3"),
    ],
)  # fmt: skip
def test_the_name_of_the_folder_comes_from_the_data(data, name, here):
    (here / "cifar10").mkdir()
    assert name_of([data, "more"]) == name


@pytest.mark.slow
def test_a_folder_is_enough_from_the_training_to_the_evaluation(here, capsys):
    write_folder(here / "pets", cat=8, dog=8, rare=1)
    line = ["pets", "--image_size", "32", "--train_steps", "2", "--noprogress"]
    line += ["--batch_size", "6", "--save_summary_steps", "0", "--strategy", "one_device"]
    line += ["--backbone", "mobilenet_v1_025", "--checkpoint_path", "none"]
    assert train_verb(line) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("model folder: models/pets (new; ")
    assert "evaluation set: 4 of the 17 examples of pets, held out" in printed
    assert "3 classes: cat 6, dog 6, rare 1" in printed and "cat 2, dog 2, rare 0" in printed
    folder = ModelFolder("models/pets")
    listed = files.read_json(folder.held_out)
    assert listed["eval_split"] == 0.2 and len(listed["examples"]) == 4
    assert folder.evaluations()[-1]["num_examples"] == 4
    assert train_verb(line) == 0
    printed = capsys.readouterr().out
    assert "models/pets (of the same run" in printed and "The run is complete" in printed
    write_folder(here / "pets", cat=30)
    for evaluate in (
        lambda: evaluate_verb(["models/pets"]),
        lambda: train_verb([*line, "--evaluate"]),
    ):
        assert evaluate() == 0
        assert "evaluation of step 2 on 4 examples" in capsys.readouterr().out
    where = {name.partition("pets/")[2] for name in read_predictions(folder.predictions).uris}
    assert where == set(listed["examples"])
    with pytest.raises(SystemExit):
        train_verb(line)
    assert "models/pets belongs to another run" in capsys.readouterr().err


def photograph(seed, side=96):
    """A smooth random picture."""
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 256, [6, 6, 3]).astype(np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def test_near_duplicates_stay_on_one_side(here):
    for kind in ("bee", "ant"):
        (here / "pets" / kind).mkdir(parents=True)
        for i in range(12):
            picture = photograph([len(kind), i, ord(kind[0])])
            picture.save(here / "pets" / kind / f"{i}.png")
            picture.resize((70, 70)).save(here / "pets" / kind / f"copy_of_{i}.jpg", quality=70)
    _, evaluation = parts(*settings_for("pets"))
    assert len(evaluation) in range(8, 13)
    for name in evaluation:
        folder, file = name.rsplit("/", 1)
        number = re.search(r"\d+", file)[0]
        assert {f"{folder}/{number}.png", f"{folder}/copy_of_{number}.jpg"} <= evaluation


def test_an_image_that_cannot_be_read_does_not_stop_the_search_for_duplicates(here):
    write_folder(here / "pets", ant=10, bee=10)
    (here / "pets" / "ant" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    _, evaluation = parts(*settings_for("pets"))
    assert len(evaluation) == 4
