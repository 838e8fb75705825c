"""What a model's report shows, as tables, charts, galleries and findings for the templates."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.analysis import (
    MIN_TO_CALIBRATE,
    Calibrated,
    LabelAnalysis,
)
from tf_image_classification.evaluation.calibration import Bin
from tf_image_classification.evaluation.intervals import Interval
from tf_image_classification.labels.outputs import confidence_of
from tf_image_classification.metrics.definitions import LabelRows, find_metric
from tf_image_classification.metrics.metric_direction import higher_is_better
from tf_image_classification.pages.charts import LineChart, Points, line_chart
from tf_image_classification.pages.tables import (
    Cell,
    Number,
    Table,
    count_cell,
    interval_cell,
    number_text,
    percent_cell,
)
from tf_image_classification.report.error_analysis import Finding

_MAX_CURVES = 8
_MAX_PAIRS = 500
_MAX_GROUPS, _MAX_IN_GROUP = 12, 12


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One label of one evaluation example.

    Attributes:
        actual: class name, joined class names or number.
        predicted: the same.
        confidence: of the prediction, as a percentage; "" for a regression.
        is_right: None for a regression, and where the actual value is unknown.
        actual_classes: class numbers; empty for a regression, and where they are unknown.
        predicted_classes: the same.
    """

    actual: str
    predicted: str
    confidence: str
    is_right: bool | None
    actual_classes: Sequence[int] = ()
    predicted_classes: Sequence[int] = ()


@dataclasses.dataclass(frozen=True)
class Example:
    """One evaluation example.

    Attributes:
        name: of the image: its file name, or the name that its record holds.
        where: its file, with line or record.
        link: address of its file, or "".
        image: data URI of the image as the model sees it, or "".
        heat: data URI of the class activation map, by label.
        outcomes: by label.
        slices: numbers of the report's slices that hold it.
    """

    name: str
    where: str
    link: str
    image: str
    heat: Mapping[str, str]
    outcomes: Mapping[str, Outcome]
    slices: Sequence[int] = ()

    @property
    def is_right(self) -> bool:
        """Whether no label is predicted wrong."""
        return all(outcome.is_right is not False for outcome in self.outcomes.values())


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Examples to look at.

    Attributes:
        key: a name for addresses.
        title: of the section.
        text: what these examples have in common.
        examples: the most interesting first.
    """

    key: str
    title: str
    text: str
    examples: Sequence[Example]


@dataclasses.dataclass(frozen=True)
class ErrorGroup:
    """Errors whose images have similar features.

    Attributes:
        actual: class numbers, the most frequent first.
        predicted: the same.
        text: their number and confidence.
        examples: those with an image on the page, most confident first.
    """

    actual: Sequence[int]
    predicted: Sequence[int]
    text: str
    examples: Sequence[Example]


@dataclasses.dataclass(frozen=True)
class CalibrationContent:
    """Text and charts of a label's calibration, and its table of selective prediction."""

    text: str
    charts: Sequence[LineChart]
    rejection: Table


@dataclasses.dataclass(frozen=True)
class UnknownContent:
    """Pictures of none of the classes: limit, refusals by class and refused examples."""

    text: str
    by_class: Sequence[Table]
    refused: Gallery


@dataclasses.dataclass(frozen=True)
class LabelContent:
    """One label.

    Attributes:
        name: of the label.
        classes: their names; empty for a regression.
        score_name: name of the label's main metric.
        score: its value.
        metrics: all metrics.
        per_class: metrics by class; without rows for a regression.
        confusion: counts, rows are actual classes; None where there is no readable matrix.
        confused_pairs: actual class, predicted class and count, the most frequent first; for labels
            with too many classes for a matrix.
        galleries: examples to look at.
        error_groups: groups of similar errors, the largest first; empty for other kinds than
            single-label, and where the features are unknown.
        calibration: None for a regression and of too few examples.
        slices: the main metric by slice.
        findings: the error analysis; empty for other kinds than single-label.
    """

    name: str
    classes: Sequence[str]
    score_name: str
    score: Number
    metrics: Table
    per_class: Table
    confusion: Sequence[Sequence[int]] | None
    confused_pairs: Sequence[tuple[int, int, int]]
    galleries: Sequence[Gallery]
    error_groups: Sequence[ErrorGroup]
    calibration: CalibrationContent | None
    slices: Table
    findings: Sequence[Finding]


