"""The preprocessing of built-in backbones, also for specs of one's own.

    def get_preproc_fn(self, is_training):
        return Preprocessing(is_training=is_training, augmentation="colour")

It takes encoded images too (``BytesPreprocessing``), so the input pipeline decodes only the part of
each image that is needed.
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
    "augmix": (augment.augmix,),
}
"""By augmentation, the changes of each image; ``on_device`` applies the rest to batches."""

_CENTER_CROPPED = ("none", "flip", "translate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Random crop and augmentation in training; antialiased center crop in evaluation.

    Attributes:
        is_training: True gives uint8, augmented, and False float32; pixels 0-255.
        augmentation: one of ``CHANGES``.
        crop_area: minimum area fraction of the random crop.
        eval_crop: center-crop fraction at evaluation, per side (timm: crop_pct).
        eval_stretch: greatest change of the aspect ratio at evaluation; 1: none.
    """

    is_training: bool
    augmentation: str = "crop"
    crop_area: float = 0.35
    eval_crop: float = 1.0
    eval_stretch: float = 1.0

    def __call__(
        self, image: tf.Tensor, width: int, height: int, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """One decoded image preprocessed; as the result of ``EstimatorSpec.get_preproc_fn``."""
        image = self.from_pixels(image, width, height, seed)
        if not self.num_random_parameters:
            return image
        assert seed is not None
        return self.on_device(image[tf.newaxis], self.random_parameters(seed)[tf.newaxis])[0]

    @property
    def num_random_parameters(self) -> int:
        """Random parameters per image for ``on_device``; 0 where that changes nothing."""
        if not self.is_training or self.augmentation == "none":
            return 0
        return 4 if self.augmentation == "colour" else 1

    def random_parameters(self, seed: tf.Tensor) -> tf.Tensor:
        """The random parameters of an image for ``on_device``, float32 [num_random_parameters]."""
        flip = augment.flip_parameter(seed)[tf.newaxis]
        if self.augmentation != "colour":
            return flip
        return tf.concat([flip, augment.colour_parameters(seed)], axis=0)

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
        """One decoded image preprocessed but for ``on_device``."""
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
        """One encoded image preprocessed but for ``on_device``; bit-identical in evaluation only.

        Args:
            data: scalar string, as of ``decode_image``.
            width: of the result, in pixels.
            height: of the result, in pixels.
            seed: int64 [2].
            header: as of ``read_part``.
            max_pixels: as of ``decode_image``.
            png16_range: as of ``decode_image``.
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
        if self.is_training and self.augmentation not in _CENTER_CROPPED:
            assert seed is not None
            scale = (self.crop_area, 1.0)
            return lambda size: augment.random_window(size, height, width, seed, scale=scale)
        return lambda size: augment.central_window(
            size, height, width, share=self.eval_crop, stretch=self.eval_stretch
        )

    def _changed(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        if not self.is_training:
            return image
        changes = CHANGES[self.augmentation]
        for change in changes:
            image = change(image, seed)
        if changes:
            image = tf.clip_by_value(image, 0.0, 255.0)
        return tf.cast(image + 0.5, tf.uint8)
