"""The loss of each label and their sum.

    logits = known_logits(schema, logits, mask)
    per_example = label_losses(schema, settings.training, labels, logits)
    loss = total_loss(schema, per_example, mask, counts)

B is the number of rows of one replica, or of one accumulation part of its batch. All arithmetic is
in float32. Works eagerly and traced. The losses that ``--loss`` can name beside these are in
``long_tail_losses``.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tf_image_classification.config import TrainingSettings
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.schema import DISTRIBUTION, MULTILABEL, THRESHOLDS

Tensors = Mapping[str, tf.Tensor]


def known_logits(schema: LabelSchema, logits: Tensors, mask: Tensors) -> dict[str, tf.Tensor]:
    """Logits with 0 where the label is missing, so that these rows affect no loss or gradient.

    Masking the loss alone would propagate a NaN: 0 times NaN is NaN in the gradient.

    Args:
        schema: the labels.
        logits: by name, float32 [B, ...] in each label's ``logits_shape``.
        mask: by name, the mask of labelled rows, bool [B].

    Example:
        >>> schema = LabelSchema((Label("size", kind="regression"),))
        >>> given = {"size": tf.constant([2.0, float("nan")])}
        >>> known_logits(schema, given, {"size": tf.constant([True, False])})["size"].numpy()
        array([2., 0.], dtype=float32)
    """
    return {
        label.name: tf.where(
            mask[label.name][:, tf.newaxis] if label.has_classes else mask[label.name],
            logits[label.name],
            0.0,
        )
        for label in schema
    }


def label_losses(
    schema: LabelSchema, settings: TrainingSettings, labels: Tensors, logits: Tensors
) -> dict[str, tf.Tensor]:
    """The loss of each example, by label name.

    * single-label: softmax cross-entropy with label smoothing (Szegedy et al., arXiv 1512.00567,
      section 7).
    * multilabel: mean binary cross-entropy over the classes.
    * regression: squared error or Huber loss.
    * ordinal, by coding: "thresholds", the sum of conditional binary cross-entropies (CORN, Shi et
      al., arXiv 2111.08851); "expectation", softmax cross-entropy; "distribution", cross-entropy
      against a discretised normal distribution around the label (Geng, arXiv 1408.6027).

    Args:
        schema: the labels.
        settings: label_smoothing, regression_loss, huber_delta.
        labels: by name, integer [B] class numbers, float [B] values or float [B, depth]. Where a
            label is missing the number may be out of range; ``total_loss`` masks its row.
        logits: by name, float32 [B, ...] in each label's ``logits_shape``.

    Returns:
        By name, float32 [B], 0 or more.

    Example:
        >>> from tf_image_classification import make_settings
        >>> schema = LabelSchema((Label("size", kind="regression"),))
        >>> values = {"size": tf.constant([1.0])}, {"size": tf.constant([3.0])}
        >>> label_losses(schema, make_settings({}).training, *values)["size"].numpy()
        array([4.], dtype=float32)
    """
    return {
        label.name: _loss(label, settings, labels[label.name], logits[label.name])
        for label in schema
    }


def total_loss(
    schema: LabelSchema,
    per_example: Tensors,
    mask: Tensors,
    counts: Tensors,
    log_variances: Tensors | None = None,
) -> tf.Tensor:
    """The contribution of these rows to the sum over labels of weight times mean loss.

    With learned weights a label's mean loss L becomes exp(-s) L + s / 2, where s is the logarithm
    of its variance (Kendall et al., arXiv 1705.07115, equation 7): a label with a large loss gets
    a small weight, and the sum can be negative.

    The rows of a global batch are distributed over replicas and accumulation parts. Each divides
    by the same count, so that the contributions add up to the loss of the batch.

    Args:
        schema: the labels, with their weights.
        per_example: by name, float32 [B], from ``label_losses``.
        mask: by name, the mask of labelled rows, bool [B].
        counts: by name, scalar number of labelled examples in the global batch; a label with 0 of
            them contributes 0.
        log_variances: by name, scalar s where the weights are learned.

    Returns:
        float32 scalar.
    """
    total = tf.zeros([], tf.float32)
    for label in schema:
        loss = per_example[label.name]
        if log_variances:
            s = log_variances[label.name]
            loss = tf.exp(-s) * loss + s / 2
        loss = tf.where(mask[label.name], loss, 0.0)
        count = tf.maximum(tf.cast(counts[label.name], tf.float32), 1.0)
        total += label.weight * tf.reduce_sum(loss) / count
    return total


def _loss(
    label: Label, settings: TrainingSettings, target: tf.Tensor, output: tf.Tensor
) -> tf.Tensor:
    """One label's loss, [B], of float32 logits."""
    if not label.has_classes:
        return _regression(output - tf.cast(target, tf.float32), settings)
    if label.kind == MULTILABEL:
        wanted = smoothed(label, target, settings.label_smoothing)
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=output)
        return tf.reduce_mean(each, axis=-1)
    if label.coding == THRESHOLDS:
        return _thresholds(target, output)
    if label.coding == DISTRIBUTION:
        distance = tf.range(label.depth, dtype=tf.float32) - tf.cast(target, tf.float32)[:, None]
        curve = tf.nn.softmax(-tf.square(distance / label.spread) / 2)
        return tf.nn.softmax_cross_entropy_with_logits(labels=curve, logits=output)
    return cross_entropy(smoothed(label, target, settings.label_smoothing), output)


def smoothed(label: Label, target: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Smoothed targets, float32 [B, depth], of class numbers [B] or multilabel rows [B, depth].

    A one-hot target accepts any number where the label is missing; the sparse form of the operation
    raises an error.
    """
    if label.kind == MULTILABEL:
        return target * (1.0 - smoothing) + smoothing / 2
    one_hot = tf.one_hot(target, label.depth, dtype=tf.float32)
    return one_hot * (1.0 - smoothing) + smoothing / label.depth


def cross_entropy(wanted: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy, [B], of logits [B, D] against probabilities [B, D]."""
    loss: tf.Tensor = tf.nn.softmax_cross_entropy_with_logits(labels=wanted, logits=logits)
    return loss


def _thresholds(target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The CORN loss, [B]: threshold k is trained on examples of class k or above."""
    k = tf.range(logits.shape[1], dtype=target.dtype)
    is_above = tf.cast(target[:, None] > k, tf.float32)
    is_trained = tf.cast(target[:, None] >= k, tf.float32)
    each = tf.nn.sigmoid_cross_entropy_with_logits(labels=is_above, logits=logits)
    return tf.reduce_sum(is_trained * each, axis=-1)


def _regression(error: tf.Tensor, settings: TrainingSettings) -> tf.Tensor:
    """e², or the Huber loss: e²/2 up to delta, beyond it the tangent line."""
    if settings.regression_loss == "mean_squared":
        return tf.square(error)
    # P. J. Huber, Robust Estimation of a Location Parameter, 1964. Without tf.where, whose unused
    # branch can overflow and make the gradient NaN.
    size = tf.abs(error)
    quadratic = tf.minimum(size, settings.huber_delta)
    return 0.5 * tf.square(quadratic) + settings.huber_delta * (size - quadratic)
