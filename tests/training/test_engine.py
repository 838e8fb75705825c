"""The step and the loop: devices, parts and interruptions change nothing but the rounding."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.errors import (
    ConfigError,
    NonFiniteLossError,
    RunInterrupted,
    SpecError,
)
from tf_image_classification.hooks import Hook
from tf_image_classification.training import cluster
from tiny_runs import (
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


@pytest.mark.parametrize("changes", [{"strategy": "mirrored"}, {"gradient_accumulation_steps": 3}])
def test_unevenly_missing_labels_weigh_the_same_in_any_split(unevenly_known, tmp_path, changes):
    spec = plain_spec(weights=(1.0, 0.3))
    whole = run(spec, tmp_path / "whole", unevenly_known, train_steps=STEPS)
    split = run(spec, tmp_path / "split", unevenly_known, train_steps=STEPS, **changes)
    assert largest_difference(split, whole) < 1e-5


def test_batch_norm_statistics_are_the_mean_over_the_devices(records, tmp_path):
    spec = TinySpec(noise=0.0)
    saved = run(spec, tmp_path / "model", records, train_steps=3, strategy="mirrored")
    again = run(spec, tmp_path / "again", records, train_steps=3, strategy="mirrored")
    assert_same_bits(again, saved)
    moving = saved.tensors["model/norm/moving_mean"]
    assert np.isfinite(moving).all() and moving.any()


def test_a_batch_that_does_not_split_names_the_nearest_that_do(records, tmp_path):
    with pytest.raises(ConfigError, match="Nearest sizes that do: 6 and 8"):
        run(plain_spec(), tmp_path, records, batch_size=7, strategy="mirrored", train_steps=1)
    with pytest.raises(ConfigError, match="Nearest"):
        cluster.check_batch_size(12, 4, 2)
    cluster.check_batch_size(16, 4, 2)


class StopAt(Hook):
    """Sends a signal to this process after a step."""

    def __init__(self, step, number=signal.SIGTERM):
        self.step, self.number = step, number

    def after_step(self, run):
        if run.step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({}, signal.SIGTERM),
        ({"moving_average_decay": 0.9, "optimizer": "momentum"}, signal.SIGINT),
        ({"input_mode": "streaming", "stream_block": 7}, signal.SIGTERM),
        ({"precision": "mixed_float16", "optimizer": "adam"}, signal.SIGTERM),
        ({"strategy": "mirrored"}, signal.SIGTERM),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else str(value),
)
def test_an_interrupted_run_ends_with_the_same_bits(records, tmp_path, changes, number):
    spec, changes = TinySpec(), {"train_steps": STEPS, **changes}
    straight = run(spec, tmp_path / "straight", records, **changes)
    with pytest.raises(RunInterrupted, match="step 5 of 9") as stopped:
        run(spec, tmp_path / "stopped", records, hooks=[StopAt(5, number)], **changes)
    assert stopped.value.exit_code == 75
    assert last_checkpoint(tmp_path / "stopped").step == 5
    assert_same_bits(run(spec, tmp_path / "stopped", records, **changes), straight)


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
    from tf_image_classification.checkpoints.store import CheckpointStore

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
    assert f"train-00001-of-00002.tfrecord.gz record {4 * step - 20}" in message
    assert "record 7" in message
    assert last_checkpoint(tmp_path / "model").step <= step
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
    from tf_image_classification.checkpoints.store import CheckpointStore

    store = CheckpointStore(str(tmp_path / "m" / "checkpoints"))
    first, last = store.load(0).tensors, store.load(3).tensors
    assert np.array_equal(first["model/hidden/kernel"], last["model/hidden/kernel"])
    assert not np.array_equal(first["model/logits/kernel"], last["model/logits/kernel"])


def test_a_gradient_that_must_not_pass_is_limited(records, tmp_path):
    common = {"optimizer": "sgd", "learning_rate": 1.0, "learning_rate_decay_type": "fixed",
              "weight_decay": 0.0, "train_steps": 1, "keep_checkpoint_max": -1}  # fmt: skip
    run(plain_spec(), tmp_path / "m", records, gradient_clip_norm=0.01, **common)
    from tf_image_classification.checkpoints.store import CheckpointStore

    store = CheckpointStore(str(tmp_path / "m" / "checkpoints"))
    first, last = store.load(0).tensors, store.load(1).tensors
    moved = [last[n] - first[n] for n in first if n.startswith("model/")]
    norm = np.sqrt(sum(float(np.sum(m.astype(np.float64) ** 2)) for m in moved))
    assert norm == pytest.approx(0.01, rel=1e-3)
