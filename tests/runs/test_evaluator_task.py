"""Which checkpoints an evaluator of its own evaluates, and how it is stopped.

What it makes of them is tested with real workers.
"""

import contextlib
import os
import signal
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.checkpoints import store as stores
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.config import make_settings
from tf_image_classification.errors import RunInterrupted
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.runs import evaluator_task
from tf_image_classification.training.loop import length_asked


def settings_for(folder, **changes):
    common = {"train_metadata": ["t"], "eval_metadata": ["e"], "model_dir": str(folder)}
    return make_settings(common | {"train_steps": 8} | changes)


def save(folder, step, settings, *, is_complete=False):
    notes = {"is_complete": is_complete, "asked": length_asked(settings), "hooks": {}}
    store = CheckpointStore(ModelFolder(str(folder)).checkpoints, -1)
    return store.save(step, {"a": np.ones(3, np.float32)}, notes)


class NothingComes(Exception):
    """The evaluator waits for a checkpoint that nobody will save."""


@pytest.fixture
def evaluated(monkeypatch):
    """Function of settings: the steps that are evaluated until the run ends or nothing comes."""
    monkeypatch.setattr(evaluator_task, "assign_weights", lambda model, saved: None)

    def follow(settings):
        seen, slept = [], []

        def sleep(secs):
            slept.append(secs)
            if len(slept) > 3:
                raise NothingComes

        hook = types.SimpleNamespace(
            begin=lambda run: None,
            close=lambda: None,
            after_evaluation=lambda run, evaluation: seen.append(run.step),
        )
        parts = types.SimpleNamespace(
            evaluate_some=lambda count: lambda: None, state=types.SimpleNamespace(model=None)
        )
        with contextlib.suppress(NothingComes):
            evaluator_task.follow(parts, settings, None, [hook], sleep=sleep)
        return seen

    return follow


def test_all_checkpoints_are_evaluated_when_steps_decide_and_few_when_the_clock_does(
    tmp_path, evaluated
):
    by_steps, by_clock = settings_for(tmp_path, eval_every_steps=2), settings_for(tmp_path)
    for step in (0, 2, 4, 6, 8):
        save(tmp_path, step, by_steps, is_complete=step == 8)
    assert evaluated(by_steps) == [2, 4, 6, 8]
    assert evaluated(by_clock) == [2]


def test_the_end_of_a_shorter_run_is_not_the_end_of_the_longer_one(tmp_path, evaluated):
    shorter, longer = (settings_for(tmp_path, train_steps=n, eval_every_steps=4) for n in (4, 8))
    save(tmp_path, 4, shorter, is_complete=True)
    store = CheckpointStore(ModelFolder(str(tmp_path)).checkpoints)
    assert evaluator_task._is_complete(store, {4}, shorter)
    assert not evaluator_task._is_complete(store, {4}, longer)
    save(tmp_path, 8, longer, is_complete=True)
    assert evaluated(longer) == [4, 8]


def test_a_checkpoint_that_is_saved_again_while_it_is_read_is_evaluated(
    tmp_path, evaluated, monkeypatch
):
    settings = settings_for(tmp_path, eval_every_steps=8)
    prefix = save(tmp_path, 8, settings, is_complete=True)
    read, again = stores.read_tensors, []

    def read_late(path):
        if path == prefix and not again:
            again.append(save(tmp_path, 8, settings, is_complete=True))
        return read(path)

    monkeypatch.setattr(stores, "read_tensors", read_late)
    assert evaluated(settings) == [8] and again


def test_a_damaged_checkpoint_is_left_out(tmp_path, evaluated):
    settings = settings_for(tmp_path, eval_every_steps=4)
    prefix = save(tmp_path, 4, settings)
    with open(f"{prefix}.data-00000-of-00001", "r+b") as stream:
        stream.write(b"xxxx")
    save(tmp_path, 8, settings, is_complete=True)
    assert evaluated(settings) == [8]


def test_a_signal_while_a_function_is_traced_is_told_as_one():
    """TensorFlow would make "in user code" with lines of source of it."""

    @tf.function
    def traced(x):
        if x > 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return x

    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(RunInterrupted, match=r"^The evaluator was stopped by SIGTERM"),
        evaluator_task._interruptible(),
    ):
        traced(tf.constant(1.0))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_whose_error_was_swallowed_ends_it_all_the_same():
    with evaluator_task._interruptible() as check:
        check()
        with contextlib.suppress(RunInterrupted):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(RunInterrupted, match="stopped by SIGINT"):
            check()


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), evaluator_task._interruptible():
        raise ZeroDivisionError
