"""The inspection as one self-contained HTML file."""

from __future__ import annotations

import base64
import collections
import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_image_classification.errors import counted
from tf_image_classification.inspection.csv_rows import CsvRows, removable
from tf_image_classification.inspection.findings import (
    EVALUATION,
    SEVERITIES,
    TRAIN,
    Finding,
    Inspection,
    Suggestion,
    class_of,
)
from tf_image_classification.inspection.image_stats import ImageStats, decode_measured
from tf_image_classification.pages.charts import histogram
from tf_image_classification.pages.render import render
from tf_image_classification.pages.tables import Bars, Cell, Histogram, Number, Table, count_cell
from tf_image_classification.system import files

_MAX_GROUPS, _MAX_CANDIDATES, _MAX_IN_GROUP = 24, 96, 8
_MAX_BYTES = 12_000_000  # of all thumbnails
_MAX_ROWS = 50_000  # of the corrected CSV
_THUMBNAIL = 256  # pixels: sharp on screens of two pixels a point as well
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
    shown = _Figures(inspection)
    skipped = [f"{name} ({reason})" for name, reason in inspection.skipped_columns.items()]
    return render(
        "inspection.html",
        scripts=("page.js", "inspection.js"),
        title=f"Inspection of {title}",
        labels=", ".join(inspection.labels) or "none",
        skipped=", ".join(skipped),
        tiles=_tiles(inspection),
        findings=[_finding(number, f, shown) for number, f in enumerate(inspection.findings)],
        corrections=_corrections(inspection),
        no_corrections=_why_no_corrections(inspection),
        classes=[_classes(inspection, label) for label in inspection.labels],
        statistics=_statistics([image for image in inspection.images if not image.problem]),
    )


def _why_no_corrections(inspection: Inspection) -> str:
    """The reason why the page offers no corrected CSV, or ""."""
    if not inspection.labels:
        return "no label column was found"
    if len(inspection.images) > _MAX_ROWS:
        return f"the source has more than {_MAX_ROWS:,} images"
    for image in inspection.images:
        if image.place is None or image.place.kind != "file":
            return f"{image.where} is not an image file of its own"
        if image.place.path != image.place.path.encode("utf-8", "replace").decode():
            return f"the name of {image.where} is not UTF-8"
    return ""


def _corrections(inspection: Inspection) -> dict[str, Any]:
    """The rows of the corrected CSV, for the script of the page; {} without any.

    Rows of images that cannot be decoded are left out.
    """
    if _why_no_corrections(inspection):
        return {}
    rows = CsvRows.of(inspection)
    cells = [rows.cells(image, i) for i, image in enumerate(inspection.images)]
    header = rows.header
    if len(set(inspection.sets)) > 1:
        name = next(one for one in ("split", "subset", "partition") if one not in header)
        header.append(name)
        cells = [[*row, one] for row, one in zip(cells, inspection.sets, strict=True)]
    return {
        "header": header,
        "rows": cells,
        "classes": [list(inspection.classes(label)) for label in inspection.labels],
        "broken": [i for i, image in enumerate(inspection.images) if image.problem],
    }


def _tiles(inspection: Inspection) -> list[tuple[str, int, str]]:
    """Name, count and severity of the numbers at the top."""
    sets = collections.Counter(inspection.sets)
    tiles = [("images", len(inspection.images), "")]
    if len(sets) > 1:
        tiles += [("training", sets[TRAIN], ""), ("evaluation", sets[EVALUATION], "")]
    tiles.append(("cannot be decoded", sum(bool(one.problem) for one in inspection.images), ""))
    tiles.append(("left out", len(inspection.left_out), ""))
    for severity in SEVERITIES:
        count = sum(finding.severity == severity for finding in inspection.findings)
        tiles.append((severity if count == 1 else f"{severity}s", count, severity if count else ""))
    return tiles


def _finding(number: int, finding: Finding, shown: _Figures) -> dict[str, Any]:
    """Values of one finding for the template."""
    inspection = shown.inspection
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
    most = _MAX_CANDIDATES if finding.suggestions else _MAX_GROUPS
    return {
        "id": f"finding-{number}",
        "severity": finding.severity,
        "title": title,
        "text": finding.text,
        "table": table,
        "label": inspection.labels.index(finding.label)
        if finding.label in inspection.labels
        else 0,
        "removable": []
        if finding.suggestions
        else [i for group in groups for i in removable(inspection, finding.kind, group)],
        "groups": [
            {
                "images": [shown.figure(i) for i in group[:_MAX_IN_GROUP]],
                "suggestion": shown.suggestion(finding.suggestions[place])
                if finding.suggestions
                else None,
                "num_more": max(0, len(group) - _MAX_IN_GROUP),
            }
            for place, group in enumerate(groups[:most])
        ],
        "num_more": max(0, len(groups) - most),
    }


class _Figures:
    """The images of an inspection as values for the template.

    Attributes:
        inspection: with the images.
    """

    def __init__(self, inspection: Inspection) -> None:
        self.inspection = inspection
        self._num_bytes = 0

    def figure(self, i: int) -> dict[str, Any]:
        """An image with its name and classes, and its thumbnail if the page has room for it."""
        image = self.inspection.images[i]
        labels = self.inspection.labels
        place = image.place
        is_local = place is not None and place.kind == "file" and not files.is_remote(place.path)
        source = thumbnail(image) if self._num_bytes < _MAX_BYTES else ""
        self._num_bytes += len(source)
        return {
            "row": i,
            "where": image.where,
            "file": os.path.basename(image.key) or image.where,
            "link": pathlib.Path(place.path).absolute().as_uri() if place and is_local else "",
            "classes": ", ".join(filter(None, (class_of(image, one) for one in labels))),
            "set": self.inspection.sets[i],
            "problem": image.problem,
            "source": source,
        }

    def suggestion(self, one: Suggestion) -> dict[str, Any]:
        """The class that a candidate for a label error looks like, with an image of it."""
        return {
            "class_name": one.class_name,
            "probability": f"{one.probability:.0%}",
            "nearest": self.figure(one.nearest),
        }


def thumbnail(image: ImageStats) -> str:
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
