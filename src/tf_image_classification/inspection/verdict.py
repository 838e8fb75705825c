"""What is wrong, odd or worth knowing of a set of images, from the facts of each.

findings = judge(Sets(train=facts, evaluation=other_facts), Limits())
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tf_image_classification.inspection.duplicates import exact_groups, near_pairs
from tf_image_classification.inspection.facts import Facts

ERROR, WARNING, NOTE = "error", "warning", "note"
TRAIN, EVALUATION = "train", "eval"


@dataclasses.dataclass(frozen=True)
class Limits:
    """From where on something is worth saying.

    Attributes:
        fewest: examples of a class.
        imbalance: times that the largest class is larger than the smallest.
        small_side: pixels of the shorter side below which an image is small.
        aspect: longer side over the shorter.
        drift: difference of two sets' means, in standard deviations.
        detail: share of the resolution that is used, below which an image was enlarged.
    """

    fewest: int = 10
    imbalance: float = 10.0
    small_side: int = 32
    aspect: float = 4.0
    drift: float = 0.3
    detail: float = 0.58


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: a name for programs, such as "leak".
        severity: "error": the run would be wasted or its figures wrong; "warning"; "note".
        text: a sentence with the counts, and what to do.
        members: the images, each group together: their numbers in the facts of all sets.
    """

    kind: str
    severity: str
    text: str
    members: Sequence[Sequence[int]] = ()

    @property
    def count(self) -> int:
        """How many images, or groups of them, it is about."""
        return len(self.members)


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Facts and findings.

    Attributes:
        facts: of all images, the training's first.
        sets: of each image, "train" or "eval".
        label: column of the classes, or "".
        findings: the worst first.
        refused: rows of the sources that are no images, with reasons.
    """

    facts: Sequence[Facts]
    sets: Sequence[str]
    label: str
    findings: Sequence[Finding]
    refused: Sequence[Any] = ()

    @property
    def worst(self) -> str:
        """The worst severity found, or ""."""
        found = {finding.severity for finding in self.findings}
        return next((s for s in (ERROR, WARNING, NOTE) if s in found), "")

    def with_findings(self, findings: Iterable[Finding]) -> Inspection:
        """The same with further findings, the worst first."""
        order = (ERROR, WARNING, NOTE)
        found = sorted((*self.findings, *findings), key=lambda f: order.index(f.severity))
        return dataclasses.replace(self, findings=tuple(found))

    def classes(self) -> dict[str, dict[str, int]]:
        """By class its usable images in each set."""
        counts: dict[str, dict[str, int]] = {}
        for facts, name in zip(self.facts, self.sets, strict=True):
            value = class_of(facts, self.label)
            if value and not facts.problem:
                of_class = counts.setdefault(value, dict.fromkeys(dict.fromkeys(self.sets), 0))
                of_class[name] += 1
        return dict(sorted(counts.items()))


def class_of(facts: Facts, label: str) -> str:
    """An image's class as a text, or ""."""
    return str(facts.columns.get(label, "")) if label else ""


def judge(
    facts: Sequence[Facts],
    sets: Sequence[str],
    *,
    label: str,
    group: str = "",
    limits: Limits | None = None,
    refused: Sequence[Any] = (),
) -> Inspection:
    """Everything that can be found.

    Args:
        facts: of all images.
        sets: "train" or "eval" for each.
        label: column of the classes, or "".
        group: column whose values must not be in both sets, or "".
        limits: from where on something is said.
        refused: as in ``Inspection``.
    """
    start = Inspection(facts, sets, label, (), refused)
    limits = limits or Limits()
    found = [
        *_problems(start),
        *_traits(start),
        *_names(start),
        *_sizes(start, limits),
        *_classes(start, limits),
        *_duplicates(start),
        *_groups(start, group),
        *_drift(start, limits),
    ]
    return start.with_findings(found)


def _where(inspection: Inspection, holds: Callable[[Facts], bool]) -> list[list[int]]:
    return [[i] for i, facts in enumerate(inspection.facts) if holds(facts)]


def _problems(inspection: Inspection) -> Iterable[Finding]:
    broken = _where(inspection, lambda f: bool(f.problem))
    if broken:
        first = inspection.facts[broken[0][0]]
        yield Finding(
            "broken",
            ERROR,
            f"{len(broken)} files cannot be used; the first: {first.where}: {first.problem}. "
            "Repair or remove them, or train with --on_bad_image skip.",
            broken,
        )
    if inspection.refused:
        text = f"{len(inspection.refused)} rows or files of the source are no images of it."
        yield Finding("refused", NOTE, text)


