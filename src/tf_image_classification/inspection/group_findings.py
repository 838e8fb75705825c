"""Findings on groups of dependent images: videos and bursts, and groups in both sets.

found = groups_of_inspection(inspection, same_pictures(inspection.images))
findings = list(group_findings(inspection, found))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tf_image_classification.errors import counted
from tf_image_classification.inspection.example_groups import Groups, Trace, find_groups
from tf_image_classification.inspection.findings import (
    ERROR,
    EVALUATION,
    NOTE,
    TRAIN,
    Finding,
    Inspection,
    class_of,
)
from tf_image_classification.inspection.image_stats import ImageStats

_SHOWN = 3  # names


def groups_of_inspection(inspection: Inspection, pictures: Sequence[Sequence[int]]) -> Groups:
    """The groups of the images of an inspection.

    Args:
        inspection: the images with their classes.
        pictures: groups of images of the same picture.
    """
    label = inspection.labels[0] if len(inspection.labels) == 1 else ""
    classes = [class_of(image, label) if label else "" for image in inspection.images]
    return find_groups([_trace(image) for image in inspection.images], classes, alike=pictures)


def _trace(image: ImageStats) -> Trace:
    small = np.frombuffer(image.small, np.uint8) if image.small else None
    return Trace(image.key, small, image.camera, image.taken)


def group_findings(inspection: Inspection, groups: Groups) -> Iterable[Finding]:
    """The videos and bursts, those in both sets, and classes of a single video."""
    members = groups.takes()
    both = [m for m in members if len({inspection.sets[i] for i in m}) > 1]
    if both:
        yield _leak(inspection, both)
    if members:
        names = ", ".join(_named(inspection, some) for some in members[:_SHOWN])
        more = f" and {len(members) - _SHOWN} more" if len(members) > _SHOWN else ""
        yield Finding(
            "groups",
            NOTE,
            f"{groups.summary()}: {names}{more}. They are not independent examples: a held-out "
            "part and tfic convert --split keep each on one side. To correct them, edit the column "
            "group of --write_csv and give --group_column group.",
            members,
        )
    if groups.lifted:
        yield Finding(
            "one_video",
            NOTE,
            f"All images of {', '.join(groups.lifted[:_SHOWN])} seem to be of one video or burst. "
            "Nothing can measure how such a class is recognised elsewhere: add images of another "
            "day and place. If they are several videos, name them in a column of a CSV and give it "
            "as --group_column.",
        )


def _leak(inspection: Inspection, both: Sequence[Sequence[int]]) -> Finding:
    sets = inspection.sets
    count = sum(sets[i] == EVALUATION for members in both for i in members)
    of_all = sum(name == EVALUATION for name in sets)
    first = {sets[i]: inspection.images[i].where for i in both[0]}
    kinds = counted(len(both), "video or burst", "videos or bursts")
    return Finding(
        "group_leak",
        ERROR,
        f"{count} of {of_all} evaluation images are of the same {kinds} as training images, e.g. "
        f"{first[EVALUATION]} and {first[TRAIN]}: the metrics would be too optimistic. Divide by "
        "video: put both sets into one folder and let tfic convert --split or tfic train divide "
        "it. If they are independent all the same, correct the column group of --write_csv and "
        "give --group_column group.",
        both,
    )


def _named(inspection: Inspection, members: Sequence[int]) -> str:
    keys = sorted(inspection.images[i].key for i in members)
    return f"{keys[0]} to {keys[-1]} ({len(keys)})"
