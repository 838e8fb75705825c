"""``StreamingMetric``, sums over some examples that merge into sums over all of them.

    first = StreamingMetric({"hits": 3, "count": 4}, lambda sums: sums["hits"] / sums["count"])
    first.merge(second).result()

A batch, a worker, a half of a resumed evaluation each give one; merging adds them up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.metric_inputs import as_array

Sums = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class StreamingMetric:
    """A metric as far as some examples go.

    Merging is associative and commutative: exactly for whole numbers (plain counts), to the
    rounding of float64 otherwise. So the result is that of all examples at once, however they were
    split into batches.

    Attributes:
        sums: what adds up over examples, int64 or float64 arrays of any shape; whole numbers and
            booleans become int64, other numbers float64. Plain arrays, so they can be saved;
            ``dataclasses.replace(metric, sums=saved)`` continues from them.
        compute: the sums to the metric's value, a number or an array.
        kind: what the metric is, with all its options; only metrics of one kind merge.

    Raises:
        SpecError: a sum is not made of numbers, or is a symbolic tensor.
    """

    sums: Sums
    compute: Callable[[Sums], Any]
    kind: str = "custom metric"

    def __post_init__(self) -> None:
        sums = {name: _as_sum(self.kind, name, value) for name, value in self.sums.items()}
        object.__setattr__(self, "sums", sums)

    def merge(self, other: StreamingMetric) -> StreamingMetric:
        """The metric over the examples of both.

        Raises:
            SpecError: the two are not the same metric with the same options and shapes.
        """
        ours, theirs = _described(self), _described(other)
        if ours != theirs:
            raise SpecError(
                f"Two parts of one metric differ: {ours} and {theirs}. Each batch must give the "
                "same metric with the same options; in metric_ops, let nothing depend on the batch."
            )
        sums = {name: value + other.sums[name] for name, value in self.sums.items()}
        return dataclasses.replace(self, sums=sums)

    def result(self) -> float | npt.NDArray[Any]:
        """The metric's value over the examples merged so far.

        NaN when there was no example to tell from (or only ones of weight 0); counts, such as a
        confusion matrix, are then 0.
        """
        value = np.asarray(self.compute(self.sums))
        return value if value.ndim else float(value)


def merge_all(
    batches: Iterable[Mapping[str, StreamingMetric]],
) -> dict[str, StreamingMetric]:
    """The metrics over the examples of all batches (or workers), by name.

    Args:
        batches: what ``metric_ops`` returned for each; may be empty, or one pass only.

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
                "streaming metric: one of tf_image_classification.metrics.streaming, such as "
                "streaming.accuracy(labels[name], predictions[name]), or a Keras metric through "
                "streaming.bind(metric, labels[name], predictions[name])."
            )


def _as_sum(kind: str, name: str, value: Any) -> npt.NDArray[Any]:
    array = as_array(kind, f"the sum {name!r}", value)
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def _described(metric: StreamingMetric) -> str:
    sums = ", ".join(f"{name} {list(value.shape)}" for name, value in sorted(metric.sums.items()))
    return f"{metric.kind} (sums: {sums})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
