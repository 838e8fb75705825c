"""Batches of preprocessed images and labels, from encoded examples.

    pipeline = Pipeline(
        reader=IndexedReader(table, seed=0),
        preprocessor=ImagePreprocessor(preproc=preproc, image_size=224, max_image_pixels=10**8),
        batch_size=64,
    )
    batches = pipeline.training_batches(0)

Examples are read in chunks, decoded and preprocessed in parallel, and joined to batches in the
order of the reader. The only state is a global example index.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Collection

import tensorflow as tf

from tf_image_classification.batches import PADDING_ID, Batch
from tf_image_classification.dataset.image import netpbm
from tf_image_classification.dataset.pipeline.bad_images import BadImage, bad_images_among
from tf_image_classification.dataset.pipeline.example_readers import PARALLEL, EncodedChunk
from tf_image_classification.dataset.pipeline.image_preprocessor import ImagePreprocessor
from tf_image_classification.dataset.pipeline.layout import WHOLE, Shard, layout_for
from tf_image_classification.dataset.pipeline.protocols import ExampleReader, OnDevice
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import DataError
from tf_image_classification.system.autograph import unconverted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Makes batches of the examples of a reader; a ``BatchSource``.

    Attributes:
        reader: reads encoded examples and their labels.
        preprocessor: decodes and preprocesses each image.
        batch_size: examples in a global batch.
        data_service: address of the tf.data service that makes training batches, or "".
    """

    reader: ExampleReader
    preprocessor: ImagePreprocessor
    batch_size: int
    data_service: str = ""

    @property
    def num_examples(self) -> int:
        """Exact number of examples."""
        return self.reader.source.num_examples

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of the examples."""
        return self.reader.source.fingerprint

    @property
    def table(self) -> Table | None:
        """The examples by number; None where they can only be read in sequence."""
        return self.reader.table

    @property
    def as_pipeline(self) -> Pipeline:
        """This pipeline."""
        return self

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a preprocessed image.

        Raises:
            SpecError: the preprocessing gives no image of known shape.
        """
        height, width, channels = self.preprocessor.image_spec.shape
        return int(height), int(width), int(channels)

    @property
    def on_device(self) -> OnDevice | None:
        """The part of the augmentation that the training step applies to whole batches, if any."""
        return self.preprocessor.on_device

    def locate(self, number: int) -> str:
        """A name for an example in a message: its file, and its record or line."""
        return self.reader.source.locate(number)

    def training_batches(
        self, start: int, *, excluded: Collection[int] = (), shard: Shard = WHOLE
    ) -> tf.data.Dataset:
        """Endless batches; as ``BatchSource.training_batches``."""
        batches = self._batches(self.reader, start, excluded, shard)
        if not self.data_service:
            return batches
        # Each chunk goes to one of the service's machines. Batches come as they are ready.
        service = tf.data.experimental.service
        return batches.apply(
            service.distribute(service.ShardingPolicy.DYNAMIC, self.data_service)
        ).prefetch(tf.data.AUTOTUNE)

    def num_evaluation_batches(self, max_batches: int = 0) -> int:
        """Global batches of one pass, the last one padded; at most max_batches unless that is 0."""
        num_batches = math.ceil(self.num_examples / self.batch_size)
        return min(num_batches, max_batches) if max_batches else num_batches

    def evaluation_batches(
        self,
        *,
        first_batch: int = 0,
        max_batches: int = 0,
        excluded: Collection[int] = (),
        shard: Shard = WHOLE,
    ) -> tf.data.Dataset:
        """One pass in the order of the files; as ``BatchSource.evaluation_batches``."""
        start = first_batch * self.batch_size
        batches = self._batches(self.reader.in_file_order, start, excluded, shard, pad=True)
        num_batches = max(0, self.num_evaluation_batches(max_batches) - first_batch)
        return batches.take(num_batches * shard.count)

    def find_bad_images(self, start: int, *, training: bool) -> list[BadImage]:
        """The examples of one batch that cannot be decoded; as ``BatchSource.find_bad_images``."""
        if training and self.data_service:
            raise DataError(
                f"The tf.data service {self.data_service} could not make a batch, and does not "
                "report which example failed. See its log, or train without --data_service, which "
                "names the file."
            )
        reader = self.reader if training else self.reader.in_file_order
        examples = reader.encoded_batch(start, self.batch_size)
        limit = self.preprocessor.max_image_pixels
        return bad_images_among(examples, self.locate, max_pixels=limit)

    def names_at(self, start: int) -> list[str]:
        """Files or records of the examples in the training batch at a global example index."""
        examples = self.reader.encoded_batch(start, self.batch_size)
        return [self.locate(number) for number, _ in examples]

    def _batches(
        self,
        reader: ExampleReader,
        start: int,
        excluded: Collection[int],
        shard: Shard,
        *,
        pad: bool = False,
    ) -> tf.data.Dataset:
        """Endless slices of batches; pad: rows beyond the last example are placeholder rows."""
        layout = layout_for(self.batch_size, shard, image_size=self.preprocessor.image_size)
        size = layout.chunk_size
        excluded_numbers = tf.constant(sorted(excluded), tf.int64)
        placeholder = self._placeholder()

        def batch_of(chunk: EncodedChunk) -> Batch:
            is_example, data = tf.ones([size], tf.bool), chunk.data
            if pad:
                is_example &= chunk.indices < self.num_examples
            if excluded:
                is_bad = tf.reduce_any(chunk.numbers[:, None] == excluded_numbers[None, :], axis=1)
                is_example &= ~is_bad
            is_encoded = data.dtype == tf.string
            if is_encoded:
                data = tf.ensure_shape(data, [size])
                if pad or excluded:  # copies all bytes
                    data = tf.where(is_example, data, placeholder)
            mask = {name: is_example & known for name, known in chunk.mask.items()}
            may_be_raw = is_encoded and self._first_is_raw
            images, parameters = self.preprocessor.images(
                data, chunk.indices, may_be_raw=may_be_raw
            )
            return Batch(
                images=images,
                labels={name: masked(value, mask[name], 0) for name, value in chunk.labels.items()},
                mask=mask,
                ids=tf.where(is_example, chunk.numbers, tf.constant(PADDING_ID, tf.int64)),
                random_parameters=parameters,
            )

        chunks = reader.chunks(start, layout).map(unconverted(batch_of), **PARALLEL)
        slices = chunks.batch(layout.chunks_per_slice, drop_remainder=True)
        merged = slices.map(unconverted(lambda batch: tf.nest.map_structure(_merge_chunks, batch)))
        return merged.prefetch(tf.data.AUTOTUNE)

    def _placeholder(self) -> tf.Tensor:
        """An encoded grey image for rows without an example."""
        limit = math.isqrt(self.preprocessor.max_image_pixels)  # itself no bad image
        side = min(self.preprocessor.image_size, limit)
        return tf.io.encode_png(tf.fill([side, side, 3], tf.constant(128, tf.uint8)))

    @functools.cached_property
    def _first_is_raw(self) -> bool:
        """Whether the first image is raw, and so perhaps all; then they are decoded together."""
        with tf.init_scope():  # now, also while a graph is traced
            try:
                _, first = next(self.reader.sample_images(1))
            except tf.errors.OpError:  # reported when the image is read for a batch
                return False
            return bool(netpbm.headers(tf.constant([first]))[0, 0] > 0)


def masked(values: tf.Tensor, mask: tf.Tensor, other: float) -> tf.Tensor:
    """The values [B, ...] with another number in the rows that a mask, bool [B], leaves out."""
    rows = tf.reshape(mask, [-1, *[1] * (values.shape.rank - 1)])
    return tf.where(rows, values, tf.cast(other, values.dtype))


def _merge_chunks(chunks: tf.Tensor) -> tf.Tensor:
    """[n, c, ...] to [n * c, ...]."""
    shape = chunks.shape
    return tf.reshape(chunks, [shape[0] * shape[1], *shape[2:]])
