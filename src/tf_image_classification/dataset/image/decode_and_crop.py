"""Cropped and resized parts of encoded images, decoding only the pixels of the part.

    headers = image_headers(data)
    part = read_part(data[0], window, 224, 224, header=headers[0], max_pixels=10**8, is_exact=False)

Of an upright JPEG only the rows and columns of the part are decoded; a part more than twice as
large as the result is decoded at 1/2, 1/4 or 1/8 of its size, which JPEG allows at little cost. Of
raw pixels (Netpbm) only the part's rows are read. All other images are decoded as a whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from tf_image_classification.config import FULL_RANGE, PixelRange
from tf_image_classification.dataset.image import netpbm
from tf_image_classification.dataset.image.byte_ops import branch_apart, within_limit
from tf_image_classification.dataset.image.decode import decoder, jpeg_size
from tf_image_classification.dataset.image.exif import are_upright
from tf_image_classification.dataset.image.limits import TENSORFLOW_MAX_PIXELS

Window = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""Height and width of an image, int32 [2], to corner and size of a part, int32 [2] each."""

_MARGIN = 2  # pixels around a part, for the interpolation of its colours
_RATIOS = (1, 2, 4, 8)


def read_part(
    data: tf.Tensor,
    window: Window,
    height: int,
    width: int,
    *,
    header: tf.Tensor,
    max_pixels: int,
    is_exact: bool,
    png16_range: PixelRange = FULL_RANGE,
) -> tf.Tensor:
    """A part of an encoded image, resized; works traced and eagerly.

    Args:
        data: scalar string, as ``decode_image`` takes it.
        window: chooses the part.
        height: of the result, in pixels.
        width: of the result, in pixels.
        header: int32 [4], the image's row of ``image_headers``.
        max_pixels: as ``decode_image`` takes it.
        is_exact: True gives the same bits as decoding the whole image and resizing the part with
            antialiasing; False takes half the time and interpolates between 2 x 2 neighbours.
        png16_range: as ``decode_image`` takes it.

    Returns:
        float32 [height, width, 3], 0-255.

    Raises:
        tf.errors.InvalidArgumentError: as ``decode_image``.
    """

    def jpeg() -> tf.Tensor:
        size = tf.cast(jpeg_size(data, max_pixels), tf.int32)
        offset, crop = window(size)
        if not is_exact:
            return _fast_part(data, size, offset, crop, height, width)
        start = tf.maximum(offset - _MARGIN, 0)
        end = tf.minimum(offset + crop + _MARGIN, size)
        around = _decode(data, start, end - start, ratio=1)
        return resized_part(around, offset - start, crop, height, width)

    def of_pixels(image: tf.Tensor, offset: tf.Tensor, crop: tf.Tensor) -> tf.Tensor:
        return resized_part(image, offset, crop, height, width, is_exact=is_exact)

    def raw() -> tf.Tensor:
        size = header[1:3]
        whole = within_limit(data, tf.cast(size, tf.int64), min(max_pixels, TENSORFLOW_MAX_PIXELS))
        offset, crop = window(size)
        part = netpbm.part(whole, header, offset, crop)
        return of_pixels(part, tf.zeros_like(offset), crop)

    def plain() -> tf.Tensor:
        image = decoder(max_pixels, png16_range)(data)
        return of_pixels(image, *window(tf.shape(image)[:2]))

    return tf.switch_case(1 + tf.sign(header[0]), [jpeg, branch_apart(plain), branch_apart(raw)])


def resized_part(
    image: tf.Tensor,
    offset: tf.Tensor,
    crop: tf.Tensor,
    height: int,
    width: int,
    *,
    is_exact: bool = True,
) -> tf.Tensor:
    """A part of an image at another size, float32, by antialiased bilinear interpolation.

    Args:
        image: [h, w, C].
        offset: top left corner of the part, int32 [2].
        crop: its size, int32 [2].
        height: of the result, in pixels.
        width: of the result, in pixels.
        is_exact: False interpolates a part of less than twice the size between 2 x 2 neighbours
            without antialiasing, in a fifth of the time.
    """
    part = tf.slice(image, [offset[0], offset[1], 0], [crop[0], crop[1], -1])

    def exact() -> tf.Tensor:
        return tf.image.resize(part, [height, width], antialias=True)

    is_small = tf.reduce_all(crop < 2 * tf.constant([height, width]))
    fast = functools.partial(_from_neighbours, part, height, width)
    result = exact() if is_exact else tf.cond(is_small, fast, exact)
    return tf.ensure_shape(result, [height, width, image.shape[-1]])


