"""The length of a run: steps in all, and steps in an epoch."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tf_image_classification.config import Settings

_DEFAULT_EPOCHS = 10.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """Length of a run.

    Attributes:
        train_steps: steps in all.
        steps_per_epoch: batches in one pass over the training set, not rounded.
    """

    train_steps: int
    steps_per_epoch: float


def plan_length(settings: Settings, num_examples: int) -> Plan:
    """The length of a run from its settings and the exact size of its training set."""
    per_epoch = num_examples / settings.data.batch_size
    if settings.training.train_steps is not None:
        return Plan(settings.training.train_steps, per_epoch)
    epochs = _DEFAULT_EPOCHS if settings.training.epochs is None else settings.training.epochs
    # A little less than the product, whose rounding must not add a step.
    return Plan(max(1, math.ceil(epochs * per_epoch - 1e-6)), per_epoch)


def requested_length(settings: Settings) -> dict[str, Any]:
    """The settings that decide how long a run is, as its checkpoints keep them."""
    return {
        "train_steps": settings.training.train_steps,
        "epochs": settings.training.epochs,
        "early_stopping_patience": settings.training.early_stopping_patience,
    }
