"""The images to label next as one self-contained HTML file, on which a person can label them.

write_page("next.html", content)
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tf_image_classification.inspection.image_stats import ImageStats
from tf_image_classification.inspection.page import thumbnail
from tf_image_classification.pages.render import render
from tf_image_classification.system import files

_MAX_BYTES = 12_000_000  # of all thumbnails


@dataclasses.dataclass(frozen=True)
class PageRow:
    """One image.

    Attributes:
        stats: of its pixels.
        name: its path, for people.
        path: as the CSV names it.
        guess: the guessed class with its probability, or "".
        reason: why it is to be labelled.
    """

    stats: ImageStats
    name: str
    path: str
    guess: str
    reason: str


@dataclasses.dataclass(frozen=True)
class NextLabelsPage:
    """What the page shows.

    Attributes:
        label: name of the label.
        classes: that a person can choose from; new ones can be typed.
        others: further columns of the CSV, with the value of each row.
        lines: the summary.
        rows: the images, the best first.
    """

    label: str
    classes: Sequence[str]
    others: Mapping[str, str]
    lines: Sequence[str]
    rows: Sequence[PageRow]


def write_page(path: str, content: NextLabelsPage) -> None:
    """Write the page to a local or remote file."""
    files.write_bytes(path, page(content).encode())


def page(content: NextLabelsPage) -> str:
    """The whole file as text."""
    figures, num_bytes = [], 0
    for rank, row in enumerate(content.rows, start=1):
        source = thumbnail(row.stats) if num_bytes < _MAX_BYTES else ""
        num_bytes += len(source)
        figures.append(_figure(rank, row, source))
    return render(
        "next_labels.html",
        scripts=("page.js", "next_labels.js"),
        label=content.label,
        classes=list(content.classes),
        lines=list(content.lines),
        figures=figures,
        table={
            "header": ["URIs", content.label, *content.others],
            "others": list(content.others.values()),
            "paths": [row.path for row in content.rows],
        },
    )


def _figure(rank: int, row: PageRow, source: str) -> dict[str, Any]:
    is_local = not files.is_remote(row.path) and os.path.exists(row.path)
    return {
        "rank": rank,
        "file": os.path.basename(row.name) or row.name,
        "where": row.name,
        "link": pathlib.Path(row.path).absolute().as_uri() if is_local else "",
        "guess": row.guess,
        "reason": row.reason,
        "source": source,
    }
