"""What the page of a comparison shows: verdict, numbers, slices and changed predictions."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.claim_test import Tested, power_text
from tf_image_classification.evaluation.compare import Comparison
from tf_image_classification.evaluation.gate import Gate, LabelGate
from tf_image_classification.evaluation.intervals import Interval
from tf_image_classification.evaluation.pairing import LabelPair
from tf_image_classification.evaluation.predictions import LabelPredictions
from tf_image_classification.labels.outputs import confidence_of, predicted_names
from tf_image_classification.pages.tables import Cell, Number, Table, count_cell, number_text

Array = npt.NDArray[Any]

MAX_BYTES = 10_000_000
"""Of all thumbnails of a page, as text."""

_MAX_SHOWN = 120  # examples of a kind


@dataclasses.dataclass(frozen=True)
class Flip:
    """An example whose predictions differ.

    Attributes:
        example: its index in the evaluation set.
        name: of its image, with its folder.
        where: its file, with line or record.
        actual: class or value.
        a: prediction of the first model.
        b: prediction of the second.
        confidence_a: as a percentage; "" for a regression, and for a model that gives none.
        confidence_b: the same.
        a_is_right: None for a regression.
        b_is_right: the same.
    """

    example: int
    name: str
    where: str
    actual: str
    a: str
    b: str
    confidence_a: str
    confidence_b: str
    a_is_right: bool | None
    b_is_right: bool | None


@dataclasses.dataclass(frozen=True)
class FlipGallery:
    """Changed examples of one kind.

    Attributes:
        key: a name for addresses.
        title: of the section.
        count: of all of them.
        flips: those shown.
    """

    key: str
    title: str
    count: int
    flips: Sequence[Flip]


@dataclasses.dataclass(frozen=True)
class LabelFlips:
    """One label.

    Attributes:
        name: of the label.
        gate: its gate; None without a claim.
        verdict: in words.
        numbers: both models' metric and the difference, as names and values.
        power: what the examples can show, in a sentence; "" if unknown.
        slices: the test of each slice; without rows if none were asked for.
        changes: how often which class became which.
        galleries: better, worse and otherwise changed examples.
        notes: on classes that one model lacks.
    """

    name: str
    gate: LabelGate | None
    verdict: str
    numbers: Sequence[tuple[str, str]]
    power: str
    slices: Table
    changes: Table
    galleries: Sequence[FlipGallery]
    notes: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Flips:
    """The page of a comparison.

    Attributes:
        a: the first model, as it was named.
        b: the second.
        gate: None without a claim.
        labels: one after the other.
        notes: on examples without a prediction.
    """

    a: str
    b: str
    gate: Gate | None
    labels: Sequence[LabelFlips]
    notes: Sequence[str]


def label_content(
    found: LabelPair,
    compared: Comparison,
    gate: LabelGate | None,
    *,
    a_has_probabilities: bool = True,
    b_has_probabilities: bool = True,
) -> LabelFlips:
    """What the page shows of one label.

    Args:
        found: the examples.
        compared: their comparison.
        gate: of the label; None without a claim.
        a_has_probabilities: whether the first model gives more than classes.
        b_has_probabilities: the same of the second.
    """
    if gate is None:
        verdict = compared.verdict
        numbers = [
            (f"{compared.score_name.replace('_', ' ')} of A", str(compared.a)),
            (f"{compared.score_name.replace('_', ' ')} of B", str(compared.b)),
            ("difference B - A", f"{compared.difference} (95 % interval)"),
        ]
        power = ""
    else:
        one = gate.overall
        verdict = "shown" if one.is_shown else f"not shown: {one.reason}"
        numbers = [
            (f"{gate.metric.replace('_', ' ')} of A", number_text(one.a)),
            (f"{gate.metric.replace('_', ' ')} of B", number_text(one.b)),
            ("difference B - A", f"{one.difference} (90 % interval)"),
            ("test", gate.method),
        ]
        power = power_text(one, gate.claim)
    return LabelFlips(
        found.label.name,
        gate,
        verdict,
        [*numbers, ("examples", f"{len(found.names):,}")],
        f"{power[0].upper()}{power[1:]}." if power else "",
        _slices_table(gate),
        _changes_table(found),
        _galleries(found, a_has_probabilities, b_has_probabilities),
        found.notes,
    )


def _slices_table(gate: LabelGate | None) -> Table:
    tests: Sequence[Tested] = () if gate is None else gate.slices
    rows: list[list[Cell]] = [
        [
            one.name,
            count_cell(one.difference.count),
            Number(_known(one.a), number_text(one.a)),
            Number(_known(one.b), number_text(one.b)),
            _difference_cell(one.difference),
            count_cell(one.num_better),
            count_cell(one.num_worse),
            "shown"
            if one.is_shown
            else ": ".join(["not shown", *filter(None, [one.difference.note])]),
        ]
        for one in tests
    ]
    columns = ["slice", "examples", "A", "B", "difference", "better", "worse", "claim"]
    return Table("with 90 % intervals of the difference", columns, rows)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _difference_cell(one: Interval) -> Number:
    if math.isnan(one.low):
        return Number(_known(one.value), number_text(one.value))
    return Number(one.value, f"{one.value:+.3f}", f"[{one.low:+.3f}, {one.high:+.3f}]")


def _changes_table(found: LabelPair) -> Table:
    """How often a prediction of A became one of B; without rows for other kinds than classes."""
    rows: list[list[Cell]] = []
    if found.label.is_class:
        changed = found.a.predicted != found.b.predicted
        names = found.label.named_classes()
        pairs, counts = np.unique(
            np.stack([found.a.predicted[changed], found.b.predicted[changed]]),
            axis=1,
            return_counts=True,
        )
        for at in np.argsort(-counts, kind="stable").tolist():
            old, new = (names[k] for k in pairs[:, at].tolist())
            rows.append([f"{old} → {new}", count_cell(int(counts[at]))])
    return Table("", ["prediction of A → of B", "examples"], rows)


def _galleries(found: LabelPair, a_has: bool, b_has: bool) -> list[FlipGallery]:
    a, b = found.a, found.b
    if not found.label.has_classes:
        gain = np.abs(a.predicted - a.truth) - np.abs(b.predicted - b.truth)
        order = np.argsort(-np.abs(gain), kind="stable")
        kinds = [
            ("better", "Smaller errors in B", order[gain[order] > 0]),
            ("worse", "Larger errors in B", order[gain[order] < 0]),
        ]
    else:
        order = np.arange(len(found.names))
        if b_has:
            confidence = confidence_of(b.predicted, b.probabilities)
            order = np.argsort(-confidence, kind="stable")
        differs = (a.predicted != b.predicted).reshape(len(order), -1).any(axis=1)[order]
        of_a, of_b = a.is_right[order], b.is_right[order]
        kinds = [
            ("worse", "Worse: only A is right", order[of_a & ~of_b]),
            ("better", "Better: only B is right", order[of_b & ~of_a]),
            ("other", "Changed, and both are wrong", order[differs & ~of_a & ~of_b]),
        ]
    return [
        FlipGallery(key, title, len(rows), _flips(found, rows[:_MAX_SHOWN], a_has, b_has))
        for key, title, rows in kinds
    ]


def _flips(found: LabelPair, rows: Array, a_has: bool, b_has: bool) -> list[Flip]:
    a, b = found.a.rows(rows), found.b.rows(rows)
    actual = _texts(found, found.a.truth[rows])
    of_a, of_b = _texts(found, a.predicted), _texts(found, b.predicted)
    has_classes = found.label.has_classes
    return [
        Flip(
            int(found.ids[row]),
            "/".join(found.names[row].rstrip("/").split("/")[-2:]),
            found.names[row],
            actual[i],
            of_a[i],
            of_b[i],
            _percent(a, i) if has_classes and a_has else "",
            _percent(b, i) if has_classes and b_has else "",
            bool(a.is_right[i]) if has_classes else None,
            bool(b.is_right[i]) if has_classes else None,
        )
        for i, row in enumerate(rows.tolist())
    ]


def _percent(found: LabelPredictions, row: int) -> str:
    one = found.rows(np.array([row]))
    return f"{100 * float(confidence_of(one.predicted, one.probabilities)[0]):.0f} %"


def _texts(found: LabelPair, values: Array) -> list[str]:
    if not found.label.has_classes:
        return [number_text(value) for value in values.tolist()]
    return [text or "none" for text in predicted_names(found.label, values)]


def data_uri(data: bytes) -> str:
    """A JPEG as a data URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
