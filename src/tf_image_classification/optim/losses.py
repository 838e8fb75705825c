"""The loss of each label and their sum.

    per_example = label_losses(schema, settings.training, labels, logits, present)
    loss = total_loss(schema, per_example, present, counts)

B is the number of rows here: of one replica, or of one part of its batch. All arithmetic is in
float32, whatever the precision of the model. Works eagerly and traced.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tf_image_classification.config import TrainingSettings
from tf_image_classification.errors import SpecError, did_you_mean
from tf_image_classification.labels import Label, LabelSchema

Tensors = Mapping[str, tf.Tensor]


def label_losses(
    schema: LabelSchema,
    settings: TrainingSettings,
    labels: Tensors,
    logits: Tensors,
    present: Tensors | None = None,
) -> dict[str, tf.Tensor]:
    """The loss of each example, by label name.

    A class label has the cross-entropy of the softmax, against a target smoothed over all classes
    (Szegedy et al., arXiv 1512.00567, section 7); a real one the squared error or Huber's loss.

    Where a label is not present, loss and gradient are exactly 0, even if its value or its logits
    are out of range or NaN: the logits are replaced before the loss is computed, which stops the
    gradient, and the loss after it. Multiplying by 0 would keep a NaN.

    Args:
        schema: the labels.
        settings: label_smoothing, regression_loss, huber_delta.
        labels: by name, integer [B] class numbers or float [B] values.
        logits: by name, float [B, depth], or [B] or [B, 1] for a real label.
        present: by name, bool [B]; None: take every row as it is. Then a missing label's class
            number may still be out of range, for ``total_loss`` leaves its row out, but a NaN among
            values or logits would reach the gradient.

    Returns:
        By name, float32 [B], 0 or more.

    Raises:
        SpecError: a label is missing from the batch or from what the model returns, or has another
            shape than the schema says.
    """
    losses = {}
    for label in schema:
        target = _find(labels, label, "The batch")
        output = tf.cast(_find(logits, label, "The model"), tf.float32)
        _check_shapes(label, target, output)
        if not label.is_class:
            output = tf.reshape(output, [-1])
        if present is None:
            losses[label.name] = _loss(label, settings, target, output)
            continue
        known = _find(present, label, "The batch's masks")
        output = tf.where(known[:, tf.newaxis] if label.is_class else known, output, 0.0)
        losses[label.name] = tf.where(known, _loss(label, settings, target, output), 0.0)
    return losses


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


def _find(tensors: Tensors, label: Label, who: str) -> tf.Tensor:
    if label.name not in tensors:
        raise SpecError(
            f"{who} has nothing for label {label.name!r} of class_dict. "
            f"{did_you_mean(label.name, tensors)}"
        )
    return tf.convert_to_tensor(tensors[label.name])


def _check_shapes(label: Label, target: tf.Tensor, logits: tf.Tensor) -> None:
    """Refuse shapes that would broadcast to another loss; unknown dimensions pass."""
    if not target.shape.is_compatible_with([None]):
        raise SpecError(
            f"The batch holds label {label.name!r} with shape {target.shape}, expected [B], "
            + ("class numbers." if label.is_class else "one value an example.")
        )
    allowed = [[None, label.depth]] if label.is_class else [[None], [None, 1]]
    if not any(logits.shape.is_compatible_with(shape) for shape in allowed):
        wanted = f"[B, {label.depth}]" if label.is_class else "[B] or [B, 1]"
        raise SpecError(
            f"The model returns logits of shape {logits.shape} for label {label.name!r}, expected "
            f"{wanted}. Correct the model's last layer or the label's depth in class_dict."
        )
