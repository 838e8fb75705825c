"""All that kept predictions say of a model: measures, calibration, choices, slices.

    analysis = analyze(predictions)
    analysis.labels["kind"].measures.overall["accuracy"]
    analysis.to_json()                 what analysis.json holds

Temperature, thresholds and conformal limit are fitted to one half of the examples and measured on
the other. A hash of each example's number, or of its group's name, decides which half it is in.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.errors import ConfigError, did_you_mean
from tf_image_classification.evaluation.calibration import (
    Bin,
    Calibration,
    expected_calibration_error,
    fit,
    log_loss,
    reliability,
    risk_and_coverage,
)
from tf_image_classification.evaluation.intervals import SHARE, Interval, mean_with_interval
from tf_image_classification.evaluation.measures import Measures, measure
from tf_image_classification.evaluation.predictions import OfLabel, Predictions
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.metrics.definitions import metrics_of

Array = npt.NDArray[Any]
FEWEST_TO_CALIBRATE = 40
"""Known examples of a label, about half of which fit its calibration; each half needs 20."""

_FEWEST_IN_A_SLICE = 5
_MOST_SLICES = 50
_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_CURVE_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """What calibration does, measured on the half that it was not fitted to.

    A temperature that raises the log loss or the calibration error there is not used: the
    calibration then has temperature 1, and its note says so.

    Attributes:
        calibration: what was fitted, as it is stored with the model.
        before: expected calibration error of the model's own probabilities.
        after: that of the calibrated ones.
        bins_before: the reliability diagram of the model's own.
        bins_after: that of the calibrated ones.
        log_loss_before: in nats.
        log_loss_after: the same.
        set_coverage: how often the conformal set holds the true class; None without sets.
        set_size: mean number of classes in it.
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
        value: what these examples have there.
        score: the label's main number over them.
    """

    column: str
    value: str
    score: Interval


@dataclasses.dataclass(frozen=True)
class OfOneLabel:
    """What is said of one label.

    Attributes:
        measures: the numbers with their intervals.
        score_name: the label's main number: accuracy, exact match or mean absolute error.
        calibrated: None of a real value, or of too few examples.
        rejecting: rows of least probability of the predicted class, share kept and share of those
            wrong.
        risk_curve: shares kept and wrong, to draw.
        slices: the worst first.
    """

    measures: Measures
    score_name: str
    calibrated: Calibrated | None
    rejecting: Sequence[tuple[float, float, float]]
    risk_curve: Sequence[tuple[float, float]]
    slices: Sequence[Slice]

    @property
    def score(self) -> Interval:
        """The label's main number."""
        return self.measures.overall[self.score_name]


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What is said of a model.

    Attributes:
        step: of the model.
        data: fingerprint of the evaluation set.
        num_examples: in it.
        group: column whose examples are drawn together, or "".
        labels: by label name; those that some example has.
        schema: the labels.
    """

    step: int
    data: str
    num_examples: int
    group: str
    labels: Mapping[str, OfOneLabel]
    schema: LabelSchema

    def to_json(self) -> dict[str, Any]:
        """Plain values; numbers that are not known are null."""
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
    """Everything that the predictions say.

    Args:
        predictions: as an evaluation keeps them.
        group: one of their columns, whose values are people or other sources of several images;
            the intervals then are of other people.

    Raises:
        ConfigError: there is no such column.
    """
    if group and group not in predictions.slices:
        known = predictions.slices
        raise ConfigError(
            f"group_column: {group!r} is a label of the model; expected a column beside the labels."
            if group in predictions.schema.names
            else f"The evaluation set has no column {group!r}. {did_you_mean(group, known)}"
        )
    groups = np.asarray(predictions.slices[group], object).astype(str) if group else None
    names = map(str, predictions.ids.tolist()) if groups is None else groups.tolist()
    is_first_half = np.array([zlib.crc32(name.encode()) % 2 == 0 for name in names], bool)
    labels = {}
    for label in predictions.schema:
        of_label = predictions.labels[label.name]
        if of_label.known.any():
            labels[label.name] = _of_label(label, predictions, is_first_half, groups)
    return Analysis(
        predictions.step, predictions.data, len(predictions), group, labels, predictions.schema
    )


def _of_label(
    label: Label, predictions: Predictions, is_first_half: Array, groups: Array | None
) -> OfOneLabel:
    of_label = predictions.labels[label.name]
    measures = measure(label, of_label, groups)
    name, values = main_score(label, of_label)
    bounds = SHARE if label.has_classes else None
    slices = _slices(predictions, of_label.known, values, groups, bounds)
    slices.sort(key=lambda s: s.score.value if label.has_classes else -s.score.value)
    if not label.has_classes:
        return OfOneLabel(measures, name, None, (), (), slices)
    calibrated = _calibrated(label, of_label, is_first_half, groups)
    if label.kind == MULTILABEL:
        return OfOneLabel(measures, name, calibrated, (), (), slices)
    found = of_label.rows(of_label.known)
    probabilities = found.probabilities
    if calibrated is not None:
        probabilities = calibrated.calibration.apply(probabilities)
    confidence = _of_predicted(probabilities, found)
    limits, kept, wrong = risk_and_coverage(confidence, found.is_right)
    rows = []
    for coverage in _COVERAGES:
        at = int(np.searchsorted(kept, coverage - 1e-9))
        rows.append((float(limits[at]), float(kept[at]), float(wrong[at])))
    some = evenly_spaced(len(kept), _CURVE_POINTS)
    curve = [(float(kept[i]), float(wrong[i])) for i in some]
    return OfOneLabel(measures, name, calibrated, rows, curve, slices)


def main_score(label: Label, of_label: OfLabel) -> tuple[str, Array]:
    """The name of a label's main number, and what it is the mean of, [n]."""
    names = ("accuracy", "exact_match", "mean_absolute_error")
    metric = next(metric for metric in metrics_of(label) if metric.name in names)
    assert metric.each is not None
    return metric.name, metric.each(label, of_label.seen).astype(np.float64)


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
        if len(names) > _MOST_SLICES or len(names) < 2:
            continue  # a name of each example, such as a path, is no slice
        for name, count in zip(names.tolist(), counts.tolist(), strict=True):
            rows = known & (of_column == name)
            if name and count >= _FEWEST_IN_A_SLICE:
                score = mean_with_interval(
                    values[rows], None if groups is None else groups[rows], bounds=bounds
                )
                found.append(Slice(column, name, score))
    return found


