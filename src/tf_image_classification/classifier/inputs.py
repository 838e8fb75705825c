"""The images that a Python program gives for inference: paths, folders, pixels, PIL images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tf_image_classification.dataset.image.pixels import encoded, is_array, is_image, is_unit_range
from tf_image_classification.dataset.in_memory import is_path
from tf_image_classification.errors import DataError, TficError


def named_images(images: Any) -> Iterator[tuple[str, Any]]:
    """The name and the content of each image, or its error; in order, as soon as it is found.

    Args:
        images: as ``Classifier.predict``.

    Raises:
        DataError: it is neither an image nor a collection of images, or a pattern matches no file.
    """
    from tf_image_classification.serving.input_images import check_patterns, find_images

    if is_path(images):
        check_patterns([str(images)])
    for number, image in enumerate(_each(images)):
        if is_path(image):
            for found in find_images([str(image)]):
                yield found.name, found.content()
        else:
            yield str(number), _content(image)


def _each(images: Any) -> Iterable[Any]:
    """The images one by one."""
    if is_path(images):
        return [images]
    is_batch = is_array(images) and (
        np.ndim(images) == 4 or (np.ndim(images) == 3 and images.shape[-1] not in (1, 3, 4))
    )
    if is_batch:
        batch = np.asarray(images)
        if batch.dtype.kind != "f":
            return batch
        is_unit = is_unit_range(batch)
        return (_encoded(image, is_unit) for image in batch)
    if is_image(images):
        return [images]
    if isinstance(images, Iterable) and not is_array(images):
        return images
    shape = f" {list(images.shape)}" if is_array(images) else ""
    raise DataError(
        f"images is {type(images).__name__}{shape}, expected paths, pixels [h, w] or [h, w, 3], a "
        "batch [n, h, w, 3], PIL images or encoded images."
    )


def _content(image: Any) -> Any:
    """An image as the predictor takes it, or the error of an image that it cannot take."""
    if isinstance(image, (bytes, Exception)):
        return image
    is_plain = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if is_plain and (image.ndim == 2 or image.shape[2:] == (3,)):
        return image
    if not is_image(image):
        return DataError(f"this is {type(image).__name__}, expected a path or an image")
    return _encoded(image, None)


def _encoded(image: Any, is_unit: bool | None) -> bytes | TficError:
    try:
        return encoded(image, is_unit=is_unit)
    except TficError as error:
        return error
