"""One evaluation: predictions for every example, metrics merged over batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import PADDING_ID, Batch, logits_key, probabilities_key
from tf_image_classification.errors import DataError
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.labels import LabelSchema
from tf_image_classification.metrics import streaming

Metrics = dict[str, streaming.StreamingMetric]
MetricFn = Callable[[Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]], Mapping[str, Any] | None]
LossFn = Callable[[Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation.

    Attributes:
        metrics: by name, a number or an array.
        confusion: by class label, int64 [D, D] counts, rows are true classes.
        num_examples: examples counted, each once.
    """

    metrics: Mapping[str, float | npt.NDArray[Any]]
    confusion: Mapping[str, npt.NDArray[np.int64]]
    num_examples: int

    def scalars(self) -> dict[str, float]:
        """The metrics that are numbers."""
        return {n: float(v) for n, v in self.metrics.items() if np.ndim(v) == 0}


def evaluate_batches(
    batches: Iterable[tuple[Batch, Mapping[str, tf.Tensor]]],
    schema: LabelSchema,
    *,
    metric_fn: MetricFn | None,
    loss_fn: LossFn | None = None,
    regularisation: float = 0.0,
) -> Evaluation:
    """Metrics over all examples of some batches.

    Args:
        batches: each batch with its logits by label; rows that are padding are left out.
        schema: the labels.
        metric_fn: the spec's ``metric_ops``; where it is None or gives None, metrics by label kind.
        loss_fn: labels and logits to per-example losses by label; None gives no loss.
        regularisation: the part of the loss that is the same for every batch.

    Raises:
        DataError: there was no example at all.
        SpecError: the metrics differ between batches.
    """
    merged: list[Metrics] = []
    num_examples = 0
    for batch, logits in batches:
        num_examples += int(np.sum(batch.ids.numpy() != PADDING_ID))
        labels, predictions = _known(schema, batch, logits)
        metrics = dict((metric_fn(labels, predictions) if metric_fn else None) or {})
        if not metrics:
            metrics = streaming.default_metrics(schema, labels, predictions)
        own = {_CONFUSION + n: m for n, m in _confusion(schema, labels, predictions).items()}
        if loss_fn is not None:
            own |= _losses(loss_fn, batch, logits)
        merged.append(streaming.merge_all([*merged, {**metrics, **own}]))
        del merged[:-1]
    if not num_examples:
        raise DataError("There is no example to evaluate. Check eval_metadata and bad images.")
    results = {name: metric.result() for name, metric in merged[0].items()}
    losses = [results.pop(_LOSS + label.name) for label in schema if _LOSS + label.name in results]
    confusion = {
        label.name: np.asarray(results.pop(_CONFUSION + label.name))
        for label in schema.class_labels
    }
    if losses:
        total = sum(label.weight * x for label, x in zip(schema, losses, strict=True) if x == x)
        results = {"loss": float(total) + regularisation, **results}
    return Evaluation(results, confusion, num_examples)


_CONFUSION = "\0confusion/"
_LOSS = "\0loss/"


def _known(
    schema: LabelSchema, batch: Batch, logits: Mapping[str, tf.Tensor]
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Labels and predictions of the rows whose label is known, label by label."""
    labels, predictions = {}, {}
    everything = predictions_from(schema, logits)
    for label in schema:
        known = batch.present[label.name]
        labels[label.name] = tf.boolean_mask(batch.labels[label.name], known)
        for key in (label.name, logits_key(label.name), probabilities_key(label.name)):
            if key in everything:
                predictions[key] = tf.boolean_mask(everything[key], known)
    return labels, predictions


def _confusion(
    schema: LabelSchema, labels: Mapping[str, tf.Tensor], predictions: Mapping[str, tf.Tensor]
) -> Metrics:
    return {
        label.name: streaming.confusion_matrix(
            labels[label.name], predictions[label.name], label.depth
        )
        for label in schema.class_labels
    }


def _losses(loss_fn: LossFn, batch: Batch, logits: Mapping[str, tf.Tensor]) -> Metrics:
    return {
        _LOSS + name: streaming.mean(tf.boolean_mask(values, batch.present[name]))
        for name, values in loss_fn(batch.labels, logits).items()
    }
