"""How good the predictions are: what ``metric_ops`` is made of, under the names of tf.metrics."""

from tf_image_classification.metrics.streaming import (
    StreamingMetric,
    accuracy,
    auc,
    bind,
    confusion_matrix,
    f1,
    log_loss,
    mean,
    mean_absolute_error,
    mean_per_class_accuracy,
    mean_squared_error,
    precision,
    recall,
    root_mean_squared_error,
    top_k,
)

__all__ = [
    "StreamingMetric",
    "accuracy",
    "auc",
    "bind",
    "confusion_matrix",
    "f1",
    "log_loss",
    "mean",
    "mean_absolute_error",
    "mean_per_class_accuracy",
    "mean_squared_error",
    "precision",
    "recall",
    "root_mean_squared_error",
    "top_k",
]
