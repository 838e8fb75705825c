"""Analysis of an evaluation: measures, calibration, reject option and slices.

    analysis = analyze(predictions)
    analysis.labels["kind"].measures.overall["accuracy"]
    analysis.to_json()                 the content of judgement.json

Temperature, thresholds and conformal limit are fitted to one half of the examples and measured on
the other half. A hash of the example's index, or of its group's name, assigns the halves.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.evaluation.calibration import (
    Bin,
    Calibration,
    expected_calibration_error,
    fit,
    log_loss,
    reliability,
    risk_and_coverage,
)
from tf_image_classification.evaluation.intervals import (
    FRACTION_BOUNDS,
    Interval,
    mean_with_interval,
    of_folds,
)
from tf_image_classification.evaluation.measures import Measures, measure
from tf_image_classification.evaluation.predictions import LabelPredictions, Predictions
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.outputs import confidence_of
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.metrics.class_metrics import MIN_IN_A_GROUP
from tf_image_classification.metrics.definitions import FRACTION, find_metric, metrics_of

Array = npt.NDArray[Any]
MIN_TO_CALIBRATE = 40
"""Labelled examples that a calibration needs, about half of them to fit it; min 20 per half."""

FOUND_GROUPS = "videos and bursts"
"""``Analysis.group`` where the groups were found, see ``Predictions.found_groups``."""

_MAX_SLICES = 50
_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_CURVE_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A calibration with its effect, measured on the half that it was not fitted to.

    A temperature that raises the log loss or the calibration error there is not used: the
    calibration then has temperature 1 and a note.

    Attributes:
        calibration: as it is stored with the model.
        before: expected calibration error of the uncalibrated probabilities.
        after: of the calibrated probabilities.
        bins_before: reliability diagram of the uncalibrated probabilities.
        bins_after: of the calibrated probabilities.
        log_loss_before: of the uncalibrated probabilities, in nats.
        log_loss_after: of the calibrated probabilities.
        set_coverage: fraction of conformal sets with the true class; None without sets.
        set_size: mean number of classes in a set.
        count: examples that this was measured on.
    """

    calibration: Calibration
    before: float
    after: float
    bins_before: Sequence[Bin]
    bins_after: Sequence[Bin]
    log_loss_before: float
    log_loss_after: float
    set_coverage: Interval | None
    set_size: float | None
    count: int


@dataclasses.dataclass(frozen=True)
class Slice:
    """The examples with one value of a column.

    Attributes:
        column: its name.
        value: the value of these examples.
        score: the label's main metric over them.
    """

    column: str
    value: str
    score: Interval


