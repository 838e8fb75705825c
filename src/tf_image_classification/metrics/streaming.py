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

from tf_image_classification.batches import prediction_keys
from tf_image_classification.errors import ConfigError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.schema import CLASS, ORDINAL, SEVERAL, THRESHOLDS, VALUE
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
    """Sensible metrics of one batch, for a spec whose ``metric_ops`` names none.

    Args:
        schema: the labels.
        labels: by label name, as ``metric_ops`` gets them.
        predictions: by name, as ``metric_ops`` gets them.

    Returns:
        For a class label accuracy, top_5_accuracy (with more than 5 classes), macro_f1 and
        log_loss; for an ordinal one accuracy, log_loss, within_1, within_5 (with more than 10
        classes) and mean_absolute_error, in classes, of the expected value where that is predicted;
        for several classes mean_average_precision, macro_f1, micro_f1 and exact_match; for a real
        one mean_absolute_error and root_mean_squared_error. With several labels the names begin
        with the label's, as in ``age/accuracy``.

    Raises:
        SpecError: what the arguments hold does not fit the schema.
    """
    found = {}
    for label in schema:
        true = labels[label.name]
        of_label = {key: predictions.get(key) for key in prediction_keys(label.name)}
        metrics = _OF_KIND[label.kind](label, true, *of_label.values())
        prefix = f"{label.name}/" if len(schema.labels) > 1 else ""
        found.update({prefix + name: metric for name, metric in metrics.items()})
    return found


def _of_class(
    label: Label, true: Any, predicted: Any, logits: Any, probabilities: Any, expected: Any
) -> dict[str, StreamingMetric]:
    metrics = {"accuracy": accuracy(true, predicted)}
    if label.depth > 5:
        metrics["top_5_accuracy"] = top_k(true, probabilities, k=5)
    metrics["macro_f1"] = f1(true, predicted, num_classes=label.depth, average="macro")
    metrics["log_loss"] = log_loss(true, probabilities)
    return metrics


def _of_ordinal(
    label: Label, true: Any, predicted: Any, logits: Any, probabilities: Any, expected: Any
) -> dict[str, StreamingMetric]:
    nearest = predicted if label.coding == THRESHOLDS else expected
    metrics = {
        "mean_absolute_error": mean_absolute_error(true, nearest),
        "accuracy": accuracy(true, predicted),
        "within_1": within(true, predicted, 1),
    }
    if label.depth > 10:
        metrics["within_5"] = within(true, nearest, 5)
    return metrics | {"log_loss": log_loss(true, probabilities)}


def _of_several(
    label: Label, true: Any, predicted: Any, logits: Any, probabilities: Any, expected: Any
) -> dict[str, StreamingMetric]:
    return {
        "mean_average_precision": mean_average_precision(true, probabilities),
        "macro_f1": several_f1(true, predicted, average="macro"),
        "micro_f1": several_f1(true, predicted, average="micro"),
        "exact_match": exact_match(true, predicted),
    }


def _of_value(label: Label, true: Any, predicted: Any, *rest: Any) -> dict[str, StreamingMetric]:
    return {
        "mean_absolute_error": mean_absolute_error(true, predicted),
        "root_mean_squared_error": root_mean_squared_error(true, predicted),
    }


_OF_KIND = {CLASS: _of_class, ORDINAL: _of_ordinal, SEVERAL: _of_several, VALUE: _of_value}


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
