"""Near-duplicate pairs of images in bounded memory, and connected groups.

    pairs = near_pairs(hashes, smalls)      # int64 [P, 2]
    groups = connected(len(hashes), pairs)  # [[3, 8, 21], ...]

Candidates share one of five parts of a hash, so every pair that differs in at most four of 63 bits
is a candidate. A comparison of small images decides.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

_PARTS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 11))  # first bit, bits
_MAX_BITS = 10
_MAX_CANDIDATES = 400_000_000  # of one part; beyond, the largest groups are cut
_PAIRS_AT_ONCE = 2_000_000
_COMPARED_AT_ONCE = 20_000

# Differences are root mean squares over the pixels. Chosen on photographs and digits, see
# benchmarks/near_duplicates.py.
_MAX_DIFFERENCE = 5.0  # of grey values, 0-255, at half of the size
_MAX_COARSE, _MAX_FINE = (
    0.25,
    0.15,
)  # of matched values, in standard deviations; at half and full size
_MIN_CONTRAST = 4.0  # flat images are all alike
_MIN_SHADED = 0.25  # of the pixels; white and black are alike in many images
_WHITE, _BLACK = 251, 4


def near_pairs(
    hashes: npt.NDArray[np.uint64], smalls: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.int64]:
    """Pairs of images that look the same, also with another exposure or colour.

    Args:
        hashes: uint64 [N] or [N, H], perceptual hashes; any of them can make a candidate.
        smalls: uint8 [N, side * side], small grey images with an even side; None: only the hashes
            decide.

    Returns:
        int64 [P, 2], lower number first, sorted.
    """
    pictures = _Pictures(smalls) if smalls is not None else None
    numbers = np.arange(len(hashes)) if pictures is None else pictures.with_content
    found = [np.zeros([0, 2], np.int64)]
    waiting: list[npt.NDArray[np.int64]] = []

    def compare() -> None:
        if waiting:
            pairs = _different(np.concatenate(waiting))
            found.append(pairs if pictures is None else pairs[pictures.are_alike(pairs)])
            waiting.clear()

    for own in hashes.reshape(len(hashes), -1)[numbers].T:
        for pairs in _candidates(np.ascontiguousarray(own)):
            waiting.append(numbers[pairs])
            if sum(map(len, waiting)) >= _PAIRS_AT_ONCE:
                compare()
        compare()
    return _different(np.concatenate(found))


def _different(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Distinct pairs, lower number first, sorted."""
    ordered = np.sort(pairs, axis=1)
    count = int(ordered[:, 1].max(initial=0)) + 1
    return np.stack(np.divmod(np.unique(ordered[:, 0] * count + ordered[:, 1]), count), axis=1)


def _candidates(hashes: npt.NDArray[np.uint64]) -> Iterator[npt.NDArray[np.int64]]:
    """Pairs that share a part of their hash and differ in few bits overall, in pieces."""
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
                first, second = order[some], order[some + distance]
                differing = np.bitwise_count(hashes[first] ^ hashes[second])
                yield np.stack([first, second], axis=1)[differing <= _MAX_BITS]


def _most_neighbours(sizes: npt.NDArray[np.int64]) -> int:
    """Number of neighbours to compare each member with, so that the pairs stay within the limit."""
    members = np.bincount(sizes, weights=sizes) if len(sizes) else np.zeros(1)
    # Those that have a neighbour at a distance, by distance; their running sum counts the pairs.
    groups = np.cumsum((members / np.maximum(np.arange(len(members)), 1))[::-1])[::-1]
    with_neighbour = np.cumsum(groups[::-1])[::-1]
    pairs = np.cumsum(np.append(with_neighbour[2:], 0))
    return int(np.searchsorted(pairs, _MAX_CANDIDATES)) + 1 if len(pairs) > 1 else 1


