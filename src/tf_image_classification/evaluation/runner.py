"""One evaluation: predictions for every example, metrics merged over batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import PADDING_ID, Batch, logits_key, probabilities_key
from tf_image_classification.errors import DataError, SpecError
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.metrics import streaming

Metrics = dict[str, streaming.StreamingMetric]
MetricFn = Callable[[Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]], Mapping[str, Any] | None]
LossFn = Callable[[Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]


MOST_CLASSES_IN_A_MATRIX = 1000
"""Labels of more classes have no confusion matrix, which would fill the memory unread."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation.

    Attributes:
        metrics: by name, a number or an array.
        confusion: by class label of at most 1000 classes, int64 [D, D] counts, rows are true
            classes.
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
        SpecError: the metrics differ between batches, or one has a reserved name.
    """
    found: Metrics = {}
    num_examples = 0
    for batch, logits in batches:
        num_examples += int(np.sum(batch.ids.numpy() != PADDING_ID))
        labels, predictions = _known(schema, batch, logits)
        metrics = dict((metric_fn(labels, predictions) if metric_fn else None) or {})
        if not metrics:
            metrics = streaming.default_metrics(schema, labels, predictions)
        _check_names(metrics)
        own = {_CONFUSION + n: m for n, m in _confusion(schema, labels, predictions).items()}
        if loss_fn is not None:
            own |= _losses(loss_fn, batch, logits)
        found = streaming.merge_all([*([found] if found else []), {**metrics, **own}])
    if not num_examples:
        raise DataError("There is no example to evaluate. Check eval_metadata and bad images.")
    losses = {name: found.pop(_LOSS + name, None) for name in schema.names}
    confusion = {
        label.name: np.asarray(found.pop(_CONFUSION + label.name).result())
        for label in _with_matrix(schema)
    }
    results = {name: metric.result() for name, metric in found.items()}
    if loss_fn is not None:
        results = {"loss": _total_loss(schema, losses) + regularisation, **results}
    return Evaluation(results, confusion, num_examples)


_CONFUSION = "\0confusion/"
_LOSS = "\0loss/"


def _check_names(metrics: Mapping[str, Any]) -> None:
    for name in metrics:
        if name in streaming.RESERVED_NAMES:
            raise SpecError(
                f"metric_ops names a metric {name!r}, one of the names that every evaluation has "
                f"anyway ({', '.join(sorted(streaming.RESERVED_NAMES))}). Choose another name."
            )


def _total_loss(schema: LabelSchema, losses: Mapping[str, Any]) -> float:
    """The weighted sum over the labels that some example has; NaN where a loss is."""
    return float(
        sum(
            label.weight * float(losses[label.name].result())
            for label in schema
            if losses[label.name].sums["count"]
        )
    )


def _with_matrix(schema: LabelSchema) -> list[Label]:
    return [label for label in schema.class_labels if label.depth <= MOST_CLASSES_IN_A_MATRIX]


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
        for label in _with_matrix(schema)
    }


def _losses(loss_fn: LossFn, batch: Batch, logits: Mapping[str, tf.Tensor]) -> Metrics:
    return {
        _LOSS + name: streaming.mean(tf.boolean_mask(values, batch.present[name]))
        for name, values in loss_fn(batch.labels, logits).items()
    }
