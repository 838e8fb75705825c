"""The evaluation split of a divided training set, used if no evaluation set is given.

settings = with_own_evaluation(settings)      # --train_metadata pets, with pets/train and pets/val
"""

from __future__ import annotations

from tf_image_classification.config import Settings, check_needs
from tf_image_classification.dataset.readers import has_evaluation_part

ORIGIN = "train_metadata"


def with_own_evaluation(settings: Settings) -> Settings:
    """The settings, with the training set's evaluation split if no evaluation set is given.

    Raises:
        DataError: the training set cannot be found, or is divided ambiguously.
        ConfigError: a setting of evaluations is given, and there is nothing to evaluate on.
    """
    train = settings.data.train_metadata
    is_open = train and not settings.data.eval_metadata and not settings.run.evaluate
    if is_open and has_evaluation_part(train, "train_metadata"):
        settings = settings.with_choices({"eval_metadata": train}, ORIGIN)
    check_needs(settings)
    return settings
