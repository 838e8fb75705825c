"""Augmentation of one image: pure functions of the image and a seed, int64 [2].

    image = random_resized_crop(image, 224, 224, seed)
    image = random_flip(image, seed)

The input pipeline hands the seed to ``preproc``. All random parameters follow from it, so a resumed
run, or another number of workers, sees the same images.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import tensorflow as tf

from tf_image_classification.dataset.image.decode_and_crop import resized_part

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
_NUM_LEVELS = 31  # as in RandAugment and TrivialAugment


def central_crop(image: tf.Tensor, height: int, width: int, *, share: float = 0.875) -> tf.Tensor:
    """The center crop of an image, resized to float32 [height, width, C] in the same range.

    Args:
        image: [h, w, C].
        height: of the result, in pixels.
        width: of the result, in pixels.
        share: fraction of the largest part with the result's aspect ratio, per side.
    """
    window = central_window(tf.shape(image)[:2], height, width, share=share)
    return resized_part(image, *window, height, width)


def central_window(
    size: tf.Tensor, height: int, width: int, *, share: float, stretch: float = 1.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Top left corner and size, int32 [2] each, of the center crop.

    Args:
        size: the image's height and width, int32 [2].
        height: as in ``central_crop``.
        width: as in ``central_crop``.
        share: as in ``central_crop``.
        stretch: factor by which the longer side of the crop may exceed ``height`` to ``width``.
    """
    sides = tf.cast(size, tf.float32)
    # TensorFlow would join constants, and would multiply scalars first, outside of tf.data only:
    # one crop of 30 would be a pixel larger than in the evaluation.
    given = tf.constant([height, width, share, stretch], tf.float32)
    given = tf.raw_ops.PlaceholderWithDefault(input=given, shape=[4])
    scale = tf.minimum(sides[0] / given[0], sides[1] / given[1]) * given[2]
    crop = scale * given[:2]
    if stretch > 1.0:
        crop = tf.minimum((scale * given[3]) * given[:2], sides * given[2])
    crop = tf.maximum(tf.cast(tf.round(crop), tf.int32), 1)
    return (size - crop) // 2, crop


def random_resized_crop(
    image: tf.Tensor, height: int, width: int, seed: tf.Tensor, **limits: tuple[float, float]
) -> tf.Tensor:
    """A random crop of an image, resized to float32 [height, width, C] in the same range.

    Args:
        image: [h, w, C].
        height: of the result, in pixels.
        width: of the result, in pixels.
        seed: int64 [2].
        limits: ``scale`` and ``ratio`` of ``random_window``.
    """
    window = random_window(tf.shape(image)[:2], height, width, seed, **limits)
    return resized_part(image, *window, height, width)


