"""Groups of dependent examples: copies, near-duplicates, frames of one video, bursts.

    groups = find_groups(traces, classes, same=[[3, 8]])
    groups.of[3]                  # "ant/clip03_frame_0001.jpg", "" for an example by itself
    groups.summary()              # "132 images in 9 videos"

Frames are consecutive numbers of one sequence of names whose images are much closer to one another
than to the other images of their class. The measure is a rank: the fraction of the other images of
the class that are closer to an image than its successor is. Photographs that are merely numbered
have ranks that are uniform between 0 and 1, whatever the class looks like, so how often a numbering
is taken for a video by chance is known: see ``MAX_CHANCE``. ``benchmarks/groups.py`` measures it.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import counted
from tf_image_classification.inspection.duplicates import connected
from tf_image_classification.inspection.frame_names import parse_name

SAME, ALIKE, FRAMES, BURST, COLUMN = "identical", "look-alike", "video", "burst", "column"
REASONS = (SAME, ALIKE, FRAMES, BURST, COLUMN)
"""Why examples are in one group."""

ALL = "the set"
"""In ``Groups.lifted`` for a set without classes that would be one group."""

MAX_RANK = 0.05
"""A successor is close if at most this fraction of the other images of its class is closer."""

MIN_CLOSE = 0.5
"""Fraction of the successors of a sequence that must be close; by chance it is ``MAX_RANK``."""

MAX_CHANCE = 1e-6
"""Probability, by a binomial test, that a sequence of unrelated images has as many close ones."""

BRIDGED_RANK = 0.15
"""Within a sequence that is a video, a successor up to this rank belongs to the same take."""

MAX_SECONDS = 3.0
"""Between photographs of a burst: cameras shoot several a second, camera traps one a second."""

MIN_OTHERS = 19
"""Images to compare with; with fewer, no rank can be as small as ``MAX_RANK``."""

_MAX_OTHERS = 512  # images that a rank is measured against, evenly spaced over the class
_MAX_GAP = 10  # times the median step of a sequence: numbers farther apart are not consecutive
_FINE_SIDE, _SIDE = 32, 16  # of the small grey image, and of what is compared
_MIN_CONTRAST = 4.0  # grey values
_AT_ONCE = 2048


@dataclasses.dataclass(frozen=True)
class Trace:
    """What of an image shows that it belongs to others.

    Attributes:
        name: relative to its source, "" if unknown.
        small: grey image of 32 x 32 pixels, uint8 [1024]; None if it was not decoded.
        camera: make, model and serial number by EXIF, or "".
        taken: seconds since an epoch by EXIF, or None.
    """

    name: str
    small: npt.NDArray[np.uint8] | None = None
    camera: str = ""
    taken: float | None = None


@dataclasses.dataclass(frozen=True)
class Groups:
    """The group of each example.

    Attributes:
        of: by example the name of its group, "" for one by itself: the name of its first member.
        reasons: by group, why its members belong together, some of ``REASONS``.
        lifted: classes all of whose examples would be one video or burst, which is not kept; or
            ``ALL``.
    """

    of: Sequence[str]
    reasons: Mapping[str, tuple[str, ...]]
    lifted: tuple[str, ...] = ()

    def members(self) -> dict[str, list[int]]:
        """The examples of each group."""
        found: dict[str, list[int]] = collections.defaultdict(list)
        for i, name in enumerate(self.of):
            if name:
                found[name].append(i)
        return dict(found)

    def found(self, reason: str) -> list[list[int]]:
        """The members of each group that a reason made, the largest first."""
        groups = [m for name, m in self.members().items() if reason in self.reasons[name]]
        return sorted(groups, key=len, reverse=True)

    def takes(self) -> list[list[int]]:
        """The members of each video or burst, the largest first."""
        return sorted((m for _, m in self._takes()), key=len, reverse=True)

    def summary(self) -> str:
        """The videos and bursts in one phrase, or ""."""
        parts = []
        for reason in (FRAMES, BURST):
            groups = [members for kind, members in self._takes() if kind == reason]
            if groups:
                count = sum(map(len, groups))
                parts.append(f"{counted(count, 'image')} in {counted(len(groups), reason)}")
        return ", ".join(parts)

    def _takes(self) -> Iterator[tuple[str, list[int]]]:
        """Kind and members; a burst whose photographs are numbered is a burst."""
        for name, members in self.members().items():
            kinds = [kind for kind in (BURST, FRAMES) if kind in self.reasons[name]]
            if kinds:
                yield kinds[0], members


def find_groups(
    traces: Sequence[Trace],
    classes: Sequence[str],
    same: Iterable[Sequence[int]] = (),
    alike: Iterable[Sequence[int]] = (),
    values: Sequence[str] = (),
) -> Groups:
    """The groups of examples.

    Args:
        traces: of each example.
        classes: of each example, "" if unknown; images are compared with those of their class.
        same: groups of identical images.
        alike: groups of near-duplicates.
        values: of each example in a column that decides instead of videos and bursts; an example
            without a value, "", keeps those that are found.
    """
    links = _Links(len(traces))
    for reason, given in ((SAME, same), (ALIKE, alike)):
        for members in given:
            links.add(reason, [(members[0], other) for other in members[1:]])
    names = [
        parse_name(t.name, c) if t.name else None for t, c in zip(traces, classes, strict=True)
    ]
    ranks = _Ranks(traces, classes)
    own = _Links(len(traces))
    for kind, reason in (("video", FRAMES), ("burst", BURST)):
        of_name: dict[str, list[int]] = collections.defaultdict(list)
        for i, name in enumerate(names):
            if name is not None and (value := getattr(name, kind)):
                of_name[value].append(i)
        for members in of_name.values():
            own.add(reason, [(members[0], other) for other in members[1:]])
    is_named = own.is_linked()
    sequences: dict[str, list[int]] = collections.defaultdict(list)
    for i, name in enumerate(names):
        if name is not None and name.number >= 0 and not is_named[i]:
            sequences[name.sequence].append(i)
    numbers = [name.number if name is not None else -1 for name in names]
    own.add(FRAMES, _frames(sequences.values(), numbers, classes, ranks))
    own.add(FRAMES, _whole_folders(own, traces, classes))
    taken = [
        t.taken if t.taken is not None else (n.taken if n is not None else None)
        for t, n in zip(traces, names, strict=True)
    ]
    own.add(BURST, _bursts(traces, taken, ranks))
    lifted = own.lift_whole_classes(classes)
    if values:
        own.leave_out([value != "" for value in values])
        of_value: dict[str, list[int]] = collections.defaultdict(list)
        for i, value in enumerate(values):
            if value:
                of_value[value].append(i)
        for members in of_value.values():
            own.add(COLUMN, [(members[0], other) for other in members[1:]])
    links.take(own)
    return links.groups(traces, lifted)


class _Links:
    """Pairs of examples that belong together, with the reason."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pairs: list[tuple[int, int, str]] = []

    def add(self, reason: str, pairs: Iterable[tuple[int, int]]) -> None:
        self._pairs += [(a, b, reason) for a, b in pairs]

    def take(self, other: _Links) -> None:
        self._pairs += other._pairs

    def leave_out(self, are_out: Sequence[bool]) -> None:
        self._pairs = [(a, b, r) for a, b, r in self._pairs if not (are_out[a] or are_out[b])]

    def is_linked(self) -> npt.NDArray[np.bool_]:
        found = np.zeros(self._count, bool)
        for a, b, _ in self._pairs:
            found[[a, b]] = True
        return found

    def components(self) -> list[list[int]]:
        return connected(self._count, [(a, b) for a, b, _ in self._pairs])

    def lift_whole_classes(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Remove the pairs of classes that would be one group, and return these classes."""
        sizes = collections.Counter(classes)
        lifted = set()
        for members in self.components():
            for name, count in collections.Counter(classes[i] for i in members).items():
                # "" stands for many classes, unless the whole set is one group.
                if count == sizes[name] and (name or count == len(classes)):
                    lifted.add(name or ALL)
        self._pairs = [
            (a, b, r)
            for a, b, r in self._pairs
            if not {classes[a] or ALL, classes[b] or ALL} & lifted
        ]
        return tuple(sorted(lifted))

    def groups(self, traces: Sequence[Trace], lifted: tuple[str, ...]) -> Groups:
        of = [""] * self._count
        for members in self.components():
            first = min(members, key=lambda i: (traces[i].name or f"example {i}", i))
            for i in members:
                of[i] = traces[first].name or f"example {first}"
        reasons: dict[str, set[str]] = collections.defaultdict(set)
        for a, _, reason in self._pairs:
            reasons[of[a]].add(reason)
        ordered = {name: tuple(r for r in REASONS if r in found) for name, found in reasons.items()}
        return Groups(of, ordered, lifted)


class _Ranks:
    """How close two images are, by the other images of their class."""

    def __init__(self, traces: Sequence[Trace], classes: Sequence[str]) -> None:
        self._classes = classes
        known = [i for i, trace in enumerate(traces) if trace.small is not None]
        self._row = {i: row for row, i in enumerate(known)}
        smalls = [traces[i].small for i in known]
        pixels = np.stack(smalls) if smalls else np.zeros([0, _FINE_SIDE**2], np.uint8)  # type: ignore[arg-type]
        self._rows = _descriptors(pixels)
        others: dict[str, list[int]] = collections.defaultdict(list)
        for i in known:
            others[classes[i]].append(self._row[i])
        self._others = {name: _evenly(rows) for name, rows in others.items()}
        self._all = _evenly(list(range(len(known))))

    def chance(self, i: int, limit: float) -> float:
        """The probability that the rank of unrelated images is at most a limit."""
        count = len(self._reference(i))
        return float((np.floor(limit * count) + 1) / (count + 1))

    def can_judge(self, i: int) -> bool:
        """Whether there are enough images to compare with."""
        return i in self._row and len(self._reference(i)) >= MIN_OTHERS

    def of(self, pairs: Sequence[tuple[int, int]]) -> npt.NDArray[np.float64]:
        """The rank of the second image of each pair seen from the first; 1 if it is not known."""
        found = np.ones(len(pairs))
        by_class: dict[str, list[int]] = collections.defaultdict(list)
        for k, (a, b) in enumerate(pairs):
            if a in self._row and b in self._row:
                by_class[self._classes[a]].append(k)
        for rows in by_class.values():
            for start in range(0, len(rows), _AT_ONCE):
                some = rows[start : start + _AT_ONCE]
                found[some] = self._ranks([pairs[k] for k in some])
        return found

    def _reference(self, i: int) -> npt.NDArray[np.int64]:
        own = self._others.get(self._classes[i], self._all)
        return own if len(own) >= MIN_OTHERS else self._all

    def _ranks(self, pairs: Sequence[tuple[int, int]]) -> npt.NDArray[np.float64]:
        first, second = (np.array([self._row[pair[k]] for pair in pairs]) for k in (0, 1))
        others = self._reference(pairs[0][0])
        distance = ((self._rows[first] - self._rows[second]) ** 2).sum(axis=1)
        squares = (self._rows**2).sum(axis=1)
        to_others = (
            squares[first, None] + squares[others] - 2 * self._rows[first] @ self._rows[others].T
        )
        is_own = (others == first[:, None]) | (others == second[:, None])
        closer = (to_others < distance[:, None] * (1 - 1e-5)) & ~is_own
        ranks: npt.NDArray[np.float64] = closer.sum(axis=1) / np.maximum((~is_own).sum(axis=1), 1)
        return ranks


def _evenly(rows: Sequence[int]) -> npt.NDArray[np.int64]:
    places = np.linspace(0, len(rows) - 1, min(len(rows), _MAX_OTHERS)).round().astype(np.int64)
    chosen: npt.NDArray[np.int64] = np.asarray(rows, np.int64)[places]
    return chosen


def _descriptors(smalls: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Coarse grey images [n, 256] without their brightness and contrast."""
    step = _FINE_SIDE // _SIDE
    blocks = smalls.reshape(len(smalls), _SIDE, step, _SIDE, step).astype(np.float32)
    rows = blocks.mean(axis=(2, 4)).reshape(len(smalls), _SIDE**2)
    rows -= rows.mean(axis=1, keepdims=True)
    scaled: npt.NDArray[np.float32] = rows / np.maximum(
        rows.std(axis=1, keepdims=True), _MIN_CONTRAST
    )
    return scaled


def _frames(
    sequences: Iterable[Sequence[int]],
    numbers: Sequence[int],
    classes: Sequence[str],
    ranks: _Ranks,
) -> list[tuple[int, int]]:
    """Pairs of frames of one video, among the images of each sequence of names.

    Short sequences, e.g. of a folder for each video, are tested together with those of their class.
    """
    edges: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for k, members in enumerate(sequences):
        by_class: dict[str, list[int]] = collections.defaultdict(list)
        for i in members:
            by_class[classes[i]].append(i)
        for name, some in by_class.items():
            if some and ranks.can_judge(some[0]):
                edges[name, k] = _consecutive(some, numbers)
    pools: dict[tuple[str, int], list[tuple[int, int]]] = collections.defaultdict(list)
    for (name, k), pairs in edges.items():
        pools[name, k if len(pairs) >= MIN_OTHERS else -1] += pairs
    found = []
    for pairs in pools.values():
        if pairs and _is_close(ranks, pairs):
            after_next = _skipping(pairs)
            limit = ranks.of([*pairs, *after_next]) <= BRIDGED_RANK
            found += [p for p, is_near in zip([*pairs, *after_next], limit, strict=True) if is_near]
    return found


def _is_close(ranks: _Ranks, pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether successors are close far more often than by chance."""
    from scipy.stats import binom  # late: it takes half a second

    num_close = int((ranks.of(pairs) <= MAX_RANK).sum())
    chance = max(ranks.chance(a, MAX_RANK) for a, _ in pairs)
    if num_close < MIN_CLOSE * len(pairs):
        return False
    return float(binom.sf(num_close - 1, len(pairs), chance)) <= MAX_CHANCE


def _consecutive(members: Sequence[int], numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of images with successive numbers, in their order."""
    ordered = sorted(members, key=lambda i: (numbers[i], i))
    steps = [numbers[b] - numbers[a] for a, b in itertools.pairwise(ordered)]
    if not steps:
        return []
    widest = _MAX_GAP * max(float(np.median(steps)), 1.0)
    pairs = zip(ordered, ordered[1:], steps, strict=False)
    return [(a, b) for a, b, step in pairs if step <= widest]


def _skipping(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs of images with one between them: a single odd frame does not end a video."""
    following = dict(pairs)
    return [(a, following[b]) for a, b in pairs if b in following]


def _whole_folders(
    links: _Links, traces: Sequence[Trace], classes: Sequence[str]
) -> list[tuple[int, int]]:
    """Pairs that join all images of a folder beside others, if most of them are frames."""
    folders: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for i, trace in enumerate(traces):
        parent, _, own = trace.name.rpartition("/")[0].rpartition("/")
        if parent and own.casefold() != classes[i].casefold():
            folders[parent, own].append(i)
    beside = collections.Counter(parent for parent, _ in folders)
    is_frame, pairs = links.is_linked(), []
    for (parent, _), members in folders.items():
        is_of_one_class = len({classes[i] for i in members}) == 1
        if beside[parent] > 1 and is_of_one_class and is_frame[members].mean() > MIN_CLOSE:
            pairs += [(members[0], other) for other in members[1:]]
    return pairs


def _bursts(
    traces: Sequence[Trace], taken: Sequence[float | None], ranks: _Ranks
) -> list[tuple[int, int]]:
    """Pairs of photographs of one camera that are seconds apart and alike.

    Where most that are seconds apart are not alike, the times are not those of photographs.
    """
    timed = sorted(
        # A time stamp in a name is of one of the cameras whose images lie in the folder.
        (traces[i].camera or f"{traces[i].name.rpartition('/')[0]}/", moment, traces[i].name, i)
        for i, moment in enumerate(taken)
        if moment is not None
    )
    pairs = [
        (a[3], b[3])
        for a, b in itertools.pairwise(timed)
        if a[0] == b[0] and b[1] - a[1] <= MAX_SECONDS and ranks.can_judge(a[3])
    ]
    if not pairs:
        return []
    is_near = ranks.of(pairs) <= BRIDGED_RANK
    if is_near.mean() < MIN_CLOSE:
        return []
    return [pair for pair, near in zip(pairs, is_near, strict=True) if near]
