"""The loss of each label and their sum.

    logits = known_logits(schema, logits, present)
    per_example = label_losses(schema, settings.training, labels, logits)
    loss = total_loss(schema, per_example, present, counts)

B is the number of rows here: of one replica, or of one part of its batch. All arithmetic is in
float32. Works eagerly and traced.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tf_image_classification.config import TrainingSettings
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.schema import DISTRIBUTION, MULTILABEL, THRESHOLDS

Tensors = Mapping[str, tf.Tensor]


def known_logits(schema: LabelSchema, logits: Tensors, present: Tensors) -> dict[str, tf.Tensor]:
    """Logits with 0 where the label is missing, so that nothing there reaches loss or gradient.

    Taking a row out of the loss alone would keep a NaN: its gradient is multiplied by 0.

    Args:
        schema: the labels.
        logits: by name, float32 [B, ...] in each label's ``logits_shape``.
        present: by name, bool [B].
    """
    return {
        label.name: tf.where(
            present[label.name][:, tf.newaxis] if label.has_classes else present[label.name],
            logits[label.name],
            0.0,
        )
        for label in schema
    }


def label_losses(
    schema: LabelSchema, settings: TrainingSettings, labels: Tensors, logits: Tensors
) -> dict[str, tf.Tensor]:
    """The loss of each example, by label name.

    A class label has the cross-entropy of the softmax, against a target smoothed over all classes
    (Szegedy et al., arXiv 1512.00567, section 7); a real one the squared error or Huber's loss;
    one with several classes the mean over classes of the cross-entropy of each. An ordinal label
    has, by its coding, the sum over thresholds of the cross-entropy of being above it, given that
    it is reached; or the cross-entropy against the class or against a bell curve around it.

    Args:
        schema: the labels.
        settings: label_smoothing, regression_loss, huber_delta.
        labels: by name, integer [B] class numbers, float [B] values or float [B, depth]. Where a
            label is missing the number may be out of range; ``total_loss`` leaves its row out.
        logits: by name, float32 [B, ...] in each label's ``logits_shape``.

    Returns:
        By name, float32 [B], 0 or more.
    """
    return {
        label.name: _loss(label, settings, labels[label.name], logits[label.name])
        for label in schema
    }


def total_loss(
    schema: LabelSchema,
    per_example: Tensors,
    present: Tensors,
    counts: Tensors,
    log_variances: Tensors | None = None,
) -> tf.Tensor:
    """The sum over labels of weight times mean loss, as far as these rows contribute to it.

    With learned weights a label's mean loss L becomes exp(-s) L + s / 2, s being the logarithm of
    its variance (Kendall et al., arXiv 1705.07115, equation 7): a label whose loss stays large
    counts less, and the sum is no longer 0 or more.

    The rows of one global batch may lie on several replicas and in several parts. Each divides by
    the same count, so that adding up what this function gives for each is the loss of the batch.

    Args:
        schema: the labels, with their weights.
        per_example: by name, float32 [B], from ``label_losses``.
        present: by name, bool [B].
        counts: by name, scalar number of present examples in the whole global batch; where it is 0
            the label contributes 0.
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
        loss = tf.where(present[label.name], loss, 0.0)
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
        wanted = target * (1.0 - settings.label_smoothing) + settings.label_smoothing / 2
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=output)
        return tf.reduce_mean(each, axis=-1)
    if label.coding == THRESHOLDS:
        return _thresholds(target, output)
    if label.coding == DISTRIBUTION:
        distance = tf.range(label.depth, dtype=tf.float32) - tf.cast(target, tf.float32)[:, None]
        curve = tf.nn.softmax(-tf.square(distance / label.spread) / 2)
        return tf.nn.softmax_cross_entropy_with_logits(labels=curve, logits=output)
    return _cross_entropy(target, output, label.depth, settings.label_smoothing)


def _thresholds(target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """CORN's loss, [B]: threshold k is asked of the examples that are not below class k."""
    k = tf.range(logits.shape[1], dtype=target.dtype)
    is_above = tf.cast(target[:, None] > k, tf.float32)
    is_asked = tf.cast(target[:, None] >= k, tf.float32)
    each = tf.nn.sigmoid_cross_entropy_with_logits(labels=is_above, logits=logits)
    return tf.reduce_sum(is_asked * each, axis=-1)


def _cross_entropy(target: tf.Tensor, logits: tf.Tensor, depth: int, smoothing: float) -> tf.Tensor:
    """Cross-entropy, [B], of logits [B, D] against class numbers [B].

    A one-hot target accepts a garbage number where the label is missing; the sparse form of the
    operation would refuse it.
    """
    wanted = tf.one_hot(target, depth, dtype=tf.float32) * (1.0 - smoothing) + smoothing / depth
    loss: tf.Tensor = tf.nn.softmax_cross_entropy_with_logits(labels=wanted, logits=logits)
    return loss


def _regression(error: tf.Tensor, settings: TrainingSettings) -> tf.Tensor:
    """e², or Huber's loss: e²/2 up to delta, from there the straight line that continues it."""
    if settings.regression_loss == "mean_squared":
        return tf.square(error)
    # P. J. Huber, Robust Estimation of a Location Parameter, 1964. Written without a choice between
    # two branches, whose unused one can overflow and spoil the gradient.
    size = tf.abs(error)
    quadratic = tf.minimum(size, settings.huber_delta)
    return 0.5 * tf.square(quadratic) + settings.huber_delta * (size - quadratic)
