"""How good a model is, each number with its 95 % interval, from kept predictions alone.

    measures = measure(label, predictions.labels[label.name])
    measures.overall["accuracy"]        Interval(value, low, high, count)
    measures.of_classes["cat"]["recall"]

The numbers are scikit-learn's. Means over examples have the interval of ``intervals``; all others
the percentile bootstrap over 200 draws, within each class, or of whole groups where there are some.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.intervals import SHARE, Interval, mean_with_interval
from tf_image_classification.evaluation.predictions import OfLabel
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import ORDINAL, SEVERAL

Array = npt.NDArray[Any]
_NUM_DRAWS = 200
_MOST_FOR_CURVES = 200_000  # examples times classes; beyond, areas under curves have no interval
_TOP = 5
_CUMULATIVE = (1, 2, 5)
_LEAST = 1e-12
_ENDS = (2.5, 97.5)


@dataclasses.dataclass(frozen=True)
class Measures:
    """The numbers of one label.

    Attributes:
        overall: by name.
        of_classes: by class and name; empty of a real value.
        confusion: int64 [D, D], rows are true classes; None where an example has no one class.
    """

    overall: Mapping[str, Interval]
    of_classes: Mapping[str, Mapping[str, Interval]]
    confusion: npt.NDArray[np.int64] | None = None


def measure(label: Label, of_label: OfLabel, groups: Array | None = None) -> Measures:
    """All numbers of a label, over the examples whose label is known.

    Args:
        label: the label.
        of_label: truth and predictions.
        groups: [n], whose examples are drawn together, such as people; None: each by itself.
    """
    known = of_label.known
    groups = None if groups is None else np.asarray(groups)[known]
    found = of_label.rows(known)
    if not len(found.truth):
        return Measures({}, {})
    if not label.has_classes:
        return Measures(_of_values(found.truth, found.predicted, groups), {})
    if label.kind == SEVERAL:
        return _of_several(label, found, groups)
    return _of_class(label, found, groups)


def _of_values(truth: Array, predicted: Array, groups: Array | None) -> dict[str, Interval]:
    from sklearn.metrics import r2_score  # late: it takes a second

    errors = predicted - truth
    overall = {
        "mean_absolute_error": mean_with_interval(np.abs(errors), groups),
        "root_mean_squared_error": _root(mean_with_interval(errors**2, groups)),
        "bias": mean_with_interval(errors, groups),
    }
    if len(truth) > 1:
        overall["r2"] = _drawn(
            lambda weights: {"r2": r2_score(truth, predicted, sample_weight=weights)},
            np.zeros(len(truth), int),
            groups,
        )["r2"]
    return overall


def _root(interval: Interval) -> Interval:
    value, low, high = np.sqrt([interval.value, interval.low, interval.high]).tolist()
    return Interval(value, low, high, interval.count)


def _of_class(label: Label, found: OfLabel, groups: Array | None) -> Measures:
    truth, predicted, probabilities = found.truth, found.predicted, found.probabilities
    exact = np.clip(probabilities.astype(np.float64), _LEAST, 1.0)
    is_class = truth[:, None] == np.arange(label.depth)
    overall = {"accuracy": mean_with_interval(found.is_right, groups, bounds=SHARE)}
    if label.depth > _TOP:
        top = np.argsort(-probabilities, axis=1, kind="stable")[:, :_TOP]
        overall[f"top_{_TOP}_accuracy"] = mean_with_interval(
            (top == truth[:, None]).any(axis=1), groups, bounds=SHARE
        )
    overall |= {
        "log_loss": mean_with_interval(-np.log(exact[np.arange(len(truth)), truth]), groups),
        "brier_score": mean_with_interval(((exact - is_class) ** 2).sum(axis=1), groups),
    }
    if label.kind == ORDINAL:
        errors = (predicted - truth).astype(np.float64)
        overall |= {
            "mean_absolute_error": mean_with_interval(np.abs(errors), groups),
            "root_mean_squared_error": _root(mean_with_interval(errors**2, groups)),
            "one_off": mean_with_interval(np.abs(errors) <= 1, groups, bounds=SHARE),
        }
        overall |= {
            f"within_{k}": mean_with_interval(np.abs(errors) <= k, groups, bounds=SHARE)
            for k in _CUMULATIVE[1:]
            if k < label.depth
        }
    drawn = _drawn(
        lambda weights: _class_scores(label, truth, predicted, probabilities, weights),
        truth,
        groups,
    )
    overall |= {name: value for name, value in drawn.items() if ":" not in name}
    confusion = np.bincount(truth * label.depth + predicted, minlength=label.depth**2)
    confusion = confusion.reshape([label.depth, label.depth])
    return Measures(overall, _by_class(label, drawn, is_class.sum(axis=0)), confusion)


def _of_several(label: Label, found: OfLabel, groups: Array | None) -> Measures:
    exact = np.clip(found.probabilities.astype(np.float64), _LEAST, 1 - _LEAST)
    losses = -np.where(found.truth > 0, np.log(exact), np.log1p(-exact))
    overall = {
        "exact_match": mean_with_interval(found.is_right, groups, bounds=SHARE),
        "log_loss": mean_with_interval(losses.mean(axis=1), groups),
        "brier_score": mean_with_interval(((exact - found.truth) ** 2).mean(axis=1), groups),
    }
    drawn = _drawn(
        lambda weights: _class_scores(
            label, found.truth, found.predicted, found.probabilities, weights
        ),
        np.zeros(len(found.truth), int),
        groups,
    )
    overall |= {name: value for name, value in drawn.items() if ":" not in name}
    return Measures(overall, _by_class(label, drawn, found.truth.sum(axis=0)))


def _by_class(
    label: Label, drawn: Mapping[str, Interval], support: Array
) -> dict[str, dict[str, Interval]]:
    """Intervals called "name:k", by class; each counts the class's own examples."""
    found: dict[str, dict[str, Interval]] = {name: {} for name in label.named_classes()}
    names = label.named_classes()
    for key, value in drawn.items():
        name, colon, k = key.partition(":")
        if colon:
            found[names[int(k)]][name] = dataclasses.replace(value, count=int(support[int(k)]))
    return found


