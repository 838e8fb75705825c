"""Which values of 16-bit PNGs become 0 and 255, as the option's text and as numbers.

    read_pixel_range("0-4095")          (0, 4095)
    read_pixel_range("measured")        None: known once the images were looked at
    range_of_values(12, 3987)           (0, 4095)

Cameras and scanners store 8, 10, 12 or 14 bits in 16. Scaled by 1/257, as 16-bit values are, such
images are black.
"""

from __future__ import annotations

import re

from tf_image_classification.errors import ConfigError

PixelRange = tuple[int, int]
"""The value that becomes 0, and the larger one that becomes 255."""

FULL_RANGE: PixelRange = (0, 65_535)
MEASURED = "measured"
FULL = "full"
FEWEST_LEVELS = 32
"""Images with fewer of the values 0 to 255 are nearly black; 12 bits in 16 leave 16 of them."""


def read_pixel_range(text: str) -> PixelRange | None:
    """The range that an option's text names; None where it is to be measured.

    Raises:
        ConfigError: it names none.
    """
    if text == MEASURED:
        return None
    if text == FULL:
        return FULL_RANGE
    match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    if match and int(match[1]) < int(match[2]) <= FULL_RANGE[1]:
        return int(match[1]), int(match[2])
    raise ConfigError(
        f"png16_range is {text!r}, expected full, measured or two numbers from 0 to 65535 such as "
        "0-4095."
    )


def pixel_range_text(pixel_range: PixelRange) -> str:
    """The option's text for a range."""
    return FULL if pixel_range == FULL_RANGE else f"{pixel_range[0]}-{pixel_range[1]}"


def range_of_values(lowest: int, highest: int) -> PixelRange:
    """The range for images with such values.

    From 0 to the largest number of as many bits as the values need, so that another image of the
    same camera changes nothing; the values themselves where they fill less than half of that.
    """
    most = (1 << max(8, int(highest).bit_length())) - 1
    is_filled = 2 * (highest - lowest) >= most or highest <= 255
    return (0, most) if is_filled or lowest >= highest else (int(lowest), int(highest))


def num_levels(lowest: int, highest: int, pixel_range: PixelRange = FULL_RANGE) -> int:
    """How many of the values 0 to 255 are left of values between two, in a range."""
    low, high = pixel_range
    ends = [min(max((value - low) * 255 // (high - low), 0), 255) for value in (lowest, highest)]
    return ends[1] - ends[0] + 1
