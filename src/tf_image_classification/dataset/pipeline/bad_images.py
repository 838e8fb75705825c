"""Images that cannot be decoded, found in a batch that failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from tf_image_classification.dataset.image.diagnose import explain_bad_image


@dataclasses.dataclass(frozen=True)
class BadImage:
    """An image that cannot be used.

    Attributes:
        number: the example's number in its source.
        where: its file, line or record.
        reason: why it cannot be decoded.
    """

    number: int
    where: str
    reason: str


def bad_images_among(
    examples: Iterable[tuple[int, bytes]], locate: Callable[[int], str], *, max_pixels: int
) -> list[BadImage]:
    """The examples that cannot be decoded, by ascending number; runs eagerly.

    Args:
        examples: number and encoded image of each; an example may occur again.
        locate: number to the name of an example.
        max_pixels: as ``decode_image`` takes it.
    """
    found = {}
    for number, data in examples:
        reason = explain_bad_image(data, max_pixels=max_pixels)
        if reason is not None:
            found[number] = BadImage(number, locate(number), reason)
    return [found[number] for number in sorted(found)]
