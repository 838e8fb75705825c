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

from tf_image_classification.errors import ConfigError, UsageError, did_you_mean
from tf_image_classification.evaluation.analysis import few_values
from tf_image_classification.evaluation.claim_test import ClaimTest, Tested
from tf_image_classification.evaluation.claims import EQUIVALENT, Claim, check_for_fraction
from tf_image_classification.evaluation.paired_intervals import ALPHA
from tf_image_classification.evaluation.pairing import LabelPair
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import REGRESSION
from tf_image_classification.metrics.definitions import FRACTION, Metric, metrics_of

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
            "confidence": 1 - 2 * ALPHA,
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
        ConfigError: there is no such metric or column, the margin does not fit the metric, or one
            of the models is a cross-validation.
    """
    if any(any(one.num_folds) for one in pairs.values()):
        raise of_cross_validation("One of the two")
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


def of_cross_validation(name: str) -> ConfigError:
    """The error of a cross-validation where a model is expected."""
    return ConfigError(
        f"{name} is a cross-validation, which has a model for each fold and none that could "
        "replace another. Compare it without a gate, or train on the whole set and gate that model."
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
    test = ClaimTest(metric, found.groups is not None)
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
    masks: dict[str, Array] = {}
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


def needs_probabilities(label: Label, name: str) -> bool:
    """Whether a metric of a label depends on more than the predicted class."""
    metric = _metric_of(label, name)
    return metric is not None and (bool(metric.curve) or name in _OF_PROBABILITIES)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
