"""The inspection as one self-contained HTML file."""

from __future__ import annotations

import base64
import collections
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_image_classification.errors import counted
from tf_image_classification.inspection.findings import (
    EVALUATION,
    SEVERITIES,
    TRAIN,
    Finding,
    Inspection,
    class_of,
)
from tf_image_classification.inspection.image_stats import ImageStats, decode_measured
from tf_image_classification.pages.charts import histogram
from tf_image_classification.pages.render import render
from tf_image_classification.pages.tables import Bars, Cell, Histogram, Number, Table, count_cell
from tf_image_classification.system import files

_MAX_GROUPS, _MAX_IN_GROUP = 24, 8
_THUMBNAIL = 192  # pixels: sharp on screens of two pixels a point as well
_TITLES = {
    "absent_in_eval": "Classes absent from the evaluation set",
    "absent_in_train": "Classes absent from the training set",
    "aspect": "Extreme aspect ratios",
    "broken": "Images that cannot be decoded",
    "cmyk": "CMYK images",
    "conflicts": "Same image, different labels",
    "drift": "Distribution shift between the sets",
    "duplicates": "Duplicates",
    "enlarged": "Upscaled or blurred images",
    "few": "Classes with few images",
    "flat_end": "Truncated files",
    "group_leak": "Groups in both sets",
    "label_errors": "Possible label errors",
    "leak": "Evaluation images in the training set",
    "left_out": "Files and rows left out",
    "narrow_16_bits": "16-bit PNGs that become black",
    "one_class": "One class only",
    "one_colour": "Images of one colour",
    "other_formats": "Unsupported image formats",
    "small": "Small images",
    "turned_by_exif": "Rotated by EXIF orientation",
    "wrong_ending": "Wrong file name extension",
}


def write_page(path: str, inspection: Inspection, title: str) -> None:
    """Write the page.

    Args:
        path: file to write, local or remote.
        inspection: what to show.
        title: name of the inspected source.
    """
    files.write_bytes(path, page(inspection, title).encode())


def page(inspection: Inspection, title: str) -> str:
    """The whole file as text."""
    skipped = [f"{name} ({reason})" for name, reason in inspection.skipped_columns.items()]
    return render(
        "inspection.html",
        title=f"Inspection of {title}",
        labels=", ".join(inspection.labels) or "none",
        skipped=", ".join(skipped),
        tiles=_tiles(inspection),
        findings=[_finding(number, f, inspection) for number, f in enumerate(inspection.findings)],
        classes=[_classes(inspection, label) for label in inspection.labels],
        statistics=_statistics([image for image in inspection.images if not image.problem]),
    )


def _tiles(inspection: Inspection) -> dict[str, int]:
    sets = collections.Counter(inspection.sets)
    tiles = {"images": len(inspection.images)}
    if len(sets) > 1:
        tiles |= {"training": sets[TRAIN], "evaluation": sets[EVALUATION]}
    tiles["cannot be decoded"] = sum(bool(image.problem) for image in inspection.images)
    tiles["left out"] = len(inspection.left_out)
    for severity in SEVERITIES:
        count = sum(finding.severity == severity for finding in inspection.findings)
        tiles[severity if count == 1 else f"{severity}s"] = count
    return tiles


def _finding(number: int, finding: Finding, inspection: Inspection) -> dict[str, Any]:
    """Values of one finding for the template."""
    title = _TITLES.get(finding.kind) or finding.kind.replace("_", " ").capitalize()
    if finding.label and len(inspection.labels) > 1:
        title = f"{title}: {finding.label}"
    table, groups = None, finding.members
    if finding.kind == "broken":
        broken = (inspection.images[i] for [i] in finding.members)
        table = Table("", ["image", "problem"], [[one.where, one.problem] for one in broken])
        groups = ()
    elif finding.kind == "left_out":
        ordered = sorted(inspection.left_out, key=lambda each: not each.is_damaged)
        table = Table("", ["file or row", "reason"], [[one.where, one.reason] for one in ordered])
    return {
        "id": f"finding-{number}",
        "severity": finding.severity,
        "title": title,
        "text": finding.text,
        "table": table,
        "groups": [
            {
                "images": [_figure(inspection, i) for i in group[:_MAX_IN_GROUP]],
                "num_more": max(0, len(group) - _MAX_IN_GROUP),
            }
            for group in groups[:_MAX_GROUPS]
        ],
        "num_more": max(0, len(groups) - _MAX_GROUPS),
    }


def _figure(inspection: Inspection, i: int) -> dict[str, str]:
    image = inspection.images[i]
    return {
        "where": image.where,
        "file": os.path.basename(image.key) or image.where,
        "classes": ", ".join(filter(None, (class_of(image, one) for one in inspection.labels))),
        "set": inspection.sets[i],
        "problem": image.problem,
        "source": _thumbnail(image),
    }


def _thumbnail(image: ImageStats) -> str:
    """A small JPEG as a data URI; "" where there is no image."""
    from PIL import Image  # late: half a second

    if image.problem or image.place is None:
        return ""
    small = Image.fromarray(decode_measured(image, max_pixels=10**9))
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def _classes(inspection: Inspection, label: str) -> dict[str, Any]:
    """Title and table of a label's classes, with their images in each set."""
    counts = inspection.classes(label)
    sets = list(dict.fromkeys(inspection.sets))
    most = max((n for count in counts.values() for n in count.values()), default=0) or 1
    rows: list[list[Cell]] = [
        [
            name,
            *(count_cell(count[one]) for one in sets),
            Bars([(one, number / most) for one, number in count.items() if number]),
        ]
        for name, count in counts.items()
    ]
    title = f"Label “{label}”: {counted(len(counts), 'class', 'classes')}"
    return {"title": title, "table": Table("", ["class", *sets, ""], rows)}


def _statistics(images: Sequence[ImageStats]) -> Table:
    values: dict[str, Sequence[float]] = {
        "width, pixels": [image.width for image in images],
        "height, pixels": [image.height for image in images],
        "file size, kB": [image.num_bytes / 1000 for image in images if image.num_bytes],
        "brightness, 0-255": [image.brightness for image in images],
        "contrast, standard deviation": [image.contrast for image in images],
        "sharpness, log variance": [image.sharpness for image in images],
        "saturation": [image.saturation for image in images],
        "detail, fraction of the resolution": [image.detail for image in images],
    }
    rows: list[list[Cell]] = [
        [
            name,
            *(Number(v, _number(v)) for v in np.percentile(numbers, [0, 10, 50, 90, 100])),
            Histogram(histogram(numbers)),
        ]
        for name, numbers in values.items()
        if numbers
    ]
    columns = ["statistic", "min", "10 %", "median", "90 %", "max", ""]
    return Table("", columns, rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
