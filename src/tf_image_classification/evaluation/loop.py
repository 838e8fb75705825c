"""One evaluation: predictions for every example, metrics merged over batches."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import PADDING_ID, Batch, prediction_keys
from tf_image_classification.errors import DataError, SpecError
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.evaluation.exchange import Exchange, exchange_rows
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.metrics import class_metrics, merging, streaming

Metrics = dict[str, streaming.StreamingMetric]
MetricFn = Callable[[Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]], Mapping[str, Any] | None]
LossFn = Callable[[Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]

MOST_CLASSES_IN_A_MATRIX = 1000
"""Labels of more classes have no confusion matrix, which would fill the memory unread."""


@dataclasses.dataclass(frozen=True)
class Slices:
    """Parts of an evaluation set, of which the worst is watched.

    Attributes:
        of_examples: int64 [N], the part of each example; -1 for none.
        count: number of parts.
        label: the class label whose accuracy is watched.
    """

    of_examples: npt.NDArray[np.int64]
    count: int
    label: str


WORST_SLICE = "worst_slice_accuracy"
"""The metric that an evaluation with ``Slices`` has besides."""


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

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The metrics that are arrays."""
        return {n: np.asarray(v) for n, v in self.metrics.items() if np.ndim(v)}


@dataclasses.dataclass(frozen=True)
class Sums:
    """What an evaluation has summed so far; those of batches and of workers are merged.

    Attributes:
        metrics: streaming metrics by name, losses and confusion matrices included.
        num_examples: examples counted.
    """

    metrics: Metrics
    num_examples: int

    def merged_over(self, exchange: Exchange) -> Sums:
        """Those of all workers, merged in the same order on each.

        Args:
            exchange: the numbers of this worker, float64 [n], to those of all, [W, n].

        Raises:
            SpecError: the workers have different metrics.
        """
        _check_alike(sorted(self.metrics), exchange)
        metrics = _with_as_much_kept(self.metrics, exchange)
        arrays = [
            (name, key, metric.sums[key])
            for name, metric in sorted(metrics.items())
            for key in sorted(metric.sums)
        ]
        rows = {
            (name, key): _exact(np.concatenate(metric.rows[key]))
            for name, metric in sorted(metrics.items())
            for key in sorted(metric.rows)
        }
        shapes = [(n, k, a.shape, a.dtype.str) for n, k, a in arrays]
        shapes_of_rows = [(*name, a.shape[1:]) for name, a in rows.items()]
        _check_alike((shapes, shapes_of_rows), exchange)
        flat = [np.ravel(array).astype(np.float64) for _, _, array in arrays]
        of_workers = exchange(np.concatenate([[self.num_examples], *flat]))
        rows_of_workers = [exchange_rows(value, exchange) for value in rows.values()]
        ends = np.cumsum([1, *(array.size for _, _, array in arrays)])
        found = []
        for rank, numbers in enumerate(of_workers):
            sums: dict[str, dict[str, Any]] = {name: {} for name in metrics}
            for (name, key, array), part in zip(arrays, np.split(numbers, ends)[1:-1], strict=True):
                sums[name][key] = part.reshape(array.shape).astype(array.dtype)
            own: dict[str, Any] = {name: {} for name in metrics}
            for (name, key), parts in zip(rows, rows_of_workers, strict=True):
                own[name][key] = (parts[rank],)
            found.append(
                {n: dataclasses.replace(m, sums=sums[n], rows=own[n]) for n, m in metrics.items()}
            )
        return Sums(streaming.merge_all(found), int(of_workers[:, 0].sum()))


