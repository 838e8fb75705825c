"""The release gate: whether a claim about the second of two models is shown.

    found = judge(pair(a, b), make_claim(not_worse=0.01), slices=["camera"])
    found.is_shown, found.labels["kind"].overall.p_value

A claim is shown where the one-sided tests that it consists of reject at 5 % each. An equivalence
needs two of them (TOST), a claim about all slices all of theirs: since all must reject, the error
of the whole stays 5 % without a correction (intersection-union test, Berger 1982).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import ConfigError, UsageError, counted, did_you_mean
from tf_image_classification.evaluation.analysis import few_values, main_score
from tf_image_classification.evaluation.claims import (
    BETTER,
    EQUIVALENT,
    NOT_WORSE,
    Claim,
    check_for_fraction,
)
from tf_image_classification.evaluation.intervals import Interval
from tf_image_classification.evaluation.paired_fractions import PairedFractions
from tf_image_classification.evaluation.paired_intervals import (
    ALPHA,
    mean_difference,
    metric_difference,
)
from tf_image_classification.evaluation.pairing import LabelPair
from tf_image_classification.evaluation.power import Power, power_of
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import MULTILABEL, REGRESSION
from tf_image_classification.metrics.definitions import FRACTION, LabelRows, Metric, metrics_of

Array = npt.NDArray[Any]

MAX_SLICES = 100
"""Values of a column from which on it identifies examples instead of dividing them."""

_OTHER_NAMES = {
    "acc": "accuracy",
    "top_1": "accuracy",
    "top1": "accuracy",
    "top_5": "top_5_accuracy",
    "f1": "macro_f1",
    "f1_macro": "macro_f1",
    "f1_micro": "micro_f1",
    "f1_weighted": "weighted_f1",
    "precision_macro": "macro_precision",
    "auroc": "macro_auc",
    "roc_auc": "macro_auc",
    "auc": "macro_auc",
    "map": "mean_average_precision",
    "mae": "mean_absolute_error",
    "rmse": "root_mean_squared_error",
    "nll": "log_loss",
    "cross_entropy": "log_loss",
    "brier": "brier_score",
}
"""Names that other programs use, by which a metric is found too."""

_OF_PROBABILITIES = (
    "top_5_accuracy",
    "log_loss",
    "brier_score",
    "mean_absolute_error_of_expected",
)
_LARGEST_LOG_LOSS = -math.log(1.2e-7)


@dataclasses.dataclass(frozen=True)
class Tested:
    """The test of a claim on one set of examples.

    Attributes:
        name: "all examples", or the slice as ``column = value``.
        a: the metric of the first model.
        b: that of the second.
        difference: b minus a, with its 90 % interval: two one-sided ones of 95 %.
        p_value: the largest of the tests that the claim consists of; NaN where none can be made.
        is_shown: whether the claim is shown.
        reason: why not, or "".
        num_better: examples for which b is better; of a metric without a number per example, those
            that only b has right.
        num_worse: examples for which b is worse.
        power: what these examples can show; None without an interval.
    """

    name: str
    a: float
    b: float
    difference: Interval
    p_value: float
    is_shown: bool
    reason: str
    num_better: int
    num_worse: int
    power: Power | None


@dataclasses.dataclass(frozen=True)
class LabelGate:
    """The gate of one label.

    Attributes:
        metric: its name.
        higher_is_better: its direction; None where neither is better.
        claim: what is to be shown of all examples.
        slice_claim: what is to be shown of each slice.
        overall: the test on all examples.
        slices: on each slice, in the order of their names.
        notes: on classes that one model lacks, in sentences.
        method: the test, in words.
    """

    metric: str
    higher_is_better: bool | None
    claim: Claim
    slice_claim: Claim
    overall: Tested
    slices: Sequence[Tested]
    notes: Sequence[str]
    method: str

    @property
    def is_shown(self) -> bool:
        """Whether the claim is shown for all examples and for every slice."""
        return self.overall.is_shown and all(one.is_shown for one in self.slices)


@dataclasses.dataclass(frozen=True)
class Gate:
    """The verdict on a model that is to replace another.

    Attributes:
        claim: what is to be shown.
        labels: by label name.
    """

    claim: Claim
    labels: Mapping[str, LabelGate]

    @property
    def is_shown(self) -> bool:
        """Whether the claim is shown for every label."""
        return all(one.is_shown for one in self.labels.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values; undefined numbers are null."""
        labels = {
            name: {"is_shown": one.is_shown, **_plain(dataclasses.asdict(one))}
            for name, one in self.labels.items()
        }
        return {
            "claim": str(self.claim),
            "kind": self.claim.kind,
            "margin": self.claim.margin,
            "confidence": 1 - ALPHA,
            "is_shown": self.is_shown,
            "labels": labels,
        }


