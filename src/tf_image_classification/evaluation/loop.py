"""One evaluation: the predictions of every example, and the metrics over all of them.

The metrics of ``metrics.definitions`` are computed from the stored predictions of all examples; a
set whose predictions do not fit into memory is summed up in parts. The metrics of ``metric_ops``
and the losses are computed batch by batch and merged.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import Batch
from tf_image_classification.errors import DataError, SpecError
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.evaluation.exchange import Exchange, exchange_arrays
from tf_image_classification.evaluation.predictions import PredictionStore
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.outputs import prediction_keys
from tf_image_classification.metrics import class_metrics, merging, regression_metrics
from tf_image_classification.metrics.definitions import metric_names
from tf_image_classification.metrics.merging import StreamingMetric, merge_all

Metrics = dict[str, StreamingMetric]
Tensors = Mapping[str, tf.Tensor]
MetricFn = Callable[[Tensors, Tensors], Mapping[str, Any] | None]
LossFn = Callable[[Tensors, Tensors], Tensors]

MAX_CLASSES_OF_MATRIX = 1000
"""Labels of more classes have no confusion matrix, which would need too much memory."""

RESERVED_METRIC_NAMES = frozenset({"loss", "num_examples", "step", "time"})
"""Keys of an evaluation besides the metrics, which must have other names."""

WORST_SLICE = "worst_slice_accuracy"
"""The additional metric of an evaluation with ``Slices``."""

_CONFUSION, _LOSS = "\0confusion/", "\0loss/"  # prefixes that no metric's name has


@dataclasses.dataclass(frozen=True)
class Slices:
    """Parts of an evaluation set; the lowest accuracy of a part is a metric.

    Attributes:
        of_examples: int64 [N], the part of each example; -1 for none.
        count: number of parts.
        label: the class label whose accuracy is used.
    """

    of_examples: npt.NDArray[np.int64]
    count: int
    label: str


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
    """The metrics over the examples of one worker; ``merged_over`` merges those of all.

    Attributes:
        metrics: by name, losses and confusion matrices included.
        num_examples: examples counted.
    """

    metrics: Metrics
    num_examples: int

    def merged_over(self, exchange: Exchange) -> Sums:
        """The sums of all workers, merged in rank order, so that each has the same bits.

        Args:
            exchange: the numbers of this worker, float64 [n], to those of all, [W, n].

        Raises:
            SpecError: the workers have different metrics.
        """
        metrics = _with_rows_that_fit(self.metrics, exchange)
        names = sorted(metrics)
        own = {"num_examples": np.asarray(self.num_examples)}
        for i, name in enumerate(names):
            own |= {f"sum {i} {key}": value for key, value in metrics[name].sums.items()}
            rows = metrics[name].rows.items()
            own |= {f"row {i} {key}": np.concatenate(parts) for key, parts in rows}
        workers = exchange_arrays(own, exchange)
        merged = merge_all(
            {name: _with_arrays(metrics[name], i, part) for i, name in enumerate(names)}
            for part in workers
        )
        return Sums(merged, sum(int(part["num_examples"]) for part in workers))


def _with_arrays(metric: StreamingMetric, index: int, arrays: Mapping[str, Any]) -> StreamingMetric:
    """The metric with a worker's sums and rows."""
    sums, rows = f"sum {index} ", f"row {index} "
    return dataclasses.replace(
        metric,
        sums={k.removeprefix(sums): v for k, v in arrays.items() if k.startswith(sums)},
        rows={k.removeprefix(rows): (v,) for k, v in arrays.items() if k.startswith(rows)},
    )


def _with_rows_that_fit(metrics: Metrics, exchange: Exchange) -> Metrics:
    """The metrics; rows are summed up where those of all workers together are too many."""
    names = sorted(metrics)
    if len(set(exchange(np.array([zlib.crc32(repr(names).encode())]))[:, 0])) > 1:
        raise SpecError(
            "The metrics differ between workers. metric_ops must return the same metrics for "
            "each batch, whatever is in it."
        )
    is_summed = [bool(metrics[n].summed and not metrics[n].rows) for n in names]
    stored = [np.inf if s else metrics[n].num_stored for n, s in zip(names, is_summed, strict=True)]
    totals = exchange(np.array(stored, np.float64)).sum(axis=0)
    return {
        name: metrics[name].without_rows() if total > merging.MAX_STORED else metrics[name]
        for name, total in zip(names, totals.tolist(), strict=True)
    }


def evaluate_batches(
    batches: Iterable[tuple[Batch, Tensors]],
    schema: LabelSchema,
    *,
    metric_fn: MetricFn | None,
    loss_fn: LossFn | None = None,
    regularisation: float = 0.0,
    slices: Slices | None = None,
    also: Collection[str] = (),
) -> Evaluation:
    """The evaluation of some batches; arguments and errors as ``sum_batches`` and ``conclude``."""
    how: dict[str, Any] = {"metric_fn": metric_fn, "loss_fn": loss_fn, "slices": slices}
    sums = sum_batches(batches, schema, **how, also=also)
    return conclude(sums, schema, regularisation=regularisation)


