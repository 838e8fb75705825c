"""Digests of image bytes, which find byte-identical images of a listing.

numbers = same_length(listing)     # only these can be identical
digests(listing, numbers)          # {3: "9f86d0...", 17: "9f86d0..."}
"""

from __future__ import annotations

import concurrent.futures
import hashlib
from collections.abc import Sequence

import numpy as np

from tf_image_classification.dataset.readers.listing import Listing
from tf_image_classification.errors import DataError

_NUM_THREADS = 16


def same_length(listing: Listing) -> list[int]:
    """The examples whose length in bytes is known and another one has, too."""
    lengths = listing.places.lengths
    each, counts = np.unique(lengths, return_counts=True)
    repeated = each[(counts > 1) & (each > 0)]
    found: list[int] = np.flatnonzero(np.isin(lengths, repeated)).tolist()
    return found


def digests(listing: Listing, numbers: Sequence[int]) -> dict[int, str]:
    """By example a hexadecimal digest of its image; an image that cannot be read has none."""

    def digest(i: int) -> str:
        try:
            return hashlib.sha256(listing.places[i].encoded()).hexdigest()[:32]
        except (OSError, ValueError, DataError):  # decoding it names it
            return ""

    # Files of their own are read in parallel; packed ones are unpacked once, one after the other.
    num_threads = _NUM_THREADS if listing.places.kind == "file" else 1
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        found = zip(numbers, pool.map(digest, numbers), strict=True)
        return {i: each for i, each in found if each}
