"""16-bit PNGs of fewer bits: refused where they would be black, and one range from end to end."""

import csv
import json
import re

import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from tf_image_classification import evaluate
from tf_image_classification.cli import predict as predict_verb
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.errors import ConfigError, DataError, RunMismatchError
from tf_image_classification.serving.predictor import load_model
from tf_image_classification.workflows.setup.context import make_context
from tf_image_classification.workflows.setup.validate import open_run

CLASSES = ("ant", "bee")


class TwoClasses(tiny_runs.TinySpec):
    def __init__(self):
        super().__init__(noise=0.0, batch_norm=False, depth=2)


def values_of(kind, seed, most):
    """Dark or bright noise that fills the range up to a value."""
    random = np.random.default_rng([kind, seed])
    return random.integers(0, most // 2 + 1, [8, 8, 3]) + kind * (most - most // 2)


def write_deep(folder, seeds, most):
    """Two classes told apart by brightness, in 16-bit PNGs."""
    for kind, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for seed in seeds:
            data = tf.io.encode_png(values_of(kind, seed, most).astype(np.uint16))
            (folder / name / f"{seed}.png").write_bytes(data.numpy())
    return str(folder)


@pytest.fixture(scope="module")
def twelve_bits(tmp_path_factory):
    """A run on images of 12 bits whose range was measured, evaluated and exported."""
    folder = tmp_path_factory.mktemp("twelve")
    train = write_deep(folder / "train", range(12), 4095)
    held_out = write_deep(folder / "eval", range(50, 60), 4095)
    options = {"png16_range": "measured", "export_saved_model": True, "learning_rate": 0.05}
    tiny_runs.run(TwoClasses(), folder / "m", train, held_out, train_steps=20, **options)
    return folder


@pytest.mark.parametrize(("most", "named"), [(255, "0-255"), (4095, "0-4095")])
def test_images_that_would_be_black_are_refused_before_the_first_step(tmp_path, most, named):
    train = write_deep(tmp_path / "train", range(10), most)
    with pytest.raises(DataError, match=rf"too few to learn from. Add png16_range='{named}', or"):
        tiny_runs.run(TwoClasses(), tmp_path / "m", train, train_steps=1)
    assert not (tmp_path / "m").exists()


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("input_mode", ["indexed", "streaming"])
def test_records_of_images_that_would_be_black_are_refused_too(tmp_path, input_mode):
    examples = (
        (tf.io.encode_png(values_of(i % 2, i, 4095).astype(np.uint16)).numpy(), "", {"kind": i % 2})
        for i in range(20)
    )
    write_shards(str(tmp_path), "train", examples, num_shards=1)
    pattern, options = str(tmp_path / "train-*"), {"input_mode": input_mode, "train_steps": 1}
    settings = tiny_runs.tiny_settings(tmp_path / "m", pattern, **options)
    with pytest.raises(DataError, match=r"e.g. .*train-00000.* hold .* --png16_range 0-4095, or"):
        open_run(make_context(TwoClasses(), settings))
    settings = settings.replace(png16_range="0-4095")
    assert open_run(make_context(TwoClasses(), settings)).notes == ()


@pytest.mark.parametrize(
    ("most", "given", "note"),
    [
        (65_535, "full", ""),
        (16_383, "full", "--png16_range 0-16383 would give more contrast"),
        (4095, "0-2000", "to 40\\d\\d; png16_range 0-2000 cuts that off"),
        (4095, "0-4095", ""),
    ],
)
def test_what_a_range_makes_of_the_values_is_told_before_the_first_step(
    tmp_path, most, given, note
):
    train = write_deep(tmp_path / "train", range(10), most)
    settings = tiny_runs.tiny_settings(tmp_path / "m", train, train_steps=1, png16_range=given)
    notes = " ".join(open_run(make_context(TwoClasses(), settings)).notes)
    assert re.search(note, notes) if note else "png16_range" not in notes


def test_a_range_for_images_that_are_not_there_is_told(tmp_path):
    train = tiny_runs.write_records(tmp_path, "train", count=12)
    settings = tiny_runs.tiny_settings(tmp_path / "m", train, train_steps=1, png16_range="0-4095")
    notes = " ".join(open_run(make_context(tiny_runs.plain_spec(), settings)).notes)
    assert "no 16-bit PNG was seen, so that png16_range 0-4095 has no effect" in notes


def test_measuring_what_is_not_there_is_refused(tmp_path):
    train = tiny_runs.write_records(tmp_path, "train", count=12)
    with pytest.raises(ConfigError, match="none of the training images is a 16-bit PNG"):
        spec = tiny_runs.plain_spec()
        tiny_runs.run(spec, tmp_path / "m", train, train_steps=1, png16_range="measured")


@pytest.mark.slow
def test_a_measured_range_is_stored_and_holds_when_the_run_goes_on(twelve_bits, tmp_path):
    settings = json.loads((twelve_bits / "m" / "run.json").read_text())["settings"]
    assert settings["png16_range"] == "0-4095"
    parts = str(twelve_bits / "train"), str(twelve_bits / "eval")
    options = {"png16_range": "measured", "learning_rate": 0.05}
    tiny_runs.run(TwoClasses(), twelve_bits / "m", *parts, train_steps=20, **options)  # complete
    with pytest.raises(RunMismatchError, match="png16_range: '0-4095' there, '0-255' now"):
        options["png16_range"] = "0-255"
        tiny_runs.run(TwoClasses(), twelve_bits / "m", *parts, train_steps=20, **options)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [None, TwoClasses()])
def test_evaluation_of_checkpoint_and_exported_model_use_the_stored_range(twelve_bits, spec):
    parts = str(twelve_bits / "train"), str(twelve_bits / "eval")
    found = evaluate(spec, tiny_runs.tiny_settings(twelve_bits / "m", *parts, batch_size=5))
    assert found.metrics["accuracy" if "accuracy" in found.metrics else "kind/accuracy"] == 1.0


@pytest.mark.slow
def test_predictions_and_exports_use_the_stored_range(twelve_bits, tmp_path):
    model = load_model(twelve_bits / "m")
    graph = tf.saved_model.load(str(twelve_bits / "m" / "saved_model"))
    for kind, name in enumerate(CLASSES):
        data = (twelve_bits / "eval" / name / "50.png").read_bytes()
        scaled = values_of(kind, 50, 4095) * 255 / 4095
        plain = tf.io.encode_png((scaled + 0.5).astype(np.uint8)).numpy()
        np.testing.assert_array_equal(model.prepare(data), model.prepare(plain))
        assert model.predict(data)[0].labels["kind"].name == name
        (answer,) = graph.serve(tf.constant([data]))["kind_class_name"].numpy()
        assert answer.decode() == name
    out = tmp_path / "p.csv"
    image = str(twelve_bits / "eval" / "bee" / "51.png")
    assert predict_verb.main([str(twelve_bits / "m"), image, "--output", str(out)]) == 0
    (row,) = csv.DictReader(out.read_text().splitlines())
    assert "bee" in row.values()
