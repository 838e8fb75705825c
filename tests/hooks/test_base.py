"""When periodic things are due, and a hook that does nothing."""

import inspect

import pytest

from hooks.fake_run import FakeEvaluation, FakeRun, walk
from tf_image_classification.hooks import EvaluatedRun, Every, Hook, Run
from tf_image_classification.training.run import TrainingRun


def due_steps(every, steps):
    return [step for step in steps if every.is_due(step)]


def test_every_so_many_steps_means_multiples_of_that_number():
    every = Every(steps=3)
    every.start(0)
    assert due_steps(every, range(1, 10)) == [3, 6, 9]


def test_calls_that_skip_over_a_multiple_are_due_once():
    every = Every(steps=10)
    every.start(0)
    assert due_steps(every, [7, 14, 21, 28, 29, 35]) == [14, 21, 35]


def test_counting_goes_on_at_multiples_after_a_resumed_step():
    every = Every(steps=10)
    every.start(13)
    assert due_steps(every, range(14, 31)) == [20, 30]


def test_every_so_many_seconds_goes_by_the_clock():
    now = [100.0]
    every = Every(secs=5.0, clock=lambda: now[0])
    every.start(0)
    found = []
    for step, now[0] in enumerate([101.0, 104.9, 105.0, 109.9, 117.0, 121.9, 122.0]):
        found += [step] if every.is_due(step) else []
    assert found == [2, 4, 6]


def test_neither_steps_nor_seconds_is_never():
    every = Every(clock=lambda: 1e9)
    assert due_steps(every, range(100)) == []


def test_a_hook_may_leave_out_every_method():
    run, hook = FakeRun(), Hook()
    walk(hook, run, to=2)
    hook.after_evaluation(run, FakeEvaluation())
    hook.on_stop(run, "SIGTERM")
    hook.end(run)
    hook.load_state(hook.state())
    assert hook.state() == {}


PROMISED = {
    name: inspect.signature(member).parameters
    for protocol in (EvaluatedRun, Run)
    for name, member in vars(protocol).items()
    if inspect.isfunction(member) and not name.startswith("_")
}


@pytest.mark.parametrize("name", PROMISED)
@pytest.mark.parametrize("kind", [TrainingRun, FakeRun])
def test_runs_have_the_methods_that_hooks_are_promised(kind, name):
    assert list(inspect.signature(getattr(kind, name)).parameters) == list(PROMISED[name])


def test_a_hook_may_use_the_earlier_name_of_its_rate_fraction():
    class Half(Hook):
        def rate_share(self, path):
            return lambda step: 0.5

    assert Half().rate_fraction("dense/kernel")(3) == 0.5
    assert Hook().rate_fraction("dense/kernel") is None
