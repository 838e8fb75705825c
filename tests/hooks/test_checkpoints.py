"""Hooks that save, and the one that loads."""

import math

import keras
import numpy as np
import pytest

from hooks.fake_run import FakeEvaluation, FakeRun, go_on, walk
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.errors import CheckpointError, ConfigError
from tf_image_classification.hooks import (
    BestCheckpointHook,
    CheckpointHook,
    Every,
    LoadCheckpointHook,
)


def test_a_fresh_run_saves_at_once_then_when_due_and_at_the_end():
    hook, run = CheckpointHook(Every(steps=4)), FakeRun()
    walk(hook, run, to=9)
    hook.end(run)
    assert [step for step, _, _ in run.saved] == [0, 4, 8, 9]


def test_a_resumed_run_does_not_save_what_it_has_just_loaded():
    hook, run = CheckpointHook(Every(steps=4)), FakeRun(step=5, was_resumed=True)
    walk(hook, run, to=8)
    assert [step for step, _, _ in run.saved] == [8]


def best_steps(hook, values, tmp_path):
    run = FakeRun(tmp_path)
    for run.step, value in enumerate(values, 1):
        hook.after_evaluation(run, FakeEvaluation(accuracy=value))
    folder = str(tmp_path / "best")
    assert all(saved[1:] == (folder, 1) for saved in run.saved)
    return [step for step, _, _ in run.saved]


@pytest.mark.parametrize(
    ("is_better_higher", "values", "expected"),
    [
        (True, [0.5, 0.4, 0.5, 0.6], [1, 4]),
        (False, [0.5, 0.4, 0.5, 0.3], [1, 2, 4]),
        (True, [math.nan, 0.1, math.nan, 0.2], [2, 4]),
        (False, [math.nan, math.nan], []),
        (True, [-math.inf, 0.1], [1, 2]),
    ],
)
def test_the_best_checkpoint_is_the_first_with_the_best_value(
    tmp_path, is_better_higher, values, expected
):
    assert (
        best_steps(BestCheckpointHook("accuracy", is_better_higher), values, tmp_path) == expected
    )


def test_the_best_value_is_remembered_over_a_restart(tmp_path):
    first, again = BestCheckpointHook("accuracy", True), BestCheckpointHook("accuracy", True)
    best_steps(first, [0.7], tmp_path)
    again.load_state(first.state())
    assert best_steps(again, [0.6, 0.8], tmp_path) == [2]
    assert again.state() == {"metric": "accuracy", "value": 0.8, "step": 2}


def test_the_best_value_of_another_metric_is_forgotten(tmp_path):
    first, other = BestCheckpointHook("loss", False), BestCheckpointHook("accuracy", True)
    first.value, first.step = 0.9, 3
    other.load_state(first.state())
    assert best_steps(other, [0.5], tmp_path) == [1]


def test_a_best_checkpoint_that_is_gone_or_damaged_is_replaced_by_the_next(tmp_path):
    hook = BestCheckpointHook("accuracy", is_better_higher=True)
    best_steps(hook, [0.9], tmp_path)
    (tmp_path / "best").rmdir()  # while the run trains
    assert best_steps(hook, [0.5, 0.4], tmp_path) == [1]
    (tmp_path / "best" / "step-00000001.index").write_bytes(b"no checkpoint")
    again = BestCheckpointHook("accuracy", is_better_higher=True)
    again.load_state(hook.state())
    again.begin(FakeRun(tmp_path, was_resumed=True))
    assert best_steps(again, [0.4], tmp_path) == [1]


@pytest.mark.parametrize("step", [5, 9])
def test_a_best_checkpoint_that_a_resumed_run_does_not_know_is_kept(tmp_path, step):
    # Ahead: its process was killed before the next regular checkpoint, and the clock need not
    # evaluate there. Behind: an evaluator task had found it.
    notes = {"hooks": {"BestCheckpointHook/1": {"metric": "loss", "value": 0.05, "step": 8}}}
    CheckpointStore(str(tmp_path / "best")).save(8, {"step": np.int64(8)}, notes)
    hook, run = BestCheckpointHook("loss", False), FakeRun(tmp_path, step=step, was_resumed=True)
    hook.begin(run)
    hook.after_evaluation(run, FakeEvaluation(loss=0.2))
    assert not run.saved
    hook.after_evaluation(run, FakeEvaluation(loss=0.01))
    assert len(run.saved) == 1


def test_a_metric_that_is_not_there_is_refused_with_near_names(tmp_path):
    hook = BestCheckpointHook("acuracy", True)
    with pytest.raises(ConfigError, match="Did you mean accuracy"):
        hook.after_evaluation(FakeRun(tmp_path), FakeEvaluation(accuracy=0.5, per_class=[0.5]))


def small_model():
    inputs = keras.Input([2])
    return keras.Model(inputs, keras.layers.Dense(1, name="head")(inputs))


@pytest.fixture
def pretrained(tmp_path):
    values = {"head/kernel": np.full([2, 1], 3.0, np.float32), "head/bias": np.float32([4.0])}
    return CheckpointStore(str(tmp_path / "pretrained")).save(1, values, {})


def head(run):
    return {v.path: v.numpy().ravel().tolist() for v in run.model.variables}


def test_weights_are_loaded_before_a_fresh_run_and_not_on_resume(pretrained):
    fresh = FakeRun(model=small_model())
    LoadCheckpointHook(pretrained).begin(fresh)
    assert head(fresh) == {"head/kernel": [3.0, 3.0], "head/bias": [4.0]}
    assert fresh.averages_begun == [0]
    resumed = FakeRun(model=small_model(), step=3, was_resumed=True)
    before = head(resumed)
    LoadCheckpointHook(pretrained).begin(resumed)
    assert head(resumed) == before


def test_scopes_choose_what_the_hook_loads(pretrained):
    run = FakeRun(model=small_model())
    LoadCheckpointHook(pretrained, exclude_scopes=("head/kernel",)).begin(run)
    assert head(run)["head/bias"] == [4.0] and head(run)["head/kernel"] != [3.0, 3.0]
    run = FakeRun(model=small_model())
    LoadCheckpointHook(pretrained, restore_scopes=("head/kernel",)).begin(run)
    assert head(run)["head/bias"] == [0.0] and head(run)["head/kernel"] == [3.0, 3.0]


def test_a_checkpoint_that_is_not_there_ends_the_run(tmp_path):
    with pytest.raises(CheckpointError):
        LoadCheckpointHook(str(tmp_path / "absent")).begin(FakeRun(model=small_model()))


def test_a_load_hook_without_a_path_calls_its_function_before_a_fresh_run_alone():
    seen = []
    hook = LoadCheckpointHook()
    run = FakeRun(model=small_model())
    hook.begin(run)
    assert run.averages_begun == []
    hook.load_checkpoint_initializer_func = seen.append
    hook.begin(run)
    assert seen == [run] and run.averages_begun == [0]
    hook.begin(FakeRun(model=small_model(), step=3, was_resumed=True))
    assert seen == [run]


def test_saving_goes_on_after_several_steps_a_call():
    hook, run = CheckpointHook(Every(steps=4)), FakeRun(was_resumed=True)
    hook.begin(run)
    go_on(hook, run, to=15, stride=3)
    assert [step for step, _, _ in run.saved] == [6, 9, 12]
