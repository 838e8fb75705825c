"""The step and the loop: devices, parts and interruptions change nothing but the rounding."""

import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.distributed import devices
from tf_image_classification.errors import (
    ConfigError,
    NonFiniteLossError,
    RunInterrupted,
    SpecError,
)
from tf_image_classification.hooks import Every, Hook
from tf_image_classification.workflows.setup import default_hooks
from tiny_runs import (
    StopAt,
    TinySpec,
    assert_same_bits,
    evaluations,
    largest_difference,
    last_checkpoint,
    plain_spec,
    run,
    write_records,
)

STEPS = 9


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def unevenly_known(tmp_path_factory):
    """Records in which a third of the classes and half of the sizes are not known."""

    def labels(number, kind):
        return {
            "kind": float(kind) if number % 3 else None,
            "size": number / 10 if number % 2 else None,
        }

    return write_records(tmp_path_factory.mktemp("partial"), labels=labels)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "momentum", "gradient_clip_norm": 0.05},
        {"optimizer": "rmsprop", "gradient_clip_value": 0.01},
        {"gradient_accumulation_steps": 3, "moving_average_decay": 0.9},
    ],
    ids=lambda changes: "+".join(changes) or "plain",
)
def test_two_devices_train_as_one(records, tmp_path, changes):
    one, two = (
        run(
            plain_spec(l2=0.01), tmp_path / strategy, records, train_steps=STEPS,
            strategy=strategy, **changes,
        )
        for strategy in ("one_device", "mirrored")
    )  # fmt: skip
    assert largest_difference(two, one) < 1e-5
    assert two.tensors["loss_sum"] == pytest.approx(one.tensors["loss_sum"], abs=1e-4)
    if changes.get("moving_average_decay"):
        assert largest_difference(two, one, beginning="average/") < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"strategy": "mirrored"}, {"gradient_accumulation_steps": 3}])
def test_unevenly_missing_labels_weigh_the_same_in_any_split(unevenly_known, tmp_path, changes):
    spec = plain_spec(weights=(1.0, 0.3))
    whole = run(spec, tmp_path / "whole", unevenly_known, train_steps=STEPS)
    split = run(spec, tmp_path / "split", unevenly_known, train_steps=STEPS, **changes)
    assert largest_difference(split, whole) < 1e-5


@pytest.mark.slow
def test_batch_norm_statistics_are_the_mean_over_the_devices(records, tmp_path):
    spec = TinySpec(noise=0.0)
    one, two, again = (
        run(spec, tmp_path / folder, records, train_steps=1, strategy=strategy)
        for folder, strategy in (("1", "one_device"), ("2", "mirrored"), ("3", "mirrored"))
    )
    assert_same_bits(again, two)
    name = "model/norm/moving_mean"  # the mean of the halves' means is the mean of the batch
    np.testing.assert_allclose(two.tensors[name], one.tensors[name], atol=1e-6)
    assert np.abs(one.tensors[name]).max() > 0.01


@pytest.mark.slow
def test_the_losses_of_the_model_are_part_of_the_training_loss(records, tmp_path):
    without, with_l2 = (
        run(plain_spec(l2=l2), tmp_path / str(l2), records, train_steps=1, keep_checkpoint_max=-1)
        for l2 in (0.0, 0.01)
    )
    kernel = (
        CheckpointStore(str(tmp_path / "0.0" / "checkpoints"))
        .load(0)
        .tensors["model/hidden/kernel"]
    )
    difference = with_l2.tensors["loss_sum"] - without.tensors["loss_sum"]
    assert difference == pytest.approx(0.01 * np.square(kernel).sum(), rel=1e-4)


class NotANumber(keras.layers.Layer):
    """Adds NaN to the logits of white images, whose gradient it leaves alone."""

    def call(self, logits, images):
        is_white = keras.ops.max(images, axis=(1, 2, 3)) > 0.99
        return keras.ops.where(is_white[:, None], np.nan, 0.0) + logits


class Poisoned(TinySpec):
    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            inputs = keras.Input(image_shape)
            logits = keras.layers.Dense(3, name="dense")(keras.layers.Flatten()(inputs))
            return keras.Model(inputs, NotANumber()(logits, inputs))

        return model_fn

    def losses(self, labels, logits):
        return {"kind": tf.reduce_sum(logits["kind"] ** 2, axis=1)}


def test_logits_that_are_no_numbers_do_no_harm_where_the_label_is_missing(tmp_path):
    white = tf.io.encode_png(np.full([8, 8, 3], 255, np.uint8)).numpy()
    grey = tf.io.encode_png(np.full([8, 8, 3], 99, np.uint8)).numpy()
    examples = [(white, "w", {"kind": None}), (grey, "g", {"kind": 1.0})] * 6
    write_shards(str(tmp_path), "train", examples)
    saved = run(Poisoned(noise=0.0), tmp_path / "m", str(tmp_path / "train*"), train_steps=3)
    assert all(np.isfinite(value).all() for value in saved.tensors.values())


