"""Hooks that end a training: for a loss that is not finite, or without progress."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from tf_image_classification.hooks.base import Hook, Run
from tf_image_classification.hooks.cadence import Every
from tf_image_classification.hooks.checkpoints import is_improvement, scalar_metric

log = logging.getLogger("tf_image_classification")


class NonFiniteLossHook(Hook):
    """Ends the run with an error when the loss is NaN or infinite, naming the step's examples.

    Attributes:
        every: when to check; checking makes the host wait for the device. Every checkpoint is
            preceded by a check anyway.
    """

    on_every_worker = True

    def __init__(self, every_steps: int = 10) -> None:
        self.every = Every(steps=every_steps)

    def begin(self, run: Run) -> None:
        """Start counting."""
        self.every.start(run.step)

    def after_step(self, run: Run) -> None:
        """Check when it is due.

        Raises:
            NonFiniteLossError: the loss was not finite.
        """
        if self.every.is_due(run.step):
            run.check()


class EarlyStoppingHook(Hook):
    """Ends the run as complete after ``patience`` evaluations without improvement.

    An evaluation whose value is NaN is not counted, with a warning.

    Attributes:
        metric: the metric's name.
        is_better_higher: whether higher is better.
        patience: evaluations without improvement after which the run ends.
    """

    on_every_worker = True  # each has the evaluation

    def __init__(self, metric: str, is_better_higher: bool, patience: int) -> None:
        self.metric = metric
        self.is_better_higher = is_better_higher
        self.patience = patience
        self._best: float | None = None
        self._without = 0

    def after_evaluation(self, run: Run, evaluation: Any) -> None:
        """Count, and stop after ``patience`` evaluations without improvement."""
        value = scalar_metric(evaluation, self.metric)
        if math.isnan(value):
            log.warning(
                "%s is NaN at step %d: the evaluation does not count for early stopping.",
                self.metric,
                run.step,
            )
            return
        if is_improvement(value, self._best, self.is_better_higher):
            self._best, self._without = value, 0
            return
        self._without += 1
        if self._without >= self.patience:
            best = "its start" if self._best is None else f"{self._best:.4g}"
            run.request_stop(
                f"{self.metric} has not improved on {best} in {self._without} evaluations"
            )

    def state(self) -> dict[str, Any]:
        """The metric, its best value and the number of evaluations since."""
        return {"metric": self.metric, "best": self._best, "without": self._without}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore them, if they are of the same metric."""
        if state.get("metric") == self.metric:
            self._best, self._without = state["best"], state["without"]
