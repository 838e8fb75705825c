"""The normalization of a network's pixels, as the option's text and as numbers.

>>> read_pixel_scaling("0.5/0.25")
((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tf_image_classification.errors import ConfigError

Channels = tuple[float, float, float]
"""A value for red, green and blue."""

FORM = "mean/standard deviation of pixels from 0 to 1, e.g. 0.5/0.5 or three numbers each"


def is_pixel_scaling(text: str) -> bool:
    """Whether a text is "", or mean and standard deviation, of all channels or of each of three."""
    return not text or _read(text) is not None


def read_pixel_scaling(text: str) -> tuple[Channels, Channels]:
    """Mean and standard deviation of red, green and blue, of pixels from 0 to 1.

    Raises:
        ConfigError: the text is of another form.
    """
    found = _read(text)
    if found is None:
        raise ConfigError(f"pixel_scaling is {text!r}, expected {FORM}.")
    return found


def pixel_scaling_text(mean: Sequence[float], deviation: Sequence[float]) -> str:
    """The option's text for mean and standard deviation; exact."""
    return "/".join(",".join(repr(float(value)) for value in part) for part in (mean, deviation))


def _read(text: str) -> tuple[Channels, Channels] | None:
    parts = text.split("/")
    if len(parts) != 2:
        return None
    mean, deviation = map(_channels, parts)
    is_valid = mean is not None and deviation is not None and all(d > 0 for d in deviation)
    return (mean, deviation) if is_valid else None  # type: ignore[return-value]


def _channels(text: str) -> Channels | None:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        return None
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        return None
    red, green, blue = values * (3 // len(values))
    return red, green, blue