def _exact(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of one type on every worker, whatever each has seen."""
    return rows.astype(np.float64) if rows.dtype.kind == "f" else rows


def _check_alike(layout: Any, exchange: Exchange) -> None:
    digest = zlib.crc32(repr(layout).encode())
    if len(set(exchange(np.array([digest], np.float64))[:, 0])) > 1:
        raise SpecError(
            "The metrics differ between workers. metric_ops must return the same metrics for "
            "each batch, whatever is in it."
        )


def _with_as_much_kept(metrics: Metrics, exchange: Exchange) -> Metrics:
    """The metrics, those summed up of which all workers together keep too many rows."""
    names = sorted(metrics)
    is_summed = [bool(metrics[n].summed and not metrics[n].rows) for n in names]
    kept = [np.inf if s else metrics[n].num_kept for n, s in zip(names, is_summed, strict=True)]
    totals = exchange(np.array(kept, np.float64)).sum(axis=0)
    return {
        name: metrics[name].without_rows() if total > merging.MOST_KEPT else metrics[name]
        for name, total in zip(names, totals.tolist(), strict=True)
    }


def evaluate_batches(
    batches: Iterable[tuple[Batch, Mapping[str, tf.Tensor]]],
    schema: LabelSchema,
    *,
    metric_fn: MetricFn | None,
    loss_fn: LossFn | None = None,
    regularisation: float = 0.0,
    slices: Slices | None = None,
    also: Collection[str] = (),
) -> Evaluation:
    """Metrics over all examples of some batches; arguments and errors as the two steps of it."""
    how: dict[str, Any] = {"metric_fn": metric_fn, "loss_fn": loss_fn, "slices": slices}
    sums = sum_batches(batches, schema, **how, also=also)
    return conclude(sums, schema, regularisation=regularisation)


def sum_batches(
    batches: Iterable[tuple[Batch, Mapping[str, tf.Tensor]]],
    schema: LabelSchema,
    *,
    metric_fn: MetricFn | None,
    loss_fn: LossFn | None = None,
    slices: Slices | None = None,
    also: Collection[str] = (),
) -> Sums:
    """What is to be known of all examples of some batches.

    Args:
        batches: each batch with its logits by label; rows that are padding are left out.
        schema: the labels.
        metric_fn: the spec's ``metric_ops``; where it is None or gives None, metrics by label kind.
        loss_fn: labels and logits to per-example losses by label; None gives no loss.
        slices: parts of the set, the worst of which is a metric then.
        also: names of metrics of ``definitions`` that are wanted whatever ``metric_fn`` gives.

    Raises:
        SpecError: the metrics differ between batches, or one has a reserved name.
    """
    found: Metrics = {}
    known = set(also) & set(streaming.metric_names(schema))
    num_examples = 0
    for batch, logits in batches:
        num_examples += int(np.sum(batch.ids.numpy() != PADDING_ID))
        labels, predictions = _known(schema, batch, logits)
        metrics = dict((metric_fn(labels, predictions) if metric_fn else None) or {})
        if not metrics:
            metrics = streaming.default_metrics(schema, labels, predictions)
        if missing := [name for name in known if name not in metrics]:
            metrics |= streaming.metrics_by_name(schema, labels, predictions, missing)
        _check_names(metrics)
        own = {_CONFUSION + n: m for n, m in _confusion(schema, labels, predictions).items()}
        if slices is not None:
            own[WORST_SLICE] = _worst_slice(slices, batch, labels, predictions)
        if loss_fn is not None:
            own |= _losses(loss_fn, batch, logits)
        found = streaming.merge_all([*([found] if found else []), {**metrics, **own}])
    return Sums(found, num_examples)


def conclude(sums: Sums, schema: LabelSchema, *, regularisation: float = 0.0) -> Evaluation:
    """The evaluation that sums give.

    Args:
        sums: over all examples.
        schema: the labels.
        regularisation: the part of the loss that is the same for every batch.

    Raises:
        DataError: there was no example at all.
    """
    if not sums.num_examples:
        raise DataError("There is no example to evaluate. Check eval_metadata and bad images.")
    found = dict(sums.metrics)
    losses = {name: found.pop(_LOSS + name, None) for name in schema.names}
    confusion = {
        label.name: np.asarray(found.pop(_CONFUSION + label.name).result())
        for label in _with_matrix(schema)
    }
    results = {name: metric.result() for name, metric in found.items()}
    if any(loss is not None for loss in losses.values()):
        results = {"loss": _total_loss(schema, losses) + regularisation, **results}
    return Evaluation(results, confusion, sums.num_examples)


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
        for key in prediction_keys(label.name):
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


def _worst_slice(
    slices: Slices,
    batch: Batch,
    labels: Mapping[str, tf.Tensor],
    predictions: Mapping[str, tf.Tensor],
) -> streaming.StreamingMetric:
    ids = tf.boolean_mask(batch.ids, batch.present[slices.label]).numpy()
    return class_metrics.worst_group_accuracy(
        labels[slices.label], predictions[slices.label], slices.of_examples[ids], slices.count
    )


def _losses(loss_fn: LossFn, batch: Batch, logits: Mapping[str, tf.Tensor]) -> Metrics:
    return {
        _LOSS + name: streaming.mean(tf.boolean_mask(values, batch.present[name]))
        for name, values in loss_fn(batch.labels, logits).items()
    }
