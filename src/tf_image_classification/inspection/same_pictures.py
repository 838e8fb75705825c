"""Duplicates and near duplicates: with different labels, in both sets, or in one set.

    groups = same_pictures(images)         # [[3, 8, 21], ...]
    findings = same_picture_findings(inspection, groups)

Images show the same picture if their decoded pixels are equal, or if they differ only by encoding,
size, exposure or colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tf_image_classification.errors import counted
from tf_image_classification.inspection.duplicates import connected, equal_pairs, near_pairs
from tf_image_classification.inspection.findings import (
    ERROR,
    EVALUATION,
    TRAIN,
    WARNING,
    Finding,
    Inspection,
    class_of,
)
from tf_image_classification.inspection.image_stats import ImageStats


def same_pictures(images: Sequence[ImageStats]) -> list[list[int]]:
    """Groups of two or more images of the same picture; the groups are disjoint."""
    keys = pixel_keys(images)
    pairs = equal_pairs(keys)
    repeated = {i for _, i in pairs}
    firsts = [i for i, image in enumerate(images) if keys[i] is not None and image.small]
    firsts = [i for i in firsts if i not in repeated]
    if firsts:
        hashes = np.array([images[i].hashes for i in firsts], np.uint64)
        smalls = np.stack([np.frombuffer(images[i].small, np.uint8) for i in firsts])
        pairs += np.array(firsts)[near_pairs(hashes, smalls)].tolist()
    return connected(len(images), pairs)


def pixel_keys(images: Sequence[ImageStats]) -> list[tuple[int, int, int, bytes] | None]:
    """Keys that are equal for images with equal pixels; None for broken images."""
    return [None if f.problem else (f.width, f.height, f.pixels, f.small) for f in images]


def same_picture_findings(inspection: Inspection, groups: Sequence[list[int]]) -> Iterable[Finding]:
    """Label conflicts, leakage and duplicates among images of the same picture.

    Args:
        inspection: the images with their labels.
        groups: as of ``same_pictures``.
    """
    keys = pixel_keys(inspection.images)
    in_conflict: set[int] = set()
    for label in inspection.labels:
        for finding in _conflicts(inspection, label, groups, keys):
            in_conflict.update(i for members in finding.members for i in members)
            yield finding
    yield from _leaks(inspection, groups, keys)
    sets = inspection.sets
    inside = [
        members
        for group in groups
        for name in (TRAIN, EVALUATION)
        if len(members := [i for i in group if sets[i] == name]) > 1
        and in_conflict.isdisjoint(members)
    ]
    if inside:
        more = sum(len(members) - 1 for members in inside)
        yield Finding(
            "duplicates",
            WARNING,
            f"{counted(len(inside), 'picture occurs', 'pictures occur')} more than once in one "
            f"set, {_num_equal(inside, keys)} of them with equal pixels: "
            f"{counted(more, 'redundant image')}. In a training set they count double; in an "
            "evaluation set they make confidence intervals too narrow.",
            inside,
        )


def _conflicts(
    inspection: Inspection, label: str, groups: Sequence[list[int]], keys: Sequence[object]
) -> Iterable[Finding]:
    classes = [class_of(image, label) for image in inspection.images]
    labelled = ([i for i in group if classes[i]] for group in groups)
    found = [members for members in labelled if len({classes[i] for i in members}) > 1]
    if not found:
        return
    num_equal = sum(_has_equal(members, keys, classes) for members in found)
    a = found[0][0]
    b = next(i for i in found[0] if classes[i] != classes[a])
    images = inspection.images
    yield Finding(
        "conflicts",
        ERROR,
        f"{counted(len(found), 'picture has', 'pictures have')} different labels, {num_equal} of "
        f"them with equal pixels, e.g. {images[a].where} ({classes[a]}) and {images[b].where} "
        f"({classes[b]}). Correct the labels, or remove all but one.",
        found,
        label,
    )


def _leaks(
    inspection: Inspection, groups: Sequence[list[int]], keys: Sequence[object]
) -> Iterable[Finding]:
    sets = inspection.sets
    found = [group for group in groups if len({sets[i] for i in group}) > 1]
    if not found:
        return
    leaked = [i for group in found for i in group if sets[i] == EVALUATION]
    of_train = {keys[i] for group in found for i in group if sets[i] == TRAIN}
    num_equal = sum(keys[i] in of_train for i in leaked)
    count = sum(name == EVALUATION for name in sets)
    yield Finding(
        "leak",
        ERROR,
        f"{len(leaked)} of {count} evaluation images are in the training set too, {num_equal} of "
        "them with equal pixels: the metrics would be too optimistic. Remove them from one "
        "of the sets.",
        found,
    )


def _has_equal(members: Sequence[int], keys: Sequence[object], classes: Sequence[str]) -> bool:
    """Whether members with equal pixels have different classes."""
    of_key: dict[object, str] = {}
    return any(of_key.setdefault(keys[i], classes[i]) != classes[i] for i in members)


def _num_equal(groups: Iterable[Sequence[int]], keys: Sequence[object]) -> int:
    return sum(len({keys[i] for i in group}) < len(group) for group in groups)
