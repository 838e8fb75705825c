"""The arguments of metrics (eager tensors, arrays or lists), validated and as NumPy arrays.

n is the number of examples, 0 or more, D the number of classes. Examples of weight 0 are dropped
before their values are validated: they count nowhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.errors import SpecError

Array = npt.NDArray[Any]


def as_array(metric: str, what: str, value: Any) -> Array:
    """The value as an array of numbers; floats as float64.

    Args:
        metric: the metric's name, for messages.
        what: the argument's name, for messages.
        value: eager tensor, array or list.

    Raises:
        SpecError: it is a symbolic tensor, or not made of numbers.
    """
    check_eager(metric, what, value)
    if tf.is_tensor(value) and value.dtype.is_floating:
        value = tf.cast(value, tf.float64)  # bfloat16 has no numpy dtype of kind f
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{metric}: {what} cannot be read as numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise SpecError(
            f"{metric}: {what} has dtype {array.dtype}, expected numbers. Class names are class "
            "numbers by the time metric_ops sees them."
        )
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def check_eager(metric: str, what: str, value: Any) -> None:
    """Reject tensors without a value.

    Raises:
        SpecError: the value is a symbolic tensor.
    """
    if tf.is_symbolic_tensor(value) or type(value).__name__ == "KerasTensor":
        raise SpecError(
            f"{metric}: {what} is a symbolic tensor, which has no value yet. metric_ops is called "
            "eagerly, once for each evaluated batch: do not call it, or this metric, inside "
            "tf.function, Dataset.map or a Keras model."
        )


def class_rows_as_numbers(values: Array) -> Array:
    """One-hot rows [n, D] as class numbers [n]; other arrays unchanged.

    Example:
        >>> class_rows_as_numbers(np.array([[0, 1], [1, 0]])).tolist()
        [1, 0]
    """
    is_one_hot = values.ndim == 2 and values.shape[1] > 1
    if is_one_hot and ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all():
        return np.asarray(values.argmax(axis=1))
    return values


def rows(metric: str, weights: Any, **arguments: Any) -> tuple[list[Array], Array | None]:
    """Arguments of shape [n] and the weights, float64 [n] or None, without rows of weight 0.

    One-hot rows are converted to class numbers.

    Raises:
        SpecError: shapes differ, an argument is not [n], or a weight is negative or not finite.
    """
    arrays = [
        class_rows_as_numbers(as_array(metric, what, value)) for what, value in arguments.items()
    ]
    if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays):
        found = ", ".join(f"{w} {list(a.shape)}" for w, a in zip(arguments, arrays, strict=True))
        raise SpecError(
            f"{metric}: the shapes are {found}; expected [n], one number per example, or one-hot "
            "rows [n, D]. Nothing is broadcast; take a column with [:, i], or tf.squeeze(x, -1) "
            "for [n, 1]."
        )
    checked = _weights(metric, weights, len(arrays[0]))
    if checked is None:
        return arrays, None
    return [array[checked > 0] for array in arrays], checked[checked > 0]


def scored(
    metric: str, weights: Any, labels: Any, scores: Any
) -> tuple[Array, Array, Array | None]:
    """Class numbers int64 [n], scores float64 [n, D] and weights as ``rows`` gives them.

    Labels may be one-hot rows too.

    Raises:
        SpecError: as ``rows``, or a label is not one of the D classes.
    """
    numbers = class_rows_as_numbers(as_array(metric, "labels", labels))
    values = as_array(metric, "predictions", scores)
    if numbers.ndim != 1 or values.ndim != 2 or len(values) != len(numbers):
        raise SpecError(
            f"{metric}: labels have shape {list(numbers.shape)} and predictions "
            f"{list(values.shape)}, expected [n] and [n, D]: a number for each class, as in "
            'predictions[name + "_probabilities"].'
        )
    checked = _weights(metric, weights, len(numbers))
    if checked is not None:
        numbers, values, checked = numbers[checked > 0], values[checked > 0], checked[checked > 0]
    return classes(metric, "labels", numbers, values.shape[1]), values.astype(np.float64), checked


def _weights(metric: str, weights: Any, n: int) -> npt.NDArray[np.float64] | None:
    if weights is None:
        return None
    values = as_array(metric, "weights", weights).astype(np.float64)
    if values.shape != (n,):
        raise SpecError(
            f"{metric}: weights have shape {list(values.shape)}, expected [{n}], one per example."
        )
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise SpecError(
            f"{metric}: weight {np.flatnonzero(wrong)[0]} is {values[wrong][0]}, expected a finite "
            "number, 0 or more."
        )
    return values


def classes(metric: str, what: str, values: Array, num_classes: int | None) -> Array:
    """Class numbers as int64 [n].

    Args:
        metric: the metric's name, for messages.
        what: the argument's name, for messages.
        values: numbers [n]; booleans count as 0 and 1.
        num_classes: the numbers are below this; None: any whole number.

    Raises:
        SpecError: a value is not whole, or out of range.
    """
    with np.errstate(invalid="ignore"):  # NaN to int: caught by the comparison
        numbers = values.astype(np.int64)
    wrong = numbers != values
    if num_classes is not None:
        wrong |= (numbers < 0) | (numbers >= num_classes)
    if wrong.any():
        known = f" from 0 to {num_classes - 1}" if num_classes is not None else ""
        raise SpecError(
            f"{metric}: {what} hold {values[wrong][0]}, expected class numbers{known}. Predicted "
            "classes are in predictions[name], probabilities in predictions[name + "
            '"_probabilities"].'
        )
    return numbers


def tally(numbers: Array, weights: Array | None, length: int) -> Array:
    """The count, or total weight, of each number below ``length``, [length].

    Example:
        >>> tally(np.array([0, 2, 2]), None, 3).tolist()
        [1, 0, 2]
    """
    return np.bincount(numbers, weights=weights, minlength=length)


def ratio(part: Any, whole: Any) -> Any:
    """``part / whole``, element by element; NaN where the whole is 0.

    Example:
        >>> ratio(np.array([1, 0]), np.array([4, 0])).tolist()
        [0.25, nan]
    """
    whole = np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