def random_window(
    size: tf.Tensor,
    height: int,
    width: int,
    seed: tf.Tensor,
    *,
    scale: tuple[float, float] = (0.35, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[tf.Tensor, tf.Tensor]:
    """Top left corner and size, int32 [2] each, of a random crop of an image.

    As in Inception (Szegedy et al., arXiv 1409.4842): a random area and a random aspect ratio,
    uniform on a logarithmic scale; sides longer than the image's are cut to these.

    Args:
        size: the image's height and width, int32 [2].
        height: of the resized crop, in pixels.
        width: of the resized crop, in pixels.
        seed: int64 [2].
        scale: min and max fraction of the area.
        ratio: min and max width / height of the crop, relative to the result's.
    """
    uniform = tf.random.stateless_uniform([4], _seed(seed, 1))
    sides = tf.cast(size, tf.float32)
    area = sides[0] * sides[1] * (scale[0] + uniform[0] * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = tf.exp(low + uniform[1] * (high - low)) * width / height
    wanted = tf.stack([tf.sqrt(area / aspect), tf.sqrt(area * aspect)])
    crop = tf.cast(tf.clip_by_value(tf.round(wanted), 1.0, sides), tf.int32)
    free = tf.cast(size - crop + 1, tf.float32)
    return tf.minimum(tf.cast(uniform[2:] * free, tf.int32), size - crop), crop


def random_flip(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The image, mirrored with probability 1/2."""
    is_mirrored = flip_parameter(seed) < 0.5
    return tf.cond(is_mirrored, lambda: tf.reverse(image, [1]), lambda: tf.identity(image))


def flip_parameter(seed: tf.Tensor) -> tf.Tensor:
    """The random parameter of ``random_flip``, float32 scalar, 0-1; below 1/2 mirrors the image."""
    return tf.random.stateless_uniform([], _seed(seed, 2))


def flipped(images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Images [B, H, W, C], mirrored by their ``flip_parameter``, float32 [B]."""
    is_mirrored = (parameters < 0.5)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.where(is_mirrored, tf.reverse(images, [2]), images)


def random_translate(image: tf.Tensor, seed: tf.Tensor, *, most: float = 0.1) -> tf.Tensor:
    """The image moved by up to a fraction ``most`` of its size per axis, filled with grey."""
    move_x, move_y = tf.unstack(tf.random.stateless_uniform([2], _seed(seed, 3), -most, most))
    return _affine(image, move_x=move_x, move_y=move_y)


def random_colour(image: tf.Tensor, seed: tf.Tensor, *, most: float = 0.3) -> tf.Tensor:
    """The image with brightness, contrast and saturation changed, by factors 1 - most to 1 + most.

    Args:
        image: float [H, W, 3], 0-255.
        seed: int64 [2].
        most: max change of each factor.
    """
    return coloured(image[tf.newaxis], colour_parameters(seed, most=most)[tf.newaxis])[0]


def colour_parameters(seed: tf.Tensor, *, most: float = 0.3) -> tf.Tensor:
    """The random factors of ``random_colour``, float32 [3]."""
    return tf.random.stateless_uniform([3], _seed(seed, 4), 1 - most, 1 + most)


def coloured(images: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Float images [B, H, W, C], 0-255, changed by their ``colour_parameters``, float32 [B, 3]."""
    brightness, contrast, saturation = tf.unstack(factors[:, tf.newaxis, tf.newaxis], axis=-1)
    images = _brightness(images, brightness[..., tf.newaxis])
    images = _contrast(images, contrast[..., tf.newaxis])
    return _saturation(images, saturation[..., tf.newaxis])


def random_erasing(
    image: tf.Tensor, seed: tf.Tensor, *, probability: float = 0.25, share: float = 0.2
) -> tf.Tensor:
    """The image, with some probability with a rectangle of noise (Zhong et al., arXiv 1708.04896).

    Args:
        image: float [H, W, C], 0-255.
        seed: int64 [2].
        probability: of a rectangle, 0-1.
        share: max fraction of the area that is erased.
    """
    uniform = tf.random.stateless_uniform([5], _seed(seed, 5))
    height, width = image.shape[0], image.shape[1]
    area = (0.02 + uniform[1] * (share - 0.02)) * height * width
    aspect = tf.exp((2 * uniform[2] - 1) * math.log(3.3))
    h = tf.minimum(tf.sqrt(area * aspect), float(height))
    w = tf.minimum(tf.sqrt(area / aspect), float(width))
    top, left = uniform[3] * (height - h), uniform[4] * (width - w)
    rows = tf.range(height, dtype=tf.float32)[:, None]
    columns = tf.range(width, dtype=tf.float32)[None, :]
    inside = (rows >= top) & (rows < top + h) & (columns >= left) & (columns < left + w)
    noise = tf.random.stateless_uniform(image.shape, _seed(seed, 6), 0.0, 255.0)
    return tf.where((inside & (uniform[0] < probability))[..., None], noise, image)


def trivial_augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The image after one random change of random strength (arXiv 2103.10158, "wide").

    Args:
        image: float [H, W, 3], 0-255.
        seed: int64 [2].
    """
    return _random_change(image, seed, number=0, level=None)


def rand_augment(
    image: tf.Tensor, seed: tf.Tensor, *, num_changes: int = 2, level: int = 9
) -> tf.Tensor:
    """The image after some random changes of one strength (RandAugment, arXiv 1909.13719).

    Args:
        image: float [H, W, 3], 0-255.
        seed: int64 [2].
        num_changes: number of changes.
        level: their strength, 0 to 30.
    """
    for number in range(num_changes):
        image = _random_change(image, seed, number=number, level=level)
    return image


def augmix(
    image: tf.Tensor, seed: tf.Tensor, *, width: int = 3, depth: int = 3, severity: float = 3.0
) -> tf.Tensor:
    """The image mixed with several of its changes (AugMix, Hendrycks et al., arXiv 1912.02781).

    Each of ``width`` chains applies 1 to ``depth`` random changes; the results are averaged with
    random weights, and the average is mixed with the image. The changes are the nine of the
    authors' code, none of them a corruption of their test sets. Places outside of the image are
    grey there, black in theirs; their Jensen-Shannon loss is not part of it.

    Args:
        image: float [H, W, 3], 0-255.
        seed: int64 [2].
        width: chains; 3 as published.
        depth: most changes of a chain; 3 as published.
        severity: greatest strength of a change, up to 10; 3 as published.
    """
    uniform = tf.random.stateless_uniform([width + 1], _seed(seed, 30), 1e-6, 1.0)
    weights = -tf.math.log(uniform[:width])  # a Dirichlet distribution with all parameters 1
    weights /= tf.reduce_sum(weights)
    mixed = tf.zeros_like(image)
    for chain in range(width):
        uniforms = tf.random.stateless_uniform([3 * depth + 1], _seed(seed, 31 + chain))
        length = 1 + tf.cast(uniforms[0] * depth, tf.int32)
        changed = image
        for number in range(depth):
            which, strength, sign = tf.unstack(uniforms[3 * number + 1 :][:3])
            level = (0.1 + strength * (severity - 0.1)) / 10
            index = tf.cast(which * (len(_AUGMIX) - 1), tf.int32) + 1
            index = tf.where(number < length, index, 0)  # the first leaves the image as it is
            changed = _changed_by(_AUGMIX, index, changed, level, sign)
        mixed += weights[chain] * changed
    return image + uniform[width] * (mixed - image)


@dataclasses.dataclass(frozen=True)
class _Change:
    """A change of an image by an amount.

    Attributes:
        make: image and amount to image.
        max_amount: the amount at the highest level.
        has_sign: whether negative amounts occur as well.
    """

    make: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    max_amount: float
    has_sign: bool = True


def _random_change(
    image: tf.Tensor, seed: tf.Tensor, *, number: int, level: int | None
) -> tf.Tensor:
    uniform = tf.random.stateless_uniform([3], _seed(seed, 10 + number))
    chosen = tf.cast(uniform[0] * len(_CHANGES), tf.int32)
    strength = uniform[1] if level is None else tf.constant(level / (_NUM_LEVELS - 1))
    return _changed_by(_CHANGES, chosen, image, strength, uniform[2])


def _changed_by(
    changes: Mapping[str, _Change],
    chosen: tf.Tensor,
    image: tf.Tensor,
    strength: tf.Tensor,
    side: tf.Tensor,
) -> tf.Tensor:
    """The image after one of the changes; ``side``, 0-1, decides the sign of the amount."""
    sign = tf.where(side < 0.5, -1.0, 1.0)

    def branch(change: _Change) -> Callable[[], tf.Tensor]:
        amount = strength * change.max_amount * (sign if change.has_sign else 1.0)
        return lambda: tf.ensure_shape(change.make(image, amount), image.shape)

    return tf.switch_case(chosen, [branch(change) for change in changes.values()])


def _brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(image * factor, 0.0, 255.0)


def _grey(image: tf.Tensor) -> tf.Tensor:
    if image.shape[-1] == 1:
        return image
    return tf.reduce_sum(image * tf.constant(_GREY), axis=-1, keepdims=True)


def _contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(_grey(image), axis=(-3, -2, -1), keepdims=True)
    return tf.clip_by_value(mean + factor * (image - mean), 0.0, 255.0)


def _saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    grey = _grey(image)
    return tf.clip_by_value(grey + factor * (image - grey), 0.0, 255.0)


def _sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    channels = image.shape[-1]
    kernel = tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13.0
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, channels, 1])
    smooth = tf.nn.depthwise_conv2d(image[None], kernel, [1, 1, 1, 1], "SAME")[0]
    return tf.clip_by_value(smooth + factor * (image - smooth), 0.0, 255.0)


def _equalise(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Histogram equalisation of each channel."""
    values = tf.cast(image, tf.int32)
    flat = tf.reshape(values, [-1, image.shape[-1]])

    def one(channel: tf.Tensor) -> tf.Tensor:
        counts = tf.math.bincount(channel, minlength=256, maxlength=256)
        total = tf.cumsum(counts)
        lowest = tf.reduce_min(tf.where(total > 0, total, total[-1]))
        table = (total - lowest) * 255 // tf.maximum(total[-1] - lowest, 1)
        return tf.gather(tf.clip_by_value(table, 0, 255), channel)

    spread = tf.map_fn(one, tf.transpose(flat))
    return tf.cast(tf.reshape(tf.transpose(spread), tf.shape(image)), image.dtype)


def _autocontrast(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    low = tf.reduce_min(image, axis=(0, 1))
    high = tf.reduce_max(image, axis=(0, 1))
    spread = (image - low) * 255.0 / tf.maximum(high - low, 1e-3)
    return tf.where(high > low, spread, image)


def _posterise(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    step = tf.pow(2.0, tf.floor(amount))
    return tf.floor(image / step) * step


def _solarise(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    return tf.where(image >= 256.0 - amount, 255.0 - image, image)


def _affine(
    image: tf.Tensor,
    *,
    turn: tf.Tensor | float = 0.0,
    shear_x: tf.Tensor | float = 0.0,
    shear_y: tf.Tensor | float = 0.0,
    move_x: tf.Tensor | float = 0.0,
    move_y: tf.Tensor | float = 0.0,
) -> tf.Tensor:
    """The image rotated (radians), sheared and moved (fractions of its size) about its center."""
    height, width = tf.cast(tf.shape(image)[0], tf.float32), tf.cast(tf.shape(image)[1], tf.float32)
    cos, sin = tf.cos(turn), tf.sin(turn)
    xx, xy = cos + shear_x * sin, -sin + shear_x * cos
    yx, yy = shear_y * cos + sin, -shear_y * sin + cos
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    from_x = middle_x - xx * middle_x - xy * middle_y + move_x * width
    from_y = middle_y - yx * middle_x - yy * middle_y + move_y * height
    numbers = [xx, xy, from_x, yx, yy, from_y, 0.0, 0.0]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=tf.stack([tf.cast(number, tf.float32) for number in numbers])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=128.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]
    return tf.ensure_shape(moved, image.shape)


_CHANGES: Mapping[str, _Change] = {
    "identity": _Change(lambda image, _: image, 0.0),
    "brightness": _Change(lambda image, x: _brightness(image, 1 + x), 0.99),
    "contrast": _Change(lambda image, x: _contrast(image, 1 + x), 0.99),
    "saturation": _Change(lambda image, x: _saturation(image, 1 + x), 0.99),
    "sharpness": _Change(lambda image, x: _sharpness(image, 1 + x), 0.99),
    "shear_x": _Change(lambda image, x: _affine(image, shear_x=x), 0.99),
    "shear_y": _Change(lambda image, x: _affine(image, shear_y=x), 0.99),
    "move_x": _Change(lambda image, x: _affine(image, move_x=x), 32 / 224),
    "move_y": _Change(lambda image, x: _affine(image, move_y=x), 32 / 224),
    "turn": _Change(lambda image, x: _affine(image, turn=x), math.radians(135)),
    "posterise": _Change(_posterise, 6.0, has_sign=False),
    "solarise": _Change(_solarise, 256.0, has_sign=False),
    "autocontrast": _Change(_autocontrast, 0.0),
    "equalise": _Change(_equalise, 0.0),
}

_AUGMIX: Mapping[str, _Change] = {
    "identity": _CHANGES["identity"],
    "autocontrast": _CHANGES["autocontrast"],
    "equalise": _CHANGES["equalise"],
    "posterise": _Change(lambda image, x: _posterise(image, 4 + x), 4.0, has_sign=False),
    "turn": _Change(lambda image, x: _affine(image, turn=x), math.radians(30)),
    "solarise": _CHANGES["solarise"],
    "shear_x": _Change(lambda image, x: _affine(image, shear_x=x), 0.3),
    "shear_y": _Change(lambda image, x: _affine(image, shear_y=x), 0.3),
    "move_x": _Change(lambda image, x: _affine(image, move_x=x), 1 / 3),
    "move_y": _Change(lambda image, x: _affine(image, move_y=x), 1 / 3),
}
"""Amounts at strength 1, of which the published severity uses up to 0.3."""


def _seed(seed: tf.Tensor, number: int) -> tf.Tensor:
    """The seed of one kind of random parameters, far from those of other examples and runs."""
    return tf.cast(seed, tf.int64) + tf.constant([number << 40, 0], tf.int64)