def sum_batches(
    batches: Iterable[tuple[Batch, Tensors]],
    schema: LabelSchema,
    *,
    metric_fn: MetricFn | None,
    loss_fn: LossFn | None = None,
    slices: Slices | None = None,
    also: Collection[str] = (),
    store: PredictionStore | None = None,
) -> Sums:
    """The metrics over all examples of some batches.

    Args:
        batches: each batch with its logits by label; placeholder rows are left out.
        schema: the labels.
        metric_fn: the spec's ``metric_ops``; None, or a result of None, for the metrics of
            ``definitions`` that are in training by default.
        loss_fn: labels and logits to per-example losses by label; None for no loss.
        slices: parts of the set, for ``WORST_SLICE``.
        also: names of metrics of ``definitions`` that are computed in any case.
        store: keeps all predictions of the batches; None to keep those that fit into memory while
            the evaluation runs.

    Raises:
        SpecError: the metrics differ between batches, or one has a reserved name.
    """
    own: list[Metrics] = []
    losses: list[Metrics] = []
    parts: list[Metrics] = []
    num_examples = 0
    stored = PredictionStore(schema) if store is None else store

    def summed() -> Metrics:
        found = _from_stored(stored, own[0], slices, also)
        if store is None:
            found = {name: metric.within_limit() for name, metric in found.items()}
        return merge_all([*parts, found])

    for batch, logits in batches:
        predictions = predictions_from(schema, logits)
        num_examples += stored.add(batch, predictions)
        given = metric_fn(*_labelled(schema, batch, predictions)) if metric_fn else None
        _check_names(given or {})
        own = [merge_all([*own, given or {}])]
        if loss_fn is not None:
            losses = [merge_all([*losses, _losses(loss_fn, batch, logits)])]
        if store is None and stored.num_stored > merging.MAX_STORED:
            parts = [summed()]
            stored = PredictionStore(schema)
    if not own:
        return Sums({}, 0)
    if stored.num_stored or not parts:
        parts = [summed()]
    return Sums({**own[0], **parts[0], **(losses[0] if losses else {})}, num_examples)


def conclude(sums: Sums, schema: LabelSchema, *, regularisation: float = 0.0) -> Evaluation:
    """The evaluation from the sums over all examples.

    Args:
        sums: over all examples.
        schema: the labels.
        regularisation: the part of the loss that does not depend on the examples.

    Raises:
        DataError: there was no example.
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


def _from_stored(
    stored: PredictionStore, own: Metrics, slices: Slices | None, also: Collection[str]
) -> Metrics:
    """The metrics of the table that ``own`` does not have, confusion matrices and worst slice."""
    known = metric_names(stored.schema)
    rows = {label.name: stored.labelled(label) for label in stored.schema}
    found = {
        name: metric.of(label, rows[label.name])
        for name, (label, metric) in known.items()
        if name not in own and (name in also or (not own and metric.is_in_training(label)))
    }
    for label in _with_matrix(stored.schema):
        of_label = rows[label.name]
        matrix = class_metrics.confusion_matrix(of_label.truth, of_label.predicted, label.depth)
        found[_CONFUSION + label.name] = matrix
    if slices is not None:
        groups = slices.of_examples[stored.labelled_ids(slices.label)]
        is_right = rows[slices.label].is_right
        found[WORST_SLICE] = class_metrics.worst_group_accuracy(is_right, groups, slices.count)
    return found


def _check_names(metrics: Mapping[str, Any]) -> None:
    for name in metrics:
        if name in RESERVED_METRIC_NAMES:
            raise SpecError(
                f"metric_ops names a metric {name!r}, one of the names that every evaluation has "
                f"anyway ({', '.join(sorted(RESERVED_METRIC_NAMES))}). Choose another name."
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
    return [label for label in schema.class_labels if label.depth <= MAX_CLASSES_OF_MATRIX]


def _labelled(
    schema: LabelSchema, batch: Batch, predictions: Tensors
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Labels and predictions of the labelled rows, label by label."""
    labels, found = {}, {}
    for label in schema:
        mask = batch.mask[label.name]
        labels[label.name] = tf.boolean_mask(batch.labels[label.name], mask)
        for key in prediction_keys(label.name):
            if key in predictions:
                found[key] = tf.boolean_mask(predictions[key], mask)
    return labels, found


def _losses(loss_fn: LossFn, batch: Batch, logits: Tensors) -> Metrics:
    return {
        _LOSS + name: regression_metrics.mean(tf.boolean_mask(values, batch.mask[name]))
        for name, values in loss_fn(batch.labels, logits).items()
    }