def judge(
    pairs: Mapping[str, LabelPair],
    claim: Claim,
    *,
    metric: str = "",
    slices: Sequence[str] = (),
    slice_margin: float | None = None,
) -> Gate:
    """Test a claim on the examples that two models have in common.

    Args:
        pairs: by label name.
        claim: what is to be shown.
        metric: name in ``metrics.definitions``, or LABEL/NAME; "": accuracy, exact match, or of a
            regression label the mean absolute error.
        slices: columns beside the labels, or a single-label label for its classes: the claim is to
            be shown for each of their values too.
        slice_margin: of the claim for slices; None: that of ``claim``.

    Raises:
        ConfigError: there is no such metric or column, or the margin does not fit the metric.
    """
    chosen = {
        name: found
        for name, one in pairs.items()
        if (found := _metric_of(one.label, metric)) is not None
    }
    if not chosen:
        known = sorted({m.name for one in pairs.values() for m in metrics_of(one.label)})
        raise UsageError(f"--metric {metric}: {did_you_mean(metric.rpartition('/')[2], known)}")
    kinds = {pairs[name].label.kind == REGRESSION for name in chosen}
    if len(kinds) > 1 and not metric:
        raise ConfigError(
            "The models have labels with classes and regression labels, whose margins have other "
            f"units. Name the metric: {', '.join(f'{n}/{m.name}' for n, m in chosen.items())}."
        )
    return Gate(
        claim,
        {
            name: _of_label(pairs[name], one, claim, slices, slice_margin)
            for name, one in chosen.items()
        },
    )


def _metric_of(label: Label, name: str) -> Metric | None:
    """The metric of a label with this name; None if it has none."""
    known = {one.name: one for one in metrics_of(label)}
    if not name:
        return next(
            known[each]
            for each in ("accuracy", "exact_match", "mean_absolute_error")
            if each in known
        )
    of_label, _, bare = name.rpartition("/")
    if of_label not in ("", label.name):
        return None
    plain = bare.strip().lower().replace("-", "_").replace(" ", "_")
    return known.get(_OTHER_NAMES.get(plain, plain))


def _of_label(
    found: LabelPair,
    metric: Metric,
    claim: Claim,
    slices: Sequence[str],
    slice_margin: float | None,
) -> LabelGate:
    slice_claim = claim if slice_margin is None else dataclasses.replace(claim, margin=slice_margin)
    _check_margins(metric, claim, slice_claim)
    test = _Test(metric, found.groups is not None)
    masks = _masks(found, slices)
    return LabelGate(
        metric.name,
        metric.higher_is_better,
        claim,
        slice_claim,
        test.tested("all examples", found, claim, np.ones(len(found.names), bool)),
        [test.tested(name, found, slice_claim, mask) for name, mask in masks.items()],
        found.notes,
        test.method(),
    )


def _check_margins(metric: Metric, claim: Claim, slice_claim: Claim) -> None:
    if metric.higher_is_better is None and claim.kind != EQUIVALENT:
        raise ConfigError(
            f"{metric.name} has no direction in which it is better. Use --equivalent."
        )
    if metric.statistic == FRACTION or (metric.per_example is None and metric.is_bounded):
        check_for_fraction(claim.kind, claim.margin, metric.name)
        check_for_fraction("slice_margin", slice_claim.margin, metric.name)


