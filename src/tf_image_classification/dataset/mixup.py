"""Mixing images in pairs: mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899).

    images, share = mix(images, ids, draws)
    loss = share * loss_of(labels) + (1 - share) * loss_of(swapped(labels))

Neighbouring rows are mixed with each other, so that a slice of a batch needs no other one, and what
is drawn depends on a pair's place in the global batch alone: any number of replicas mixes alike.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tf_image_classification.batches import PADDING_ID


class Draws(NamedTuple):
    """What is drawn for n pairs.

    Attributes:
        share: float32 [n], 0-1: how much of an image is its own.
        is_cut: bool [n], whether a rectangle is exchanged instead of mixing all pixels.
        middle: float32 [n, 2], 0-1: the middle of the rectangle, down and across.
    """

    share: tf.Tensor
    is_cut: tf.Tensor
    middle: tf.Tensor


def draw(num_pairs: int, seed: tf.Tensor, *, mixup_alpha: float, cutmix_alpha: float) -> Draws:
    """Draws for all pairs of a global batch; traced.

    Args:
        num_pairs: half the batch size.
        seed: int64 [2], of the run and the step.
        mixup_alpha: both parameters of the beta distribution of the shares; 0: no mixup.
        cutmix_alpha: the same for cutmix; with both, each pair gets one of them by chance.
    """
    seeds = tf.random.experimental.stateless_split(tf.cast(seed, tf.int64), 6)
    shares = [
        _beta(num_pairs, alpha, seeds[2 * i], seeds[2 * i + 1])
        for i, alpha in enumerate((mixup_alpha, cutmix_alpha))
    ]
    chances = tf.random.stateless_uniform([num_pairs], seeds[4])
    is_cut = chances < (0.0 if not cutmix_alpha else 0.5 if mixup_alpha else 1.0)
    middle = tf.random.stateless_uniform([num_pairs, 2], seeds[5])
    return Draws(tf.where(is_cut, shares[1], shares[0]), is_cut, middle)


def _beta(count: int, alpha: float, seed: tf.Tensor, other_seed: tf.Tensor) -> tf.Tensor:
    if not alpha:
        return tf.ones([count])
    a, b = (tf.random.stateless_gamma([count], s, alpha) for s in (seed, other_seed))
    return a / tf.maximum(a + b, 1e-20)


def mix(images: tf.Tensor, ids: tf.Tensor, draws: Draws) -> tuple[tf.Tensor, tf.Tensor]:
    """Images mixed with their neighbours, and how much of each is its own.

    Args:
        images: [B, H, W, C], B even.
        ids: int64 [B]; a pair with padding stays as it is.
        draws: for B / 2 pairs.

    Returns:
        images: float [B, H, W, C].
        share: float32 [B].
    """
    images = tf.cast(images, tf.float32)
    height, width = images.shape[1], images.shape[2]
    size = tf.constant([height, width], tf.float32)
    half = tf.sqrt(1.0 - draws.share)[:, None] / 2
    low = tf.round(tf.clip_by_value(draws.middle - half, 0.0, 1.0) * size)
    high = tf.round(tf.clip_by_value(draws.middle + half, 0.0, 1.0) * size)
    rows = tf.range(height, dtype=tf.float32)[None, :, None]
    columns = tf.range(width, dtype=tf.float32)[None, None, :]
    inside = (rows >= low[:, 0, None, None]) & (rows < high[:, 0, None, None])
    inside &= (columns >= low[:, 1, None, None]) & (columns < high[:, 1, None, None])
    kept = tf.where(
        draws.is_cut[:, None, None],
        1.0 - tf.cast(inside, tf.float32),
        draws.share[:, None, None] * tf.ones([1, height, width]),
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