@dataclasses.dataclass(frozen=True)
class Leakage:
    """Evaluation images that are in the training set too.

    Attributes:
        count: None where the sets were not compared.
        text: the result in a sentence.
        groups: where the images of each group lie.
    """

    count: int | None
    text: str
    groups: Sequence[Sequence[str]] = ()


NOT_COMPARED = Leakage(
    None, "Training and evaluation images were not compared; tfic inspect compares them."
)

FOLDS_ARE_APART = Leakage(
    0,
    "Identical images are in one fold, and so are near-duplicates among up to 20,000 images on a "
    "local disk: no fold is scored on an image that its model was trained on.",
)


@dataclasses.dataclass(frozen=True)
class Report:
    """The whole report.

    Attributes:
        title: of the page.
        lead: a sentence below it.
        step: of the exported model.
        num_examples: evaluation examples.
        num_train_examples: training examples, as a text.
        summary: names and values: network, weights, image size, data.
        details: the same of folders and versions.
        curves: loss and metrics over the steps of the training.
        labels: one after the other.
        examples: evaluation examples with their images, errors first.
        examples_text: how many of how many these are.
        slices: name of each slice; examples refer to their numbers.
        leakage: between training and evaluation set.
        folds: main metrics by fold of a cross-validation; None for one model.
        counts: examples by class, a table for each label with classes.
        changed_settings: those of the run that differ from their defaults.
        default_settings: the others.
        unknown: pictures of none of the classes; None without a score of this evaluation.
    """

    title: str
    lead: str
    step: int
    num_examples: int
    num_train_examples: str
    summary: Sequence[tuple[str, str]]
    details: Sequence[tuple[str, str]]
    curves: Sequence[LineChart]
    labels: Sequence[LabelContent]
    examples: Sequence[Example]
    examples_text: str
    slices: Sequence[str]
    leakage: Leakage
    folds: Table | None
    counts: Sequence[Table]
    changed_settings: Table
    default_settings: Table
    unknown: UnknownContent | None = None

    @property
    def has_heat(self) -> bool:
        """Whether some example has a class activation map."""
        return any(example.heat for example in self.examples)


def learning_curves(
    evaluations: Sequence[Mapping[str, Any]], training: Mapping[str, Points]
) -> list[LineChart]:
    """Charts of the loss, of each metric of the evaluations, and of the learning rate.

    A chart has at least two points on one of its lines.

    Args:
        evaluations: the lines of ``metrics.jsonl``.
        training: points of step and value by name, from the TensorBoard logs of the training.
    """
    left_out = ("step", "num_examples", "time")
    names = [
        name
        for name, value in (evaluations[-1] if evaluations else {}).items()
        if isinstance(value, (int, float)) and name not in left_out
    ]
    charts = []
    for name in dict.fromkeys(["loss", *names[:_MAX_CURVES], "learning_rate"]):
        points = [(e["step"], e[name]) for e in evaluations if e.get(name) is not None]
        lines = [("training", training.get(name, ())), ("evaluation", points)]
        if any(len(line) > 1 for _, line in lines):
            charts.append(line_chart(lines, x="step", y=name.replace("_", " ")))
    return charts


def score_cell(name: str, interval: Interval) -> Number:
    """A metric with its interval; with a bar if higher values are better."""
    cell = interval_cell(interval.value, interval.low, interval.high, interval.note)
    known = find_metric(name)
    has_bar = higher_is_better(name) if known is None else known.higher_is_better
    return cell if has_bar else cell._replace(low=None, high=None)


def metrics_table(found: LabelAnalysis) -> Table:
    """All metrics of a label."""
    rows: list[list[Cell]] = [
        [name.replace("_", " "), score_cell(name, interval)]
        for name, interval in found.measures.overall.items()
    ]
    return Table("with 95 % confidence intervals", ["metric", "value"], rows)


def per_class_table(found: LabelAnalysis) -> Table:
    """Metrics by class."""
    of_classes = found.measures.of_classes
    names = list(next(iter(of_classes.values()), {}))
    rows: list[list[Cell]] = [
        [
            class_name,
            count_cell(next((one.count for one in scores.values()), 0)),
            *(score_cell(name, scores[name]) for name in names),
        ]
        for class_name, scores in of_classes.items()
    ]
    columns = ["class", "examples", *(name.replace("_", " ") for name in names)]
    return Table("with 95 % confidence intervals", columns, rows)


