"""All settings of a run: declared in ``groups``, checked by ``rules``. Needs no TensorFlow.

Public are the names in ``__all__``; the modules of this folder are internal.
"""

from tf_image_classification.config.groups import (
    ALIASES,
    DEFAULT_BACKBONE,
    DEFAULT_EVAL_SPLIT,
    DEFAULT_MAX_PIXELS,
    FROM_SCRATCH,
    IMAGENET,
    NO_GROUPS,
    OPTIONS,
    RECIPE_STRETCH,
    BackboneSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainingSettings,
)
from tf_image_classification.config.options import Option, declare, options_of
from tf_image_classification.config.pixel_range import (
    FEWEST_LEVELS,
    FULL_RANGE,
    MEASURED,
    PixelRange,
    num_levels,
    pixel_range_text,
    range_of_values,
    read_pixel_range,
)
from tf_image_classification.config.pixel_scaling import pixel_scaling_text, read_pixel_scaling
from tf_image_classification.config.rules import check_facts, check_needs
from tf_image_classification.config.settings import Settings, make_settings

__all__ = [
    "ALIASES",
    "DEFAULT_BACKBONE",
    "DEFAULT_EVAL_SPLIT",
    "DEFAULT_MAX_PIXELS",
    "FEWEST_LEVELS",
    "FROM_SCRATCH",
    "FULL_RANGE",
    "IMAGENET",
    "MEASURED",
    "NO_GROUPS",
    "OPTIONS",
    "RECIPE_STRETCH",
    "BackboneSettings",
    "OptimizerSettings",
    "Option",
    "PixelRange",
    "ScheduleSettings",
    "Settings",
    "TrainingSettings",
    "check_facts",
    "check_needs",
    "declare",
    "make_settings",
    "num_levels",
    "options_of",
    "pixel_range_text",
    "pixel_scaling_text",
    "range_of_values",
    "read_pixel_range",
    "read_pixel_scaling",
]