def test_a_batch_that_does_not_split_names_the_nearest_that_do(records, tmp_path):
    with pytest.raises(ConfigError, match="Nearest sizes that do: 6 and 8"):
        run(plain_spec(), tmp_path, records, batch_size=7, strategy="mirrored", train_steps=1)
    with pytest.raises(ConfigError, match="Nearest"):
        devices.check_batch_size(12, 4, 2)
    devices.check_batch_size(16, 4, 2)


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({}, signal.SIGTERM),
        pytest.param(
            {"input_mode": "streaming", "stream_block": 7}, signal.SIGINT, marks=pytest.mark.slow
        ),
        pytest.param(
            {"moving_average_decay": 0.9, "optimizer": "momentum"},
            signal.SIGTERM,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"precision": "mixed_float16", "optimizer": "adam"},
            signal.SIGTERM,
            marks=pytest.mark.exhaustive,
        ),
        pytest.param({"strategy": "mirrored"}, signal.SIGTERM, marks=pytest.mark.exhaustive),
        pytest.param(
            {"strategy": "mirrored", "steps_per_call": 2}, signal.SIGTERM, marks=pytest.mark.slow
        ),
        pytest.param({"gradient_accumulation_steps": 3}, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param({"optimizer": "muon"}, signal.SIGTERM, marks=pytest.mark.exhaustive),
        pytest.param(
            {"optimizer": "ftrl", "warmup_steps": 2}, signal.SIGTERM, marks=pytest.mark.exhaustive
        ),
        pytest.param({"jit_compile": "on"}, signal.SIGTERM, marks=pytest.mark.exhaustive),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else str(value),
)
def test_an_interrupted_run_ends_with_the_same_bits(records, tmp_path, changes, number):
    spec, changes = TinySpec(), {"train_steps": STEPS, **changes}
    straight = run(spec, tmp_path / "straight", records, **changes)
    at = 4 if changes.get("steps_per_call") else 5
    with pytest.raises(RunInterrupted, match=f"step {at} of 9") as stopped:
        run(spec, tmp_path / "stopped", records, hooks=[StopAt(at, number)], **changes)
    assert stopped.value.exit_code == 75
    assert last_checkpoint(tmp_path / "stopped").step == at
    assert_same_bits(run(spec, tmp_path / "stopped", records, **changes), straight)


class StopInEvaluation(TinySpec):
    """Asks its process to stop in the middle of the second evaluation."""

    batches = 0

    def metric_ops(self, labels, predictions):
        StopInEvaluation.batches += 1
        if StopInEvaluation.batches == 10:  # after one to open the run, and 7 of the first
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.exhaustive
def test_an_evaluation_that_was_cut_off_is_made_by_the_resumed_run(records, tmp_path):
    changes = {"train_steps": STEPS, "eval_every_steps": 3}
    StopInEvaluation.batches = -1000
    straight = run(StopInEvaluation(), tmp_path / "straight", records, records, **changes)
    StopInEvaluation.batches = 0
    with pytest.raises(RunInterrupted, match="step 6 of 9"):
        run(StopInEvaluation(), tmp_path / "stopped", records, records, **changes)
    assert [line["step"] for line in evaluations(tmp_path / "stopped")] == [3]
    again = run(StopInEvaluation(), tmp_path / "stopped", records, records, **changes)
    assert_same_bits(again, straight)
    assert evaluations(tmp_path / "stopped") == evaluations(tmp_path / "straight")
    assert [line["step"] for line in evaluations(tmp_path / "stopped")] == [3, 6, 9]


class SlowEvaluation(TinySpec):
    """On a clock of its own a step takes a second, and a batch of an evaluation a hundred."""

    now = 0.0

    def metric_ops(self, labels, predictions):
        SlowEvaluation.now += 100.0


class Tick(Hook):
    def after_step(self, run):
        SlowEvaluation.now += 1.0


@pytest.mark.slow
def test_the_time_between_two_evaluations_begins_at_the_end_of_the_first(
    records, tmp_path, monkeypatch
):
    every = Every(secs=4.0, clock=lambda: SlowEvaluation.now)
    monkeypatch.setattr(default_hooks, "when_to_evaluate", lambda settings: every)
    run(SlowEvaluation(), tmp_path / "m", records, records, hooks=[Tick()], train_steps=12)
    # The clock moves in a hook after the step, so what is due is seen at the next one.
    assert [line["step"] for line in evaluations(tmp_path / "m")] == [5, 9, 12]


@pytest.mark.slow
def test_evaluations_do_not_touch_the_training(records, tmp_path):
    spec, changes = TinySpec(), {"train_steps": STEPS, "moving_average_decay": 0.9}
    without = run(spec, tmp_path / "without", records, **changes)
    often = run(spec, tmp_path / "often", records, records, eval_every_steps=1, **changes)
    assert_same_bits(often, without)
    assert [line["step"] for line in evaluations(tmp_path / "often")] == list(range(1, STEPS + 1))