_TRAITS = {
    "flat end": (WARNING, "end in rows of one colour, as files do that were cut short"),
    "wrong ending": (WARNING, "have a name that says another format"),
    "animated": (NOTE, "are animated; the first frame is used"),
    "CMYK": (NOTE, "are in CMYK colours"),
    "16 bits": (NOTE, "have 16 bits a channel, of which 8 are used"),
    "transparent": (NOTE, "are partly transparent, which is dropped"),
    "turned by EXIF": (NOTE, "are turned upright by what their EXIF data say"),
}


def _traits(inspection: Inspection) -> Iterable[Finding]:
    for trait, (severity, text) in _TRAITS.items():
        members = _where(inspection, lambda f, t=trait: t in f.traits)  # type: ignore[misc]
        if members:
            kind = trait.replace(" ", "_").lower()
            yield Finding(kind, severity, f"{len(members)} images {text}.", members)


def _names(inspection: Inspection) -> Iterable[Finding]:
    def is_awkward(facts: Facts) -> bool:
        return any(mark in facts.key for mark in ",\"'|;\n\t") or not facts.key.isascii()

    members = _where(inspection, is_awkward)
    if members:
        yield Finding(
            "awkward_names",
            NOTE,
            f"{len(members)} names hold commas, quotes or letters outside ASCII, which other "
            "programs may stumble over.",
            members,
        )


def _sizes(inspection: Inspection, limits: Limits) -> Iterable[Finding]:
    small = _where(inspection, lambda f: 0 < min(f.width, f.height) < limits.small_side)
    usable = sum(not f.problem for f in inspection.facts)
    if small and len(small) < usable / 2:
        text = f"{len(small)} images have a side below {limits.small_side} pixels."
        yield Finding("small", WARNING, text, small)
    long = _where(
        inspection,
        lambda f: (
            min(f.width, f.height) > 0
            and max(f.width, f.height) > limits.aspect * min(f.width, f.height)
        ),
    )
    if long:
        text = f"{len(long)} images are more than {limits.aspect:g} times as long as wide."
        yield Finding("aspect", WARNING, text, long)
    enlarged = _where(
        inspection, lambda f: min(f.width, f.height) >= 128 and f.detail < limits.detail
    )
    if enlarged:
        yield Finding(
            "enlarged",
            NOTE,
            f"{len(enlarged)} images hold less detail than their size: enlarged, or out of focus.",
            enlarged,
        )


def _classes(inspection: Inspection, limits: Limits) -> Iterable[Finding]:
    counts = inspection.classes()
    if not counts:
        return
    of_train = {name: count.get(TRAIN, 0) for name, count in counts.items()}
    if len(counts) == 1:
        yield Finding("one_class", ERROR, f"All images are of one class, {next(iter(counts))}.")
    few = {name: n for name, n in of_train.items() if 0 < n < limits.fewest}
    if few:
        shown = ", ".join(f"{name} ({n})" for name, n in list(few.items())[:5])
        text = f"{len(few)} classes have fewer than {limits.fewest} training images: {shown}."
        yield Finding("few", WARNING, text)
    present = [n for n in of_train.values() if n]
    if present and max(present) > limits.imbalance * min(present):
        yield Finding(
            "imbalance",
            WARNING,
            f"The largest class has {max(present) / min(present):.0f} times the images of the "
            "smallest. Consider --class_weights balanced or --balanced_sampling.",
        )
    if EVALUATION in inspection.sets:
        for name, other in ((TRAIN, EVALUATION), (EVALUATION, TRAIN)):
            absent = [c for c, n in counts.items() if not n.get(name) and n.get(other)]
            if absent:
                yield Finding(
                    f"absent_in_{name}",
                    ERROR if name == TRAIN else WARNING,
                    f"{len(absent)} classes are in {other} only: {', '.join(absent[:5])}.",
                )


def _duplicates(inspection: Inspection) -> Iterable[Finding]:
    alike = _same_pictures(inspection.facts)
    labels = [class_of(facts, inspection.label) for facts in inspection.facts]
    sets = inspection.sets

    def labels_differ(members: Iterable[int]) -> bool:
        return len({labels[i] for i in members} - {""}) > 1

    conflicts = [
        (same.is_exact, [i for i in same.members if labels[i]])
        for same in alike
        if labels_differ(same.members)
    ]
    if conflicts:
        _, members = conflicts[0]
        a = members[0]
        b = next(i for i in members if labels[i] != labels[a])
        yield Finding(
            "conflicts",
            ERROR,
            f"{len(conflicts)} times the same picture has different labels, "
            f"{_num_exact(conflicts)} of them byte for byte: {inspection.facts[a].where} "
            f"({labels[a]}) and {inspection.facts[b].where} ({labels[b]}). Correct the labels, or "
            "remove all but one.",
            [members for _, members in conflicts],
        )
    leaks = [(s.is_exact, s.members) for s in alike if len({sets[i] for i in s.members}) > 1]
    if leaks:
        of_eval = {i for _, members in leaks for i in members if sets[i] == EVALUATION}
        same = {i for is_exact, members in leaks for i in members if is_exact}
        count = sum(name == EVALUATION for name in sets)
        yield Finding(
            "leak",
            ERROR,
            f"{len(of_eval)} of {count} evaluation images are in the training set too, "
            f"{len(of_eval & same)} of them byte for byte: the figures would be too good. Remove "
            "them from one of the sets.",
            [members for _, members in leaks],
        )
    inside = [
        (same.is_exact, members)
        for same in alike
        for name in (TRAIN, EVALUATION)
        if (members := same.within({i for i in same.members if sets[i] == name}))
        and not labels_differ(members)
    ]
    if inside:
        yield Finding(
            "duplicates",
            WARNING,
            f"{len(inside)} times one set has the same picture more than once, "
            f"{_num_exact(inside)} of them byte for byte.",
            [members for _, members in inside],
        )


