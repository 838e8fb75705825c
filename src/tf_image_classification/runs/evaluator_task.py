"""The evaluator of a cluster: evaluates each checkpoint that the workers save, until the last one.

It writes what is known of the model's quality (``metrics.jsonl``, the evaluation's TensorBoard
curves, ``best/``); the workers write all the rest of the model folder.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tf_image_classification.checkpoints.store import CheckpointStore, Saved
from tf_image_classification.config import Settings
from tf_image_classification.errors import CheckpointError, ConfigError, RunInterrupted
from tf_image_classification.evaluation.runner import Evaluation
from tf_image_classification.hooks import Hook
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.runs.assembly import Assembly
from tf_image_classification.runs.folder_weights import assign_weights
from tf_image_classification.tasks import Cluster
from tf_image_classification.training.loop import length_asked

_POLL_SECS = 1.0


def evaluates_apart(settings: Settings, cluster: Cluster | None) -> bool:
    """Whether an evaluator task evaluates, and not the workers.

    Raises:
        ConfigError: that cannot be, or other settings have no effect with it.
    """
    choice = settings.evaluation.evaluator
    if cluster is None:
        if settings.is_chosen("cluster_timeout_secs"):
            raise ConfigError(
                "cluster_timeout_secs has no effect: the environment describes no cluster. Remove "
                "it."
            )
        if choice != "auto":
            raise ConfigError(
                f"evaluator is {choice}, but the environment describes no cluster, so this "
                "process evaluates by itself. Leave it out, or start a cluster with tfic launch "
                "--workers N --evaluator."
            )
        return False
    is_apart = choice == "task" or (choice == "auto" and cluster.has_evaluator)
    if cluster.is_evaluator and not is_apart:
        raise ConfigError(
            f"This process is the evaluator, but {cluster.origin} does not tell the workers that "
            "there is one, so they evaluate as well. Add --evaluator task to the command of every "
            "task."
        )
    if is_apart and not settings.data.eval_metadata:
        raise ConfigError("An evaluator has nothing to evaluate on. Give --eval_metadata.")
    if is_apart and settings.training.early_stopping_patience:
        raise ConfigError(
            "early_stopping_patience has no effect with an evaluator task, which evaluates every "
            "checkpoint while the workers go on. Remove it, or let the workers evaluate with "
            "--evaluator workers."
        )
    return is_apart


class Evaluated:
    """The run that is evaluated, as hooks see it.

    Attributes:
        settings: all settings.
        schema: the labels.
        model_dir: the model folder.
        step: steps of the checkpoint that is evaluated.
        was_resumed: true: hooks look for what an evaluator before this one has left.
    """

    was_resumed = True

    def __init__(self, settings: Settings, schema: LabelSchema, hooks: Sequence[Hook]) -> None:
        self.settings = settings
        self.schema = schema
        self.model_dir = settings.run.model_dir
        self.step = -1
        self.saved: Saved | None = None
        # What hooks ask of a training in progress.
        self.wait_secs = self.step_secs = 0.0
        self._hooks = hooks

    def save(self, folder: str, keep: int) -> str:
        """Copy the checkpoint to another folder."""
        assert self.saved is not None
        states = {f"{type(hook).__name__}/1": hook.state() for hook in self._hooks}
        notes = {**self.saved.notes, "hooks": {**self.saved.notes["hooks"], **states}}
        return CheckpointStore(folder, keep).save(self.step, self.saved.tensors, notes)


def follow(
    parts: Assembly,
    settings: Settings,
    schema: LabelSchema,
    hooks: Sequence[Hook],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Evaluation | None:
    """Evaluate each checkpoint of the folder in its order until the run is complete.

    Args:
        parts: the run, assembled as for a process by itself.
        settings: all settings.
        schema: the labels.
        hooks: told of each evaluation.
        sleep: waits; an argument so that tests need not.

    Returns:
        The last evaluation, or None when all had been made before.

    Raises:
        RunInterrupted: a signal asked to stop.
    """
    assert parts.evaluate_some is not None
    evaluate = parts.evaluate_some(settings.evaluation.eval_freq)
    folder = ModelFolder(settings.run.model_dir)
    store = CheckpointStore(folder.checkpoints)
    run: Any = Evaluated(settings, schema, hooks)
    by_steps = settings.evaluation.eval_every_steps is not None  # then all that are saved
    throttle_secs = 0.0 if by_steps else settings.evaluation.eval_throttle_secs
    done = {0, *(line["step"] for line in folder.evaluations())}
    evaluation, last_began = None, -float("inf")
    with _interruptible() as check, contextlib.ExitStack() as closing:
        for hook in hooks:
            closing.callback(hook.close)
            hook.begin(run)
        while True:
            check()
            saved = _next(store, done)
            if saved is None and _is_complete(store, done, settings):
                return evaluation
            is_last = saved is not None and _is_last(saved, settings)
            waited = time.monotonic() - last_began >= throttle_secs
            if saved is None or not (waited or is_last):
                sleep(_POLL_SECS)
                continue
            last_began = time.monotonic()
            assign_weights(parts.state.model, saved)
            run.step, run.saved = saved.step, saved
            evaluation = evaluate()
            for hook in hooks:
                hook.after_evaluation(run, evaluation)
            done.add(saved.step)
            if is_last:
                return evaluation


def _next(store: CheckpointStore, done: set[int]) -> Saved | None:
    """The oldest checkpoint that is not evaluated yet; not one that is removed or damaged.

    One that is saved again while it is read has another name then, and is read the next time.
    """
    for step in store.steps():
        if step in done:
            continue
        prefix = store.prefix(step)
        try:
            return store.load(step)
        except CheckpointError:
            if store.prefix(step) == prefix or step not in store.steps():
                done.add(step)
    return None


def _is_complete(store: CheckpointStore, done: set[int], settings: Settings) -> bool:
    steps = store.steps()
    if not steps or steps[-1] not in done:
        return False
    try:
        return _is_last(store.load(steps[-1]), settings)
    except CheckpointError:
        return False


def _is_last(saved: Saved, settings: Settings) -> bool:
    """Whether a checkpoint is the end of the run, and not of a shorter one that now goes on."""
    return bool(saved.notes["is_complete"]) and saved.notes["asked"] == length_asked(settings)


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Inside the block SIGTERM and Ctrl-C end the evaluator; it has nothing to save.

    Gives a function that ends it too where an error that a signal caused was swallowed on its way.
    """
    received: list[str] = []

    def check() -> None:
        if received:
            raise RunInterrupted(
                f"The evaluator was stopped by {received[0]}. Start it again with the workers; it "
                "goes on with the checkpoints that are not evaluated yet."
            )

    def stop(number: int, frame: Any) -> None:
        received.append(signal.Signals(number).name)
        check()

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield check
    except BaseException:
        check()  # TensorFlow wraps what is raised while it traces a function
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
