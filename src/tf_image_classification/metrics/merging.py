"""``StreamingMetric``: sums over some examples that merge into sums over all of them.

Each batch and each worker gives one, and merging adds them up. A metric that is no function of
sums, e.g. an area under a curve, stores the numbers of the examples as rows.

>>> first = mean_metric("accuracy", np.array([True, True, False, True]))
>>> first.merge(mean_metric("accuracy", np.array([False]))).result()
0.6
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.metric_inputs import as_array, ratio

Sums = dict[str, npt.NDArray[Any]]
Rows = dict[str, tuple[npt.NDArray[Any], ...]]

MAX_STORED = 2**25
"""Numbers of examples (128 MiB as float32) that are stored before they are summed up."""


@dataclasses.dataclass(frozen=True, eq=False)
class StreamingMetric:
    """A metric over some examples, which merges with those over other examples.

    Merging is associative and commutative: exactly for whole numbers (plain counts), to the
    rounding of float64 otherwise. So the result does not depend on the split into batches.

    Attributes:
        sums: sums over examples, int64 or float64 arrays of any shape; whole numbers and booleans
            become int64, other numbers float64. Plain arrays, so they can be saved;
            ``dataclasses.replace(metric, sums=saved)`` continues from them.
        compute: sums and rows by name to the metric's value, a number or an array.
        kind: the metric's name with all its options; only metrics of one kind merge.
        rows: arrays with an entry per example, in parts that merging concatenates; empty after
            the rows were summed up.
        summed: rows to approximate sums; used once the rows hold more than ``MAX_STORED`` numbers.
            None: rows are always stored.

    Raises:
        SpecError: a sum is not made of numbers, or is a symbolic tensor.
    """

    sums: Sums
    compute: Callable[[Sums], Any]
    kind: str = "custom metric"
    rows: Rows = dataclasses.field(default_factory=dict)
    summed: Callable[[Sums], Sums] | None = None

    def __post_init__(self) -> None:
        sums = {name: _as_sum(self.kind, name, value) for name, value in self.sums.items()}
        object.__setattr__(self, "sums", sums)

    @property
    def num_stored(self) -> int:
        """The number of numbers in the rows."""
        return sum(part.size for parts in self.rows.values() for part in parts)

    def without_rows(self) -> StreamingMetric:
        """The metric with its rows summed up, if it has ``summed``."""
        if self.summed is None or not self.rows:
            return self
        sums = _added(self.sums, self.summed(_joined(self.rows)))
        return dataclasses.replace(self, sums=sums, rows={})

    def within_limit(self) -> StreamingMetric:
        """The metric with its rows summed up if they hold more than ``MAX_STORED`` numbers."""
        return self.without_rows() if self.num_stored > MAX_STORED else self

    def merge(self, other: StreamingMetric) -> StreamingMetric:
        """The metric over the examples of both.

        Whether rows are stored depends on the number of all examples alone, so that the result
        does not depend on the split.

        Raises:
            SpecError: the two are not the same metric with the same options and shapes.
        """
        if bool(self.rows) != bool(other.rows):
            self, other = self.without_rows(), other.without_rows()
        ours, theirs = _described(self), _described(other)
        if ours != theirs:
            raise SpecError(
                f"Two parts of one metric differ: {ours} and {theirs}. Each batch must give the "
                "same metric with the same options; in metric_ops, let nothing depend on the batch."
            )
        rows = {name: parts + other.rows[name] for name, parts in self.rows.items()}
        merged = dataclasses.replace(self, sums=_added(self.sums, other.sums), rows=rows)
        return merged.within_limit()

    def result(self) -> float | npt.NDArray[Any]:
        """The metric's value over the examples merged so far.

        NaN without examples (or with weights of 0 only); counts, e.g. a confusion matrix, are then
        0.
        """
        value = np.asarray(self.compute(self.sums | _joined(self.rows)))
        return value if value.ndim else float(value)


def mean_metric(
    kind: str,
    values: npt.NDArray[Any],
    weights: npt.NDArray[Any] | None = None,
    *,
    is_root: bool = False,
) -> StreamingMetric:
    """The weighted mean of one number per example, or its square root.

    Args:
        kind: as ``StreamingMetric.kind``.
        values: [n]; booleans without weights are counted in whole numbers.
        weights: [n] or None.
        is_root: whether the result is the root of the mean.
    """
    if weights is None:
        is_bool = values.dtype == bool
        sums = {"total": values.sum(dtype=np.int64 if is_bool else np.float64)}
    else:
        sums = {"total": (values * weights).sum()}
    count = np.int64(len(values)) if weights is None else weights.sum()
    return StreamingMetric({**sums, "count": count}, _root if is_root else _mean, kind)


def _mean(sums: Sums) -> Any:
    return ratio(sums["total"], sums["count"])


def _root(sums: Sums) -> Any:
    return np.sqrt(_mean(sums))


def merge_all(
    batches: Iterable[Mapping[str, StreamingMetric]],
) -> dict[str, StreamingMetric]:
    """The metrics over the examples of all batches (or workers), by name.

    Args:
        batches: the results of ``metric_ops``; may be empty, or an iterator.

    Raises:
        SpecError: the names or the metrics differ between batches, or a value is no streaming
            metric.
    """
    merged: dict[str, StreamingMetric] | None = None
    for metrics in batches:
        _check_values(metrics)
        if merged is None:
            merged = dict(metrics)
            continue
        if set(merged) != set(metrics):
            raise SpecError(
                f"The metrics differ between batches: one has {_listed(merged)}, another "
                f"{_listed(metrics)}. metric_ops must return the same names for each batch."
            )
        merged = {name: _merge_named(name, part, metrics[name]) for name, part in merged.items()}
    return merged or {}


def _merge_named(name: str, a: StreamingMetric, b: StreamingMetric) -> StreamingMetric:
    try:
        return a.merge(b)
    except SpecError as error:
        raise SpecError(f"Metric {name!r}: {error}") from error


def _check_values(metrics: Mapping[str, Any]) -> None:
    for name, value in metrics.items():
        if not isinstance(value, StreamingMetric):
            raise SpecError(
                f"metric_ops gives a {type(value).__name__} for metric {name!r}, expected a "
                "streaming metric: one of tf_image_classification.metrics, e.g. "
                "metrics.accuracy(labels[name], predictions[name]), or a Keras metric through "
                "metrics.bind(metric, labels[name], predictions[name])."
            )


def _as_sum(kind: str, name: str, value: Any) -> npt.NDArray[Any]:
    array = as_array(kind, f"the sum {name!r}", value)
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def _added(a: Sums, b: Sums) -> Sums:
    return {**b, **{name: value + b[name] if name in b else value for name, value in a.items()}}


def _joined(rows: Rows) -> Sums:
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def _described(metric: StreamingMetric) -> str:
    sums = ", ".join(f"{name} {list(value.shape)}" for name, value in sorted(metric.sums.items()))
    rows = "".join(
        f", {name} [n{''.join(f', {size}' for size in parts[0].shape[1:])}]"
        for name, parts in sorted(metric.rows.items())
    )
    return f"{metric.kind} (sums: {sums}{rows})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
