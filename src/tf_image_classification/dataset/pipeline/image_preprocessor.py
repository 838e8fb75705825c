"""From encoded to preprocessed images: decoding and the user's preprocessing, image by image.

preprocessor = ImagePreprocessor(preproc=preproc, image_size=224, max_image_pixels=10**8)
image = preprocessor.preprocess(decoded, tf.constant(0, tf.int64))
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_image_classification.config import FULL_RANGE, PixelRange
from tf_image_classification.dataset.image import netpbm
from tf_image_classification.dataset.image.decode import decoder
from tf_image_classification.dataset.image.decode_and_crop import image_headers
from tf_image_classification.dataset.pipeline.protocols import (
    BytesPreprocessing,
    OnDevice,
    Preproc,
)
from tf_image_classification.errors import SpecError
from tf_image_classification.system.autograph import converted, unconverted


def preprocessed(
    preproc: Preproc, image: tf.Tensor, *, size: int, seed: tuple[int, tf.Tensor]
) -> tf.Tensor:
    """A decoded image after a user's ``preproc``; traced.

    Args:
        preproc: ``preproc(image, width, height)``, optionally also taking ``seed``.
        image: uint8 [h, w, 3].
        size: width and height handed to ``preproc``, in pixels.
        seed: the run's seed and the global example index.

    Raises:
        SpecError: the result is no image of known shape.
    """
    if "seed" in inspect.signature(preproc).parameters:
        image = converted(preproc)(image, size, size, seed=tf.stack(seed))
    else:
        image = converted(preproc)(image, size, size)
    image = tf.convert_to_tensor(image)
    if image.shape.rank != 3 or not image.shape.is_fully_defined():
        raise SpecError(
            f"preproc returns an image of shape {image.shape}, expected three known sizes "
            f"[height, width, channels]. Resize to the width and height that it is given "
            f"({size}), or call image.set_shape."
        )
    return image


def bytes_preproc_of(preproc: Preproc) -> BytesPreprocessing | None:
    """A preprocessing that takes encoded images too and decodes only what it needs, else None."""
    return preproc if isinstance(preproc, BytesPreprocessing) else None


def image_spec_of(preprocess: Callable[[tf.Tensor], tf.Tensor]) -> tf.TensorSpec:
    """Shape and dtype of a function's result for one decoded image; traces the function."""
    traced = tf.function(unconverted(preprocess)).get_concrete_function(
        tf.TensorSpec([None, None, 3], tf.uint8)
    )
    return tf.TensorSpec(traced.output_shapes, traced.output_dtypes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagePreprocessor:
    """Decodes and preprocesses images.

    Attributes:
        preproc: the user's ``preproc(image, width, height)``, optionally also taking ``seed``.
        image_size: width and height handed to ``preproc``, in pixels.
        max_image_pixels: larger images are bad images.
        seed: with the global example index, decides the augmentation.
        png16_range: the values of 16-bit PNGs that become 0 and 255.
    """

    preproc: Preproc
    image_size: int
    max_image_pixels: int
    seed: int = 0
    png16_range: PixelRange = FULL_RANGE

    @property
    def bytes_preproc(self) -> BytesPreprocessing | None:
        """The preprocessing where it takes encoded images, else None."""
        return bytes_preproc_of(self.preproc)

    @property
    def on_device(self) -> OnDevice | None:
        """The part of the augmentation that the training step applies to whole batches, if any."""
        fused = self.bytes_preproc
        return fused.on_device if fused and fused.num_random_parameters else None

    @property
    def image_spec(self) -> tf.TensorSpec:
        """Shape and dtype of a preprocessed image.

        Raises:
            SpecError: as ``preprocess``.
        """
        return image_spec_of(lambda image: self.preprocess(image, tf.constant(0, tf.int64)))

    @property
    def decode(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Encoded image, scalar string, to uint8 [h, w, 3]; traced."""
        decode: Callable[[tf.Tensor], tf.Tensor] = decoder(self.max_image_pixels, self.png16_range)
        return decode

    def preprocess(self, image: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """One decoded image after the whole preprocessing; traced.

        Args:
            image: uint8 [h, w, 3].
            index: its global example index, int64 scalar.

        Raises:
            SpecError: the result is no image of known shape.
        """
        return preprocessed(self.preproc, image, size=self.image_size, seed=(self.seed, index))

    def before_device(
        self, image: tf.Tensor, index: tf.Tensor, header: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Any]:
        """One image preprocessed but for ``on_device``, and the random parameters of that.

        Args:
            image: uint8 [h, w, 3], or encoded, scalar string.
            index: its global example index, int64 scalar.
            header: its row of ``image_headers``, needed of an encoded image with ``bytes_preproc``.

        Returns:
            The image, and float32 [n] for ``on_device`` or () where it has nothing to do.
        """
        fused = self.bytes_preproc
        if fused is None:
            image = self.decode(image) if image.dtype == tf.string else image
            return self.preprocess(image, index), ()
        size, seed = self.image_size, tf.stack([self.seed, index])
        parameters = fused.random_parameters(seed) if self.on_device else ()
        if image.dtype != tf.string:
            return fused.from_pixels(image, size, size, seed), parameters
        assert header is not None
        image = fused.from_bytes(
            image,
            size,
            size,
            seed,
            header=header,
            max_pixels=self.max_image_pixels,
            png16_range=self.png16_range,
        )
        return image, parameters

    def images(
        self, data: tf.Tensor, indices: tf.Tensor, *, may_be_raw: bool
    ) -> tuple[tf.Tensor, Any]:
        """A chunk of images preprocessed but for ``on_device``; traced.

        Args:
            data: encoded, string [c], or decoded, uint8 [c, h, w, 3].
            indices: global example indices, int64 [c].
            may_be_raw: whether small raw images of one size are looked for and decoded at once.

        Returns:
            Images [c, H, W, C], and float32 [c, n] or () as of ``before_device``.
        """
        if data.dtype != tf.string:
            return self._one_by_one(data, indices)
        headers = image_headers(data)
        given = (headers,) if self.bytes_preproc else ()
        if not may_be_raw:
            return self._one_by_one(data, indices, *given)
        images: tuple[tf.Tensor, Any] = tf.cond(
            netpbm.are_alike(data, headers, self.max_image_pixels),
            lambda: self._one_by_one(netpbm.pixels(data, headers[0]), indices),
            lambda: self._one_by_one(data, indices, *given),
        )
        return images

    def _one_by_one(self, *parts: tf.Tensor) -> tuple[tf.Tensor, Any]:
        fused, parameters = self.bytes_preproc, ()
        if fused and self.on_device:
            parameters = tf.TensorSpec([fused.num_random_parameters], tf.float32)
        images: tuple[tf.Tensor, Any] = tf.map_fn(
            lambda row: self.before_device(*row),
            parts,
            fn_output_signature=(self.image_spec, parameters),
        )
        return images
