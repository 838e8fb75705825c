"""Checkpoints that an evaluator task has yet to evaluate, which the workers keep until then."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from tf_image_classification.config import Settings
from tf_image_classification.model_folder import ModelFolder

log = logging.getLogger("tf_image_classification")

MAX_PENDING = 20
"""Maximum number of checkpoints kept for an evaluator beyond ``keep_checkpoint_max``."""


def is_asked_for(step: int, settings: Settings) -> bool:
    """Whether ``eval_every_steps`` schedules an evaluation at the end of this call of steps.

    A call of several steps may pass a multiple; it is evaluated at its end.
    """
    every = settings.evaluation.eval_every_steps
    if every is None or step == 0:
        return False
    return step // every > (step - settings.training.steps_per_call) // every


def missed(evaluated: Collection[int], until: int, settings: Settings) -> list[int]:
    """The multiples of ``eval_every_steps`` up to a step that have no evaluation."""
    every = settings.evaluation.eval_every_steps
    if every is None:
        return []
    calls = range(settings.training.steps_per_call)
    return [
        step
        for step in range(every, until + 1, every)
        if not any(step + more in evaluated for more in calls)
    ]


class PendingEvaluations:
    """Chooses the checkpoints that workers keep for an evaluator task.

    Attributes:
        folder: the model folder.
        settings: all settings.
    """

    def __init__(self, folder: ModelFolder, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self._given_up: set[int] = set()

    def __call__(self, steps: Sequence[int]) -> list[int]:
        """The steps whose checkpoints must stay; at most ``MAX_PENDING``, the newest."""
        evaluated = {line["step"] for line in self.folder.evaluations()}
        pending = [s for s in steps if is_asked_for(s, self.settings) and s not in evaluated]
        for step in set(pending[:-MAX_PENDING]) - self._given_up:
            self._given_up.add(step)
            log.warning(
                "The checkpoint of step %d will not be evaluated: %d others wait for the evaluator "
                "task, the maximum that is kept. Start it again, or look at its log.",
                step,
                MAX_PENDING,
            )
        return pending[-MAX_PENDING:]