def _from_neighbours(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """An image at another size, float32, interpolated between 2 x 2 neighbours."""

    def resized(image: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.ResizeBilinear(
            images=image[tf.newaxis], size=[height, width], half_pixel_centers=True
        )[0]

    # TensorFlow resizes floats twice as fast as bytes: worth a cast of small images.
    shape = tf.shape(image)
    return tf.cond(
        shape[0] * shape[1] < 2 * height * width,
        lambda: resized(tf.cast(image, tf.float32)),
        lambda: resized(image),
    )


def _fast_part(
    data: tf.Tensor, size: tf.Tensor, offset: tf.Tensor, crop: tf.Tensor, height: int, width: int
) -> tf.Tensor:
    """The part, resized from the JPEG decoded at the smallest sufficient scale."""
    wanted = tf.constant([height, width], tf.float32)
    scale = tf.reduce_min(tf.cast(crop, tf.float32) / wanted)
    choice = tf.reduce_sum(tf.cast(scale >= tf.constant(_RATIOS[1:], tf.float32), tf.int32))

    def at(ratio: int) -> Callable[[], tf.Tensor]:
        def read() -> tf.Tensor:
            start, whole = offset // ratio, (size + ratio - 1) // ratio
            end = tf.minimum((offset + crop + ratio - 1) // ratio, whole)
            image = _decode(data, start, end - start, ratio=ratio, dct_method="INTEGER_FAST")
            if ratio == 1:
                return _from_neighbours(image, height, width)
            # The centers of the first and last result pixels, in pixels of this image.
            step = tf.cast(crop, tf.float32) / wanted
            first = (tf.cast(offset, tf.float32) + step / 2) / ratio - 0.5
            first -= tf.cast(start, tf.float32)
            last = first + step * (wanted - 1.0) / ratio
            edge = tf.cast(end - start - 1, tf.float32)
            ends = tf.clip_by_value(tf.stack([first, last]), 0.0, edge) / tf.maximum(edge, 1.0)
            box = tf.reshape(ends, [1, 4])  # top, left, bottom, right
            return tf.image.crop_and_resize(image[None], box, [0], [height, width])[0]

        return read

    part = tf.switch_case(choice, [at(1), *(branch_apart(at(ratio)) for ratio in _RATIOS[1:])])
    return tf.ensure_shape(part, [height, width, 3])


def _decode(
    data: tf.Tensor,
    start: tf.Tensor,
    extent: tf.Tensor,
    *,
    ratio: int,
    dct_method: str = "INTEGER_ACCURATE",  # as in decode_image
) -> tf.Tensor:
    window = tf.concat([start, extent], axis=0)
    return tf.io.decode_and_crop_jpeg(data, window, channels=3, ratio=ratio, dct_method=dct_method)


def image_headers(data: tf.Tensor) -> tf.Tensor:
    """The headers that ``read_part`` needs, read for a whole chunk at once, which is faster.

    A JPEG is decoded as a whole where its EXIF data are broken or not at the beginning, or where
    it does not end like a JPEG.

    Args:
        data: string [n].

    Returns:
        int32 [n, 4]: -1 for an upright JPEG, ``netpbm.headers`` of a Netpbm image, else 0.
    """
    lengths = tf.strings.length(data)
    at_end = tf.maximum(lengths - 2, 0)
    ends = tf.strings.substr(data, tf.zeros_like(at_end), tf.fill(tf.shape(at_end), 3))
    ends += tf.strings.substr(data, at_end, tf.fill(tf.shape(at_end), 2))
    is_jpeg = (ends == b"\xff\xd8\xff\xff\xd9") & are_upright(data)
    return tf.where(is_jpeg[:, tf.newaxis], -1, netpbm.headers(data))
