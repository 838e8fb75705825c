"""The values of 16-bit PNGs that map to 0 and 255, as the option's text and as numbers.

    >>> read_pixel_range("0-4095")
    (0, 4095)
    >>> range_of_values(12, 3987)
    (0, 4095)

Cameras and scanners store 8, 10, 12 or 14 bits in 16. Scaled by 1/257, as 16-bit values are, such
images are black.
"""

from __future__ import annotations

import re

from tf_image_classification.errors import ConfigError

PixelRange = tuple[int, int]
"""The value that maps to 0, and the larger one that maps to 255."""

FULL_RANGE: PixelRange = (0, 65_535)
MEASURED = "measured"
FULL = "full"
FEWEST_LEVELS = 32
"""Images with fewer of the values 0 to 255 are nearly black; 12 bits in 16 leave 16 of them."""


def is_pixel_range(text: str) -> bool:
    """Whether a text is full, measured, or min-max with two numbers from 0 to 65535."""
    match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    is_range = match is not None and int(match[1]) < int(match[2]) <= FULL_RANGE[1]
    return is_range or text in (FULL, MEASURED)


def read_pixel_range(text: str) -> PixelRange | None:
    """The range that an option's text names; None if it is to be measured.

    Raises:
        ConfigError: the text names no range.
    """
    if not is_pixel_range(text):
        raise ConfigError(
            f"png16_range is {text!r}, expected full, measured or two numbers from 0 to 65535, "
            "e.g. 0-4095."
        )
    if text == MEASURED:
        return None
    if text == FULL:
        return FULL_RANGE
    low, _, high = text.partition("-")
    return int(low), int(high)


def pixel_range_text(pixel_range: PixelRange) -> str:
    """The option's text for a range."""
    return FULL if pixel_range == FULL_RANGE else f"{pixel_range[0]}-{pixel_range[1]}"


def range_of_values(lowest: int, highest: int) -> PixelRange:
    """The range for images whose values lie between a minimum and a maximum.

    From 0 to the largest number of as many bits as the values need, so that another image of the
    same camera changes nothing; minimum to maximum if they fill less than half of that.
    """
    limit = (1 << max(8, int(highest).bit_length())) - 1
    is_filled = 2 * (highest - lowest) >= limit or highest <= 255
    return (0, limit) if is_filled or lowest >= highest else (int(lowest), int(highest))


def num_levels(lowest: int, highest: int, pixel_range: PixelRange = FULL_RANGE) -> int:
    """The number of different 8-bit values that an interval of 16-bit values maps to."""
    low, high = pixel_range
    ends = [min(max((value - low) * 255 // (high - low), 0), 255) for value in (lowest, highest)]
    return ends[1] - ends[0] + 1