def few_values(texts: Array) -> Array:
    """Numbers of many values as the quarters they lie in; everything else as it is."""
    if len(np.unique(texts)) <= _MOST_SLICES:
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
    label: Label, of_label: OfLabel, is_first_half: Array, groups: Array | None
) -> Calibrated | None:
    fitting, rest = of_label.known & is_first_half, of_label.known & ~is_first_half
    if min(fitting.sum(), rest.sum()) < FEWEST_TO_CALIBRATE / 2:
        return None
    is_several = label.kind == MULTILABEL
    given = of_label.truth[fitting], of_label.probabilities[fitting]
    found = of_label.rows(rest)
    before = found.probabilities.astype(np.float64)
    bins_before = _bins(found, before)
    error_before = expected_calibration_error(bins_before)
    loss_before = log_loss(found.truth, before, is_several=is_several)

    def measured(fitted: Calibration) -> tuple[Array, list[Bin], float, float]:
        after = fitted.apply(found.probabilities)
        bins = _bins(found, after)
        loss = log_loss(found.truth, after, is_several=is_several)
        return after, bins, expected_calibration_error(bins), loss

    fitted = fit(*given, is_several=is_several)
    after, bins_after, error_after, loss_after = measured(fitted)
    if fitted.temperature != 1 and (error_after > error_before or loss_after > loss_before):
        note = (
            f"left out: temperature {fitted.temperature:.2f} would give the other half calibration "
            f"error {error_after:.3f} for {error_before:.3f} and log loss {loss_after:.3f} for "
            f"{loss_before:.3f}"
        )
        fitted = fit(*given, is_several=is_several, temperature=1.0, note=note)
        after, bins_after, error_after, loss_after = measured(fitted)
    coverage, size = None, None
    if not is_several:
        inside = fitted.conformal_set(after)
        coverage = mean_with_interval(
            inside[np.arange(len(inside)), found.truth],
            None if groups is None else groups[rest],
            bounds=SHARE,
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


def _bins(found: OfLabel, probabilities: Array) -> list[Bin]:
    if found.truth.ndim == 2:  # each class is a decision, of confidence 0.5 to 1
        confidence = np.maximum(probabilities, 1 - probabilities).ravel()
        return reliability(confidence, (found.truth == found.predicted).ravel())
    return reliability(_of_predicted(probabilities, found), found.is_right)


def _of_predicted(probabilities: Array, found: OfLabel) -> Array:
    """The probability of each example's predicted class, which may not be the likeliest."""
    return np.asarray(np.take_along_axis(probabilities, found.predicted[:, None], axis=1)[:, 0])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if key != "confusion"}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
