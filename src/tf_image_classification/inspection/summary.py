"""The inspection as text."""

from __future__ import annotations

from collections.abc import Iterator

from tf_image_classification.errors import counted
from tf_image_classification.inspection.findings import Inspection

_MOST_CLASSES, _MOST_LEFT_OUT = 20, 10


def summary(found: Inspection) -> Iterator[str]:
    """Lines with the counts, the classes of each label, the findings, and the files left out."""
    yield counted(len(found.images), "image")
    for label in found.labels:
        counts = {name: sum(of_set.values()) for name, of_set in found.classes(label).items()}
        shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:_MOST_CLASSES])
        more = ", ..." if len(counts) > _MOST_CLASSES else ""
        yield f"{label}: {counted(len(counts), 'class', 'classes')}: {shown}{more}"
    if not found.labels:
        yield "no label column found; name one with --label"
    for name, reason in found.skipped_columns.items():
        yield f"column {name} is skipped: {reason}"
    for finding in found.findings:
        yield f"{finding.severity}: {finding.kind}: {finding.text}"
        if finding.kind == "left_out":
            damaged_first = sorted(found.left_out, key=lambda each: not each.is_damaged)
            for each in damaged_first[:_MOST_LEFT_OUT]:
                yield f"  {each}"
            more_left_out = len(found.left_out) - _MOST_LEFT_OUT
            if more_left_out > 0:
                yield f"  and {more_left_out} more, on the page and in the JSON file"
    if not found.findings:
        yield "no problems found"
