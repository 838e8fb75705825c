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

Tensors = Mapping[str, tf.Tensor]


def known_logits(schema: LabelSchema, logits: Tensors, present: Tensors) -> dict[str, tf.Tensor]:
    """Logits with 0 where the label is missing, so that nothing there reaches loss or gradient.

    Taking a row out of the loss alone would keep a NaN: its gradient is multiplied by 0.

    Args:
        schema: the labels.
        logits: by name, float32 [B, depth] or [B].
        present: by name, bool [B].
    """
    return {
        label.name: tf.where(
            present[label.name][:, tf.newaxis] if label.is_class else present[label.name],
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
    (Szegedy et al., arXiv 1512.00567, section 7); a real one the squared error or Huber's loss.

    Args:
        schema: the labels.
        settings: label_smoothing, regression_loss, huber_delta.
        labels: by name, integer [B] class numbers or float [B] values. Where a label is missing
            the number may be out of range; ``total_loss`` leaves its row out.
        logits: by name, float32 [B, depth] or [B].

    Returns:
        By name, float32 [B], 0 or more.
    """
    return {
        label.name: _loss(label, settings, labels[label.name], logits[label.name])
        for label in schema
    }


def total_loss(
    schema: LabelSchema, per_example: Tensors, present: Tensors, counts: Tensors
) -> tf.Tensor:
    """The sum over labels of weight times mean loss, as far as these rows contribute to it.

    The rows of one global batch may lie on several replicas and in several parts. Each divides by
    the same count, so that adding up what this function gives for each is the loss of the batch.

    Args:
        schema: the labels, with their weights.
        per_example: by name, float32 [B], from ``label_losses``.
        present: by name, bool [B].
        counts: by name, scalar number of present examples in the whole global batch; where it is 0
            the label contributes 0.

    Returns:
        float32 scalar.
    """
    total = tf.zeros([], tf.float32)
    for label in schema:
        loss = tf.where(present[label.name], per_example[label.name], 0.0)
        count = tf.maximum(tf.cast(counts[label.name], tf.float32), 1.0)
        total += label.weight * tf.reduce_sum(loss) / count
    return total


def _loss(
    label: Label, settings: TrainingSettings, target: tf.Tensor, output: tf.Tensor
) -> tf.Tensor:
    """One label's loss, [B], of float32 logits [B, depth] or [B]."""
    if label.is_class:
        return _cross_entropy(target, output, label.depth, settings.label_smoothing)
    return _regression(output - tf.cast(target, tf.float32), settings)


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
