"""The inspected images as rows of a CSV that ``tfic convert`` and ``tfic train`` read.

rows = CsvRows.of(inspection)
rows.header, rows.cells(inspection.images[0], 0)
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from tf_image_classification.dataset.label_columns import GROUP
from tf_image_classification.inspection.findings import TRAIN, Inspection, class_of
from tf_image_classification.inspection.image_stats import ImageStats
from tf_image_classification.system import files

_IMAGE = "URIs"


@dataclasses.dataclass(frozen=True)
class CsvRows:
    """The columns of the CSV of an inspection.

    Attributes:
        labels: columns of classes.
        others: further columns of the source.
        groups: the group of each image by its index, in the column ``group``; None: no such column.
    """

    labels: Sequence[str]
    others: Sequence[str]
    groups: Sequence[str] | None = None

    @classmethod
    def of(cls, inspection: Inspection) -> CsvRows:
        """The columns of the inspected source."""
        columns = {name for image in inspection.images for name in image.columns}
        found = inspection.groups
        is_written = found is not None and bool(found.summary()) and GROUP not in columns
        return cls(
            list(inspection.labels),
            sorted(columns - {*inspection.labels}),
            found.of if found is not None and is_written else None,
        )

    @property
    def header(self) -> list[str]:
        """The column of the images, the labels, and the other columns.

        A single label has the name that training and older programs expect.
        """
        labels = self.labels if len(self.labels) != 1 else ["labels"]
        return [_IMAGE, *labels, *self.others, *([GROUP] if self.groups is not None else [])]

    def cells(self, image: ImageStats, number: int) -> list[str]:
        """The cells of an image, which must be a file, and its index; its path is absolute."""
        assert image.place is not None
        path = image.place.path
        return [
            path if files.is_remote(path) else os.path.abspath(path),
            *(class_of(image, label) for label in self.labels),
            *(str(image.columns.get(name, "")) for name in self.others),
            *([self.groups[number]] if self.groups is not None else []),
        ]


def removable(inspection: Inspection, kind: str, group: Sequence[int]) -> list[int]:
    """The images of a finding's group that a training is better without.

    Of duplicates all but the first one, of leakage the training images, of videos and bursts none,
    else the whole group.
    """
    if kind == "groups":
        return []
    if kind == "duplicates":
        return list(group[1:])
    if kind in ("leak", "group_leak"):
        return [i for i in group if inspection.sets[i] == TRAIN]
    return list(group)
