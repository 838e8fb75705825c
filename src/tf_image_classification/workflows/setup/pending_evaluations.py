"""Checkpoints that an evaluator task still has to evaluate, so that the workers keep them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from tf_image_classification.config import Settings
from tf_image_classification.model_folder import ModelFolder

log = logging.getLogger("tf_image_classification")

MAX_PENDING = 20
"""Checkpoints that are kept for an evaluator beyond ``keep_checkpoint_max``."""


def is_asked_for(step: int, settings: Settings) -> bool:
    """Whether ``eval_every_steps`` asks for an evaluation at the end of the call of this step.

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
    """What the workers keep for an evaluator that evaluates by steps.

    Attributes:
        folder: the model folder.
        settings: all settings.
    """

    def __init__(self, folder: ModelFolder, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self._given_up: set[int] = set()

    def __call__(self, steps: Sequence[int]) -> list[int]:
        """Those of the steps whose checkpoints must stay: the newest, if they are too many."""
        evaluated = {line["step"] for line in self.folder.evaluations()}
        pending = [s for s in steps if is_asked_for(s, self.settings) and s not in evaluated]
        for step in set(pending[:-MAX_PENDING]) - self._given_up:
            self._given_up.add(step)
            log.warning(
                "The checkpoint of step %d will not be evaluated: %d others wait for the evaluator "
                "task, which is the most that are kept. Start it again, or look at its log.",
                step,
                MAX_PENDING,
            )
        return pending[-MAX_PENDING:]
