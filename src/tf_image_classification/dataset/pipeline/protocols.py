"""The parts of the input pipeline that have more than one implementation, as protocols.

``BatchSource`` is what a run trains and evaluates on: the framework's ``Pipeline``, or the batches
of a spec's own ``input_fn``. ``ExampleReader`` reads encoded examples for a ``Pipeline``: by number
(``IndexedReader``) or in sequence (``StreamingReader``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import tensorflow as tf

from tf_image_classification.config import PixelRange
from tf_image_classification.dataset.pipeline.layout import WHOLE, BatchLayout, Shard
from tf_image_classification.dataset.pipeline.sampler import Sampler
from tf_image_classification.dataset.pipeline.stream import Stream
from tf_image_classification.dataset.table import Table

if TYPE_CHECKING:
    from tf_image_classification.dataset.pipeline.bad_images import BadImage
    from tf_image_classification.dataset.pipeline.pipeline import Pipeline

OnDevice = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Images [B, H, W, C] and their random parameters, float32 [B, n], to the changed images."""


class BatchSource(Protocol):
    """Batches for training and evaluation."""

    @property
    def batch_size(self) -> int:
        """Examples in a global batch."""

    @property
    def num_examples(self) -> int | None:
        """Exact number of examples; None where only the user's function can count them."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest that identifies the examples."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a preprocessed image.

        Raises:
            SpecError: the preprocessing gives no image of known shape.
        """

    @property
    def table(self) -> Table | None:
        """The examples by number; None where they can only be read in sequence."""

    @property
    def as_pipeline(self) -> Pipeline | None:
        """The framework's pipeline; None for the batches of a user's function."""

    @property
    def on_device(self) -> OnDevice | None:
        """The part of the augmentation that the training step applies to whole batches, if any."""

    def locate(self, number: int) -> str:
        """A name for an example in a message: its file, and its record or line."""

    def training_batches(
        self, start: int, *, excluded: Collection[int] = (), shard: Shard = WHOLE
    ) -> tf.data.Dataset:
        """Endless batches.

        Args:
            start: global example index of the first row: examples seen before, over all epochs.
            excluded: numbers of bad examples; their rows become placeholder rows.
            shard: the slices of each global batch to make.

        Returns:
            Dataset of ``Batch``, each one slice of a global batch.
        """

    def num_evaluation_batches(self, max_batches: int = 0) -> int | None:
        """Global batches of one pass, at most max_batches unless that is 0; None: unknown."""

    def evaluation_batches(
        self,
        *,
        first_batch: int = 0,
        max_batches: int = 0,
        excluded: Collection[int] = (),
        shard: Shard = WHOLE,
    ) -> tf.data.Dataset:
        """One pass over the examples; rows beyond the last example are placeholder rows.

        Args:
            first_batch: global batches to leave out at the start.
            max_batches: end of the pass in global batches; 0 means all.
            excluded: numbers of bad examples; their rows become placeholder rows.
            shard: the slices of each global batch to make.

        Returns:
            Dataset of ``Batch``, each one slice of a global batch.
        """

    def find_bad_images(self, start: int, *, training: bool) -> list[BadImage]:
        """The examples of one batch that cannot be decoded; runs eagerly, after a failure.

        Args:
            start: global example index of the batch's first row.
            training: whether it was a training batch.

        Raises:
            DataError: an example cannot even be read.
        """

    def names_at(self, start: int) -> list[str]:
        """A name for each example of the training batch that begins at a global example index."""


class ExampleReader(Protocol):
    """Encoded examples in the order of a training, or in the order of the files."""

    @property
    def source(self) -> Table | Stream:
        """The examples, map-style or iterable."""

    @property
    def table(self) -> Table | None:
        """The source where it is map-style, else None."""

    @property
    def sampler(self) -> Sampler | None:
        """Decides which example is read when; None where they are read in sequence."""

    @property
    def in_file_order(self) -> ExampleReader:
        """The same without shuffling and balancing, for an evaluation."""

    def cached_images(self) -> tf.Tensor | None:
        """All images decoded, uint8 [N, h, w, 3], where they are kept in memory; else None."""

    def chunks(self, start: int, layout: BatchLayout) -> tf.data.Dataset:
        """Endless dataset of ``EncodedChunk``: the layout's rows of each global batch.

        Args:
            start: global example index of the first batch.
            layout: the rows to read, and how many together.
        """

    def encoded_batch(self, start: int, batch_size: int) -> list[tuple[int, bytes]]:
        """Number and encoded image of each example of a global batch; runs eagerly.

        Raises:
            DataError: an example cannot be read, or its label is wrong; names it.
        """

    def sample_images(self, count: int) -> Iterator[tuple[int, bytes]]:
        """Number and encoded image of some examples, at most count; runs eagerly."""


@runtime_checkable
class BytesPreprocessing(Protocol):
    """A preprocessing that also takes encoded images, and decodes only what it needs of them."""

    @property
    def num_random_parameters(self) -> int:
        """Random parameters that ``on_device`` takes for an image; 0: it changes nothing."""

    def random_parameters(self, seed: tf.Tensor) -> tf.Tensor:
        """Float32 [num_random_parameters] for ``on_device``, from a seed, int64 [2]."""

    def on_device(self, images: tf.Tensor, random_parameters: tf.Tensor) -> tf.Tensor:
        """The augmentation of a whole batch; as ``OnDevice``."""

    def from_pixels(
        self, image: tf.Tensor, width: int, height: int, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """A decoded image, uint8 [h, w, 3], preprocessed but for ``on_device``."""

    def from_bytes(
        self,
        data: tf.Tensor,
        width: int,
        height: int,
        seed: tf.Tensor,
        *,
        header: tf.Tensor,
        max_pixels: int,
        png16_range: PixelRange,
    ) -> tf.Tensor:
        """An encoded image, scalar string, preprocessed but for ``on_device``."""


Preproc = Callable[..., Any]
"""``preproc(image, width, height)``, optionally also taking ``seed``, int64 [2]."""