@dataclasses.dataclass(frozen=True)
class LabelAnalysis:
    """The analysis of one label.

    Attributes:
        measures: the metrics with their intervals.
        score_name: the label's main metric: accuracy, exact match or mean absolute error.
        calibrated: None for regression, or with too few examples.
        rejecting: rows of min confidence, coverage and risk.
        risk_curve: points of coverage and risk, to draw.
        slices: worst first.
    """

    measures: Measures
    score_name: str
    calibrated: Calibrated | None
    rejecting: Sequence[tuple[float, float, float]]
    risk_curve: Sequence[tuple[float, float]]
    slices: Sequence[Slice]

    @property
    def score(self) -> Interval:
        """The label's main metric."""
        return self.measures.overall[self.score_name]


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The analysis of an evaluation.

    Attributes:
        step: of the model.
        data: fingerprint of the evaluation set.
        num_examples: in it.
        group: column whose values are the clusters of the bootstrap, ``FOUND_GROUPS``, or "".
        labels: by label name; those that some example has.
        schema: the labels.
    """

    step: int
    data: str
    num_examples: int
    group: str
    labels: Mapping[str, LabelAnalysis]
    schema: LabelSchema

    def to_json(self) -> dict[str, Any]:
        """Plain values; undefined numbers are null."""
        labels = {}
        for name, found in self.labels.items():
            value = _plain(dataclasses.asdict(found))
            value["measures"]["confusion"] = (
                None if found.measures.confusion is None else found.measures.confusion.tolist()
            )
            labels[name] = value
        names = ("step", "data", "num_examples", "group")
        return {name: getattr(self, name) for name in names} | {"labels": labels}


def analyze(predictions: Predictions, group: str = "") -> Analysis:
    """The analysis of an evaluation.

    Args:
        predictions: the stored predictions.
        group: column whose values are the clusters of the bootstrap, e.g. people with more than one
            image each; "": the videos and bursts that were found in the evaluation set, if any.

    Raises:
        ConfigError: the predictions have no such column.
    """
    groups = predictions.groups(group)
    names = map(str, predictions.ids.tolist()) if groups is None else groups.tolist()
    is_first_half = np.array([zlib.crc32(name.encode()) % 2 == 0 for name in names], bool)
    labels = {}
    for label in predictions.schema:
        of_label = predictions.labels[label.name]
        if of_label.mask.any():
            found = _of_label(label, predictions, is_first_half, groups)
            labels[label.name] = _of_folds(found, predictions.num_folds)
    group = group or (FOUND_GROUPS if predictions.found_groups else "")
    return Analysis(
        predictions.step, predictions.data, len(predictions), group, labels, predictions.schema
    )


def _of_label(
    label: Label, predictions: Predictions, is_first_half: Array, groups: Array | None
) -> LabelAnalysis:
    of_label = predictions.labels[label.name]
    measures = measure(label, of_label, groups)
    name, values = main_score(label, of_label)
    bounds = FRACTION_BOUNDS if label.has_classes else None
    slices = _slices(predictions, of_label.mask, values, groups, bounds)
    slices.sort(key=lambda s: s.score.value if label.has_classes else -s.score.value)
    if not label.has_classes:
        return LabelAnalysis(measures, name, None, (), (), slices)
    calibrated = _calibrated(label, of_label, is_first_half, groups)
    if label.kind == MULTILABEL:
        return LabelAnalysis(measures, name, calibrated, (), (), slices)
    found = of_label.labelled()
    probabilities = found.probabilities
    if calibrated is not None:
        probabilities = calibrated.calibration.apply(probabilities)
    confidence = confidence_of(found.predicted, probabilities)
    limits, coverages, risks = risk_and_coverage(confidence, found.is_right)
    rows = []
    for coverage in _COVERAGES:
        at = int(np.searchsorted(coverages, coverage - 1e-9))
        rows.append((float(limits[at]), float(coverages[at]), float(risks[at])))
    some = evenly_spaced(len(coverages), _CURVE_POINTS)
    curve = [(float(coverages[i]), float(risks[i])) for i in some]
    return LabelAnalysis(measures, name, calibrated, rows, curve, slices)


def _of_folds(found: LabelAnalysis, num_folds: int) -> LabelAnalysis:
    """The analysis with the intervals of a cross-validation; unchanged for one model."""

    def wider(name: str, interval: Interval) -> Interval:
        return of_folds(interval, num_folds, _bounds(name))

    measures = dataclasses.replace(
        found.measures,
        overall={name: wider(name, one) for name, one in found.measures.overall.items()},
        of_classes={
            of_class: {name: wider(name, one) for name, one in of_metric.items()}
            for of_class, of_metric in found.measures.of_classes.items()
        },
    )
    slices = [
        dataclasses.replace(one, score=wider(found.score_name, one.score)) for one in found.slices
    ]
    return dataclasses.replace(found, measures=measures, slices=slices)


def _bounds(name: str) -> tuple[float, float] | None:
    """The range of a metric of the table: a fraction, an error of at least 0, or any number."""
    metric = find_metric(name)
    if metric is None:
        return None
    is_fraction = metric.statistic == FRACTION if metric.per_example else metric.is_bounded
    if is_fraction:
        return FRACTION_BOUNDS
    return (0.0, np.inf) if metric.higher_is_better is False else None


def main_score(label: Label, of_label: LabelPredictions) -> tuple[str, Array]:
    """The name of a label's main metric, and the numbers [n] that it is the mean of."""
    names = ("accuracy", "exact_match", "mean_absolute_error")
    metric = next(metric for metric in metrics_of(label) if metric.name in names)
    assert metric.per_example is not None
    return metric.name, metric.per_example(label, of_label).astype(np.float64)


