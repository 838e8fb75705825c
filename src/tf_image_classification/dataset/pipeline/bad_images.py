"""Images that cannot be decoded, found in a batch that failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from tf_image_classification.dataset.image.diagnose import explain_bad_image
from tf_image_classification.errors import BadImageError


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


def bad_image_error(found: Sequence[BadImage]) -> BadImageError:
    """The error of a run that ends because of bad images; names the first."""
    more = f" {len(found) - 1} more in the same batch." if len(found) > 1 else ""
    return BadImageError(
        f"{found[0].where}: {found[0].reason}.{more} Start again with --on_bad_image skip to "
        "leave bad images out; or repair or remove it, and add --allow_changes to resume."
    )
