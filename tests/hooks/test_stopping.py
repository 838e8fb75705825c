"""Hooks that end a training."""

import math

import pytest

from hooks.fake_run import FakeEvaluation, FakeRun, walk
from tf_image_classification.errors import ConfigError
from tf_image_classification.hooks import EarlyStoppingHook, NonFiniteLossHook


def evaluate_all(hook, values):
    name = "auc" if hook.metric == "auc" else "loss"
    run = FakeRun()
    for run.step, value in enumerate(values, 1):
        hook.after_evaluation(run, FakeEvaluation(**{name: value}))
        if run.stopped:
            return run.step, run.stopped[0]
    return None


def test_the_loss_is_looked_at_every_so_many_steps():
    run = FakeRun()
    walk(NonFiniteLossHook(every_steps=3), run, to=10)
    assert run.checked == [3, 6, 9]


@pytest.mark.parametrize(
    ("values", "stopped_at"),
    [
        ([5, 4, 3, 2, 1], None),
        ([5, 6, 4, 6, 7], 5),
        ([5, 5, 5], 3),
        ([math.nan, 5, 6, 4], None),
        ([5, 6, math.nan, math.nan, 6], 5),
    ],
)
def test_a_run_without_progress_ends_after_its_patience(values, stopped_at):
    found = evaluate_all(EarlyStoppingHook("loss", False, patience=2), values)
    assert (found and found[0]) == stopped_at
    if found:
        assert "loss has not improved" in found[1] and "2 evaluations" in found[1]


@pytest.mark.parametrize("values", [[math.nan] * 5, [5, *[math.nan] * 5], [5, 6, *[math.nan] * 5]])
def test_an_evaluation_that_is_nan_is_warned_of_and_never_ends_a_run(values, caplog):
    assert evaluate_all(EarlyStoppingHook("auc", True, patience=2), values) is None
    assert "auc is NaN at step 5" in caplog.text


def test_more_can_be_better():
    assert evaluate_all(EarlyStoppingHook("loss", True, patience=1), [1, 2, 3, 3])[0] == 4


def test_patience_is_remembered_over_a_restart():
    first, again = (EarlyStoppingHook("loss", False, patience=2) for _ in range(2))
    assert evaluate_all(first, [5, 6]) is None
    again.load_state(first.state())
    assert evaluate_all(again, [6])[0] == 1


def test_a_metric_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="Did you mean loss"):
        evaluate_all(EarlyStoppingHook("los", False, patience=2), [1])
