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
from tf_image_classification.optim.losses import label_losses
from tf_image_classification.workflows.setup.context import RunContext


def make_losses(
    context: RunContext,
    schema: LabelSchema,
    class_weights: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Callable[..., Mapping[str, tf.Tensor]]:
    """Labels and logits to per-example losses: the spec's, or the default by label kind.

    With ``class_weights``, by label name, each example's loss is multiplied by its class's.
    """

    def losses(
        labels: Mapping[str, tf.Tensor], logits: Mapping[str, tf.Tensor]
    ) -> Mapping[str, tf.Tensor]:
        own = own_losses(context.spec, schema, labels, logits)
        if own is None:
            own = label_losses(schema, context.settings.training, labels, logits)
        return {
            name: loss * tf.gather(class_weights[name], tf.maximum(labels[name], 0))
            if class_weights and name in class_weights
            else loss
            for name, loss in own.items()
        }

    return losses


def balanced_weights(train: BatchSource, schema: LabelSchema) -> dict[str, npt.NDArray[Any]]:
    """Inverse class frequencies of each class label; their mean over the examples is 1.

    As scikit-learn's ``class_weight="balanced"``: n / (classes · n_c).

    Raises:
        ConfigError: the training labels are not known before the training.
    """
    if train.table is None:
        raise ConfigError(
            "class_weights balanced needs to count the classes before: use input_mode indexed, and "
            "no input_fn of the spec's own."
        )
    weights = {}
    for label in schema.class_labels:
        column = train.table.columns[label.name]
        counts = np.bincount(column.values[column.mask], minlength=label.depth)
        num_present = max(1, int((counts > 0).sum()))
        weights[label.name] = (counts.sum() / (num_present * np.maximum(counts, 1))).astype("f4")
    return weights


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
