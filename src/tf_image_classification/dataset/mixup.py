"""Mixing images in pairs: mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899).

    images, weight = mix(images, ids, parameters)
    loss = weight * loss_of(labels) + (1 - weight) * loss_of(swapped(labels))

Neighbouring rows are mixed, so each slice of a batch is complete in itself. The random parameters
depend on the pair's place in the global batch alone: the number of replicas changes nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tf_image_classification.batches import PADDING_ID


class PairParameters(NamedTuple):
    """The random parameters of n pairs.

    Attributes:
        weight: float32 [n], 0-1: fraction of the pixels that an image keeps.
        is_cut: bool [n], whether a rectangle is exchanged (cutmix) instead of mixing all pixels.
        center: float32 [n, 2], 0-1: center of the rectangle, vertical and horizontal.
    """

    weight: tf.Tensor
    is_cut: tf.Tensor
    center: tf.Tensor


def random_parameters(
    num_pairs: int, seed: tf.Tensor, *, mixup_alpha: float, cutmix_alpha: float
) -> PairParameters:
    """The random parameters of all pairs of a global batch; traced.

    Args:
        num_pairs: half the batch size.
        seed: int64 [2], of the run and the step.
        mixup_alpha: both parameters of the beta distribution of the weights; 0: no mixup.
        cutmix_alpha: the same for cutmix; with both, each pair gets one of them at random.
    """
    seeds = tf.random.experimental.stateless_split(tf.cast(seed, tf.int64), 6)
    weights = [
        _beta(num_pairs, alpha, seeds[2 * i], seeds[2 * i + 1])
        for i, alpha in enumerate((mixup_alpha, cutmix_alpha))
    ]
    chances = tf.random.stateless_uniform([num_pairs], seeds[4])
    is_cut = chances < (0.0 if not cutmix_alpha else 0.5 if mixup_alpha else 1.0)
    center = tf.random.stateless_uniform([num_pairs, 2], seeds[5])
    return PairParameters(tf.where(is_cut, weights[1], weights[0]), is_cut, center)


def _beta(count: int, alpha: float, seed: tf.Tensor, other_seed: tf.Tensor) -> tf.Tensor:
    if not alpha:
        return tf.ones([count])
    a, b = (tf.random.stateless_gamma([count], s, alpha) for s in (seed, other_seed))
    return a / tf.maximum(a + b, 1e-20)


def mix(
    images: tf.Tensor, ids: tf.Tensor, parameters: PairParameters
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images mixed with their neighbours, and the weight of each image's own label.

    Args:
        images: [B, H, W, C], B even.
        ids: int64 [B]; a pair with a placeholder row is not mixed.
        parameters: of B / 2 pairs.

    Returns:
        images: float32 [B, H, W, C].
        weight: float32 [B], 0-1.
    """
    images = tf.cast(images, tf.float32)
    height, width = images.shape[1], images.shape[2]
    size = tf.constant([height, width], tf.float32)
    half = tf.sqrt(1.0 - parameters.weight)[:, None] / 2
    low = tf.round(tf.clip_by_value(parameters.center - half, 0.0, 1.0) * size)
    high = tf.round(tf.clip_by_value(parameters.center + half, 0.0, 1.0) * size)
    rows = tf.range(height, dtype=tf.float32)[None, :, None]
    columns = tf.range(width, dtype=tf.float32)[None, None, :]
    inside = (rows >= low[:, 0, None, None]) & (rows < high[:, 0, None, None])
    inside &= (columns >= low[:, 1, None, None]) & (columns < high[:, 1, None, None])
    kept = tf.where(
        parameters.is_cut[:, None, None],
        1.0 - tf.cast(inside, tf.float32),
        parameters.weight[:, None, None] * tf.ones([1, height, width]),
    )
    are_examples = tf.reduce_all(tf.reshape(ids, [-1, 2]) != PADDING_ID, axis=1)
    kept = tf.where(are_examples[:, None, None], kept, 1.0)
    kept = tf.repeat(kept, 2, axis=0)
    mixed = kept[..., None] * images + (1.0 - kept[..., None]) * swapped(images)
    return mixed, tf.reduce_mean(kept, axis=(1, 2))


def swapped(values: Any) -> Any:
    """A tensor [B, ...] with the two rows of each pair exchanged."""
    pairs = tf.reshape(values, [-1, 2, *values.shape[1:]])
    return tf.reshape(pairs[:, ::-1], [-1, *values.shape[1:]])
