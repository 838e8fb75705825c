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

from tf_image_classification.dataset import augment
from tf_image_classification.dataset.fused import Window, read_part, resized_part

Change = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""An image and a seed to the changed image."""

CHANGES: dict[str, tuple[Change, ...]] = {
    "none": (),
    "flip": (augment.random_flip,),
    "translate": (augment.random_flip, augment.random_translate),
    "crop": (augment.random_flip,),
    "colour": (augment.random_flip, augment.random_colour),
    "rand": (augment.random_flip, augment.rand_augment, augment.random_erasing),
    "trivial": (augment.random_flip, augment.trivial_augment, augment.random_erasing),
}
"""What happens to the part of a training image that was taken, by the name of the augmentation."""

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
        window = self._window(width, height, seed)(tf.shape(image)[:2])
        part = resized_part(image, *window, height, width, is_exact=not self.is_training)
        return self._changed(part, seed)

    def of_bytes(
        self,
        data: tf.Tensor,
        width: int,
        height: int,
        seed: tf.Tensor,
        *,
        is_upright: tf.Tensor,
        max_pixels: int,
    ) -> tf.Tensor:
        """The same from an encoded image: exactly in evaluation, nearly in training.

        Args:
            data: scalar string, as ``decode_image`` takes it.
            width: of the result, in pixels.
            height: of the result, in pixels.
            seed: int64 [2].
            is_upright: as ``read_part`` takes it.
            max_pixels: as ``decode_image`` takes it.
        """
        part = read_part(
            data,
            self._window(width, height, seed),
            height,
            width,
            is_upright=is_upright,
            max_pixels=max_pixels,
            is_exact=not self.is_training,
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
        flips, *others = CHANGES[self.augmentation] or (lambda image, seed: image,)
        for change in others:
            image = change(image, seed)
        if others:
            image = tf.clip_by_value(image, 0.0, 255.0)
        # Mirroring comes last, when there is least to move.
        return flips(tf.cast(image + 0.5, tf.uint8), seed)
