"""The losses of a run: the spec's or the default by label kind, and their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.errors import ConfigError
from tf_image_classification.estimator_specs import own_losses
from tf_image_classification.labels import LabelSchema
from tf_image_classification.optim.long_tail_losses import LOGIT_ADJUSTED, training_losses
from tf_image_classification.optim.losses import label_losses
from tf_image_classification.workflows.setup.context import RunContext

Losses = Callable[[Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]


def make_losses(context: RunContext, schema: LabelSchema) -> Losses:
    """Labels and logits to per-example losses of an evaluation: the spec's, or the default."""

    def losses(
        labels: Mapping[str, tf.Tensor], logits: Mapping[str, tf.Tensor]
    ) -> Mapping[str, tf.Tensor]:
        own = own_losses(context.spec, schema, labels, logits)
        if own is not None:
            return own
        return label_losses(schema, context.settings.training, labels, logits)

    return losses


def make_training_losses(context: RunContext, train: BatchSource, schema: LabelSchema) -> Losses:
    """Labels and logits to per-example losses of a training: by ``loss`` and ``class_weights``.

    Raises:
        ConfigError: the classes have to be counted, but are not known before the training.
    """
    settings = context.settings.training
    weights, log_priors = {}, {}
    if settings.class_weights == "balanced":
        counts = _class_counts(train, schema, "class_weights balanced")
        weights = {name: balanced_weights(n) for name, n in counts.items()}
    if settings.loss == LOGIT_ADJUSTED:
        counts = _class_counts(train, schema, "loss logit_adjusted")
        log_priors = {name: log_frequencies(n) for name, n in counts.items()}

    def losses(
        labels: Mapping[str, tf.Tensor], logits: Mapping[str, tf.Tensor]
    ) -> Mapping[str, tf.Tensor]:
        values = own_losses(context.spec, schema, labels, logits)
        if values is None:
            values = training_losses(schema, settings, labels, logits, log_priors)
        return {
            name: loss * tf.gather(weights[name], tf.maximum(labels[name], 0))
            if name in weights
            else loss
            for name, loss in values.items()
        }

    return losses


def balanced_weights(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Inverse class frequencies; their mean over the examples is 1.

    As scikit-learn's ``class_weight="balanced"``: n / (classes · n_c).
    """
    num_present = max(1, int((counts > 0).sum()))
    weights: npt.NDArray[Any] = counts.sum() / (num_present * np.maximum(counts, 1))
    return weights.astype(np.float32)


def log_frequencies(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Logarithms of the class frequencies; a class without examples counts as one with one."""
    counts = np.maximum(counts, 1)
    frequencies: npt.NDArray[Any] = np.log(counts / counts.sum())
    return frequencies.astype(np.float32)


def _class_counts(
    train: BatchSource, schema: LabelSchema, option: str
) -> dict[str, npt.NDArray[Any]]:
    """Training examples by class, of each class label."""
    if train.table is None:
        raise ConfigError(
            f"{option} needs to count the classes before: use input_mode indexed, and no input_fn "
            "of the spec's own."
        )
    columns = {label: train.table.columns[label.name] for label in schema.class_labels}
    return {
        label.name: np.bincount(column.values[column.mask], minlength=label.depth)
        for label, column in columns.items()
    }


def log_variances_of(schema: LabelSchema) -> dict[str, keras.Variable]:
    """A trainable log variance per label, initially 0, for learned task weights.

    Raises:
        ConfigError: there is one label only, whose loss has nothing to be weighed against.
    """
    if len(schema.labels) < 2:
        raise ConfigError("task_weights learned has no effect with one label. Remove it.")
    return {
        label.name: keras.Variable(0.0, dtype="float32", name=f"log_variance_{label.name}")
        for label in schema
    }
