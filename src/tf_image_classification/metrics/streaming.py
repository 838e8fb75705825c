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
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tf_image_classification.batches import probabilities_key
from tf_image_classification.errors import ConfigError
from tf_image_classification.labels import Label, LabelSchema
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
from tf_image_classification.metrics.definitions import LabelRows, Metric, find_metric, metrics_of
from tf_image_classification.metrics.keras_adapter import bind
from tf_image_classification.metrics.merging import StreamingMetric, merge_all
from tf_image_classification.metrics.metric_inputs import as_array
from tf_image_classification.metrics.several_metrics import (
    exact_match,
    mean_average_precision,
    several_f1,
)
from tf_image_classification.metrics.value_metrics import (
    mean,
    mean_absolute_error,
    mean_squared_error,
    root_mean_squared_error,
    within,
)

__all__ = [
    "StreamingMetric",
    "accuracy",
    "auc",
    "bind",
    "confusion_matrix",
    "default_metrics",
    "exact_match",
    "f1",
    "higher_is_better",
    "log_loss",
    "mean",
    "mean_absolute_error",
    "mean_average_precision",
    "mean_per_class_accuracy",
    "mean_squared_error",
    "merge_all",
    "precision",
    "recall",
    "root_mean_squared_error",
    "several_f1",
    "top_k",
    "within",
]


RESERVED_NAMES = frozenset({"loss", "num_examples", "step", "time"})
"""What the record of an evaluation holds besides the metrics, which must have other names."""


def default_metrics(
    schema: LabelSchema, labels: Mapping[str, Any], predictions: Mapping[str, Any]
) -> dict[str, StreamingMetric]:
    """The metrics of one batch for a spec whose ``metric_ops`` names none.

    Args:
        schema: the labels.
        labels: by label name, as ``metric_ops`` gets them.
        predictions: by name, as ``metric_ops`` gets them.

    Returns:
        Those of ``metrics.definitions`` that a training has unasked. With several labels the names
        begin with the label's, as in ``age/accuracy``.

    Raises:
        SpecError: what the arguments hold does not fit the schema.
    """
    known = metric_names(schema)
    names = [name for name, (label, metric) in known.items() if metric.is_trained(label)]
    return metrics_by_name(schema, labels, predictions, names)


def metrics_by_name(
    schema: LabelSchema,
    labels: Mapping[str, Any],
    predictions: Mapping[str, Any],
    names: Collection[str],
) -> dict[str, StreamingMetric]:
    """Metrics of one batch as ``default_metrics``, those of some of ``metric_names``."""
    known = metric_names(schema)
    wanted = {name: known[name] for name in names}
    of_labels = {label.name: label for label, _ in wanted.values()}
    rows = {name: _rows(label, labels, predictions) for name, label in of_labels.items()}
    return {name: metric.of(label, rows[label.name]) for name, (label, metric) in wanted.items()}


def metric_names(schema: LabelSchema) -> dict[str, tuple[Label, Metric]]:
    """The metrics of ``definitions`` that are one number, by the name that an evaluation uses."""
    has_several = len(schema.labels) > 1
    return {
        f"{label.name}/{metric.name}" if has_several else metric.name: (label, metric)
        for label in schema
        for metric in metrics_of(label)
    }


def _rows(label: Label, labels: Mapping[str, Any], predictions: Mapping[str, Any]) -> LabelRows:
    """A batch's rows of one label; without logits, which no metric of the table needs."""
    name = label.name
    truth = as_array(name, "labels", labels[name])
    predicted = as_array(name, "predictions", predictions[name])
    if not label.has_classes:
        return LabelRows(truth, predicted, np.zeros([len(truth), 0]))
    probabilities = as_array(name, "predictions", predictions[probabilities_key(name)])
    whole = np.int64
    return LabelRows(truth.astype(whole), predicted.astype(whole), probabilities)


# Words of metric names; _TURNS_ROUND are those that can turn another one's meaning round.
# fmt: off
_HIGHER = {
    "acc", "accuracy", "agreement", "ap", "auc", "aucpr", "aucroc", "auprc", "auroc",
    "correct", "dice", "f1", "fbeta", "fscore", "iou", "jaccard", "kappa", "likelihood",
    "map", "match", "mcc", "miou", "precision", "r2", "recall", "sensitivity", "similarity",
    "specificity", "top1", "top5", "true", "within",
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
    """Whether more of a metric is better: as the table of metrics says, or the words of its name.

    A label's name before a slash does not count.

    Raises:
        ConfigError: neither tells.

    Example:
        >>> higher_is_better("age/mean_absolute_error")
        False
    """
    known = find_metric(metric_name)
    if known is not None and known.is_higher_better is not None:
        return known.is_higher_better
    words = set(re.split(r"[^a-z0-9]+", metric_name.rpartition("/")[2].lower()))
    is_higher, is_lower = bool(words & _HIGHER), bool(words & _LOWER)
    if is_higher == is_lower or words & _TURNS_ROUND:
        raise ConfigError(
            f"best_metric {metric_name!r}: its name does not tell whether more or less is better. "
            "Set best_mode to max or min."
        )
    return is_higher
