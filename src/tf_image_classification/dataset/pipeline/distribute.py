"""Batches on the devices of a strategy, and the handling of bad images.

Decoding errors carry no file name. So after one, the batch is read again from its global example
index, its images are decoded one by one, and the bad ones are named, or left out from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tf_image_classification.dataset.pipeline.bad_images import BadImage, bad_image_error
from tf_image_classification.dataset.pipeline.layout import Shard
from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.errors import DataError


class DistributedBatches:
    """The batches of one source for training or evaluation, distributed over replicas.

    Attributes:
        source: makes the batches.
        bad_images: the images that were left out so far, by their number.
    """

    def __init__(
        self,
        source: BatchSource,
        strategy: tf.distribute.Strategy,
        *,
        is_training: bool,
        skip_bad_images: bool,
        on_skip: Callable[[Sequence[BadImage]], None] | None = None,
        rank: int = 0,
    ) -> None:
        """Store the arguments; nothing is read.

        Args:
            source: makes the batches.
            strategy: its devices get them.
            is_training: whether these are training batches.
            skip_bad_images: whether bad images are left out instead of ending the run.
            on_skip: called with all bad images whenever there is a new one.
            rank: this process's number among the workers.
        """
        self.source = source
        self.bad_images: dict[int, BadImage] = {}
        self._strategy = strategy
        self._is_training = is_training
        self._skips = skip_bad_images
        self._on_skip = on_skip
        self._rank = rank

    def start(self, index: int) -> Iterator[Any]:
        """Endless per-replica training batches from a global example index on."""
        return iter(
            self._distributed(
                lambda shard: self.source.training_batches(
                    index, excluded=self.bad_images, shard=shard
                )
            )
        )

    def evaluation(self, max_batches: int = 0) -> Iterator[Any]:
        """Per-replica batches of one pass; bad images become placeholder rows or end it.

        Args:
            max_batches: max global batches; 0 means all.

        Raises:
            DataError: an image is bad, and bad images are not skipped; names it.
        """
        done = 0
        num_batches = self.source.num_evaluation_batches(max_batches)
        iterator = self._evaluation_from(done, max_batches)
        while num_batches is None or done < num_batches:
            try:
                batch = next(iterator, None)
            except tf.errors.OpError as error:
                self.explain_failure(done * self.source.batch_size, error)
                iterator = self._evaluation_from(done, max_batches)
                continue
            if batch is None:
                return
            done += 1
            yield batch

    def _evaluation_from(self, done: int, max_batches: int) -> Iterator[Any]:
        return iter(
            self._distributed(
                lambda shard: self.source.evaluation_batches(
                    first_batch=done,
                    max_batches=max_batches,
                    excluded=self.bad_images,
                    shard=shard,
                )
            )
        )

    def _distributed(self, make: Callable[[Shard], tf.data.Dataset]) -> Any:
        devices = self._strategy.extended.worker_devices
        replicas = self._strategy.num_replicas_in_sync
        if len(devices) == 1 and "CPU" in devices[0]:
            return make(Shard(replicas, self._rank))  # nothing to move: spares a copy a batch

        def dataset(context: Any) -> tf.data.Dataset:
            local = replicas // context.num_input_pipelines
            batches = make(Shard(replicas, context.input_pipeline_id * local, local))
            if self.source.num_evaluation_batches() is None:
                return batches
            # Without an end, workers need not ask one another before each batch whether it came;
            # one that has to begin anew because of a bad image would be alone with its question.
            return batches.repeat().apply(
                tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            )

        return self._strategy.distribute_datasets_from_function(dataset)

    def explain_failure(self, index: int, error: Exception) -> None:
        """After a failed batch: name its bad images, or leave them out from now on.

        Args:
            index: global example index of the batch's first row.
            error: the failure; raised again when no image of the batch is bad.

        Raises:
            DataError: bytes cannot be read, or an image is bad and bad images are not skipped.
        """
        found = self.source.find_bad_images(index, training=self._is_training)
        new = [bad for bad in found if bad.number not in self.bad_images]
        if not new:
            raise error
        if not self._skips:
            raise bad_image_error(new) from error
        self.bad_images |= {bad.number: bad for bad in new}
        if len(self.bad_images) == self.source.num_examples:
            raise DataError("Not one image can be decoded; see bad_images.jsonl.") from error
        if self._on_skip is not None:
            self._on_skip(list(self.bad_images.values()))

    def name_examples(self, index: int) -> list[str]:
        """Files or records of the examples of the training batch at a global example index."""
        return self.source.names_at(index)
