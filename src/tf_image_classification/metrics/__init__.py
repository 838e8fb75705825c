"""Streaming metrics for ``metric_ops``, under the names of ``tf.metrics``.

    from tf_image_classification import metrics

    def metric_ops(self, labels, predictions):
        return {"accuracy": metrics.accuracy(labels["pet"], predictions["pet"])}

Each function takes one batch, eagerly, and returns a ``StreamingMetric``; those of all batches are
merged, so that every example counts once whatever the batch size. Nothing is broadcast. ``bind``
adapts any Keras metric.
"""

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
from tf_image_classification.metrics.merging import StreamingMetric
from tf_image_classification.metrics.multilabel_metrics import (
    exact_match,
    mean_average_precision,
    multilabel_f1,
)
from tf_image_classification.metrics.regression_metrics import (
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
    "exact_match",
    "f1",
    "log_loss",
    "mean",
    "mean_absolute_error",
    "mean_average_precision",
    "mean_per_class_accuracy",
    "mean_squared_error",
    "multilabel_f1",
    "precision",
    "recall",
    "root_mean_squared_error",
    "top_k",
    "within",
]
