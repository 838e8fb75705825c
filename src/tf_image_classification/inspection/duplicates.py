"""Pairs of pictures that are the same, byte for byte or nearly, in bounded memory.

    pairs = near_pairs(hashes, smalls)      # int64 [P, 2]

Candidates share one of five parts of their hash, so that every pair that differs in at most four of
63 bits is a candidate; a comparison of small pictures decides.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_PARTS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 11))  # first bit, bits
_MOST_BITS = 8
_MOST_CANDIDATES = 400_000_000  # of one part; where there were more, the largest groups are cut
_PAIRS_AT_ONCE = 2_000_000
_MOST_DIFFERENCE = 5.0  # root of the mean squared difference of grey values, 0-255
_LEAST_CONTRAST = 4.0  # flat pictures are all alike


def near_pairs(
    hashes: npt.NDArray[np.uint64],
    smalls: npt.NDArray[np.uint8] | None,
    *,
    most_difference: float = _MOST_DIFFERENCE,
) -> npt.NDArray[np.int64]:
    """Pairs of pictures that look the same.

    Args:
        hashes: uint64 [N], perceptual hashes.
        smalls: uint8 [N, D], small pictures; None: the hashes alone decide.
        most_difference: root mean squared difference of grey values up to which two are the same.

    Returns:
        int64 [P, 2], the lower number first, sorted.
    """
    found = []
    for shift, bits in _PARTS:
        keys = ((hashes >> np.uint64(shift)) & np.uint64(2**bits - 1)).astype(np.uint16)
        order = np.argsort(keys, kind="stable")
        ends = np.flatnonzero(np.diff(keys[order].astype(np.int32))) + 1
        starts = np.concatenate([[0], ends])
        sizes = np.diff(np.concatenate([starts, [len(order)]]))
        most = _most_neighbours(sizes)
        place = np.arange(len(order)) - np.repeat(starts, sizes)
        left = np.repeat(sizes, sizes) - place  # members of the group from here on
        for distance in range(1, most):
            members = np.flatnonzero(left > distance)
            for at in range(0, len(members), _PAIRS_AT_ONCE):
                some = members[at : at + _PAIRS_AT_ONCE]
                pairs = np.stack([order[some], order[some + distance]], axis=1)
                found.append(_alike(pairs, hashes, smalls, most_difference))
    if not found:
        return np.zeros([0, 2], np.int64)
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0).astype(np.int64)


def _most_neighbours(sizes: npt.NDArray[np.int64]) -> int:
    """With how many of its group each member is compared, so that pairs stay within the limit."""
    members = np.bincount(sizes, weights=sizes) if len(sizes) else np.zeros(1)
    # Those that have a neighbour at a distance, by distance; their running sum counts the pairs.
    groups = np.cumsum((members / np.maximum(np.arange(len(members)), 1))[::-1])[::-1]
    with_neighbour = np.cumsum(groups[::-1])[::-1]
    pairs = np.cumsum(np.append(with_neighbour[2:], 0))
    return int(np.searchsorted(pairs, _MOST_CANDIDATES)) + 1 if len(pairs) > 1 else 1


def _alike(
    pairs: npt.NDArray[np.int64],
    hashes: npt.NDArray[np.uint64],
    smalls: npt.NDArray[np.uint8] | None,
    most_difference: float,
) -> npt.NDArray[np.int64]:
    """Those of some pairs that look the same."""
    differing = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
    pairs = pairs[differing <= _MOST_BITS]
    if smalls is None or not len(pairs):
        return pairs
    a, b = (smalls[pairs[:, side]].astype(np.float32) for side in (0, 1))
    difference = np.sqrt(np.mean((a - b) ** 2, axis=1))
    has_content = np.minimum(a.std(axis=1), b.std(axis=1)) >= _LEAST_CONTRAST
    kept: npt.NDArray[np.int64] = pairs[(difference <= most_difference) & has_content]
    return kept


def exact_groups(digests: list[str]) -> list[list[int]]:
    """Groups of two or more with the same digest, in the order of their first."""
    of_digest: dict[str, list[int]] = {}
    for i, digest in enumerate(digests):
        if digest:
            of_digest.setdefault(digest, []).append(i)
    return [group for group in of_digest.values() if len(group) > 1]
