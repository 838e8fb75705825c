"""Logits and predictions by label, from the outputs of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_image_classification.batches import outputs_of
from tf_image_classification.errors import SpecError, counted
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.outputs import expected_key, logits_key, probabilities_key
from tf_image_classification.labels.schema import MULTILABEL, ORDINAL, THRESHOLDS

if TYPE_CHECKING:
    import tensorflow as tf


def logits_of(
    schema: LabelSchema, model: Callable[..., Any], images: tf.Tensor, *, training: bool
) -> dict[str, tf.Tensor]:
    """A model's logits by label for images [B, H, W, C], as ``split_logits``.

    Raises:
        SpecError: as ``split_logits``.
    """
    return split_logits(schema, outputs_of(model, images, training=training))


def split_logits(schema: LabelSchema, outputs: Any) -> dict[str, tf.Tensor]:
    """A model's outputs as float32 logits by label; works traced and eagerly.

    Args:
        schema: the labels.
        outputs: one tensor; a list or tuple in the order of the labels; a dictionary by label name.

    Returns:
        By label name, [B, ...] in each label's ``logits_shape``.

    Raises:
        SpecError: an output is missing, unknown or of another shape.
    """
    import tensorflow as tf  # late: importing a spec needs no TensorFlow

    logits = {}
    for label, output in zip(schema, _outputs_of(schema, outputs), strict=True):
        value = tf.cast(output, tf.float32)
        shape = value.shape
        if not label.has_classes and shape.rank == 2 and shape[1] == 1:
            value = value[:, 0]
        elif label.has_classes and shape[1:] != label.logits_shape:
            raise SpecError(
                f"The model's output for label {label.name!r} has shape {shape}, expected "
                f"[batch, {label.logits_shape[0]}]. {_layer_to_write(label, shape)}"
            )
        elif not label.has_classes and shape.rank != 1:
            raise SpecError(
                f"The model's output for the real-valued label {label.name!r} has shape {shape}, "
                "expected [batch] or [batch, 1]. End the model with keras.layers.Dense(1)."
            )
        logits[label.name] = value
    return logits


def _outputs_of(schema: LabelSchema, outputs: Any) -> list[Any]:
    """A model's outputs in the order of the labels."""
    names = schema.names
    if not isinstance(outputs, Mapping):
        found: list[Any] = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        if len(found) != len(names):
            raise SpecError(
                f"The model has {counted(len(found), 'output')}, but class_dict has "
                f"{counted(len(names), 'label')}. Return a dictionary with an output for each "
                f"label: {', '.join(names)}."
            )
        return found
    if set(outputs) != set(names):
        raise SpecError(
            f"The model's outputs are {', '.join(sorted(map(str, outputs)))}; expected one for "
            f"each label: {', '.join(names)}."
        )
    return [outputs[name] for name in names]


def _layer_to_write(label: Label, shape: tf.TensorShape) -> str:
    """Advice on the last layer of a model for a label with classes, whose output has a shape."""
    count = label.logits_shape[0]
    if shape.rank is not None and shape.rank > 2:
        return "Pool or flatten it first, e.g. with keras.layers.GlobalAveragePooling2D()."
    each = "threshold between classes" if label.coding == THRESHOLDS else "class"
    return f"End the model with keras.layers.Dense({count}): a logit for each {each}."


