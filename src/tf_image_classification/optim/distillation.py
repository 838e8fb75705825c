"""The distillation loss: how far a model's predictions are from those of a teacher.

    per_example = distilled(schema, settings.training, losses, logits, teacher_logits)

All arithmetic is in float32. Works eagerly and traced.
"""

from __future__ import annotations

import tensorflow as tf

from tf_image_classification.config import TrainingSettings
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.optim.losses import Tensors


def can_be_distilled(label: Label) -> bool:
    """Whether a teacher's probabilities are a target for the label: softmax and multilabel ones.

    Example:
        >>> can_be_distilled(Label("size", kind="regression"))
        False
    """
    return label.has_classes and (label.has_softmax or label.kind == MULTILABEL)


def distilled(
    schema: LabelSchema,
    settings: TrainingSettings,
    losses: Tensors,
    logits: Tensors,
    teacher_logits: Tensors,
) -> dict[str, tf.Tensor]:
    """Losses in which the teacher's predictions replace a part of the labels, by label name.

    (1 - weight) times the loss of the labels plus weight times T² times the Kullback-Leibler
    divergence of the probabilities, both at temperature T; the factor T² keeps the gradients of
    both parts in proportion (Hinton et al., arXiv 1503.02531, section 2). Of multilabels the mean
    over the classes. Labels without such probabilities keep their loss.

    Args:
        schema: the labels.
        settings: distillation_temperature and distillation_weight.
        losses: of the labels, by name, float32 [B].
        logits: of the model that is trained, by name.
        teacher_logits: of the teacher, by name, in the same shapes.

    Example:
        >>> from tf_image_classification import make_settings
        >>> schema = LabelSchema((Label("pet", depth=2),))
        >>> settings = make_settings({"teacher": "runs/large"}).training
        >>> same = {"pet": tf.constant([[1.0, 2.0]])}
        >>> distilled(schema, settings, {"pet": tf.constant([3.0])}, same, same)["pet"].numpy()
        array([1.5], dtype=float32)
    """
    weight, t = settings.distillation_weight, settings.distillation_temperature
    found = dict(losses)
    for label in filter(can_be_distilled, schema):
        teacher = tf.stop_gradient(teacher_logits[label.name]) / t
        divergence = _divergence(label, teacher, logits[label.name] / t)
        found[label.name] = (1 - weight) * losses[label.name] + weight * t**2 * divergence
    return found


def _divergence(label: Label, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """The Kullback-Leibler divergence of the student's probabilities from the teacher's, [B]."""
    if label.kind == MULTILABEL:
        p = tf.sigmoid(teacher)
        each = p * (tf.math.log_sigmoid(teacher) - tf.math.log_sigmoid(student))
        each += (1 - p) * (tf.math.log_sigmoid(-teacher) - tf.math.log_sigmoid(-student))
        return tf.reduce_mean(each, axis=-1)
    logs = tf.nn.log_softmax(teacher)
    return tf.reduce_sum(tf.exp(logs) * (logs - tf.nn.log_softmax(student)), axis=-1)
