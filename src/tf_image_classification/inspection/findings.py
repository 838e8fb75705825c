"""The result of an inspection: statistics of each image, its set and labels, and findings.

inspection.worst               # "error", "warning", "note" or ""
inspection.classes("label")    # {"ant": {"train": 15, "eval": 5}, ...}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from tf_image_classification.dataset.readers import LeftOut
from tf_image_classification.inspection.example_groups import Groups
from tf_image_classification.inspection.image_stats import ImageStats
from tf_image_classification.labels import split_classes

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
TRAIN, EVALUATION = "train", "eval"


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Another class for an image whose label may be wrong.

    Attributes:
        class_name: the more likely class.
        probability: of that class, out of sample.
        nearest: the most similar image with that class, as an index into ``Inspection.images``.
    """

    class_name: str
    probability: float
    nearest: int


@dataclasses.dataclass(frozen=True)
class Finding:
    """One problem, or one remark.

    Attributes:
        kind: machine-readable name, e.g. "leak".
        severity: "error": a training would be wasted or its metrics wrong; "warning"; "note".
        text: the counts, and what to do.
        members: groups of images, as indices into ``Inspection.images``.
        label: the label it concerns, or "".
        suggestions: of possible label errors, one for each group; else empty.
    """

    kind: str
    severity: str
    text: str
    members: Sequence[Sequence[int]] = ()
    label: str = ""
    suggestions: Sequence[Suggestion] = ()


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Images and findings.

    Attributes:
        images: statistics of all images, training set first.
        sets: "train" or "eval", by image.
        labels: columns whose classes were checked.
        findings: the worst first.
        left_out: files and rows that are not images, with reasons.
        skipped_columns: columns that are not labels, with reasons.
        groups: videos, bursts and copies among the images; None: they were not looked for.
    """

    images: Sequence[ImageStats]
    sets: Sequence[str]
    labels: Sequence[str]
    findings: Sequence[Finding] = ()
    left_out: Sequence[LeftOut] = ()
    skipped_columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    groups: Groups | None = None

    @property
    def worst(self) -> str:
        """The worst severity found, or ""."""
        found = {finding.severity for finding in self.findings}
        return next((s for s in SEVERITIES if s in found), "")

    def with_findings(self, findings: Iterable[Finding]) -> Inspection:
        """A copy with further findings, worst first; of several labels each text names its own."""
        named = [
            dataclasses.replace(f, text=f"{f.label}: {f.text}")
            if f.label and len(self.labels) > 1
            else f
            for f in findings
        ]
        found = sorted((*self.findings, *named), key=lambda f: SEVERITIES.index(f.severity))
        return dataclasses.replace(self, findings=tuple(found))

    def classes(self, label: str) -> dict[str, dict[str, int]]:
        """Usable images by class and set; a multilabel image counts for each of its classes."""
        counts: dict[str, dict[str, int]] = {}
        none = dict.fromkeys(dict.fromkeys(self.sets), 0)
        for image, name in zip(self.images, self.sets, strict=True):
            for value in () if image.problem else split_classes(class_of(image, label)):
                counts.setdefault(value, dict(none))[name] += 1
        return dict(sorted(counts.items()))


def class_of(image: ImageStats, label: str) -> str:
    """Class of an image as a text, or ""; whole numbers without decimals."""
    value = image.columns.get(label, "")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
