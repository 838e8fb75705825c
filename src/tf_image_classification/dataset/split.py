"""Splits examples by a hash of their names: into the parts of a conversion, or a held-out part.

divide(rows, Split({"train": 0.8, "eval": 0.2}))      # adding images moves no row
hold_out(["1.jpg", "2.jpg"], [{"cat"}, {"cat"}], 0.2)  # [False, True]
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import math
from collections.abc import Collection, Mapping, Sequence

from tf_image_classification.dataset.readers import Row, Value
from tf_image_classification.dataset.readers.names import TRAIN
from tf_image_classification.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Split:
    """How rows are split.

    Attributes:
        shares: by part, its fraction of all rows; they sum to 1; empty: the source's own parts, or
            one called "train".
        group: column whose equal values stay together, e.g. a person; "": each row by itself.
        stratify: column each of whose values is split in these fractions as exactly as possible,
            by rank of the hash; adding images can then move a few. The first example of a value
            goes to "train".
        seed: seed of the hash.
    """

    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    group: str = ""
    stratify: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        total = math.fsum(self.shares.values())
        are_whole = abs(total - 1) <= 1e-6 and all(share > 0 for share in self.shares.values())
        if self.shares and not are_whole:
            raise ConfigError(
                f"--split: the fractions sum to {total:g}, expected 1, each above 0. Correct them."
            )
        if self.group and self.stratify:
            raise ConfigError(
                "--group_column keeps rows together and --stratify divides them. Give one."
            )
        if (self.group or self.stratify) and not self.shares:
            raise ConfigError("--group_column and --stratify need a split. Give --split.")


def place_of(text: str, seed: int) -> float:
    """A number in [0, 1) from a hash of the text and the seed, uniformly distributed."""
    digest = hashlib.sha256(f"{seed}/{text}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def divide(
    rows: Sequence[Row],
    split: Split,
    groups: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> dict[str, list[Row]]:
    """The rows of each part, in the order of the parts.

    Args:
        rows: the examples.
        split: how to split them.
        groups: of each row the group that stays together, "" for none; () if there are none.
        classes: of each row, "" if unknown; with groups, each has rows in "train".

    Raises:
        ConfigError: no row has the column.
    """
    if not split.shares:
        parts: dict[str, list[Row]] = {}
        for row in rows:
            parts.setdefault(row.split or "train", []).append(row)
        return parts
    column = split.group or split.stratify
    if column and not any(column in row.columns for row in rows):
        known = sorted({name for row in rows[:1000] for name in row.columns})
        raise ConfigError(f"No row has a column {column!r}, only {', '.join(known) or 'none'}.")
    ends: list[tuple[float, str]] = []
    for name, share in split.shares.items():
        ends.append((share + (ends[-1][0] if ends else 0.0), name))
    parts = {name: [] for name in split.shares}
    for row, name in zip(rows, _names_of_parts(rows, split, ends, groups, classes), strict=True):
        parts[name].append(row)
    return parts


def _names_of_parts(
    rows: Sequence[Row],
    split: Split,
    ends: Sequence[tuple[float, str]],
    groups: Sequence[str],
    classes: Sequence[str],
) -> list[str]:
    of_rows = [
        group or row.key for row, group in zip(rows, groups or [""] * len(rows), strict=True)
    ]
    own = [place_of(name, split.seed) for name in of_rows]
    names = [
        next((name for end, name in ends if place < end), ends[-1][1])
        for place in _places(rows, split, own)
    ]
    first: dict[str, str] = {}
    for i, group in enumerate(groups):
        if group:  # its rows may have several values of stratify
            names[i] = first.setdefault(group, names[i])
    # A class that no training example has cannot be learned: its first example goes to train, with
    # its group.
    if split.stratify:
        of_value = _by_value(rows, split.stratify)
    else:
        of_value = collections.defaultdict(list)
        for i, name in enumerate(classes if any(groups) else ()):
            of_value[name].append(i)
    for value, members in of_value.items() if TRAIN in split.shares else ():
        if value != "" and all(names[i] != TRAIN for i in members):
            chosen = of_rows[min(members, key=lambda i: own[i])]
            names = [
                TRAIN if other == chosen else name
                for name, other in zip(names, of_rows, strict=True)
            ]
    return names


def _places(rows: Sequence[Row], split: Split, own: Sequence[float]) -> list[float]:
    """A number in [0, 1) for each row, which decides its part; own is that of its name."""
    if split.group:
        return [
            place_of(str(row.columns[split.group]), split.seed)
            if row.columns.get(split.group, "") != ""
            else place
            for row, place in zip(rows, own, strict=True)
        ]
    places = list(own)
    if split.stratify:
        for members in _by_value(rows, split.stratify).values():
            done = 0
            for _, unit in itertools.groupby(
                sorted(members, key=lambda i: own[i]), own.__getitem__
            ):
                together = list(unit)  # of one group
                for i in together:
                    places[i] = (done + len(together) / 2) / len(members)
                done += len(together)
    return places


def _by_value(rows: Sequence[Row], column: str) -> dict[Value | None, list[int]]:
    of_value = collections.defaultdict(list)
    for i, row in enumerate(rows):
        of_value[row.columns.get(column)].append(i)
    return of_value


def hold_out(
    ids: Sequence[str],
    classes: Sequence[Collection[str]],
    fraction: float,
    ties: Sequence[Collection[str]] = (),
    *,
    stratify: bool = True,
) -> list[bool]:
    """Whether each example is held out for evaluation.

    It depends on the ids and not on the sequence of the examples. A class that can be divided has
    examples on both sides; one that cannot be is not held out.

    Args:
        ids: of each example; equal ones stay together.
        classes: of each example; with one class only, each class is divided in this fraction.
        fraction: of the examples, from 0 to 1.
        ties: of each example, further texts; examples that have one in common stay together.
        stratify: False: the fraction is that of all examples together.

    Example:
        >>> sum(hold_out([f"{i}.jpg" for i in range(10)], [{"cat"}] * 10, 0.2))
        2
    """
    units = tied(ids, ties)
    places = [min((place_of(ids[i], 0), ids[i]) for i in unit) for unit in units]
    of_units = [frozenset[str]().union(*(classes[i] for i in unit)) for unit in units]
    strata: dict[Collection[str], list[int]] = {}
    for u in sorted(range(len(units)), key=lambda u: places[u]):
        own = of_units[u] if stratify and len(of_units[u]) == 1 else frozenset[str]()
        strata.setdefault(own, []).append(u)
    held: set[int] = set()
    for members in strata.values():
        total, before = sum(len(units[u]) for u in members), 0
        for u in members:
            if before + len(units[u]) / 2 < fraction * total:
                held.add(u)
            before += len(units[u])
    if fraction > 0:
        _keep_classes_on_both_sides(held, of_units, [u for us in strata.values() for u in us])
    chosen = {i for u in held for i in units[u]}
    return [i in chosen for i in range(len(ids))]


def tied(ids: Sequence[str], ties: Sequence[Collection[str]] = ()) -> list[list[int]]:
    """The examples that stay together, which have an id or a tie in common."""
    parent = list(range(len(ids)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, own in enumerate(ids):
        for text in (("id", own), *(("tie", tie) for tie in (ties[i] if ties else ()))):
            parent[root(i)] = root(first.setdefault(text, i))
    units: dict[int, list[int]] = {}
    for i in range(len(ids)):
        units.setdefault(root(i), []).append(i)
    return list(units.values())


def _keep_classes_on_both_sides(
    held: set[int], classes: Sequence[Collection[str]], ordered: Sequence[int]
) -> None:
    """Move units so that training has each class, and so has evaluation where that is possible."""
    of_class: dict[str, list[int]] = {}
    for u in ordered:
        for name in classes[u] or ("",):
            of_class.setdefault(name, []).append(u)
    for members in of_class.values():
        if held.issuperset(members):
            held.discard(members[-1])

    def is_spare(u: int) -> bool:
        return all(
            any(other not in held and other != u for other in of_class[name])
            for name in classes[u] or ("",)
        )

    for members in of_class.values():
        if held.isdisjoint(members):
            held.update([u for u in members if is_spare(u)][:1])
