"""Examples in, batches out: order, reading, decoding, preprocessing, this worker's share.

The only state is a position. Encoded bytes are read in chunks, decoded and preprocessed in
parallel, and come out in order; nothing decoded is ever shuffled or kept.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_image_classification.batches import PADDING_ID, Batch
from tf_image_classification.config import FULL_RANGE, PixelRange
from tf_image_classification.dataset.image import netpbm
from tf_image_classification.dataset.image.decode import decoder
from tf_image_classification.dataset.image.decode_and_crop import forms_of
from tf_image_classification.dataset.image.diagnose import explain_bad_image
from tf_image_classification.dataset.pipeline.decoded_cache import InMemory
from tf_image_classification.dataset.pipeline.sampler import BalancedOrder, Order
from tf_image_classification.dataset.pipeline.stream import Stream
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import DataError, SpecError

Preproc = Callable[..., tf.Tensor]
_CHUNK_PIXELS = 16 * 224**2
_LARGEST_CHUNK = 128
_PARALLEL: dict[str, Any] = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}


@dataclasses.dataclass(frozen=True)
class Share:
    """Which slices of each global batch a pipeline makes.

    Attributes:
        num_slices: equal slices of a global batch, one a replica.
        first: first slice of this pipeline.
        count: slices of this pipeline, consecutive.
    """

    num_slices: int = 1
    first: int = 0
    count: int = 1

    def rows(self, batch_size: int) -> int:
        """Examples in a slice.

        Raises:
            ValueError: slices would have different sizes, and examples be lost.
        """
        if batch_size % self.num_slices:
            raise ValueError(f"{batch_size} examples do not split into {self.num_slices} slices.")
        return batch_size // self.num_slices


WHOLE = Share()


class Encoded(NamedTuple):
    """A chunk of c examples before preprocessing.

    Attributes:
        positions: int64 [c], examples seen before each one, over all epochs.
        numbers: int64 [c], the examples' numbers in their source.
        data: string [c], encoded images; or uint8 [c, h, w, 3], those that are kept decoded.
        labels: as in ``Batch``.
        present: as in ``Batch``, before rows are taken out.
    """

    positions: tf.Tensor
    numbers: tf.Tensor
    data: tf.Tensor
    labels: Mapping[str, tf.Tensor]
    present: Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class BadImage:
    """An image that cannot be used.

    Attributes:
        number: the example's number in its source.
        where: its file, line or record.
        reason: what is wrong with it.
    """

    number: int
    where: str
    reason: str


def preprocessed(
    preproc: Preproc, image: tf.Tensor, *, size: int, seed: tuple[int, tf.Tensor]
) -> tf.Tensor:
    """An image as a user's ``preproc`` makes it; traced.

    Args:
        preproc: ``preproc(image, width, height)``, optionally also taking ``seed``.
        image: uint8 [h, w, 3].
        size: width and height handed to ``preproc``, in pixels.
        seed: the run's seed and the example's position.

    Raises:
        SpecError: the result is no image of known shape.
    """
    if "seed" in inspect.signature(preproc).parameters:
        image = preproc(image, size, size, seed=tf.stack(seed))
    else:
        image = preproc(image, size, size)
    image = tf.convert_to_tensor(image)
    if image.shape.rank != 3 or not image.shape.is_fully_defined():
        raise SpecError(
            f"preproc returns an image of shape {image.shape}, expected three known sizes "
            f"[height, width, channels]. Resize to the width and height that it is given "
            f"({size}), or call image.set_shape."
        )
    return image


def image_spec_of(preprocess: Callable[[tf.Tensor], tf.Tensor]) -> tf.TensorSpec:
    """Shape and dtype of what a function makes of one decoded image; traces it."""
    traced = tf.function(preprocess).get_concrete_function(tf.TensorSpec([None, None, 3], tf.uint8))
    return tf.TensorSpec(traced.output_shapes, traced.output_dtypes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pipeline:
    """How a source becomes batches.

    Attributes:
        source: a table with random access, or a stream.
        preproc: the user's ``preproc(image, width, height)``, optionally also taking ``seed``.
        batch_size: examples in a global batch.
        image_size: width and height handed to ``preproc``, in pixels.
        max_image_pixels: larger images are bad images.
        seed: decides order and augmentation.
        shuffle: whether training examples are shuffled.
        balanced_by: class label whose classes training draws equally often, or "".
        data_service: address of the tf.data service that makes training batches, or "".
        memory: decoded images of the source, or None.
        png16_range: the values of 16-bit PNGs that become 0 and 255.
    """

    source: Table | Stream
    preproc: Preproc
    batch_size: int
    image_size: int
    max_image_pixels: int
    seed: int = 0
    shuffle: bool = True
    balanced_by: str = ""
    data_service: str = ""
    memory: InMemory | None = None
    png16_range: PixelRange = FULL_RANGE

    def training_batches(
        self, position: int, *, excluded: Collection[int] = (), share: Share = WHOLE
    ) -> tf.data.Dataset:
        """Endless batches from a position on.

        Args:
            position: examples seen before, over all epochs.
            excluded: numbers of bad examples; their rows become padding.
            share: the slices of each global batch to make.

        Returns:
            Dataset of ``Batch``, each one slice of a global batch.
        """
        batches = self._decoded(self._chunks(position, share, self._kept()), excluded, share)
        if not self.data_service:
            return batches
        # Each chunk goes to one of the service's machines. Batches come as they are ready.
        service = tf.data.experimental.service
        return batches.apply(
            service.distribute(service.ShardingPolicy.DYNAMIC, self.data_service)
        ).prefetch(tf.data.AUTOTUNE)

    @property
    def num_examples(self) -> int:
        """Exact number of examples of the source."""
        return self.source.num_examples

    @property
    def fingerprint(self) -> str:
        """The source's fingerprint."""
        return self.source.fingerprint

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images that the preprocessing gives.

        Raises:
            SpecError: it gives no image of known shape.
        """
        height, width, channels = self.image_spec.shape
        return int(height), int(width), int(channels)

    @property
    def image_spec(self) -> tf.TensorSpec:
        """Shape and dtype of a preprocessed image.

        Raises:
            SpecError: as ``preprocess``.
        """
        return image_spec_of(lambda image: self.preprocess(image, tf.constant(0, tf.int64)))

    @property
    def is_fused(self) -> bool:
        """Whether the preprocessing takes encoded images, and decodes only what it needs."""
        return hasattr(self.preproc, "of_bytes")

    def preprocess(self, image: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """The user's preprocessing of one decoded image; traced.

        Args:
            image: uint8 [h, w, 3].
            position: int64 scalar, examples seen before it, which decides its augmentation.

        Raises:
            SpecError: the result is no image of known shape.
        """
        return preprocessed(self.preproc, image, size=self.image_size, seed=(self.seed, position))

    @property
    def on_device(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
        """What the training step does to a batch's images from their draws, if anything."""
        preproc: Any = self.preproc
        return preproc.on_device if self.is_fused and preproc.num_draws else None

    def before_device(
        self, image: tf.Tensor, position: tf.Tensor, form: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Any]:
        """What becomes of one image in the input, and the draws of what is left to the device.

        Args:
            image: uint8 [h, w, 3]; or an encoded one, scalar string, only where ``is_fused``.
            position: int64 scalar, as ``preprocess`` takes it.
            form: of an encoded image, what ``forms_of`` says of it.
        """
        if not self.is_fused:
            return self.preprocess(image, position), ()
        preproc: Any = self.preproc
        size, seed = self.image_size, tf.stack([self.seed, position])
        draws = preproc.draws(seed) if self.on_device else ()
        if image.dtype != tf.string:
            return preproc.of_pixels(image, size, size, seed), draws
        how = {"form": form, "max_pixels": self.max_image_pixels, "png16_range": self.png16_range}
        return preproc.of_bytes(image, size, size, seed, **how), draws

    def num_evaluation_batches(self, max_batches: int = 0) -> int:
        """Global batches of one pass, the last one padded; at most max_batches unless that is 0."""
        num_batches = math.ceil(self.source.num_examples / self.batch_size)
        return min(num_batches, max_batches) if max_batches else num_batches

    def evaluation_batches(
        self,
        *,
        first_batch: int = 0,
        max_batches: int = 0,
        excluded: Collection[int] = (),
        share: Share = WHOLE,
    ) -> tf.data.Dataset:
        """One pass in the order of the files; rows beyond the last example are padding.

        Args:
            first_batch: global batches to leave out at the start.
            max_batches: end of the pass in global batches; 0 means all.
            excluded: numbers of bad examples; their rows become padding.
            share: the slices of each global batch to make.

        Returns:
            Dataset of ``Batch``, each one slice of a global batch, with known cardinality.
        """
        in_order = self._in_file_order
        chunks = in_order._chunks(first_batch * self.batch_size, share, in_order._kept())
        batches = in_order._decoded(chunks, excluded, share, pad=True)
        num_batches = max(0, self.num_evaluation_batches(max_batches) - first_batch)
        return batches.take(num_batches * share.count)

    def find_bad_images(self, position: int, *, training: bool) -> list[BadImage]:
        """The examples of the batch at a position that cannot be decoded; runs eagerly.

        Raises:
            DataError: the bytes of an example cannot even be read.
        """
        if training and self.data_service:
            raise DataError(
                f"The tf.data service {self.data_service} could not make a batch, and does not "
                "tell of which example. Its own log may; or train without --data_service, which "
                "names the file."
            )
        order = self if training else self._in_file_order
        if isinstance(self.source, Stream):
            self.source.check_labels(position, order._stream_seed, self.batch_size)
        found = {}
        for number, data in order._read_again(position):
            reason = explain_bad_image(data, max_pixels=self.max_image_pixels)
            if reason is not None:
                found[number] = BadImage(number, self.source.locate(number), reason)
        return [found[number] for number in sorted(found)]

    def _raw_batch(self, position: int) -> Iterator[tuple[int, bytes]]:
        num_chunks = self.batch_size // self._chunk_size(self.batch_size)
        for chunk in self._chunks(position, WHOLE).take(num_chunks):
            yield from zip(chunk.numbers.numpy().tolist(), chunk.data.numpy().tolist(), strict=True)

    def _read_again(self, position: int) -> list[tuple[int, bytes]]:
        """The batch at a position in encoded form.

        Raises:
            DataError: bytes cannot be read; names the example.
        """
        try:
            return list(self._raw_batch(position))
        except tf.errors.OpError as error:
            first, where, failure = position, f"The batch at position {position}", error
        if isinstance(self.source, Table):
            table = self.source
            order = self.order
            for number in order.numbers(first + _steps(self.batch_size)).numpy().tolist():
                try:
                    table.fetch(tf.constant([number], tf.int64))
                except tf.errors.OpError as error:
                    where, failure = table.locate(number), error
                    break
        raise DataError(
            f"{where}: its bytes can no longer be read: {failure.message.splitlines()[0]}. The "
            "file was there when the run started; bring it back and start the run again."
        ) from failure

    def names_at(self, position: int) -> list[str]:
        """Files or records of the examples in the training batch at a position."""
        return [self.source.locate(number) for number, _ in self._raw_batch(position)]

    @property
    def order(self) -> Order | BalancedOrder:
        """Which example of the table training sees at which position."""
        assert isinstance(self.source, Table)
        if not self.balanced_by:
            return Order(self.source.num_examples, self.seed, self.shuffle)
        column = self.source.columns[self.balanced_by]
        return BalancedOrder(np.where(column.present, column.values, -1), self.seed, self.shuffle)

    @property
    def _in_file_order(self) -> Pipeline:
        return dataclasses.replace(self, shuffle=False, balanced_by="")

    @property
    def _stream_seed(self) -> int | None:
        return self.seed if self.shuffle else None

    def _chunk_size(self, rows: int) -> int:
        """Examples that are read and decoded together, a divisor of rows.

        A call costs as much as a hundred tiny images; many large ones together would wait for each
        other and fill the memory.
        """
        most = min(max(16, _CHUNK_PIXELS // self.image_size**2), _LARGEST_CHUNK)
        return next(size for size in range(most, 0, -1) if rows % size == 0)

    def _kept(self) -> tf.Tensor | None:
        return self.memory.images() if self.memory else None

    def _chunks(self, start: int, share: Share, kept: tf.Tensor | None = None) -> tf.data.Dataset:
        """Chunks of ``Encoded``: the given slices of every global batch from start on."""
        rows = share.rows(self.batch_size)
        size = self._chunk_size(rows)
        if isinstance(self.source, Stream):
            start += -start % self.batch_size  # where another batch size has left off
            first = share.first * rows
            wanted = range(first, first + share.count * rows)
            batches = self.source.batches(start, self._stream_seed, self.batch_size, wanted)
            chunks = batches.map(
                lambda *parts: tf.nest.map_structure(
                    lambda t: tf.reshape(t, [-1, size, *t.shape[1:]]), parts
                )
            ).unbatch()
            per_batch = len(wanted) // size

            def with_positions(m: tf.Tensor, parts: tuple[Any, ...]) -> Encoded:
                batch, inner = m // per_batch, m % per_batch
                place = start + batch * self.batch_size + first + inner * size
                return Encoded(place + _steps(size), *parts)

            return chunks.enumerate().map(with_positions)
        table = self.source
        order = self.order
        with tf.device("CPU:0"):  # as tensors here; a graph with millions of constants is slow
            columns = {
                name: (tf.constant(column.values), tf.constant(column.present))
                for name, column in table.columns.items()
            }

        def chunk(m: tf.Tensor) -> Encoded:
            per_slice = rows // size
            batch, inner = m // (share.count * per_slice), m % (share.count * per_slice)
            first = start + batch * self.batch_size + share.first * rows + inner * size
            positions = first + _steps(size)
            numbers = order.numbers(positions)
            labels = {name: tf.gather(values, numbers) for name, (values, _) in columns.items()}
            present = {name: tf.gather(known, numbers) for name, (_, known) in columns.items()}
            data = table.fetch(numbers) if kept is None else tf.gather(kept, numbers)
            return Encoded(positions, numbers, data, labels, present)

        parallel = _PARALLEL if table.fetches_in_parallel or kept is not None else {}
        return tf.data.Dataset.range(np.iinfo(np.int64).max).map(chunk, **parallel)

    def _decoded(
        self, chunks: tf.data.Dataset, excluded: Collection[int], share: Share, pad: bool = False
    ) -> tf.data.Dataset:
        rows = share.rows(self.batch_size)
        size = self._chunk_size(rows)
        excluded_numbers = tf.constant(sorted(excluded), tf.int64)
        side = min(self.image_size, math.isqrt(self.max_image_pixels))  # itself no bad image
        blank = tf.io.encode_png(tf.fill([side, side, 3], tf.constant(128, tf.uint8)))

        def decode(chunk: Encoded) -> Batch:
            is_example, data = tf.ones([size], tf.bool), chunk.data
            if pad:
                is_example &= chunk.positions < self.source.num_examples
            if excluded:
                is_bad = tf.reduce_any(chunk.numbers[:, None] == excluded_numbers[None, :], axis=1)
                is_example &= ~is_bad
            if data.dtype == tf.string:
                data = tf.ensure_shape(data, [size])
                if pad or excluded:  # copies all bytes
                    data = tf.where(is_example, data, blank)
            present = {name: is_example & known for name, known in chunk.present.items()}
            images, draws = self._images(data, chunk.positions)
            return Batch(
                images=images,
                labels={
                    name: where_known(present[name], value, 0)
                    for name, value in chunk.labels.items()
                },
                present=present,
                ids=tf.where(is_example, chunk.numbers, tf.constant(PADDING_ID, tf.int64)),
                draws=draws,
            )

        batches = chunks.map(decode, **_PARALLEL).batch(rows // size, drop_remainder=True)
        merged = batches.map(lambda batch: tf.nest.map_structure(_merge_chunks, batch))
        return merged.prefetch(tf.data.AUTOTUNE)

    def _images(self, data: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """Images as in ``Encoded`` at positions [c] to images and draws as in ``Batch``."""
        if data.dtype != tf.string:
            return self._one_by_one(data, positions)
        forms = forms_of(data)
        given = (forms,) if self.is_fused else ()
        if not self._begins_with_pixels:
            return self._one_by_one(data, positions, *given)
        images: tuple[tf.Tensor, Any] = tf.cond(
            netpbm.are_alike(data, forms, self.max_image_pixels),
            lambda: self._one_by_one(netpbm.pixels(data, forms[0]), positions),
            lambda: self._one_by_one(data, positions, *given),
        )
        return images

    @functools.cached_property
    def _begins_with_pixels(self) -> bool:
        """Whether the first image is raw, and so perhaps all; then they are decoded together."""
        with tf.init_scope():  # now, also while a graph is traced
            try:
                if isinstance(self.source, Stream):
                    first = self.source.first_images(1)
                else:
                    first = self.source.fetch(tf.constant([0], tf.int64))
            except tf.errors.OpError:  # told when its turn comes
                return False
            return bool(netpbm.headers(first)[0, 0] > 0)

    def _one_by_one(self, data: tf.Tensor, *others: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def one_image(image: tf.Tensor, *others: tf.Tensor) -> tuple[tf.Tensor, Any]:
            if image.dtype == tf.string and not self.is_fused:
                image = decoder(self.max_image_pixels, self.png16_range)(image)
            return self.before_device(image, *others)

        draws: Any = ()
        if self.on_device:
            draws = tf.TensorSpec([self.preproc.num_draws], tf.float32)  # type: ignore[attr-defined]
        images: tuple[tf.Tensor, Any] = tf.map_fn(
            lambda parts: one_image(*parts),
            (data, *others),
            fn_output_signature=(self.image_spec, draws),
        )
        return images


def where_known(known: tf.Tensor, values: tf.Tensor, other: float) -> tf.Tensor:
    """Rows of values [B, ...] where known [B], elsewhere another number."""
    rows = tf.reshape(known, [-1, *[1] * (values.shape.rank - 1)])
    return tf.where(rows, values, tf.cast(other, values.dtype))


def _steps(count: int) -> tf.Tensor:
    return tf.range(count, dtype=tf.int64)


def _merge_chunks(chunks: tf.Tensor) -> tf.Tensor:
    """[n, c, ...] to [n * c, ...]."""
    shape = chunks.shape
    return tf.reshape(chunks, [shape[0] * shape[1], *shape[2:]])
