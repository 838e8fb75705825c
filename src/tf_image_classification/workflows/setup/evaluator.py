"""The evaluation of a model inside a run: a function that is traced once and called often."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.batches import Batch
from tf_image_classification.dataset.pipeline.distribute import DistributedBatches
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.evaluation.loop import Evaluation, Slices, conclude, sum_batches
from tf_image_classification.evaluation.predictions import PredictionStore
from tf_image_classification.labels import LabelSchema
from tf_image_classification.system.autograph import unconverted
from tf_image_classification.training.step import Forward


def make_evaluate(
    feed: DistributedBatches,
    workers: Workers,
    forward: Forward,
    schema: LabelSchema,
    *,
    metric_fn: Any,
    loss_fn: Any,
    regularisation: Callable[[], float] = lambda: 0.0,
    max_batches: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    store: PredictionStore | None = None,
    slices: Slices | None = None,
    also: Collection[str] = (),
) -> Callable[[], Evaluation | None]:
    """A function that evaluates the model; its graph is traced once, at the first call.

    Args:
        feed: evaluation batches.
        workers: the processes that share the work; each gets the whole evaluation.
        forward: images to logits.
        schema: the labels.
        metric_fn: as ``evaluate_batches``.
        loss_fn: as ``evaluate_batches``.
        regularisation: the part of the loss that does not depend on examples.
        max_batches: as ``DistributedBatches.evaluation``.
        should_stop: called between batches; if it is true on any worker, the function returns
            None on all.
        store: as ``sum_batches``.
        slices: as ``evaluate_batches``.
        also: as ``evaluate_batches``.
    """
    strategy = workers.strategy
    predict = tf.function(unconverted(lambda images: strategy.run(forward, args=(images, False))))
    traced_losses = None if loss_fn is None else tf.function(unconverted(loss_fn))

    def local_batches() -> Iterator[tuple[Batch, Mapping[str, tf.Tensor]]]:
        for batch in feed.evaluation(max_batches):
            if should_stop():
                raise _Stopped
            logits = predict(batch.images)
            for replica in range(len(strategy.experimental_local_results(batch.ids))):
                local = tf.nest.map_structure(
                    lambda x, r=replica: strategy.experimental_local_results(x)[r], (batch, logits)
                )
                yield Batch(*local[0]), local[1]

    def evaluate() -> Evaluation | None:
        sums = None
        with contextlib.suppress(_Stopped):
            how: dict[str, Any] = {"metric_fn": metric_fn, "loss_fn": traced_losses}
            sums = sum_batches(
                local_batches(), schema, **how, slices=slices, also=also, store=store
            )
        if workers.exchange([sums is None]).any():
            return None
        assert sums is not None
        if workers.count > 1:
            sums = sums.merged_over(workers.exchange)
        return conclude(sums, schema, regularisation=regularisation())

    return evaluate


class _Stopped(Exception):
    """An evaluation was aborted because the process is to stop."""


def regularisation_of(model: keras.Model) -> float:
    """The losses that the model's variables alone decide (weight regularisation).

    Losses that a layer computes from a batch belong to the training alone: in an evaluation they
    would depend on how the examples are put into batches.
    """
    regularised = [v for v in model.trainable_variables if v.regularizer is not None]
    return float(sum(float(v.regularizer(v)) for v in regularised))