def error_groups(
    label: LabelRows, examples: Mapping[int, Example], groups: Sequence[npt.NDArray[np.int64]]
) -> list[ErrorGroup]:
    """The largest groups of similar errors.

    Args:
        label: truth and predictions of a single-label classifier.
        examples: by row, those with an image on the page.
        groups: rows of each group, see ``similar_errors``.
    """
    confidence = confidence_of(label.predicted, label.probabilities)
    found = []
    for rows in groups[:_MAX_GROUPS]:
        surest = rows[np.argsort(-confidence[rows], kind="stable")].tolist()
        found.append(
            ErrorGroup(
                _most_frequent(label.truth[rows]),
                _most_frequent(label.predicted[rows]),
                f"{len(rows)} errors, median confidence {np.median(confidence[rows]):.0%}",
                [examples[row] for row in surest if row in examples][:_MAX_IN_GROUP],
            )
        )
    return found


def _most_frequent(classes: npt.NDArray[np.int64]) -> list[int]:
    return [k for k, _ in Counter(classes.tolist()).most_common()]


def slices_table(found: LabelAnalysis) -> Table:
    """A label's main metric by slice, the worst first."""
    name = found.score_name.replace("_", " ")
    rows: list[list[Cell]] = [
        [
            f"{one.column} = {one.value}",
            count_cell(one.score.count),
            score_cell(found.score_name, one.score),
        ]
        for one in found.slices
    ]
    return Table(f"{name}, worst slice first", ["slice", "examples", name], rows)


def confused_pairs(
    truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]
) -> list[tuple[int, int, int]]:
    """Actual class, predicted class and count of the most frequent errors."""
    pairs = zip(truth.tolist(), predicted.tolist(), strict=True)
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    return [(i, j, count) for (i, j), count in counts.most_common(_MAX_PAIRS)]


def calibration_content(found: LabelAnalysis) -> CalibrationContent | None:
    """Calibration and selective prediction; None where nothing was fitted."""
    one = found.calibrated
    if one is None:
        return None
    unit = (0.0, 1.0)
    lines = [("uncalibrated", _points(one.bins_before))]
    if one.calibration.temperature != 1:
        lines.append(("calibrated", _points(one.bins_after)))
    charts = [
        line_chart(
            lines,
            x="confidence",
            y="accuracy",
            x_range=unit,
            y_range=unit,
            has_diagonal=True,
        )
    ]
    if found.risk_curve:
        x, y = "coverage (fraction of examples kept)", "error rate of the examples kept"
        charts.append(line_chart([("", found.risk_curve)], x=x, y=y, x_range=unit))
    rejection = Table(
        "Selective prediction: error rate when the least confident examples are rejected",
        ["coverage", "min confidence", "error rate"],
        [
            [percent_cell(kept), Number(limit, number_text(limit)), percent_cell(wrong, 1)]
            for limit, kept, wrong in found.rejecting
        ],
    )
    text = calibration_text(one)
    return CalibrationContent(text[0].upper() + text[1:], charts, rejection)


def _points(bins: Sequence[Bin]) -> list[tuple[float, float]]:
    return [(each.confidence, each.accuracy) for each in bins if each.count]


def calibration_text(one: Calibrated | None) -> str:
    """The effect of a calibration in a sentence or two; None: of too few examples."""
    if one is None:
        return f"too few examples (at least {MIN_TO_CALIBRATE} in two halves)."
    fitted = one.calibration
    if fitted.temperature == 1:
        text = (
            f"expected calibration error {one.before:.3f}, log loss {one.log_loss_before:.3f}, "
            f"without calibration; temperature {fitted.note or 'is 1'}."
        )
    else:
        text = (
            f"expected calibration error {one.before:.3f}, {one.after:.3f} after scaling with "
            f"temperature {fitted.temperature:.2f}; log loss {one.log_loss_before:.3f}, then "
            f"{one.log_loss_after:.3f}."
        )
        text += f" Temperature {fitted.note}." if fitted.note else ""
    text += f" Fitted on {fitted.count} examples, measured on {one.count} others."
    if one.set_coverage is not None and one.set_size is not None:
        text += (
            f" {100 * fitted.coverage:.0f} % prediction sets: coverage {one.set_coverage}, "
            f"{one.set_size:.2f} classes on average."
        )
    return text
