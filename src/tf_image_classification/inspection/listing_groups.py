"""Groups of dependent examples of a listing, from names, bytes and small grey versions of images.

    groups = groups_of_listing(listing, classes)
    groups.of[3], groups.summary()

Up to ``MOST_READ`` images are read to find identical ones; up to ``MOST_COMPARED`` on a local disk
are decoded, small, to find near-duplicates, frames and bursts. Of more, and of images in a bucket,
only names that hold a video or a burst are used.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import io
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tf_image_classification.dataset.image_digests import digests, same_length
from tf_image_classification.dataset.readers import Listing
from tf_image_classification.inspection.captures import NO_CAPTURE, capture_of
from tf_image_classification.inspection.duplicates import connected, near_pairs
from tf_image_classification.inspection.example_groups import Groups, Trace, find_groups
from tf_image_classification.inspection.image_stats import SMALL_SIDE, perceptual_hashes
from tf_image_classification.system import files

MOST_READ = 100_000
MOST_COMPARED = 20_000

_DECODED_SIDE = 4 * SMALL_SIDE  # pixels; JPEG is decoded at a fraction of its size
_NUM_THREADS = 8


def groups_of_listing(listing: Listing, classes: Sequence[str], column: str = "") -> Groups:
    """The groups of the examples of a listing.

    Args:
        listing: the examples.
        classes: of each example, "" if it is unknown or there are several.
        column: whose values decide instead of videos and bursts; an example without a value keeps
            those that are found.
    """
    equal = same_length(listing)
    alike = digests(listing, equal) if len(equal) <= MOST_READ else {}
    traces, look_alikes = _traces(listing)
    values = [str(value) for value in listing.columns[column]] if column else ()
    return find_groups(traces, classes, _grouped(alike), look_alikes, values)


def _grouped(keys: Mapping[int, str]) -> list[list[int]]:
    found: dict[str, list[int]] = collections.defaultdict(list)
    for i, key in keys.items():
        found[key].append(i)
    return [members for members in found.values() if len(members) > 1]


def _traces(listing: Listing) -> tuple[list[Trace], list[list[int]]]:
    """The trace of each example, and groups of near-duplicates."""
    names = [listing.names[i] if listing.names else "" for i in range(len(listing))]
    traces = [Trace(name) for name in names]
    if len(listing) > MOST_COMPARED or any(map(files.is_remote, listing.places.paths)):
        return traces, []
    # Packed images are unpacked once, one after the other.
    num_threads = _NUM_THREADS if listing.places.kind == "file" else 1
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        warnings.simplefilter("ignore")  # of Pillow, about large images and broken EXIF data
        seen = pool.map(lambda i: _seen(listing, i), range(len(listing)))
        traces = [
            dataclasses.replace(trace, small=small, camera=camera, taken=taken)
            for trace, (small, camera, taken) in zip(traces, seen, strict=True)
        ]
    return traces, near_duplicates([trace.small for trace in traces])


def near_duplicates(smalls: Sequence[npt.NDArray[np.uint8] | None]) -> list[list[int]]:
    """Groups of images that look the same; those of None are in none.

    Only the pixels decide, so copies in another size, format, quality or exposure are found too.
    """
    readable = [(i, small) for i, small in enumerate(smalls) if small is not None]
    if len(readable) < 2:
        return []
    squares = [small.reshape(SMALL_SIDE, SMALL_SIDE) for _, small in readable]
    hashes = np.array([perceptual_hashes(square) for square in squares], np.uint64)
    pairs = near_pairs(hashes, np.stack([small for _, small in readable]))
    groups = connected(len(readable), pairs.tolist())
    return [[readable[k][0] for k in members] for members in groups]


def _seen(listing: Listing, i: int) -> tuple[npt.NDArray[np.uint8] | None, str, float | None]:
    """An image in grey, uint8 [SMALL_SIDE ** 2], None if it is broken; camera and time by EXIF."""
    from PIL import Image  # late: only this needs it

    try:
        with Image.open(io.BytesIO(listing.places[i].encoded())) as image:
            camera, taken = capture_of(image)
            image.draft("L", (_DECODED_SIDE, _DECODED_SIDE))
            small = image.convert("L").resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BOX)
            return np.asarray(small).ravel(), camera, taken
    except Exception:  # whatever Pillow stumbles over; the training names it or reads it
        return None, *NO_CAPTURE
