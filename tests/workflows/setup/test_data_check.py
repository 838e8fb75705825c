"""The look at the data before the first step."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from tf_image_classification.config import make_settings
from tf_image_classification.errors import DataError
from tf_image_classification.workflows.setup.backbone_spec import make_backbone_spec
from tf_image_classification.workflows.setup.context import make_context
from tf_image_classification.workflows.setup.data_check import check_data
from tf_image_classification.workflows.setup.run_data import read_data


def write_pictures(folder, seeds, *, copied_from=None, num_copied=0):
    """Two classes of noise; some of them copies of another folder's."""
    for number, name in enumerate(("bee", "ant")):
        (folder / name).mkdir(parents=True)
        for seed in seeds:
            pixels = np.random.default_rng(seed + 1000 * number).integers(0, 256, [8, 8, 3])
            data = tf.io.encode_png(pixels.astype(np.uint8)).numpy()
            (folder / name / f"{seed}.png").write_bytes(data)
    for path in sorted((copied_from / "bee").iterdir())[:num_copied] if copied_from else ():
        (folder / "bee" / f"again-{path.name}").write_bytes(path.read_bytes())
    return str(folder)


class TwoClasses(tiny_runs.TinySpec):
    def __init__(self):
        super().__init__(noise=0.0, batch_norm=False, depth=2)


@pytest.mark.slow
def test_inspect_refuses_an_evaluation_of_known_images(tmp_path):
    train = write_pictures(tmp_path / "train", range(20))
    leaky = write_pictures(
        tmp_path / "eval", range(50, 60), copied_from=tmp_path / "train", num_copied=4
    )
    with pytest.raises(DataError, match=r"4 of 24 evaluation images .* add inspect=False"):
        tiny_runs.run(TwoClasses(), tmp_path / "m", train, leaky, train_steps=1)
    assert not (tmp_path / "m").exists()
    tiny_runs.run(TwoClasses(), tmp_path / "m", train, leaky, train_steps=1, inspect=False)
    assert not (tmp_path / "m" / "data.json").exists()


@pytest.mark.slow
def test_a_few_known_images_are_told_and_all_is_counted(tmp_path, capsys):
    train = write_pictures(tmp_path / "train", range(20))
    nearly = write_pictures(
        tmp_path / "eval", range(50, 80), copied_from=tmp_path / "train", num_copied=1
    )
    tiny_runs.run(TwoClasses(), tmp_path / "m", train, nearly, train_steps=1)
    assert "1 of 61 evaluation images are in the training set too" in capsys.readouterr().out
    counts = json.loads((tmp_path / "m" / "data.json").read_text())
    assert counts["train"] == {"num_examples": 40, "classes": {"kind": {"ant": 20, "bee": 20}}}
    assert counts["eval"]["classes"]["kind"] == {"ant": 30, "bee": 31} and counts["leaked"] == 1


@pytest.mark.slow
def test_the_training_set_itself_may_be_evaluated_and_is_told(tmp_path, capsys):
    train = write_pictures(tmp_path / "train", range(10))
    tiny_runs.run(TwoClasses(), tmp_path / "m", train, train, train_steps=1)
    assert "The evaluation set is the training set" in capsys.readouterr().out
    assert json.loads((tmp_path / "m" / "data.json").read_text())["leaked"] == 20


def test_names_of_videos_in_both_sets_are_told(tmp_path, capsys):
    """Another class may have the same names: only those of one class and video count."""
    for part, frames in (("train", range(6)), ("eval", range(6, 9))):
        for kind in ("ant", "bee"):
            folder = tmp_path / part / kind
            folder.mkdir(parents=True)
            for i in frames:
                name = f"clip{i % 3}_frame_{i}.png" if kind == "ant" else f"{i}.png"
                seed = [i, kind == "ant"]
                pixels = np.random.default_rng(seed).integers(0, 256, [8, 8, 3], np.uint8)
                (folder / name).write_bytes(tf.io.encode_png(pixels).numpy())
    settings = make_settings(
        {"train_metadata": [str(tmp_path / "train")], "eval_metadata": [str(tmp_path / "eval")],
         "model_dir": str(tmp_path / "m")}
    )  # fmt: skip
    spec = make_backbone_spec(settings)
    notes = " ".join(check_data(read_data(make_context(spec, settings))).notes)
    assert "3 of 6 evaluation images have the name of a video" in notes and "clip" in notes
