"""Adapter for Keras metrics: their variables are the sums of a ``StreamingMetric``.

metrics.bind(keras.metrics.MeanIoU(num_classes=3), labels["pet"], predictions["pet"])
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.merging import StreamingMetric, Sums
from tf_image_classification.metrics.metric_inputs import Array, as_array

_EXAMPLES = "examples"
_found_additive: set[str] = set()

_Call = tuple[list[Any], dict[str, Any]]


def bind(metric: Any, *args: Any, **kwargs: Any) -> StreamingMetric:
    """A Keras metric over one batch, mergeable with those of other batches.

    The metric's variables must be sums over examples, which is checked on the first batch: those
    of all metrics of Keras are; a maximum, or a mean over batches, is not. The sums are float64 or
    whole numbers, so that merging adds no rounding to Keras's float32. NaN without examples.

    The metric's state is overwritten and reset.

    Args:
        metric: the Keras metric; a new one for each batch, or always the same.
        *args: arguments of ``update_state``, e.g. labels and predictions, with the examples along
            the first axis. Numbers and None are passed unchanged.
        **kwargs: the same by name, e.g. ``sample_weight``.

    Raises:
        SpecError: it is no Keras metric, its variables do not add up over examples, the arguments
            have different numbers of examples, or a tensor is symbolic.

    Example:
        >>> import keras
        >>> bind(keras.metrics.TruePositives(), [0, 1, 1], [0, 1, 0]).result()
        1.0
    """
    import keras  # late: Keras takes seconds to load, and the other metrics do not need it

    if not isinstance(metric, keras.metrics.Metric):
        raise SpecError(f"bind: got {metric!r}, expected a Keras metric object.")
    name = type(metric).__name__
    call = _checked_call(name, args, kwargs)
    num_examples = len(_arrays(call)[0])
    # Some metrics fail on an empty batch. A row of zeros creates their variables.
    zeros = _mapped(call, lambda array: np.zeros((1, *array.shape[1:]), array.dtype))
    parts = _update(metric, call if num_examples else zeros)
    if not num_examples:
        parts = [np.zeros_like(part) for part in parts]
    if not parts:
        raise SpecError(
            f"bind: {name} keeps no variables, so there is nothing to merge. Create its state with "
            "self.add_weight, or write the metric as a StreamingMetric."
        )
    settings = _settings(keras, metric)
    kind = f"Keras metric {name}" + (f" with configuration {settings}" if settings else "")
    if num_examples > 1 and not (settings and kind in _found_additive):
        _check_additive(metric, call, parts)
        if any(part.any() for part in parts):  # zeros are no evidence
            _found_additive.add(kind)
    sums = {f"variable_{i}": part for i, part in enumerate(parts)}
    sums[_EXAMPLES] = np.asarray(num_examples)
    return StreamingMetric(sums, functools.partial(_compute, metric), kind)


def _checked_call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Call:
    """The arguments of ``update_state``: those with examples as arrays, the others unchanged."""
    call = (
        [_readable(name, f"argument {i + 1}", value) for i, value in enumerate(args)],
        {key: _readable(name, key, value) for key, value in kwargs.items()},
    )
    shapes = [list(value.shape) for value in _arrays(call)]
    if len({shape[0] for shape in shapes}) != 1:
        raise SpecError(
            f"bind: {name} has arrays of shapes {shapes}, expected one or more, with the same "
            "number of examples along the first axis of each."
        )
    return call


def _arrays(call: _Call) -> list[Array]:
    args, kwargs = call
    return [value for value in (*args, *kwargs.values()) if _has_examples(value)]


def _mapped(call: _Call, change: Callable[[Array], Array]) -> _Call:
    """The call with each array of examples changed."""
    args, kwargs = call
    return (
        [change(value) if _has_examples(value) else value for value in args],
        {key: change(value) if _has_examples(value) else value for key, value in kwargs.items()},
    )


def _readable(name: str, what: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    array = as_array(f"bind: {name}", what, value)
    if not array.ndim:
        return value
    return array.astype(np.float32) if array.dtype.kind == "f" else array  # as Keras computes


def _has_examples(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim > 0


def _update(metric: Any, call: _Call) -> list[Array]:
    """The change of each variable by one update."""
    metric.reset_state()
    args, kwargs = call
    metric.update_state(*args, **kwargs)
    after = [np.asarray(variable) for variable in metric.variables]
    metric.reset_state()  # again: some metrics have no variables before their first update
    return [
        _widened(a) - _widened(np.asarray(v)) for a, v in zip(after, metric.variables, strict=True)
    ]


def _widened(array: Array) -> Array:
    return array.astype(np.int64 if array.dtype.kind in "biu" else np.float64)


def _check_additive(metric: Any, call: _Call, whole: Sequence[Array]) -> None:
    half = len(_arrays(call)[0]) // 2
    first = _update(metric, _mapped(call, lambda array: array[:half]))
    second = _update(metric, _mapped(call, lambda array: array[half:]))
    for variable, a, b, both in zip(metric.variables, first, second, whole, strict=True):
        scale = max(np.abs(p[np.isfinite(p)]).max(initial=0.0) for p in (a, b, both))
        if not np.allclose(a + b, both, rtol=0, atol=1e-4 * scale, equal_nan=True):
            raise SpecError(
                f"bind: {type(metric).__name__} cannot be merged over batches: its variable "
                f"{variable.name!r} after a whole batch is not the sum of those after its two "
                "halves. Its result would depend on the batch size. Use a metric of "
                "tf_image_classification.metrics, or one whose variables are sums over "
                "examples."
            )


def _settings(keras: Any, metric: Any) -> str:
    """A hash of the metric's configuration without its name; "" if it has none."""
    if type(metric).get_config is keras.metrics.MeanMetricWrapper.get_config:
        return ""  # it has a function: serializing a lambda warns, and does not identify it
    config = {key: value for key, value in metric.get_config().items() if key != "name"}
    text = json.dumps(config, sort_keys=True, default=repr)
    return f"{zlib.crc32(text.encode()):08x}"


def _compute(metric: Any, sums: Sums) -> Any:
    if not sums[_EXAMPLES]:
        return np.nan
    metric.reset_state()
    for i, variable in enumerate(metric.variables):
        variable.assign(np.asarray(variable) + sums[f"variable_{i}"])
    result = metric.result()
    metric.reset_state()
    if isinstance(result, Mapping):
        raise SpecError(
            f"bind: {type(metric).__name__} returns a dictionary of results "
            f"({', '.join(map(str, result))}), expected a number or an array. Use one metric for "
            "each."
        )
    return np.asarray(result)
