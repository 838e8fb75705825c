"""Training losses for rare classes, in place of cross-entropy: focal, asymmetric, logit-adjusted.

    per_example = training_losses(schema, settings.training, labels, logits, log_priors)

They change the gradients of a training alone: an evaluation's loss stays that of ``losses``, so
that runs with different training losses can be compared. All arithmetic is in float32. Works
eagerly and traced.
"""

from __future__ import annotations

from types import MappingProxyType

import tensorflow as tf

from tf_image_classification.config import TrainingSettings
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.schema import EXPECTATION, MULTILABEL, SINGLE_LABEL
from tf_image_classification.optim.losses import Tensors, cross_entropy, label_losses, smoothed

FOCAL, ASYMMETRIC, LOGIT_ADJUSTED = "focal", "asymmetric", "logit_adjusted"
_TINY = 1e-12  # keeps the gradient of a power below 1 finite


def is_changed_by(label: Label, loss: str) -> bool:
    """Whether this training loss replaces the label's usual one.

    Focal takes softmax and multilabel cross-entropies, asymmetric multilabel ones alone,
    logit-adjusted softmax ones alone.

    Example:
        >>> is_changed_by(Label("tags", depth=3, kind="multilabel"), "logit_adjusted")
        False
    """
    is_softmax = label.kind == SINGLE_LABEL or label.coding == EXPECTATION
    is_multilabel = label.kind == MULTILABEL
    return {
        FOCAL: is_softmax or is_multilabel,
        ASYMMETRIC: is_multilabel,
        LOGIT_ADJUSTED: is_softmax,
    }.get(loss, False)


def training_losses(
    schema: LabelSchema,
    settings: TrainingSettings,
    labels: Tensors,
    logits: Tensors,
    log_priors: Tensors = MappingProxyType({}),
) -> dict[str, tf.Tensor]:
    """The training loss of each example by label name, as the setting ``loss`` names it.

    With targets y (smoothed by ``label_smoothing``), probabilities p and a label's classes c:

    * focal: sum over c of -y (1 - p)^gamma log p after a softmax; the same for y and 1 - y of each
      class of a multilabel (Lin et al., arXiv 1708.02002, equation 4, without the class weight
      alpha, for which there is ``class_weights``).
    * asymmetric: -y (1 - p)^gamma_pos log p - (1 - y) q^gamma_neg log(1 - q) with q = max(p - clip,
      0), the mean over c (Ridnik et al., arXiv 2009.14119, equations 5 to 7; they sum over c).
    * logit_adjusted: cross-entropy of logits + tau log(prior), with the class frequencies of the
      training set as prior (Menon et al., arXiv 2007.07314, equation 10). The model's own logits
      then rank classes as if all were equally frequent.

    Labels that the loss does not fit (``is_changed_by``) keep the loss of ``label_losses``.

    Args:
        schema: the labels.
        settings: loss and its hyperparameters, and those of ``label_losses``.
        labels: as for ``label_losses``.
        logits: as for ``label_losses``.
        log_priors: by name, float32 [depth]; for logit_adjusted.

    Returns:
        By name, float32 [B], 0 or more.

    Example:
        >>> from tf_image_classification import make_settings
        >>> schema = LabelSchema((Label("pet", depth=2),))
        >>> values = {"pet": tf.constant([0])}, {"pet": tf.constant([[0.0, 0.0]])}
        >>> settings = make_settings({"loss": "focal"}).training
        >>> training_losses(schema, settings, *values)["pet"].numpy().round(4)  # log(2) / 4
        array([0.1733], dtype=float32)
    """
    losses = label_losses(schema, settings, labels, logits)
    for label in schema:
        if not is_changed_by(label, settings.loss):
            continue
        wanted = smoothed(label, labels[label.name], settings.label_smoothing)
        prior = log_priors.get(label.name, 0.0)
        losses[label.name] = _loss(label, settings, wanted, logits[label.name], prior)
    return losses


def _loss(
    label: Label,
    settings: TrainingSettings,
    wanted: tf.Tensor,
    logits: tf.Tensor,
    log_prior: tf.Tensor,
) -> tf.Tensor:
    """One label's loss, [B], of targets and logits [B, depth]."""
    if settings.loss == LOGIT_ADJUSTED:
        return cross_entropy(wanted, logits + settings.logit_adjustment_tau * log_prior)
    if settings.loss == ASYMMETRIC:
        each = _binary(
            wanted,
            logits,
            settings.asymmetric_gamma_pos,
            settings.asymmetric_gamma_neg,
            settings.asymmetric_clip,
        )
        return tf.reduce_mean(each, axis=-1)
    gamma = settings.focal_gamma
    if label.kind == MULTILABEL:
        return tf.reduce_mean(_binary(wanted, logits, gamma, gamma, 0.0), axis=-1)
    log_p = tf.nn.log_softmax(logits)
    return -tf.reduce_sum(wanted * _power(-tf.math.expm1(log_p), gamma) * log_p, axis=-1)


def _binary(
    wanted: tf.Tensor, logits: tf.Tensor, gamma_pos: float, gamma_neg: float, clip: float
) -> tf.Tensor:
    """The loss of each class by itself, [B, depth]."""
    positive = _power(tf.sigmoid(-logits), gamma_pos) * tf.nn.softplus(-logits)
    p = tf.sigmoid(logits)
    if clip:
        p = tf.maximum(p - clip, 0.0)
        rest = -tf.math.log1p(-p)
    else:
        rest = tf.nn.softplus(logits)  # exact where p rounds to 1
    return wanted * positive + (1.0 - wanted) * _power(p, gamma_neg) * rest


def _power(base: tf.Tensor, exponent: float) -> tf.Tensor:
    power: tf.Tensor = tf.pow(tf.maximum(base, _TINY), exponent)
    return power
