"""Training on a data set in parts, and what a run prints of the classes of both sets."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import train_estimator
from tf_image_classification.errors import ConfigError
from tf_image_classification.model_folder import ModelFolder
from tiny_runs import plain_spec, run, tiny_settings

KINDS = ("ant", "bee", "cow")


def write_pictures(folder, count, kinds=KINDS):
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            seed = [len(str(folder)), KINDS.index(kind), i]
            pixels = np.random.default_rng(seed).integers(0, 256, [8, 8, 3]).astype(np.uint8)
            (folder / kind / f"{i}.png").write_bytes(tf.io.encode_png(pixels).numpy())


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    root = tmp_path_factory.mktemp("divided") / "pets"
    write_pictures(root / "train", 8)
    write_pictures(root / "val", 3, KINDS[:2])
    write_pictures(root / "test", 2)
    return root


@pytest.mark.slow
def test_the_root_of_a_divided_set_trains_on_one_part_and_evaluates_another(pets, tmp_path, capsys):
    run(plain_spec(), tmp_path / "m", str(pets), train_steps=2, best_metric="accuracy",
        export_saved_model=True)  # fmt: skip
    printed = capsys.readouterr().out
    assert "train_metadata: split train of" in printed
    assert f"--eval_metadata {pets}:test evaluates test" in printed
    assert "3 classes: ant 8, bee 8, cow 8" in printed
    assert "3 classes: ant 3, bee 3, cow 0; NO example of cow" in printed
    folder = ModelFolder(str(tmp_path / "m"))
    counts = json.loads((tmp_path / "m" / "data.json").read_text())
    assert counts["train"]["num_examples"] == 24 and counts["eval"]["num_examples"] == 6
    assert folder.read_manifest().schema["kind"].class_names == KINDS
    for patterns, count in (((), 6), ((f"{pets}:test",), 6), ((f"{pets}:train",), 24)):
        given = {"eval_metadata": patterns} if patterns else {}
        train_estimator.evaluate(None, tiny_settings(tmp_path / "m", str(pets), **given))
        assert f"on {count} examples" in capsys.readouterr().out


def test_an_option_of_evaluations_may_count_on_the_part_of_a_divided_set(pets, tmp_path):
    views = {"test_time_augmentation": "flip", "train_steps": 1}
    assert run(plain_spec(), tmp_path / "m", str(pets), **views).step == 1
    with pytest.raises(ConfigError, match="test_time_augmentation has no effect without eval"):
        run(plain_spec(), tmp_path / "n", str(pets / "train"), **views)


def test_an_option_of_evaluations_needs_a_part_to_evaluate(pets, tmp_path):
    with pytest.raises(ConfigError, match="best_metric .* has no effect without eval_metadata"):
        run(plain_spec(), tmp_path / "m", str(pets / "train"), train_steps=1, best_metric="loss")


def test_rows_without_an_image_are_skipped_like_bad_images(pets, tmp_path):
    rows = [f"{pets}/train/{kind}/{i}.png,{kind}" for kind in KINDS for i in range(6)]
    rows[4] = f"{pets}/train/gone.png,ant"
    (tmp_path / "t.csv").write_text("\n".join(rows))
    run(plain_spec(), tmp_path / "m", str(tmp_path / "t.csv"), train_steps=1, on_bad_image="skip")
    (line,) = (tmp_path / "m" / "bad_images.jsonl").read_text().splitlines()
    assert json.loads(line)["where"].endswith("t.csv line 5") and "gone.png" in line
