"""Batches that a spec's own input_fn gives: trained, resumed, masked, evaluated, and named."""

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import evaluate
from tf_image_classification.errors import ConfigError, DataError, RunInterrupted, SpecError
from tf_image_classification.labels import Label
from tiny_runs import (
    SIZE,
    StopAt,
    TinySpec,
    assert_same_bits,
    evaluations,
    largest_difference,
    run,
    tiny_settings,
)

COUNT = 23


class OwnInput(TinySpec):
    """Noisy images with a stripe that says their class; every fifth label is missing."""

    def __init__(self, change=lambda images, labels: (images, labels), **options):
        super().__init__(noise=0.0, batch_norm=False, **options)
        self.change = change
        self.class_dict = [Label("kind", depth=3, missing=-1)]

    def input_fn(
        self, batch_size, metadata, class_dict, is_tfrecord, epochs, image_size, preproc_fn
    ):
        random = np.random.RandomState(len(metadata[0]))
        kinds = np.arange(COUNT) % 3
        images = random.uniform(0, 0.3, [COUNT, SIZE, SIZE, 3]).astype(np.float32)
        for i, kind in enumerate(kinds):
            images[i, :, 2 * kind : 2 * kind + 2] += 0.6
        kinds = np.where(np.arange(COUNT) % 5 == 4, -1, kinds)
        data = tf.data.Dataset.from_tensor_slices(self.change(images, {"kind": kinds}))
        return lambda: data.batch(batch_size)


def settings(folder, **changes):
    return tiny_settings(folder / "m", "train", "evaluation", train_steps=9, **changes)


def test_it_trains_and_every_known_label_is_evaluated_once(tmp_path):
    run(OwnInput(), tmp_path / "m", "train", "evaluation", train_steps=60)
    line = evaluations(tmp_path / "m")[-1]
    assert line["num_examples"] == COUNT
    assert line["accuracy"] == 1.0


@pytest.mark.slow
@pytest.mark.exhaustive_after(3)
@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
@pytest.mark.parametrize("batch_size", [5, 7, 12])
def test_no_row_is_lost_whatever_the_batch_size(tmp_path, strategy, batch_size):
    run(OwnInput(), tmp_path / "m", "train", "evaluation", train_steps=2)
    changed = settings(tmp_path, strategy=strategy, batch_size=batch_size)
    found = evaluate(OwnInput(), changed).metrics
    expected = evaluate(OwnInput(), settings(tmp_path)).metrics
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_two_devices_train_as_one(tmp_path):
    one, two = (
        run(OwnInput(), tmp_path / strategy, "train", train_steps=9, strategy=strategy)
        for strategy in ("one_device", "mirrored")
    )
    assert largest_difference(two, one) < 1e-5


@pytest.mark.slow
def test_a_stopped_run_skips_to_its_batch(tmp_path):
    straight = run(OwnInput(), tmp_path / "straight", "train", train_steps=9)
    with pytest.raises(RunInterrupted):
        run(OwnInput(), tmp_path / "stopped", "train", train_steps=9, hooks=[StopAt(5)])
    assert_same_bits(run(OwnInput(), tmp_path / "stopped", "train", train_steps=9), straight)


def with_labels(change):
    return lambda images, labels: (images, {"kind": change(labels["kind"])})


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
    ("change", "error", "expected"),
    [
        (with_labels(lambda kinds: kinds + 1), DataError, "batch 0 of the .*whole numbers"),
        (with_labels(lambda kinds: kinds + 0.5), DataError, "batch 0 of the .*whole numbers"),
        (with_labels(lambda kinds: np.eye(3)[kinds]), SpecError, r"float64 \(None, 3\), expected"),
        (lambda images, labels: (images, {"sort": labels["kind"]}), SpecError, "no label 'kind'"),
        (lambda images, labels: images, SpecError, "expected .images, labels."),
    ],
    ids=["depth", "fraction", "one-hot", "name", "no labels"],
)
def test_wrong_batches_are_named(tmp_path, change, error, expected):
    with pytest.raises(error, match=f"(?s){expected}"):
        run(OwnInput(change), tmp_path / "m", "train", train_steps=2)


class OneHotInput(OwnInput):
    """Batches as those of 2018: one-hot rows, of zeros where the label is missing."""

    def __init__(self, change=lambda rows: rows, **options):
        super().__init__(**options)
        self.class_dict = [{"name": "kind", "depth": 3, "one-hot": True}]
        self.change = lambda images, labels: (
            images,
            {"kind": change(tf.one_hot(labels["kind"], 3).numpy())},
        )


@pytest.mark.slow
def test_one_hot_rows_train_and_evaluate_as_the_numbers_do(tmp_path):
    numbers = run(OwnInput(), tmp_path / "m", "train", "evaluation", train_steps=4)
    rows = run(OneHotInput(), tmp_path / "n", "train", "evaluation", train_steps=4)
    assert_same_bits(rows, numbers)
    assert evaluations(tmp_path / "n") == evaluations(tmp_path / "m")


@pytest.mark.parametrize("wrong", [lambda rows: rows * 2, lambda rows: np.ones_like(rows)])
def test_rows_that_are_not_one_hot_are_named(tmp_path, wrong):
    with pytest.raises(DataError, match="(?s)batch 0 of the .*one-hot rows are expected"):
        run(OneHotInput(wrong), tmp_path / "m", "train", train_steps=2)


def test_settings_that_it_decides_itself_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="on_bad_image .* has no effect: the spec's own input_fn"):
        run(OwnInput(), tmp_path / "m", "train", train_steps=2, on_bad_image="skip")
    with pytest.raises(ConfigError, match="Give train_steps"):
        run(OwnInput(), tmp_path / "m", "train", epochs=2.0)