def _masks(found: LabelPair, columns: Sequence[str]) -> dict[str, Array]:
    """By name the examples of each slice.

    Raises:
        ConfigError: a column does not exist, or has a value for nearly every example.
    """
    masks = {}
    for column in columns:
        if column == found.label.name and found.label.is_class:
            names = np.array(found.label.named_classes(), object)
            texts = names[found.a.truth].astype(str)
        elif column in found.slices:
            texts = few_values(found.slices[column])
        else:
            known = [*found.slices, *([found.label.name] if found.label.is_class else [])]
            raise ConfigError(
                f"--slices: the evaluation set of A has no column {column!r}. "
                f"{did_you_mean(column, known)}"
            )
        values = sorted(set(texts.tolist()))
        if len(values) > MAX_SLICES:
            raise ConfigError(
                f"--slices: column {column!r} has {len(values)} values, at most {MAX_SLICES} are "
                "tested. Name a column that divides the examples."
            )
        masks |= {f"{column} = {value or '(empty)'}": texts == value for value in values}
    return masks


@dataclasses.dataclass(frozen=True)
class _Test:
    """The test of one metric.

    Attributes:
        metric: the metric.
        is_grouped: whether groups of examples are resampled.
    """

    metric: Metric
    is_grouped: bool

    def method(self) -> str:
        """The test in words."""
        unit = "groups" if self.is_grouped else "examples"
        if self.metric.statistic == FRACTION and not self.is_grouped:
            return "exact test of paired fractions (Tango's score)"
        if self._has_mean:
            return f"paired bootstrap-t over {unit}"
        return f"paired bootstrap of the metric over {unit}"

    @property
    def _has_mean(self) -> bool:
        return self.metric.per_example is not None and self.metric.statistic != "root of a mean"

    def tested(self, name: str, found: LabelPair, claim: Claim, mask: Array) -> Tested:
        """The test of a claim on some examples of a label."""
        label, metric = found.label, self.metric
        a, b = found.a.rows(mask), found.b.rows(mask)
        groups = None if found.groups is None else found.groups[mask]
        sign = -1 if metric.higher_is_better is False else 1
        of_a, of_b = (float(metric.of(label, rows).result()) for rows in (a, b))
        changes = _changes(label, metric, a, b) * sign
        better, worse = int((changes > 0).sum()), int((changes < 0).sum())
        count = len(a.truth)
        low, high, note, p_value = self._interval(label, a, b, groups, claim, sign)
        if math.isnan(of_b - of_a):
            note = f"{metric.name} is undefined on these examples"
        if note:
            low = high = p_value = math.nan
        difference = Interval(of_b - of_a, low, high, count, note)
        ends = (low, high) if sign > 0 else (-high, -low)
        is_shown = not note and _is_shown(claim, *ends) and not p_value > ALPHA
        power = None
        if not note:
            power = self._power(claim, (better, worse, count), high - low, count)
        reason = "" if is_shown else note or _reason(claim, *ends, metric)
        return Tested(
            name, of_a, of_b, difference, p_value, is_shown, reason, better, worse, power
        )

    def _interval(
        self,
        label: Label,
        a: LabelRows,
        b: LabelRows,
        groups: Array | None,
        claim: Claim,
        sign: int,
    ) -> tuple[float, float, str, float]:
        """Low and high end, why there are none, and the p-value; NaN except of the exact test."""
        metric = self.metric
        if not self._has_mean:
            return *metric_difference(label, metric, a, b, groups), math.nan
        assert metric.per_example is not None
        of_a, of_b = (metric.per_example(label, rows).astype(np.float64) for rows in (a, b))
        if metric.statistic != FRACTION or groups is not None:
            largest = _largest_change(label, metric, of_a, of_b)
            return *mean_difference(of_b - of_a, groups, largest=largest), math.nan
        outcome = PairedFractions(
            int((of_b > of_a).sum()), int((of_b < of_a).sum()), len(of_a)
        )
        p_values = []
        if claim.kind == BETTER:
            p_values.append(outcome.p_below(claim.margin))
        else:
            p_values.append(outcome.p_below(-claim.margin))
        if claim.kind == EQUIVALENT:
            p_values.append(outcome.p_above(claim.margin))
        return *outcome.interval(ALPHA), "", max(p_values)

    def _power(
        self, claim: Claim, changes: tuple[int, int, int], width: float, count: int
    ) -> Power:
        """By the interval's width; of ungrouped fractions by the number of changes."""
        from scipy import special  # late: it takes half a second

        better, worse, _ = changes
        if self.metric.statistic != FRACTION or self.is_grouped:
            deviation = width / 2 / float(special.ndtri(1 - ALPHA))
            return power_of(claim, variance=count * deviation**2, count=count, is_fraction=False)
        changed = better + worse
        high = 1.0
        if changed < count:
            high = float(special.betaincinv(changed + 1, count - changed, 1 - ALPHA))
        low = float(special.betaincinv(changed, count - changed + 1, ALPHA)) if changed else 0.0
        return power_of(
            claim, variance=max(changed, 1) / count, count=count, variances=(low, high)
        )


