"""The training loop: step, evaluate, call hooks (which save), stop.

The order after each call of the step function is fixed: evaluate first, then the hooks. Checkpoints
hold the step of the last evaluation and whether one was left unfinished, so a resumed run makes
the same evaluations as one that was never stopped.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from tf_image_classification.distributed.consensus import Consensus, Votes
from tf_image_classification.errors import RunInterrupted, TficError
from tf_image_classification.hooks.cadence import Every
from tf_image_classification.system import signals
from tf_image_classification.training.run import TrainingRun

Evaluate = Callable[[], Any]


def train(run: TrainingRun, evaluate: Evaluate | None, evaluate_when: Every) -> Any:
    """Train to the end and return the last evaluation; None without evaluation data.

    Args:
        run: the run, fresh or restored.
        evaluate: evaluates the model as it is, or returns None when the process is to stop.
        evaluate_when: when to evaluate besides the end.

    Raises:
        RunInterrupted: a signal asked to stop; the state is saved.
        NonFiniteLossError: the loss was not finite.
    """
    consensus = Consensus(run.workers)
    by_steps = evaluate_when.steps > 0  # then due on every worker at once, without a vote
    is_alone = run.workers.count == 1
    evaluation = None
    is_stopping = wants_evaluation = False

    def votes() -> Votes:
        return Votes(wants_evaluation, bool(run.requested_stop), _is_interrupted())

    with contextlib.ExitStack() as stack, signals.handled(), run.hooks.closing():
        defer_signals = functools.cache(lambda: stack.enter_context(_saving_first()))
        run.hooks(lambda hook: hook.begin(run))
        evaluate_when.start(run.step)
        if evaluate and run.owes_evaluation:
            evaluation = _evaluate(run, evaluate)
            is_stopping = evaluation is None

        while not run.is_complete and not is_stopping:
            num_steps = min(run.settings.training.steps_per_call, run.train_steps - run.step)
            run.stepper.advance(num_steps, votes())
            wants_evaluation = False  # the vote is on its way
            defer_signals()  # until now there was nothing to save, and tracing may take long

            is_due = evaluate is not None and evaluate_when.is_due(run.step)
            wants_evaluation = is_due and not by_steps and run.workers.is_writer
            assert run.stepper.output is not None
            decided = consensus.decide(votes(), run.stepper.output.votes)
            if decided.finish and not run.stop_reason:
                run.stop_reason = run.requested_stop or "a hook of the first worker asked for it"
            is_stopping |= decided.interrupt
            if decided.evaluate or (is_due and by_steps):
                wants_evaluation &= not decided.evaluate
                assert evaluate is not None
                evaluation = _evaluate(run, evaluate)
                is_stopping |= evaluation is None
                evaluate_when.start(run.step)

            run.hooks(lambda hook: hook.after_step(run))
            is_stopping |= is_alone and _is_interrupted()

        defer_signals()
        run.check()
        is_stopping = consensus.is_any(is_stopping or _is_interrupted())
        if not is_stopping and evaluate and run.evaluated_step != run.step:
            evaluation = _evaluate(run, evaluate)
            is_stopping = evaluation is None
        if is_stopping:
            _stop_early(run)
        run.hooks(lambda hook: hook.end(run))
        run.workers.wait_for_all()
    return evaluation


def _is_interrupted() -> bool:
    """Whether a signal has asked the process to stop."""
    return bool(signals.received())


def _evaluate(run: TrainingRun, evaluate: Evaluate) -> Any:
    """Evaluate and call the hooks; None when a signal came in the middle.

    When it fails, the state is saved as it was before.
    """
    run.check()
    before = run.notes() | {"owes_evaluation": True}
    try:
        with run.state.averaged():
            evaluation = evaluate()
        run.owes_evaluation = evaluation is None
        if evaluation is None:
            return None
        run.evaluated_step = run.step
        if run.workers.is_writer:
            run.before_writing()
        run.hooks(lambda hook: hook.after_evaluation(run, evaluation))
    except TficError:
        run.write(before)
        raise
    return evaluation


def _stop_early(run: TrainingRun) -> NoReturn:
    """Save, call the hooks and raise ``RunInterrupted``."""
    reason = signals.received() or "a signal to another worker"
    path = run.save()
    run.hooks(lambda hook: hook.on_stop(run, reason))
    run.workers.wait_for_all()
    raise RunInterrupted(
        f"Stopped by {reason} at step {run.step} of {run.train_steps}; the state is saved in "
        f"{path}. Start the same command again to resume."
    )


@contextlib.contextmanager
def _saving_first() -> Iterator[None]:
    """Inside the block a signal waits for the loop to save; a second Ctrl-C stops at once."""
    with (
        signals.deferred(),
        signals.stage(
            "a second time, before the state was saved",
            again="Start the same command again to resume from the newest checkpoint.",
            resumes=True,
        ),
    ):
        yield