def predictions_from(schema: LabelSchema, logits: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The predictions of ``metric_ops`` from logits; works traced and eagerly.

    Args:
        schema: the labels.
        logits: those of ``split_logits``.

    Returns:
        By label name and prediction key, as for ``EstimatorSpec.metric_ops``. The class of an
        ordinal label is its median for thresholds, else the class nearest to the mean.
    """
    import tensorflow as tf  # late, as above

    predictions = {}
    for label in schema:
        value = logits[label.name]
        predictions[logits_key(label.name)] = value
        if not label.has_classes:
            predictions[label.name] = value
            continue
        if label.kind == MULTILABEL:
            probabilities = tf.sigmoid(value)
        elif label.kind == ORDINAL:
            probabilities = _ordinal_probabilities(label, value)
            predictions[expected_key(label.name)] = _expected(label, probabilities)
        else:
            probabilities = tf.nn.softmax(value)
        predictions[probabilities_key(label.name)] = probabilities
        is_softmax = label.kind not in (MULTILABEL, ORDINAL)
        predictions[label.name] = (
            tf.argmax(value, axis=-1) if is_softmax else predicted_classes(label, probabilities)
        )
    return predictions


def mean_logits(
    schema: LabelSchema, logits: Sequence[Mapping[str, tf.Tensor]]
) -> dict[str, tf.Tensor]:
    """The logits whose probabilities are the means of those of several models, by label.

    Regression values are averaged. Works traced and eagerly.

    Args:
        schema: the labels.
        logits: of each model, as ``split_logits`` gives them.

    Example:
        >>> import tensorflow as tf
        >>> schema = LabelSchema((Label("pet", depth=2),))
        >>> both = [{"pet": tf.math.log([[0.5, 0.5]])}, {"pet": tf.math.log([[0.1, 0.9]])}]
        >>> tf.exp(mean_logits(schema, both)["pet"]).numpy().round(3)
        array([[0.3, 0.7]], dtype=float32)
    """
    import tensorflow as tf  # late, as above

    means = {}
    for label in schema:
        values = tf.stack([each[label.name] for each in logits])  # [models, B, ...]
        count = float(len(logits))
        if not label.has_classes:
            means[label.name] = tf.reduce_mean(values, axis=0)
        elif label.has_softmax:
            all_logs = tf.nn.log_softmax(values)
            means[label.name] = tf.reduce_logsumexp(all_logs, axis=0) - tf.math.log(count)
        else:
            # With thresholds the probability to exceed class k is a product of sigmoids: P(above
            # k - 1) times that of the logit. The mean's logit is the ratio of the two means.
            before = tf.zeros_like(values)
            if label.coding == THRESHOLDS:
                before = tf.cumsum(tf.math.log_sigmoid(values), axis=-1, exclusive=True)
            above, below = (
                tf.reduce_logsumexp(before + tf.math.log_sigmoid(signed), axis=0)
                for signed in (values, -values)
            )
            means[label.name] = above - below
    return means


def predicted_classes(label: Label, probabilities: Any) -> Any:
    """The predicted classes for a label's probabilities [B, depth].

    Args:
        label: a label with classes.
        probabilities: a tensor, eager or traced, or an array; the result is of the same kind.

    Returns:
        Class numbers int64 [B], as in ``predictions_from``; for multilabel bool [B, depth].
    """
    if label.kind == MULTILABEL:
        return probabilities >= 0.5
    ops = _ops_of(probabilities)
    if label.kind != ORDINAL:
        return ops.argmax(probabilities, -1)
    if label.coding == THRESHOLDS:
        return ops.num_true(1.0 - ops.cumsum(probabilities, -1)[:, :-1] > 0.5)
    return ops.nearest(_expected(label, probabilities))


def _expected(label: Label, probabilities: Any) -> Any:
    """The mean class number, float32 [B]."""
    return _ops_of(probabilities).times(probabilities, np.arange(label.depth, dtype=np.float32))


@dataclasses.dataclass(frozen=True)
class _Ops:
    """The operations of ``predicted_classes`` on tensors or arrays."""

    argmax: Callable[[Any, int], Any]
    cumsum: Callable[[Any, int], Any]
    num_true: Callable[[Any], Any]
    nearest: Callable[[Any], Any]
    times: Callable[[Any, Any], Any]


def _ops_of(values: Any) -> _Ops:
    if isinstance(values, np.ndarray):
        return _Ops(
            np.argmax,
            np.cumsum,
            lambda are_true: are_true.sum(axis=-1, dtype=np.int64),
            lambda numbers: np.rint(numbers).astype(np.int64),
            np.matmul,
        )
    import tensorflow as tf  # late, as above

    return _Ops(
        tf.argmax,
        tf.cumsum,
        lambda are_true: tf.reduce_sum(tf.cast(are_true, tf.int64), axis=-1),
        lambda numbers: tf.cast(tf.round(numbers), tf.int64),
        tf.linalg.matvec,
    )


def _ordinal_probabilities(label: Label, logits: tf.Tensor) -> tf.Tensor:
    """Class probabilities of an ordinal label, float32 [B, depth]."""
    import tensorflow as tf  # late, as above

    if label.coding != THRESHOLDS:
        return tf.nn.softmax(logits)
    # P(above class k) is a product of sigmoids, in operations that LiteRT and ONNX have too.
    above = tf.exp(tf.cumsum(tf.math.log_sigmoid(logits), axis=-1))
    return tf.concat([tf.ones_like(above[:, :1]), above], -1) - tf.concat(
        [above, tf.zeros_like(above[:, :1])], -1
    )
