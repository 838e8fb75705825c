"""What an inspection is: the facts of each image, its set and labels, and what was found.

inspection.worst               # "error", "warning", "note" or ""
inspection.classes("label")    # {"ant": {"train": 15, "eval": 5}, ...}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from tf_image_classification.dataset.readers import LeftOut
from tf_image_classification.inspection.image_stats import Facts
from tf_image_classification.labels import split_classes

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
TRAIN, EVALUATION = "train", "eval"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One problem, or one thing worth knowing.

    Attributes:
        kind: a name for programs, e.g. "leak".
        severity: "error": the run would be wasted or its metrics wrong; "warning"; "note".
        text: a sentence with the counts, and what to do.
        members: the images, each group together: their numbers in the facts of all sets.
        label: the label whose classes it is about, or "".
    """

    kind: str
    severity: str
    text: str
    members: Sequence[Sequence[int]] = ()
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Facts and findings.

    Attributes:
        facts: of all images, the training set's first.
        sets: for each image "train" or "eval".
        labels: columns whose classes were judged.
        findings: the worst first.
        left_out: files and rows of the sources that are no images, with reasons.
        not_judged: columns that were not taken for classes, with reasons.
    """

    facts: Sequence[Facts]
    sets: Sequence[str]
    labels: Sequence[str]
    findings: Sequence[Finding] = ()
    left_out: Sequence[LeftOut] = ()
    not_judged: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def worst(self) -> str:
        """The worst severity found, or ""."""
        found = {finding.severity for finding in self.findings}
        return next((s for s in SEVERITIES if s in found), "")

    def with_findings(self, findings: Iterable[Finding]) -> Inspection:
        """The same with further findings, the worst first; each names its label if it needs to."""
        named = [
            dataclasses.replace(f, text=f"{f.label}: {f.text}")
            if f.label and len(self.labels) > 1
            else f
            for f in findings
        ]
        found = sorted((*self.findings, *named), key=lambda f: SEVERITIES.index(f.severity))
        return dataclasses.replace(self, findings=tuple(found))

    def classes(self, label: str) -> dict[str, dict[str, int]]:
        """By class of a label its usable images in each set; of several joined classes each."""
        counts: dict[str, dict[str, int]] = {}
        none = dict.fromkeys(dict.fromkeys(self.sets), 0)
        for facts, name in zip(self.facts, self.sets, strict=True):
            for value in () if facts.problem else split_classes(class_of(facts, label)):
                counts.setdefault(value, dict(none))[name] += 1
        return dict(sorted(counts.items()))


def class_of(facts: Facts, label: str) -> str:
    """An image's class as a text, or ""; whole numbers without decimals."""
    value = facts.columns.get(label, "")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