def _is_shown(claim: Claim, low: float, high: float) -> bool:
    """Whether an interval shows a claim; both in the direction in which more is better."""
    if claim.kind == EQUIVALENT:
        return -claim.margin < low and high < claim.margin
    return low > (claim.margin if claim.kind == BETTER else -claim.margin)


def _reason(claim: Claim, low: float, high: float, metric: Metric) -> str:
    """Why an interval does not show a claim."""
    unit = metric.name.replace("_", " ")
    if claim.kind == BETTER:
        if low <= 0:
            return f"a loss in {unit} of up to {-low:.4f} is not excluded"
        return f"a gain in {unit} of {low:.4f} only is certain"
    if claim.kind == NOT_WORSE or low <= -claim.margin:
        if high < -claim.margin:
            return f"B is worse: {unit} is lost by at least {-high:.4f}"
        return f"a loss in {unit} of up to {-low:.4f} is not excluded"
    if low > claim.margin:
        return f"B is better: {unit} is gained by at least {low:.4f}"
    return f"a gain in {unit} of up to {high:.4f} is not excluded"


def _changes(label: Label, metric: Metric, a: LabelRows, b: LabelRows) -> Array:
    """Each example's difference, b minus a, [n]."""
    per_example = metric.per_example
    if per_example is None:
        sign = -1 if metric.higher_is_better is False else 1
        _, of_a = main_score(label, a)  # type: ignore[arg-type]
        _, of_b = main_score(label, b)  # type: ignore[arg-type]
        return (of_b - of_a) * (sign if label.has_classes else -sign)
    return np.asarray(
        per_example(label, b).astype(np.float64) - per_example(label, a).astype(np.float64)
    )


def _largest_change(label: Label, metric: Metric, of_a: Array, of_b: Array) -> float:
    """The largest change of one example: of unbounded errors the largest error of either model."""
    if metric.statistic == FRACTION:
        return 1.0
    if metric.name == "brier_score":
        return 1.0 if label.kind == MULTILABEL else 2.0
    if metric.name == "log_loss":
        return _LARGEST_LOG_LOSS
    if label.has_classes:
        return float(label.depth - 1)
    return float(max(np.abs(of_a).max(), np.abs(of_b).max()))


def needs_probabilities(label: Label, name: str) -> bool:
    """Whether a metric of a label depends on more than the predicted class."""
    metric = _metric_of(label, name)
    return metric is not None and (bool(metric.curve) or name in _OF_PROBABILITIES)


def power_text(found: Tested, claim: Claim) -> str:
    """What the examples of a test can show, in a sentence; "" without power."""
    power = found.power
    if power is None:
        return ""
    text = (
        f"with {counted(power.count, 'example')} a difference of {power.detectable:.2g} can be told"
    )
    if power.needed is None:
        return text
    text += f"; for the margin {claim.margin:g} about {_rounded(power.needed):,} are needed"
    low, high = power.needed_low, power.needed_high
    if low is not None and high is not None and _rounded(low) != _rounded(high):
        text += f" ({_rounded(low):,} to {_rounded(high):,})"
    return text


def _rounded(count: int) -> int:
    """With two significant digits."""
    scale = 10 ** max(0, len(str(count)) - 2)
    return -(-count // scale) * scale


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
