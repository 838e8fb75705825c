"""The evaluator task of a cluster: evaluates each checkpoint that the workers save.

It writes ``metrics.jsonl``, the TensorBoard curves of evaluations and ``best/``; the workers write
everything else in the model folder.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence

from tf_image_classification.checkpoints.store import CheckpointStore, Saved
from tf_image_classification.config import Settings, check_facts
from tf_image_classification.distributed.cluster_spec import Cluster
from tf_image_classification.errors import CheckpointError, ConfigError
from tf_image_classification.evaluation.loop import Evaluation
from tf_image_classification.hooks import EvaluationHook, EvaluationSummaryHook
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files, signals
from tf_image_classification.training.length import requested_length
from tf_image_classification.workflows import export_saved_model, messages
from tf_image_classification.workflows.result import TrainResult
from tf_image_classification.workflows.setup import build, default_hooks, recipe, validate
from tf_image_classification.workflows.setup.build import Assembly
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.pending_evaluations import is_asked_for, missed
from tf_image_classification.workflows.setup.weights import assign_weights

_POLL_SECS = 1.0
_SILENT_SECS = 60.0  # without a checkpoint

log = logging.getLogger("tf_image_classification")


def evaluate_continuously(
    context: RunContext, cluster: Cluster, reporting_hooks: Sequence[EvaluationHook]
) -> TrainResult:
    """Evaluate the checkpoints of a cluster's workers as they are saved, then export the best one.

    Args:
        context: the run, on this process alone.
        cluster: the cluster, of which this process is the evaluator task.
        reporting_hooks: hooks that the environment asks for.
    """
    context, _ = recipe.settle(context)
    evaluates_apart(context.settings, cluster)
    opened = validate.open_run(context)
    context, data = opened.context, opened.data
    spec, settings, folder = context.spec, context.settings, context.folder
    parts = build.assemble(context, data, [])
    print(f"evaluates the checkpoints of {folder.path}")
    files.make_folder(folder.path)
    record, best = default_hooks.evaluation_hooks(context)
    # The log last: its steps are not evaluated again, so the best checkpoint must be safe by then.
    summaries = [EvaluationSummaryHook()] if settings.checkpoints.save_summary_steps else []
    hooks = [*summaries, best, *reporting_hooks, record]
    evaluation = follow(parts, settings, data.schema, hooks)
    lines = folder.evaluations()
    if evaluation is not None:
        print(messages.evaluation_table(evaluation, lines[-1]["step"]))
    exports = export_saved_model.exports(spec, settings)
    if exports and not export_saved_model.is_exported(folder, settings):
        failed = export_saved_model.export_at_the_end(spec, settings, parts, folder, data)
        if failed:
            raise failed
    return TrainResult(folder.path, lines[-1]["step"], folder.last_metrics())


def evaluates_apart(settings: Settings, cluster: Cluster | None) -> bool:
    """Whether an evaluator task evaluates, rather than the workers.

    Raises:
        ConfigError: the options contradict one another or the cluster.
    """
    choice = settings.evaluation.evaluator
    if cluster is None:
        check_facts(settings, {"cluster": "the environment describes no cluster"})
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
            f"This process is the evaluator, but {cluster.origin} lists no evaluator, so the "
            "workers evaluate as well. Add --evaluator task to the command of every "
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
    """A checkpoint under evaluation, as hooks see it (``hooks.EvaluatedRun``).

    Attributes:
        settings: all settings.
        schema: the labels.
        model_dir: the model folder.
        step: steps of the checkpoint that is evaluated.
        was_resumed: always true: hooks continue the state of an earlier evaluator.
    """

    was_resumed = True

    def __init__(
        self, settings: Settings, schema: LabelSchema, hooks: Sequence[EvaluationHook]
    ) -> None:
        self.settings = settings
        self.schema = schema
        self.model_dir = settings.run.model_dir
        self.step = -1
        self.saved: Saved | None = None
        self._hooks = hooks

    def save(self, folder: str = "", keep: int | None = None) -> str:
        """Copy the checkpoint to another folder."""
        assert self.saved is not None and folder
        states = {f"{type(hook).__name__}/1": hook.state() for hook in self._hooks}
        notes = {**self.saved.notes, "hooks": {**self.saved.notes["hooks"], **states}}
        return CheckpointStore(folder, -1 if keep is None else keep).save(
            self.step, self.saved.tensors, notes
        )


def follow(
    parts: Assembly,
    settings: Settings,
    schema: LabelSchema,
    hooks: Sequence[EvaluationHook],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Evaluation | None:
    """Evaluate each checkpoint of the folder, oldest first, until the run is complete.

    Args:
        parts: the run, assembled as for a process by itself.
        settings: all settings.
        schema: the labels.
        hooks: called after each evaluation.
        sleep: waits; an argument so that tests need not.

    Returns:
        The last evaluation, or None when all had been made before.

    Raises:
        Stopped: a signal asked to stop, where signals are handled.
    """
    assert parts.evaluate_some is not None
    evaluate = parts.evaluate_some(settings.evaluation.eval_freq)
    folder = ModelFolder(settings.run.model_dir)
    store = CheckpointStore(folder.checkpoints)
    run = Evaluated(settings, schema, hooks)
    by_steps = settings.evaluation.eval_every_steps is not None  # then all that it asks for
    throttle_secs = 0.0 if by_steps else settings.evaluation.eval_throttle_secs
    done = {0, *(line["step"] for line in folder.evaluations())}
    passed: set[str] = set()
    told: set[int] = set()
    evaluation, last_began, began = None, -math.inf, time.monotonic()
    with contextlib.ExitStack() as closing:
        for hook in hooks:
            closing.callback(hook.close)
            hook.begin(run)
        while True:
            signals.check()
            saved = _next(store, done, passed, settings)
            if saved is None and _is_complete(store, done, settings):
                return evaluation
            is_last = saved is not None and _is_last(saved, settings)
            now = time.monotonic()
            if saved is None and now - began >= _SILENT_SECS and not store.steps():
                print(f"no checkpoint in {store.folder} yet; do the workers have the same folder?")
                began = math.inf
            if saved is None or not (now - last_began >= throttle_secs or is_last):
                sleep(_POLL_SECS)
                continue
            last_began = now
            assign_weights(parts.state.model, saved)
            run.step, run.saved = saved.step, saved
            evaluation = evaluate()
            for hook in hooks:
                hook.after_evaluation(run, evaluation)
            done.add(saved.step)
            if lost := [s for s in missed(done, saved.step, settings) if s not in told]:
                told.update(lost)
                print(
                    f"not evaluated: step {', '.join(map(str, lost))}, which --eval_every_steps "
                    f"{settings.evaluation.eval_every_steps} asked for; the checkpoint was removed "
                    "before, or cannot be read"
                )
            if is_last:
                return evaluation


def _next(
    store: CheckpointStore, done: set[int], passed: set[str], settings: Settings
) -> Saved | None:
    """The oldest checkpoint that is to be evaluated; not one that is removed or damaged.

    One that is saved again while it is read has another name then, and is read the next time.

    Args:
        store: the checkpoints.
        done: steps that need no evaluation any more; damaged ones are added.
        passed: paths of checkpoints that none is wanted of; newly found ones are added.
        settings: all settings.
    """
    by_steps = settings.evaluation.eval_every_steps is not None
    steps = store.steps()
    for step in steps:
        is_wanted = not by_steps or is_asked_for(step, settings)
        if step in done or not (is_wanted or step == steps[-1]):
            continue
        prefix = store.prefix(step)
        if prefix in passed:
            continue
        try:
            saved = store.load(step)
        except CheckpointError as error:
            if store.prefix(step) == prefix or step not in store.steps():
                done.add(step)
                log.warning("%s", error)
            continue
        if is_wanted or _is_last(saved, settings):
            return saved
        passed.add(prefix)
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
    return bool(saved.notes["is_complete"]) and saved.notes["asked"] == requested_length(settings)
