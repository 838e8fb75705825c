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
from tf_image_classification.system import signals
from tf_image_classification.training.length import requested_length
from tf_image_classification.workflows import evaluate_continuously
from tf_image_classification.workflows.setup.pending_evaluations import (
    MAX_PENDING,
    PendingEvaluations,
)


def settings_for(folder, **changes):
    common = {"train_metadata": ["t"], "eval_metadata": ["e"], "model_dir": str(folder)}
    return make_settings(common | {"train_steps": 8} | changes)


def save(folder, step, settings, *, is_complete=False):
    notes = {"is_complete": is_complete, "asked": requested_length(settings), "hooks": {}}
    store = CheckpointStore(ModelFolder(str(folder)).checkpoints, -1)
    return store.save(step, {"a": np.ones(3, np.float32)}, notes)


class NothingComes(Exception):
    """The evaluator waits for a checkpoint that nobody will save."""


@pytest.fixture
def evaluated(monkeypatch):
    """Function of settings: the steps that are evaluated until the run ends or nothing comes."""
    monkeypatch.setattr(evaluate_continuously, "assign_weights", lambda model, saved: None)

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
            evaluate_continuously.follow(parts, settings, None, [hook], sleep=sleep)
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
    assert evaluate_continuously._is_complete(store, {4}, shorter)
    assert not evaluate_continuously._is_complete(store, {4}, longer)
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


def test_only_what_is_asked_for_by_steps_is_evaluated_and_the_end(tmp_path, evaluated):
    """Other checkpoints are there for resuming; a call of several steps may pass a multiple."""
    settings = settings_for(tmp_path, eval_every_steps=4)
    for step in (1, 3, 4, 6):
        save(tmp_path, step, settings)
    assert evaluated(settings) == [4]
    save(tmp_path, 7, settings, is_complete=True)
    assert evaluated(settings) == [4, 7]
    several = settings_for(tmp_path / "several", eval_every_steps=4, steps_per_call=3)
    for step in (3, 6, 9, 12):
        save(tmp_path / "several", step, several)
    assert evaluated(several) == [6, 9, 12]


def test_evaluations_that_are_lost_are_named(tmp_path, evaluated, capsys):
    settings = settings_for(tmp_path, eval_every_steps=2, train_steps=12)
    for step in (2, 8, 12):
        save(tmp_path, step, settings, is_complete=step == 12)
    assert evaluated(settings) == [2, 8, 12]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "not evaluated: step 4",
        "not evaluated: step 10",
    ]
    assert "step 4, 6, which --eval_every_steps 2 asked for" in lines[0]


def test_workers_keep_what_an_evaluator_that_is_away_has_to_evaluate(tmp_path, evaluated, caplog):
    settings = settings_for(tmp_path, eval_every_steps=2, train_steps=100)
    folder = ModelFolder(str(tmp_path))
    store, owed = CheckpointStore(folder.checkpoints, 2), PendingEvaluations(folder, settings)
    notes = {"is_complete": False, "asked": requested_length(settings), "hooks": {}}

    def train(first, last):
        for step in range(first, last + 1):
            store.save(step, {"a": np.ones(3)}, notes, also_keep=owed(store.steps()))

    train(1, 9)
    assert store.steps() == [2, 4, 6, 8, 9]
    assert evaluated(settings) == [2, 4, 6, 8]
    folder.write_evaluations([{"step": step} for step in (2, 4, 6, 8)])
    train(10, 11)
    assert store.steps() == [10, 11]  # those that are evaluated need not stay
    assert not caplog.records
    train(12, 2 * MAX_PENDING + 14)
    kept = list(range(14, 2 * MAX_PENDING + 13, 2))
    assert store.steps() == [*kept, 2 * MAX_PENDING + 13, 2 * MAX_PENDING + 14]
    assert [record.args[0] for record in caplog.records] == [10, 12]
    assert "will not be evaluated: 20 others wait for the evaluator task" in caplog.text


def test_a_wrong_folder_is_asked_about(tmp_path, evaluated, monkeypatch, capsys):
    monkeypatch.setattr(evaluate_continuously, "_SILENT_SECS", 0.0)
    assert evaluated(settings_for(tmp_path)) == []
    asked = f"no checkpoint in {ModelFolder(str(tmp_path)).checkpoints} yet; do the workers have"
    assert capsys.readouterr().out.count(asked) == 1


def test_a_signal_while_a_function_is_traced_is_told_as_one():
    """TensorFlow would make "in user code" with lines of source of an error."""

    @tf.function
    def traced(x):
        if x > 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return x

    with (
        pytest.raises(RunInterrupted, match=r"^Stopped by SIGTERM"),
        signals.resumable("", again=""),
    ):
        traced(tf.constant(1.0))


def test_a_signal_whose_exception_was_swallowed_ends_the_evaluator_all_the_same(
    tmp_path, evaluated
):
    settings = settings_for(tmp_path, eval_every_steps=2)
    save(tmp_path, 2, settings)
    with pytest.raises(RunInterrupted, match="SIGINT"), signals.resumable("", again=""):
        with contextlib.suppress(signals.Stopped):
            signal.raise_signal(signal.SIGINT)
        evaluated(settings)
