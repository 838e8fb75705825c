"""The values of 16-bit PNGs that a run maps to black and white: declared, measured, or inherited.

settings = as_begun(settings, manifest)                   # before the data are read
settings = settled(settings, data.train.png16_range)      # afterwards: numbers for "measured"
"""

from __future__ import annotations

from tf_image_classification.config import (
    FEWEST_LEVELS,
    FULL_RANGE,
    MEASURED,
    PixelRange,
    Settings,
    num_levels,
    pixel_range_text,
    range_of_values,
    read_pixel_range,
)
from tf_image_classification.dataset.pipeline.pipeline import Pipeline
from tf_image_classification.dataset.png16_values import values_of_some, values_of_table
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.run_manifest import RunManifest

_NUM_LOOKED_AT = 32
_measured: dict[str, PixelRange] = {}
"""By the fingerprint of a training set, so that a command that reads it twice measures it once."""


def as_begun(settings: Settings, manifest: RunManifest | None) -> Settings:
    """The settings, with the range that the folder's run began with in place of "measured"."""
    begun = manifest.settings.get("png16_range", MEASURED) if manifest else MEASURED
    if settings.data.png16_range != MEASURED or begun == MEASURED:
        return settings
    return settings.replace(png16_range=begun)


def settled(settings: Settings, png16_range: PixelRange) -> Settings:
    """The settings, with numbers in place of "measured"."""
    if settings.data.png16_range != MEASURED:
        return settings
    return settings.replace(png16_range=pixel_range_text(png16_range))


def range_for(settings: Settings, training: Table | None) -> PixelRange:
    """The range of the settings, or of the training images.

    Raises:
        ConfigError: it must be measured, but no 16-bit PNG was found.
    """
    declared = read_pixel_range(settings.data.png16_range)
    if declared is not None:
        return declared
    if training is None:
        raise ConfigError(
            "png16_range is measured, but no training images are read here. Give the range, e.g. "
            "--png16_range 0-4095."
        )
    if training.fingerprint not in _measured:
        values = values_of_table(training, max_pixels=settings.data.max_image_pixels)
        if values is None:
            raise ConfigError(
                "png16_range is measured, but none of the training images is a 16-bit PNG. Remove "
                "it."
            )
        _measured[training.fingerprint] = range_of_values(values.lowest, values.highest)
    return _measured[training.fingerprint]


def check_png16(pipeline: Pipeline, option: str) -> tuple[str, ...]:
    """Reject 16-bit PNGs that the range makes (nearly) black; checks a sample of the images.

    Args:
        pipeline: their input.
        option: the setting that names them, for messages.

    Returns:
        Notes otherwise, in sentences.

    Raises:
        DataError: the whole sample is.
    """
    png16_range = pipeline.preprocessor.png16_range
    values = values_of_some(
        pipeline.reader, _NUM_LOOKED_AT, max_pixels=pipeline.preprocessor.max_image_pixels
    )
    if values is None and png16_range != FULL_RANGE:
        given = pixel_range_text(png16_range)
        return (f"{option}: no 16-bit PNG was seen, so that png16_range {given} has no effect.",)
    if values is None or values.lowest == values.highest:
        return ()
    lowest, highest = values.lowest, values.highest
    levels = num_levels(lowest, highest, png16_range)
    found = (
        f"{option}: 16-bit PNGs, e.g. {pipeline.locate(values.first)}, hold {lowest} to {highest}"
    )
    low, high = range_of_values(lowest, highest)
    given = pixel_range_text(png16_range)
    if levels < FEWEST_LEVELS:
        raise DataError(
            f"{found}. With png16_range {given} these become {levels} of the values 0 to 255, too "
            f"few to learn from. Add --png16_range {low}-{high}, or measured; or --noinspect to "
            "train on them as they are."
        )
    if lowest < png16_range[0] or highest > png16_range[1]:
        return (f"{found}; png16_range {given} cuts that off.",)
    if 2 * levels < num_levels(lowest, highest, (low, high)):
        return (f"{found}; --png16_range {low}-{high} would give more contrast.",)
    return ()
