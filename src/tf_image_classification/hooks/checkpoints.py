"""Hooks for checkpoints: regular ones, the best one, and a warm start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.checkpoints.warm_start import warm_start
from tf_image_classification.errors import CheckpointError, ConfigError, did_you_mean
from tf_image_classification.hooks.base import EvaluatedRun, EvaluationHook, Hook, Run
from tf_image_classification.hooks.cadence import Every
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files


class CheckpointHook(Hook):
    """Saves the state every N steps or seconds, and at the beginning and the end.

    Attributes:
        every: when.
        at_ends: whether to save at the beginning and the end too.
    """

    def __init__(self, every: Every, *, at_ends: bool = True) -> None:
        self.every = every
        self.at_ends = at_ends

    def begin(self, run: Run) -> None:
        """Start counting; a fresh run saves its first state at once."""
        self.every.start(run.step)
        if self.at_ends and not run.was_resumed:
            run.save()

    def after_step(self, run: Run) -> None:
        """Save when it is due."""
        if self.every.is_due(run.step):
            run.save()

    def end(self, run: Run) -> None:
        """Save the last state."""
        if self.at_ends:
            run.save()


class BestCheckpointHook(EvaluationHook):
    """Keeps the checkpoint with the best value of a metric, in the folder ``best``.

    Attributes:
        metric: the metric's name.
        is_better_higher: whether higher is better.
        value: the best value so far, or None.
        step: its step.
    """

    def __init__(self, metric: str, is_better_higher: bool) -> None:
        self.metric = metric
        self.is_better_higher = is_better_higher
        self.value: float | None = None
        self.step = -1

    def begin(self, run: EvaluatedRun) -> None:
        """Read a best checkpoint that is newer than the restored state.

        A killed process may have saved it after its last regular one: its step lies ahead of the
        resumed run, which need not evaluate there when evaluations are scheduled by wall-clock
        time. Or an evaluator task has saved it.
        """
        if not run.was_resumed:
            return
        try:
            saved = CheckpointStore(ModelFolder(run.model_dir).best).newest()
        except CheckpointError:  # a warning has been given; the next evaluation replaces it
            self.value, self.step = None, -1
            return
        if saved is not None and (self.value is None or saved.step > run.step):
            self.load_state(saved.notes["hooks"].get(f"{type(self).__name__}/1", {}))

    def after_evaluation(self, run: EvaluatedRun, evaluation: Any) -> None:
        """Save when this evaluation is the best one.

        Raises:
            ConfigError: the evaluation has no such metric.
        """
        value = scalar_metric(evaluation, self.metric)
        if self.value is not None and not files.is_folder(ModelFolder(run.model_dir).best):
            self.value = None  # it was removed while the run trains
        if is_improvement(value, self.value, self.is_better_higher):
            self.value, self.step = value, run.step
            run.save(ModelFolder(run.model_dir).best, keep=1)

    def state(self) -> dict[str, Any]:
        """The metric, its best value and the step of that value."""
        return {"metric": self.metric, "value": self.value, "step": self.step}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore them, if they are of the same metric."""
        if state.get("metric") == self.metric:
            self.value, self.step = state["value"], state["step"]


def scalar_metric(evaluation: Any, name: str) -> float:
    """The value of a scalar metric of an evaluation.

    Raises:
        ConfigError: the evaluation has no scalar metric of that name.
    """
    scalars = evaluation.scalars()
    if name not in scalars:
        raise ConfigError(f"best_metric: no metric {name!r}. {did_you_mean(name, scalars)}")
    return float(scalars[name])


def is_improvement(value: float, best: float | None, is_better_higher: bool) -> bool:
    """Whether a value is better than the best so far; a NaN never is."""
    if math.isnan(value):
        return False
    if best is None:
        return True
    return value > best if is_better_higher else value < best


class LoadCheckpointHook(Hook):
    """Loads the weights of another model before the first step of a fresh run, not on resume.

    The programs of 2018 make one without a path in ``get_model_fn`` and keep it as
    ``self.load_checkpoint_hook``, where the framework finds it; ``--checkpoint_path`` loads by
    itself. ``load_checkpoint_initializer_func`` is for weights that need code of their own.

    Attributes:
        checkpoint_path: the checkpoint, or "" for none.
        restore_scopes: load only variables whose names begin with one of these; empty: all.
        exclude_scopes: do not load variables whose names begin with one of these.
        load_checkpoint_initializer_func: called with the run after that, or None.
    """

    on_every_worker = True
    load_checkpoint_initializer_func: Callable[[Run], None] | None = None

    def __init__(
        self,
        checkpoint_path: str = "",
        restore_scopes: tuple[str, ...] = (),
        exclude_scopes: tuple[str, ...] = (),
    ) -> None:
        self.checkpoint_path = checkpoint_path
        self.restore_scopes = restore_scopes
        self.exclude_scopes = exclude_scopes

    def begin(self, run: Run) -> None:
        """Load, unless the run was resumed.

        Raises:
            CheckpointError: nothing fits, or the checkpoint cannot be read.
        """
        if run.was_resumed:
            return
        if self.checkpoint_path:
            warm_start(
                run.model,
                self.checkpoint_path,
                restore_scopes=self.restore_scopes,
                exclude_scopes=self.exclude_scopes,
                schema=run.schema,
            )
        if self.load_checkpoint_initializer_func is not None:
            self.load_checkpoint_initializer_func(run)
        if self.checkpoint_path or self.load_checkpoint_initializer_func is not None:
            run.begin_averages()
