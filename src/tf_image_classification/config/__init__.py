"""All settings of a run: ``options`` says what one is, ``groups`` declares them. No TensorFlow."""

from tf_image_classification.config.groups import (
    IMAGENET,
    OptimizerSettings,
    ReadySettings,
    ScheduleSettings,
    TrainingSettings,
)
from tf_image_classification.config.options import Option, declare, options_of
from tf_image_classification.config.settings import (
    ALIASES,
    OPTIONS,
    Settings,
    check_needs,
    make_settings,
)

__all__ = [
    "ALIASES",
    "IMAGENET",
    "OPTIONS",
    "OptimizerSettings",
    "Option",
    "ReadySettings",
    "ScheduleSettings",
    "Settings",
    "TrainingSettings",
    "check_needs",
    "declare",
    "make_settings",
    "options_of",
]