def _class_scores(
    label: Label, truth: Array, predicted: Array, probabilities: Array, weights: Array
) -> dict[str, float]:
    """Scikit-learn's scores of weighted examples; those of one class are called "name:k"."""
    from sklearn import metrics  # late: it takes a second

    is_several = truth.ndim == 2
    classes = list(range(label.depth))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, labels=classes, sample_weight=weights, zero_division=np.nan
    )
    is_class = truth if is_several else truth[:, None] == np.arange(label.depth)
    support = (is_class * weights[:, None]).sum(axis=0)
    present = support > 0
    occurs = present | ~np.isnan(precision)  # in truth or predictions
    f1, precision_or_0 = (np.where(occurs & np.isnan(x), 0.0, x) for x in (f1, precision))
    scores = {
        "macro_precision": precision_or_0[occurs].mean(),
        "macro_f1": f1[occurs].mean(),
        "weighted_f1": float((f1[present] * support[present]).sum() / support[present].sum()),
    }
    scores["macro_recall" if is_several else "balanced_accuracy"] = recall[present].mean()
    scores |= {f"precision:{k}": precision[k] for k in classes}
    scores |= {f"recall:{k}": recall[k] if present[k] else np.nan for k in classes}
    scores |= {f"f1:{k}": f1[k] if present[k] else np.nan for k in classes}
    if probabilities.size <= _MOST_FOR_CURVES or (weights == 1).all():
        areas, averages = np.full(label.depth, np.nan), np.full(label.depth, np.nan)
        others = ((is_class == 0) * weights[:, None]).sum(axis=0)
        told = np.flatnonzero(present & (others > 0))
        if len(told):
            columns = told if len(told) > 1 else told[0]  # one column is flat
            pair, given = is_class[:, columns], probabilities[:, columns]
            how: dict[str, Any] = {"average": None, "sample_weight": weights}
            areas[told] = metrics.roc_auc_score(pair, given, **how)
            averages[told] = metrics.average_precision_score(pair, given, **how)
        if not np.isnan(areas).all():
            scores |= {
                "macro_auc": float(np.nanmean(areas)),
                "mean_average_precision": float(np.nanmean(averages)),
            }
        scores |= {f"auc:{k}": areas[k] for k in classes}
        scores |= {f"average_precision:{k}": averages[k] for k in classes}
    return scores


def _drawn(scores: Any, strata: Array, groups: Array | None) -> dict[str, Interval]:
    """Each score with its interval, over draws with replacement.

    Args:
        scores: weights [n] to numbers by name.
        strata: [n], within which examples are drawn, so that each keeps its share.
        groups: [n], drawn whole instead.
    """
    count = len(strata)
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that a draw leaves out: NaN, as it should be
        values = scores(np.ones(count))
        draws = [scores(weights) for weights in _weights(random, strata, groups)]
    found = {}
    for name, value in values.items():
        drawn = np.array([draw.get(name, np.nan) for draw in draws])
        drawn = drawn[~np.isnan(drawn)]
        low, high = np.percentile(drawn, _ENDS) if len(drawn) > 1 else (np.nan, np.nan)
        found[name] = Interval(float(value), float(low), float(high), count)
    return found


def _weights(random: np.random.Generator, strata: Array, groups: Array | None) -> Any:
    if groups is not None:
        names, places = np.unique(groups, return_inverse=True)
        for _ in range(_NUM_DRAWS):
            drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)))
            yield drawn[places].astype(np.float64)
        return
    members = [np.flatnonzero(strata == k) for k in np.unique(strata)]
    for _ in range(_NUM_DRAWS):
        weights = np.zeros(len(strata))
        for of_stratum in members:
            size = len(of_stratum)
            weights[of_stratum] = random.multinomial(size, np.full(size, 1 / size))
        yield weights
