"""The evaluation preprocessing of built-in backbones without TensorFlow, bit for bit the same.

preprocessing = preprocessing_of(json.loads(run_json))
image = preprocessing.prepare(data)                       float32 [H, W, 3], 0-255
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.config import (
    DEFAULT_MAX_PIXELS,
    FULL_RANGE,
    PixelRange,
    read_pixel_range,
)
from tf_image_classification.errors import BadImageError, SpecError
from tf_image_classification.serving.light.decode import decode
from tf_image_classification.serving.light.resize import resize


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightPreprocessing:
    """Decoding, antialiased center crop and resizing; may be used from several threads.

    Attributes:
        image_size: height and width of the result, in pixels.
        eval_crop: center-crop fraction, per side.
        eval_stretch: greatest change of the aspect ratio; 1: none.
        max_pixels: larger images are rejected.
        png16_range: the values of 16-bit PNGs that become 0 and 255.
    """

    image_size: int
    eval_crop: float = 1.0
    eval_stretch: float = 1.0
    max_pixels: int = DEFAULT_MAX_PIXELS
    png16_range: PixelRange = FULL_RANGE

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a prepared image."""
        return self.image_size, self.image_size, 3

    def prepare(self, data: bytes) -> npt.NDArray[np.float32]:
        """One encoded image, decoded and preprocessed: float32 [H, W, 3], 0-255.

        Raises:
            BadImageError: it is not an image that can be used; gives the reason.
        """
        return self._resized(decode(data, max_pixels=self.max_pixels, png16_range=self.png16_range))

    def prepare_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """One decoded image preprocessed: float32 [H, W, 3], 0-255.

        Args:
            pixels: uint8 [h, w, 3] or [h, w].

        Raises:
            BadImageError: the pixels are of another type or shape, or too many.
        """
        return self._resized(as_rgb(pixels, max_pixels=self.max_pixels))

    def _resized(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        top, left, height, width = central_window(
            image.shape[:2], self.image_size, share=self.eval_crop, stretch=self.eval_stretch
        )
        part = image[top : top + height, left : left + width]
        return resize(part, self.image_size, self.image_size)


def preprocessing_of(
    run: Mapping[str, Any], *, max_pixels: int | None = None
) -> LightPreprocessing:
    """The preprocessing of a run.

    Args:
        run: the content of its ``run.json``.
        max_pixels: larger images are rejected; None: the limit of the training.

    Raises:
        SpecError: the run's spec has its own preprocessing, which needs TensorFlow.
    """
    spec, settings = str(run["spec"]), run["settings"]
    if not settings.get("backbone") or not spec.endswith(_BUILT_IN_SPECS):
        raise SpecError(
            f"The spec {spec.rpartition('/')[2]} has its own preprocessing, which needs TensorFlow."
        )
    return LightPreprocessing(
        image_size=int(settings["image_size"]),
        eval_crop=float(settings.get("eval_crop") or 1.0),
        eval_stretch=float(settings.get("eval_stretch") or 1.0),
        max_pixels=int(settings["max_image_pixels"]) if max_pixels is None else max_pixels,
        png16_range=read_pixel_range(settings.get("png16_range", "full")) or FULL_RANGE,
    )


_BUILT_IN_SPECS = (
    "tf_image_classification/backbone_spec.py:BackboneSpec",
    "tf_image_classification.backbone_spec:BackboneSpec",
)


def as_rgb(pixels: npt.NDArray[np.uint8], *, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Pixels [h, w, 3] or [h, w] as [h, w, 3].

    Raises:
        BadImageError: they are of another type or shape, or too many.
    """
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not is_image:
        raise BadImageError(
            f"pixels are {pixels.dtype} {list(pixels.shape)}, expected uint8 [h, w, 3] or [h, w]"
        )
    if not 0 < pixels.shape[0] * pixels.shape[1] <= max_pixels:
        raise BadImageError(f"{pixels.shape[0]} x {pixels.shape[1]} pixels: none, or too many")
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)


def central_window(
    size: tuple[int, ...], image_size: int, *, share: float, stretch: float
) -> tuple[int, int, int, int]:
    """Top, left, height and width of the center crop, as ``augment.central_window``."""
    sides, fraction = np.array(size, np.float32), np.float32(share)
    scale = np.min(sides / np.float32(image_size)) * fraction
    crop = np.full(2, scale * np.float32(image_size), np.float32)
    if stretch > 1.0:
        longer = scale * np.float32(stretch) * np.float32(image_size)
        crop = np.minimum(longer, sides * fraction)
    height, width = (max(int(side), 1) for side in np.rint(crop))
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width
