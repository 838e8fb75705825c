"""The metrics to use in ``metric_ops``, under the names known from ``tf.metrics``.

    from tf_image_classification.metrics import streaming

    def metric_ops(self, labels, predictions):
        return {"accuracy": streaming.accuracy(labels["pet"], predictions["pet"])}

Each function takes one batch, eagerly, and returns a ``StreamingMetric``; those of all batches are
merged, so that every example counts once whatever the batch size. Nothing is broadcast. Any metric
of Keras joins in through ``bind``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tf_image_classification.batches import probabilities_key
from tf_image_classification.errors import ConfigError
from tf_image_classification.labels import LabelSchema
from tf_image_classification.metrics.class_metrics import (
    accuracy,
    confusion_matrix,
    f1,
    log_loss,
    mean_per_class_accuracy,
    precision,
    recall,
    top_k,
)
from tf_image_classification.metrics.curves import auc
from tf_image_classification.metrics.keras_adapter import bind
from tf_image_classification.metrics.merging import StreamingMetric, merge_all
from tf_image_classification.metrics.value_metrics import (
    mean,
    mean_absolute_error,
    mean_squared_error,
    root_mean_squared_error,
)

__all__ = [
    "StreamingMetric",
    "accuracy",
    "auc",
    "bind",
    "confusion_matrix",
    "default_metrics",
    "f1",
    "higher_is_better",
    "log_loss",
    "mean",
    "mean_absolute_error",
    "mean_per_class_accuracy",
    "mean_squared_error",
    "merge_all",
    "precision",
    "recall",
    "root_mean_squared_error",
    "top_k",
]


RESERVED_NAMES = frozenset({"loss", "num_examples", "step", "time"})
"""What the record of an evaluation holds besides the metrics, which must have other names."""


def default_metrics(
    schema: LabelSchema, labels: Mapping[str, Any], predictions: Mapping[str, Any]
) -> dict[str, StreamingMetric]:
    """Sensible metrics of one batch, for a spec whose ``metric_ops`` names none.

    Args:
        schema: the labels.
        labels: by label name, as ``metric_ops`` gets them.
        predictions: by name, as ``metric_ops`` gets them.

    Returns:
        For a class label accuracy, top_5_accuracy (with more than 5 classes), macro_f1 and
        log_loss; for a real one mean_absolute_error and root_mean_squared_error. With several
        labels the names begin with the label's, as in ``age/accuracy``.

    Raises:
        SpecError: what the arguments hold does not fit the schema.
    """
    found = {}
    for label in schema:
        true, predicted = labels[label.name], predictions[label.name]
        if label.is_class:
            probabilities = predictions[probabilities_key(label.name)]
            metrics = {"accuracy": accuracy(true, predicted)}
            if label.depth > 5:
                metrics["top_5_accuracy"] = top_k(true, probabilities, k=5)
            metrics["macro_f1"] = f1(true, predicted, num_classes=label.depth, average="macro")
            metrics["log_loss"] = log_loss(true, probabilities)
        else:
            metrics = {
                "mean_absolute_error": mean_absolute_error(true, predicted),
                "root_mean_squared_error": root_mean_squared_error(true, predicted),
            }
        prefix = f"{label.name}/" if len(schema.labels) > 1 else ""
        found.update({prefix + name: metric for name, metric in metrics.items()})
    return found


# Words of metric names; _TURNS_ROUND are those that can turn another one's meaning round.
# fmt: off
_HIGHER = {
    "acc", "accuracy", "agreement", "ap", "auc", "aucpr", "aucroc", "auprc", "auroc",
    "correct", "dice", "f1", "fbeta", "fscore", "iou", "jaccard", "kappa", "likelihood",
    "map", "mcc", "miou", "precision", "r2", "recall", "sensitivity", "similarity",
    "specificity", "top1", "top5", "true",
}
_LOWER = {
    "bce", "brier", "cce", "crossentropy", "deviation", "deviance", "distance",
    "divergence", "ece", "entropy", "err", "error", "errors", "false", "hinge", "kl",
    "loss", "losses", "mae", "mape", "mce", "mse", "msle", "nll", "perplexity", "rmse",
    "wer", "wrong",
}
_TURNS_ROUND = {
    "delta", "difference", "drop", "gap", "inverse", "minus", "neg", "negative", "ratio",
    "std", "variance",
}
# fmt: on


def higher_is_better(metric_name: str) -> bool:
    """Whether more of a metric is better, told from the words of its name.

    A label's name before a slash does not count.

    Raises:
        ConfigError: the name does not tell.

    Example:
        >>> higher_is_better("age/mean_absolute_error")
        False
    """
    words = set(re.split(r"[^a-z0-9]+", metric_name.rpartition("/")[2].lower()))
    is_higher, is_lower = bool(words & _HIGHER), bool(words & _LOWER)
    if is_higher == is_lower or words & _TURNS_ROUND:
        raise ConfigError(
            f"best_metric {metric_name!r}: its name does not tell whether more or less is better. "
            "Set best_mode to max or min."
        )
    return is_higher
