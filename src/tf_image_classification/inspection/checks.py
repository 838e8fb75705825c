"""Checks of a set of images and their labels, from the statistics of each image.

inspection = check_images(images, sets, labels=["label"])
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tf_image_classification.config import FEWEST_LEVELS, num_levels, range_of_values
from tf_image_classification.dataset.file_kinds import kind_of
from tf_image_classification.dataset.readers import LeftOut
from tf_image_classification.errors import counted
from tf_image_classification.inspection.findings import (
    ERROR,
    EVALUATION,
    NOTE,
    TRAIN,
    WARNING,
    Finding,
    Inspection,
)
from tf_image_classification.inspection.group_findings import (
    group_findings,
    groups_of_inspection,
)
from tf_image_classification.inspection.image_stats import ImageStats
from tf_image_classification.inspection.same_pictures import same_picture_findings, same_pictures


@dataclasses.dataclass(frozen=True)
class Limits:
    """Thresholds of the findings.

    Attributes:
        fewest: min training images of a class.
        imbalance: max ratio of the largest class to the smallest.
        small_side: min length of the shorter side, in pixels.
        aspect: max ratio of the longer side to the shorter.
        drift: max difference of the means of two sets, in standard deviations.
        detail: min fraction of the resolution used; below it an image was upscaled.
    """

    fewest: int = 10
    imbalance: float = 10.0
    small_side: int = 32
    aspect: float = 4.0
    drift: float = 0.3
    detail: float = 0.58


def check_images(
    images: Sequence[ImageStats],
    sets: Sequence[str],
    *,
    labels: Sequence[str],
    group: str = "",
    groups_are_found: bool = True,
    limits: Limits | None = None,
    left_out: Sequence[LeftOut] = (),
    skipped_columns: Mapping[str, str] | None = None,
) -> Inspection:
    """All findings on a set of images.

    Args:
        images: statistics of all images.
        sets: "train" or "eval", by image.
        labels: columns of classes.
        group: column whose values must not occur in both sets, or "".
        groups_are_found: whether videos and bursts are looked for; not with ``group``.
        limits: thresholds of the findings.
        left_out: as in ``Inspection``.
        skipped_columns: as in ``Inspection``.
    """
    start = Inspection(images, sets, labels, (), left_out, skipped_columns or {})
    limits, pictures = limits or Limits(), same_pictures(images)
    groups = None
    if groups_are_found and not group:
        groups = groups_of_inspection(start, pictures)
        start = dataclasses.replace(start, groups=groups)
    found = [
        *_problems(start),
        *_left_out(start),
        *_traits(start),
        *_png16(start),
        *_names(start),
        *_sizes(start, limits),
        *(finding for label in labels for finding in _classes(start, label, limits)),
        *same_picture_findings(start, pictures),
        *_groups(start, group),
        *(group_findings(start, groups) if groups is not None else ()),
        *_drift(start, limits),
    ]
    return start.with_findings(found)


def _where(inspection: Inspection, holds: Callable[[ImageStats], bool]) -> list[list[int]]:
    return [[i] for i, image in enumerate(inspection.images) if holds(image)]


def _problems(inspection: Inspection) -> Iterable[Finding]:
    broken = _where(inspection, lambda f: bool(f.problem))
    if broken:
        first = inspection.images[broken[0][0]]
        yield Finding(
            "broken",
            ERROR,
            f"{counted(len(broken), 'image')} cannot be decoded, e.g. {first.where}: "
            f"{first.problem}. Repair or remove them, or train with --on_bad_image skip.",
            broken,
        )


def _left_out(inspection: Inspection) -> Iterable[Finding]:
    """Files and rows that are not images; unsupported image formats have their own finding."""
    if not inspection.left_out:
        return
    kinds = [kind_of(b"", each.where) for each in inspection.left_out]
    others = [kind for kind in kinds if kind.is_image and not kind.is_decoded]
    if others:
        counts = collections.Counter(kind.name for kind in others).most_common()
        advice = next(kind.advice for kind in others if kind.name == counts[0][0])
        yield Finding(
            "other_formats",
            WARNING,
            f"{counted(len(others), 'file')} in unsupported image formats: "
            f"{', '.join(f'{count} {name}' for name, count in counts)}. {counts[0][0]}: {advice}.",
        )
    reasons = collections.Counter(each.reason.partition(":")[0] for each in inspection.left_out)
    shown = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
    more = "; ..." if len(reasons) > 3 else ""
    is_damaged = any(each.is_damaged for each in inspection.left_out)
    yield Finding(
        "left_out",
        WARNING if is_damaged else NOTE,
        f"{counted(len(inspection.left_out), 'file or row is', 'files or rows are')} left out: "
        f"{shown}{more}.",
    )


_TRAITS = {
    "one colour": (WARNING, "of one colour, which have no information"),
    "flat end": (WARNING, "ending in rows of one colour, typical of truncated files"),
    "wrong ending": (WARNING, "whose file name extension is of another format"),
    "animated": (NOTE, "with animation; the first frame is used"),
    "CMYK": (NOTE, "in CMYK colours"),
    "transparent": (NOTE, "with transparency, which is dropped"),
    "turned by EXIF": (NOTE, "rotated or mirrored by their EXIF orientation"),
}


def _traits(inspection: Inspection) -> Iterable[Finding]:
    for trait, (severity, text) in _TRAITS.items():
        members = _where(inspection, lambda f, t=trait: t in f.traits)  # type: ignore[misc]
        if members:
            kind = trait.replace(" ", "_").lower()
            yield Finding(kind, severity, f"{counted(len(members), 'image')} {text}.", members)


def _png16(inspection: Inspection) -> Iterable[Finding]:
    """16-bit PNGs; an error if scaling to 8 bits would make them nearly black."""
    members = _where(inspection, lambda f: bool(f.png16))
    if not members:
        return
    values = [inspection.images[i].png16 for [i] in members]
    lowest, highest = min(v[0] for v in values), max(v[1] for v in values)
    text = f"{counted(len(members), 'PNG')} of 16 bits a channel; values {lowest} to {highest}"
    low, high = range_of_values(lowest, highest)
    levels = num_levels(lowest, highest)
    if lowest < highest and levels < FEWEST_LEVELS:
        yield Finding(
            "narrow_16_bits",
            ERROR,
            f"{text}, of 65535. Scaled to 8 bits they would have {levels} distinct values and be "
            f"nearly black. Train with --png16_range measured, or {low}-{high}.",
            members,
        )
    else:
        yield Finding("16_bits", NOTE, f"{text}. They are scaled to 8 bits.", members)


def _names(inspection: Inspection) -> Iterable[Finding]:
    def is_awkward(image: ImageStats) -> bool:
        return any(mark in image.key for mark in ",\"'|;\n\t") or not image.key.isascii()

    members = _where(inspection, is_awkward)
    if members:
        yield Finding(
            "awkward_names",
            NOTE,
            f"{counted(len(members), 'name')} with commas, quotes or non-ASCII letters, which "
            "other programs may misread.",
            members,
        )


def _sizes(inspection: Inspection, limits: Limits) -> Iterable[Finding]:
    small = _where(inspection, lambda f: 0 < min(f.width, f.height) < limits.small_side)
    usable = sum(not f.problem for f in inspection.images)
    if small and len(small) < usable / 2:
        text = f"{counted(len(small), 'image')} with a side below {limits.small_side} pixels."
        yield Finding("small", WARNING, text, small)
    long = _where(
        inspection,
        lambda f: (
            min(f.width, f.height) > 0
            and max(f.width, f.height) > limits.aspect * min(f.width, f.height)
        ),
    )
    if long:
        text = f"{counted(len(long), 'image')} with an aspect ratio above {limits.aspect:g}:1."
        yield Finding("aspect", WARNING, text, long)
    enlarged = _where(
        inspection, lambda f: min(f.width, f.height) >= 128 and f.detail < limits.detail
    )
    if enlarged:
        yield Finding(
            "enlarged",
            NOTE,
            f"{counted(len(enlarged), 'image')} with less detail than their resolution allows: "
            "upscaled or out of focus.",
            enlarged,
        )


def _classes(inspection: Inspection, label: str, limits: Limits) -> Iterable[Finding]:
    counts = inspection.classes(label)
    if not counts:
        return
    of_train = {name: count.get(TRAIN, 0) for name, count in counts.items()}
    if len(counts) == 1:
        text = f"All images have the same class, {next(iter(counts))}."
        yield Finding("one_class", ERROR, text, label=label)
    few = {name: n for name, n in of_train.items() if 0 < n < limits.fewest}
    if few:
        shown = ", ".join(f"{name} ({n})" for name, n in list(few.items())[:5])
        more = ", ..." if len(few) > 5 else ""
        yield Finding(
            "few",
            WARNING,
            f"{counted(len(few), 'class has', 'classes have')} fewer than {limits.fewest} training "
            f"images: {shown}{more}.",
            label=label,
        )
    present = [n for n in of_train.values() if n]
    if present and max(present) > limits.imbalance * min(present):
        yield Finding(
            "imbalance",
            WARNING,
            f"Class imbalance: the largest class has {max(present) / min(present):.0f} times the "
            "images of the smallest. Consider --class_weights balanced or --balanced_sampling.",
            label=label,
        )
    if EVALUATION in inspection.sets:
        for name, other in ((TRAIN, EVALUATION), (EVALUATION, TRAIN)):
            absent = [c for c, n in counts.items() if not n.get(name) and n.get(other)]
            if absent:
                more = ", ..." if len(absent) > 5 else ""
                yield Finding(
                    f"absent_in_{name}",
                    ERROR if name == TRAIN else WARNING,
                    f"{counted(len(absent), 'class occurs', 'classes occur')} in the {other} set "
                    f"only: {', '.join(absent[:5])}{more}.",
                    label=label,
                )


def _groups(inspection: Inspection, group: str) -> Iterable[Finding]:
    if not group:
        return
    of_set: dict[str, set[str]] = collections.defaultdict(set)
    for image, name in zip(inspection.images, inspection.sets, strict=True):
        value = str(image.columns.get(group, ""))
        if value:
            of_set[name].add(value)
    both = sorted(of_set[TRAIN] & of_set[EVALUATION])
    if both:
        yield Finding(
            "group_leak",
            ERROR,
            f"{counted(len(both), 'value')} of {group} in both sets, e.g. {', '.join(both[:3])}: "
            "the metrics would be too optimistic. Split with tfic convert --group_column.",
        )


_MEASURES: Mapping[str, Callable[[ImageStats], float]] = {
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
                    for f, s in zip(inspection.images, inspection.sets, strict=True)
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

    shifts = {}
    for measure in _MEASURES:
        a, b = values[TRAIN][measure], values[EVALUATION][measure]
        spread = max(float(np.sqrt((a.var() + b.var()) / 2)), 1e-6)
        shift = (b.mean() - a.mean()) / spread
        if abs(shift) > limits.drift and stats.ks_2samp(a, b).pvalue < 1e-3:
            shifts[measure] = shift
    if shifts:
        shown = ", ".join(f"{name} {shift:+.1f}" for name, shift in shifts.items())
        yield Finding(
            "drift",
            WARNING,
            f"Distribution shift from training to evaluation images, in standard deviations: "
            f"{shown}.",
        )
