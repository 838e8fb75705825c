"""Near-duplicates among the images of a listing, from small grey versions of them.

    look_alikes(listing, range(len(listing)))    # {3: 0, 17: 0}: 3 and 17 look the same

Only the pixels decide, so copies in another size, format, quality or exposure are found too.
"""

from __future__ import annotations

import concurrent.futures
import io
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tf_image_classification.dataset.readers import Listing
from tf_image_classification.inspection.duplicates import connected, near_pairs
from tf_image_classification.inspection.image_stats import SMALL_SIDE, perceptual_hashes

_DECODED_SIDE = 4 * SMALL_SIDE  # pixels; JPEG is decoded at a fraction of its size
_NUM_THREADS = 8


def look_alikes(listing: Listing, numbers: Sequence[int]) -> dict[int, int]:
    """By example the number of its group; those without a near-duplicate are left out.

    Args:
        listing: the examples.
        numbers: of the examples that are compared; an image that cannot be read is left out.
    """
    # Packed images are unpacked once, one after the other.
    num_threads = _NUM_THREADS if listing.places.kind == "file" else 1
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        warnings.simplefilter("ignore")  # of Pillow, about large images and broken EXIF data
        smalls = list(pool.map(lambda i: _small(listing, i), numbers))
    readable = [(i, small) for i, small in zip(numbers, smalls, strict=True) if small is not None]
    if len(readable) < 2:
        return {}
    hashes = np.array([perceptual_hashes(small) for _, small in readable], np.uint64)
    pairs = near_pairs(hashes, np.stack([small.ravel() for _, small in readable]))
    groups = connected(len(readable), pairs.tolist())
    return {readable[k][0]: g for g, members in enumerate(groups) for k in members}


def _small(listing: Listing, i: int) -> npt.NDArray[np.uint8] | None:
    """An image in grey, uint8 [SMALL_SIDE, SMALL_SIDE]; None if it cannot be decoded."""
    from PIL import Image  # late: only this needs it

    try:
        with Image.open(io.BytesIO(listing.places[i].encoded())) as image:
            image.draft("L", (_DECODED_SIDE, _DECODED_SIDE))
            small = image.convert("L").resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BOX)
            return np.asarray(small)
    except Exception:  # whatever Pillow stumbles over; the training names it or reads it
        return None