class _Pictures:
    """Small images, compared independently of brightness and contrast.

    Attributes:
        with_content: indices of the images that are not of nearly one grey.

    Histogram matching replaces the values of one image by those of the other, in order of size, so
    the remaining difference is not a matter of exposure. The better of the two directions counts:
    an overexposed image can be made from the other, but not the reverse.
    """

    def __init__(self, smalls: npt.NDArray[np.uint8]) -> None:
        count, side = len(smalls), round(smalls.shape[1] ** 0.5)
        self._fine = smalls
        self._coarse = np.empty([count, side * side // 4], np.uint8)
        self._order = np.empty(self._coarse.shape, np.uint16)
        self._can_be_matched = np.empty(count, bool)
        has_content = np.empty(count, bool)
        for at in range(0, count, _COMPARED_AT_ONCE):
            some = slice(at, at + _COMPARED_AT_ONCE)
            rows = smalls[some].reshape(-1, side, side).astype(np.uint16)
            pairs = rows[:, ::2] + rows[:, 1::2]
            means = (pairs[:, :, ::2] + pairs[:, :, 1::2] + 2) // 4
            coarse = means.astype(np.uint8).reshape(len(rows), -1)
            self._coarse[some] = coarse
            self._order[some] = _order_of(coarse)
            is_shaded = (coarse > _BLACK) & (coarse < _WHITE)
            self._can_be_matched[some] = is_shaded.mean(axis=1) >= _MIN_SHADED
            has_content[some] = coarse.std(axis=1, dtype=np.float32) >= _MIN_CONTRAST
        self.with_content = np.flatnonzero(has_content)

    def are_alike(self, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether the images of each pair look the same, bool [P]."""
        parts = range(0, len(pairs), _COMPARED_AT_ONCE)
        found = [self._are_alike(pairs[at : at + _COMPARED_AT_ONCE]) for at in parts]
        return np.concatenate([np.zeros(0, bool), *found])

    def _are_alike(self, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        first, second = pairs[:, 0], pairs[:, 1]
        difference = self._coarse[first].astype(np.float32) - self._coarse[second]
        is_alike: npt.NDArray[np.bool_] = np.mean(difference**2, axis=1) <= _MAX_DIFFERENCE**2
        can_be_matched = self._can_be_matched[first] & self._can_be_matched[second]
        rest = np.flatnonzero(~is_alike & can_be_matched)
        a, b = self._coarse[first[rest]], self._coarse[second[rest]]
        matched = _matched_difference(a, b, self._order[first[rest]], self._order[second[rest]])
        rest = rest[matched <= _MAX_COARSE]
        a, b = self._fine[first[rest]], self._fine[second[rest]]
        matched = _matched_difference(a, b, _order_of(a), _order_of(b))
        is_alike[rest[matched <= _MAX_FINE]] = True
        return is_alike


def _order_of(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Indices of the pixels of each image, from dark to bright."""
    return np.argsort(pictures, axis=1, kind="stable").astype(np.uint16)


def _matched_difference(
    a: npt.NDArray[np.uint8],
    b: npt.NDArray[np.uint8],
    order_of_a: npt.NDArray[np.uint16],
    order_of_b: npt.NDArray[np.uint16],
) -> npt.NDArray[np.float32]:
    """Difference of images [P, D] after histogram matching, float32 [P]."""
    a_sorted = np.take_along_axis(a, order_of_a, axis=1)
    b_sorted = np.take_along_axis(b, order_of_b, axis=1)

    def difference(
        order: npt.NDArray[np.uint16], values: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32]:
        made = np.empty_like(target)
        np.put_along_axis(made, order, values, axis=1)
        squares = np.square(made.astype(np.float32) - target).mean(axis=1)
        spread = np.maximum(target.std(axis=1, dtype=np.float32), _MIN_CONTRAST)
        result: npt.NDArray[np.float32] = np.sqrt(squares) / spread
        return result

    return np.minimum(difference(order_of_a, b_sorted, b), difference(order_of_b, a_sorted, a))


def equal_pairs(keys: Iterable[Hashable]) -> list[tuple[int, int]]:
    """Pairs of the first index with a key and each later one; keys of None are skipped."""
    first: dict[Hashable, int] = {}
    found = [(first.setdefault(key, i), i) for i, key in enumerate(keys) if key is not None]
    return [(a, b) for a, b in found if a != b]


def connected(count: int, pairs: Iterable[Sequence[int]]) -> list[list[int]]:
    """Connected components with two or more members of the indices below a count."""
    leader = list(range(count))

    def leader_of(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for a, b in pairs:
        low, high = sorted((leader_of(a), leader_of(b)))
        leader[high] = low
    groups: dict[int, list[int]] = {}
    for i in range(count):
        groups.setdefault(leader_of(i), []).append(i)
    return [group for group in groups.values() if len(group) > 1]