def _slices(
    predictions: Predictions,
    known: Array,
    values: Array,
    groups: Array | None,
    bounds: tuple[float, float] | None,
) -> list[Slice]:
    found = []
    for column, texts in predictions.slices.items():
        of_column = few_values(np.array(texts, object).astype(str))
        names, counts = np.unique(of_column[known], return_counts=True)
        if len(names) > _MAX_SLICES or len(names) < 2:
            continue  # values that identify examples, e.g. paths, are no slices
        for name, count in zip(names.tolist(), counts.tolist(), strict=True):
            rows = known & (of_column == name)
            if name and count >= MIN_IN_A_GROUP:
                score = mean_with_interval(
                    values[rows], None if groups is None else groups[rows], bounds=bounds
                )
                found.append(Slice(column, name, score))
    return found


def few_values(texts: Array) -> Array:
    """Numbers with many different values as their quartile ranges; other texts unchanged."""
    if len(np.unique(texts)) <= _MAX_SLICES:
        return texts
    try:
        numbers = np.array([float(text) if text else np.nan for text in texts.tolist()])
    except ValueError:
        return texts
    ends = np.nanpercentile(numbers, [0, 25, 50, 75, 100])
    places = np.clip(np.searchsorted(ends, numbers, "right") - 1, 0, 3)
    names = np.array([f"{ends[i]:.4g} to {ends[i + 1]:.4g}" for i in range(4)])
    return np.where(np.isnan(numbers), "", names[places])


def _calibrated(
    label: Label, of_label: LabelPredictions, is_first_half: Array, groups: Array | None
) -> Calibrated | None:
    fitting, rest = of_label.mask & is_first_half, of_label.mask & ~is_first_half
    if min(fitting.sum(), rest.sum()) < MIN_TO_CALIBRATE / 2:
        return None
    is_multilabel = label.kind == MULTILABEL
    given = of_label.truth[fitting], of_label.probabilities[fitting]
    found = of_label.rows(rest)
    before = found.probabilities.astype(np.float64)
    bins_before = _bins(found, before)
    error_before = expected_calibration_error(bins_before)
    loss_before = log_loss(found.truth, before, is_multilabel=is_multilabel)

    def measured(fitted: Calibration) -> tuple[Array, list[Bin], float, float]:
        after = fitted.apply(found.probabilities)
        bins = _bins(found, after)
        loss = log_loss(found.truth, after, is_multilabel=is_multilabel)
        return after, bins, expected_calibration_error(bins), loss

    fitted = fit(*given, is_multilabel=is_multilabel)
    after, bins_after, error_after, loss_after = measured(fitted)
    if fitted.temperature != 1 and (error_after > error_before or loss_after > loss_before):
        note = (
            f"left out: temperature {fitted.temperature:.2f} would give the other half calibration "
            f"error {error_after:.3f} for {error_before:.3f} and log loss {loss_after:.3f} for "
            f"{loss_before:.3f}"
        )
        fitted = fit(*given, is_multilabel=is_multilabel, temperature=1.0, note=note)
        after, bins_after, error_after, loss_after = measured(fitted)
    coverage, size = None, None
    if not is_multilabel:
        inside = fitted.conformal_set(after)
        coverage = mean_with_interval(
            inside[np.arange(len(inside)), found.truth],
            None if groups is None else groups[rest],
            bounds=FRACTION_BOUNDS,
        )
        size = float(inside.sum(axis=1).mean())
    return Calibrated(
        calibration=fitted,
        before=error_before,
        after=error_after,
        bins_before=bins_before,
        bins_after=bins_after,
        log_loss_before=loss_before,
        log_loss_after=loss_after,
        set_coverage=coverage,
        set_size=size,
        count=int(rest.sum()),
    )


def _bins(found: LabelPredictions, probabilities: Array) -> list[Bin]:
    if found.truth.ndim == 2:  # each class is a decision with confidence 0.5 to 1
        confidence = np.maximum(probabilities, 1 - probabilities).ravel()
        return reliability(confidence, (found.truth == found.predicted).ravel())
    return reliability(confidence_of(found.predicted, probabilities), found.is_right)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if key != "confusion"}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
