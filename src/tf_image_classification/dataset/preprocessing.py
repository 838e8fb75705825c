"""The preprocessing that we offer, for decoded and for encoded images.

    def get_preproc_fn(self, is_training):
        return Preprocessing(is_training=is_training, augmentation="colour")

The input pipeline sees that such a one can be applied to the bytes of a file, and decodes no more
of them than is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tf_image_classification.config import FULL_RANGE, PixelRange
from tf_image_classification.dataset import augment
from tf_image_classification.dataset.image.decode_and_crop import Window, read_part, resized_part

Change = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""An image and a seed to the changed image."""

CHANGES: dict[str, tuple[Change, ...]] = {
    "none": (),
    "flip": (),
    "translate": (augment.random_translate,),
    "crop": (),
    "colour": (),
    "rand": (augment.rand_augment, augment.random_erasing),
    "trivial": (augment.trivial_augment, augment.random_erasing),
}
"""By the augmentation's name what happens to each training image; whole batches see the rest."""

_OF_THE_MIDDLE = ("none", "flip", "translate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """A random part of the image, changed, in training; else its middle, antialiased.

    Attributes:
        is_training: whether images are augmented; they are then uint8, else float32, pixels 0-255.
        augmentation: one of ``CHANGES``.
        crop_area: least share of a training image's area that a random part has.
        eval_crop: share of the largest fitting part that the middle has, in each direction.
    """

    is_training: bool
    augmentation: str = "crop"
    crop_area: float = 0.35
    eval_crop: float = 1.0

    def __call__(
        self, image: tf.Tensor, width: int, height: int, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The preprocessing of a decoded image; as ``EstimatorSpec.get_preproc_fn`` says."""
        image = self.from_pixels(image, width, height, seed)
        if not self.num_random_parameters:
            return image
        assert seed is not None
        return self.on_device(image[tf.newaxis], self.random_parameters(seed)[tf.newaxis])[0]

    @property
    def num_random_parameters(self) -> int:
        """Random numbers that ``on_device`` needs of an image; 0 where it has nothing to do."""
        if not self.is_training or self.augmentation == "none":
            return 0
        return 4 if self.augmentation == "colour" else 1

    def random_parameters(self, seed: tf.Tensor) -> tf.Tensor:
        """The random parameters of an image for ``on_device``, float32 [num_random_parameters]."""
        flip = augment.flip_draw(seed)[tf.newaxis]
        if self.augmentation != "colour":
            return flip
        return tf.concat([flip, augment.colour_draws(seed)], axis=0)

    def on_device(self, images: tf.Tensor, random_parameters: tf.Tensor) -> tf.Tensor:
        """The augmentation of a whole batch at once, where the network is.

        Args:
            images: uint8 [B, H, W, C].
            random_parameters: of each image, float32 [B, num_random_parameters].

        Returns:
            The mirrored and coloured images, uint8.
        """
        if self.augmentation == "colour":
            changed = augment.coloured(tf.cast(images, tf.float32), random_parameters[:, 1:])
            images = tf.cast(changed + 0.5, tf.uint8)
        return augment.flipped(images, random_parameters[:, 0])

    def from_pixels(
        self, image: tf.Tensor, width: int, height: int, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The same but for what ``on_device`` does."""
        window = self._window(width, height, seed)(tf.shape(image)[:2])
        part = resized_part(image, *window, height, width, is_exact=not self.is_training)
        return self._changed(part, seed)

    def from_bytes(
        self,
        data: tf.Tensor,
        width: int,
        height: int,
        seed: tf.Tensor,
        *,
        header: tf.Tensor,
        max_pixels: int,
        png16_range: PixelRange = FULL_RANGE,
    ) -> tf.Tensor:
        """As ``from_pixels`` from an encoded image: exactly in evaluation, nearly in training.

        Args:
            data: scalar string, as ``decode_image`` takes it.
            width: of the result, in pixels.
            height: of the result, in pixels.
            seed: int64 [2].
            header: as ``read_part`` takes it.
            max_pixels: as ``decode_image`` takes it.
            png16_range: as ``decode_image`` takes it.
        """
        part = read_part(
            data,
            self._window(width, height, seed),
            height,
            width,
            header=header,
            max_pixels=max_pixels,
            is_exact=not self.is_training,
            png16_range=png16_range,
        )
        return self._changed(part, seed)

    def _window(self, width: int, height: int, seed: tf.Tensor | None) -> Window:
        if self.is_training and self.augmentation not in _OF_THE_MIDDLE:
            assert seed is not None
            scale = (self.crop_area, 1.0)
            return lambda size: augment.random_window(size, height, width, seed, scale=scale)
        return lambda size: augment.central_window(size, height, width, share=self.eval_crop)

    def _changed(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        if not self.is_training:
            return image
        changes = CHANGES[self.augmentation]
        for change in changes:
            image = change(image, seed)
        if changes:
            image = tf.clip_by_value(image, 0.0, 255.0)
        return tf.cast(image + 0.5, tf.uint8)