def test_moving_averages_follow_their_formula(records, tmp_path):
    run(
        plain_spec(), tmp_path / "model", records, train_steps=4, save_checkpoints_steps=1,
        moving_average_decay=0.15, keep_checkpoint_max=-1,
    )  # fmt: skip
    store = CheckpointStore(str(tmp_path / "model" / "checkpoints"))
    expected = store.load(0).tensors["model/logits/kernel"]
    for step in range(4):
        decay = min(0.15, (1 + step) / (10 + step))
        after = store.load(step + 1).tensors
        expected = decay * expected + (1 - decay) * after["model/logits/kernel"]
        np.testing.assert_allclose(after["average/logits/kernel"], expected, atol=1e-6)


class Diverging(TinySpec):
    """Its loss is no number for the examples of class 1."""

    def losses(self, labels, logits):
        good = tf.reduce_sum(logits["kind"] ** 2, axis=1)
        return {"kind": tf.where(labels["kind"] == 1, np.nan, good)}


def test_a_loss_that_is_no_number_names_the_step_and_its_examples(tmp_path):
    first = write_records(tmp_path, labels=lambda i, kind: {"kind": 1.0 if i == 15 else 0.0})
    with pytest.raises(NonFiniteLossError) as error:
        run(Diverging(), tmp_path / "model", first, debug=True, train_steps=20, batch_size=4)
    # Without shuffling, in two files dealt in turn: record 15 of the set is number 7 of the second.
    message = str(error.value)
    step = int(message.partition("step ")[2].partition(".")[0])
    assert f"train-00001-of-00002.tfrecord.gz record {4 * step - 24}" in message
    assert "record 7" in message
    assert last_checkpoint(tmp_path / "model").step < step
    tensors = last_checkpoint(tmp_path / "model").tensors
    assert all(np.isfinite(v).all() for v in tensors.values())


def test_a_model_of_the_wrong_shape_is_refused_before_the_first_step(records, tmp_path):
    spec = TinySpec(depth=4)
    spec.class_dict = TinySpec().class_dict
    with pytest.raises(SpecError, match=r"expected \[batch, 3\]"):
        run(spec, tmp_path / "model", records, train_steps=1)
    assert not (tmp_path / "model").exists()


def test_frozen_variables_keep_their_bits(records, tmp_path):
    run(plain_spec(), tmp_path / "m", records, train_steps=3, trainable_scopes=("logits",),
        save_checkpoints_steps=1)  # fmt: skip
    store = CheckpointStore(str(tmp_path / "m" / "checkpoints"))
    first, last = store.load(0).tensors, store.load(3).tensors
    assert np.array_equal(first["model/hidden/kernel"], last["model/hidden/kernel"])
    assert not np.array_equal(first["model/logits/kernel"], last["model/logits/kernel"])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_gradient_that_must_not_pass_is_limited(records, tmp_path, precision):
    common = {
        "precision": precision,
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "learning_rate_decay_type": "fixed",
        "weight_decay": 0.0,
        "train_steps": 1,
        "keep_checkpoint_max": -1,
    }
    run(plain_spec(), tmp_path / "m", records, gradient_clip_norm=0.01, **common)
    store = CheckpointStore(str(tmp_path / "m" / "checkpoints"))
    first, last = store.load(0).tensors, store.load(1).tensors
    moved = [last[n] - first[n] for n in first if n.startswith("model/")]
    norm = np.sqrt(sum(float(np.sum(m.astype(np.float64) ** 2)) for m in moved))
    assert norm == pytest.approx(0.01, rel=1e-3)


class Overflowing(TinySpec):
    """Its gradients are infinite in float16, all with one sign, as long as the scale is large."""

    def get_preproc_fn(self, is_training):
        return lambda image, w, h: tf.image.resize(image, [h, w]) / 255.0 + 0.1

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            inputs = keras.Input(image_shape)
            return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))

        return model_fn

    def losses(self, labels, logits):
        return {"kind": 1e4 * tf.reduce_sum(logits["kind"], axis=1)}


@pytest.mark.slow
@pytest.mark.parametrize("limit", [{"gradient_clip_value": 1.0}, {"gradient_clip_norm": 1.0}, {}])
def test_a_step_that_overflows_is_left_out_whatever_the_limit(records, tmp_path, limit):
    spec = Overflowing()
    changes = {"precision": "mixed_float16", "keep_checkpoint_max": -1, **limit}
    last = run(spec, tmp_path / "m", records, train_steps=2, **changes)
    first = CheckpointStore(str(tmp_path / "m" / "checkpoints")).load(0)
    assert largest_difference(last, first) == 0
    scale = "optimizer/loss_scale/dynamic_scale"
    assert last.tensors[scale] == first.tensors[scale] / 4


class WithoutGradient(TinySpec):
    """A finite loss whose gradient is NaN at any scale."""

    def losses(self, labels, logits):
        norm = tf.sqrt(tf.reduce_sum(tf.square(0.0 * logits["kind"]), axis=-1))
        return {"kind": norm + 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "step"), [("float32", 1), ("mixed_float16", 16)])
def test_a_gradient_that_is_never_finite_ends_the_run(records, tmp_path, precision, step):
    spec = WithoutGradient(noise=0.0, batch_norm=False)
    with pytest.raises(NonFiniteLossError, match=f"not finite in step {step}[.]"):
        run(spec, tmp_path / "m", records, train_steps=40, precision=precision)