def _num_exact(found: Iterable[tuple[bool, Sequence[int]]]) -> int:
    return sum(is_exact for is_exact, _ in found)


@dataclasses.dataclass(frozen=True)
class _SamePicture:
    """Images of one picture: a group of equal files, or two groups that nearly are."""

    groups: Sequence[Sequence[int]]

    @property
    def is_exact(self) -> bool:
        return len(self.groups) == 1

    @property
    def members(self) -> list[int]:
        return sorted(itertools.chain(*self.groups))

    def within(self, chosen: set[int]) -> list[int]:
        """The members that are chosen, if they are several and of each group; else none."""
        members = [i for i in self.members if i in chosen]
        is_whole = all(not chosen.isdisjoint(group) for group in self.groups)
        return members if is_whole and len(members) > 1 else []


def _same_pictures(facts: Sequence[Facts]) -> list[_SamePicture]:
    equal = exact_groups([f.digest if not f.problem else "" for f in facts])
    group_of = {group[0]: group for group in equal}
    others = {i for group in equal for i in group[1:]}
    firsts = [i for i, f in enumerate(facts) if not f.problem and f.small and i not in others]
    near: list[list[int]] = []
    if firsts:
        hashes = np.array([facts[i].perceptual_hash for i in firsts], np.uint64)
        smalls = np.stack([np.frombuffer(facts[i].small, np.uint8) for i in firsts])
        near = np.array(firsts)[near_pairs(hashes, smalls)].tolist()
    return [
        *(_SamePicture([group]) for group in equal),
        *(_SamePicture([group_of.get(i, [i]) for i in pair]) for pair in near),
    ]


def _groups(inspection: Inspection, group: str) -> Iterable[Finding]:
    if not group:
        return
    of_set: dict[str, set[str]] = collections.defaultdict(set)
    for facts, name in zip(inspection.facts, inspection.sets, strict=True):
        value = str(facts.columns.get(group, ""))
        if value:
            of_set[name].add(value)
    both = sorted(of_set[TRAIN] & of_set[EVALUATION])
    if both:
        yield Finding(
            "group_leak",
            ERROR,
            f"{len(both)} values of {group} are in both sets, such as {', '.join(both[:3])}. Split "
            "with tfic convert --group_column.",
        )


_MEASURES: Mapping[str, Callable[[Facts], float]] = {
    "brightness": lambda f: f.brightness,
    "contrast": lambda f: f.contrast,
    "sharpness": lambda f: f.sharpness,
    "saturation": lambda f: f.saturation,
    "size": lambda f: float(np.log(max(f.width * f.height, 1))),
    "aspect": lambda f: float(np.log(max(f.width, 1) / max(f.height, 1))),
}


def _drift(inspection: Inspection, limits: Limits) -> Iterable[Finding]:
    values = {
        name: {
            measure: np.array(
                [
                    function(f)
                    for f, s in zip(inspection.facts, inspection.sets, strict=True)
                    if s == name and not f.problem
                ]
            )
            for measure, function in _MEASURES.items()
        }
        for name in (TRAIN, EVALUATION)
    }
    if min(len(values[name]["size"]) for name in values) < 20:
        return
    from scipy import stats  # late: it takes half a second

    for measure in _MEASURES:
        a, b = values[TRAIN][measure], values[EVALUATION][measure]
        spread = max(float(np.sqrt((a.var() + b.var()) / 2)), 1e-6)
        shift = (b.mean() - a.mean()) / spread
        if abs(shift) > limits.drift and stats.ks_2samp(a, b).pvalue < 1e-3:
            yield Finding(
                "drift",
                WARNING,
                f"The evaluation images differ in {measure} by {shift:+.1f} standard deviations.",
            )
