"""RegNetX and RegNetY in the layout of timm and torchvision.

A grouped 3x3 convolution is computed as a depthwise one with a multiplier and a sum over each
group: without oneDNN TensorFlow has no gradient of a grouped convolution on CPUs, and every export
format knows these layers (Radosavovic et al., arXiv 2003.13678).
"""

from __future__ import annotations

import math
from typing import Any

from keras import layers, ops

_STEM = 32  # filters
_MULTIPLE = 8  # of the blocks' channels


def body(
    images: Any,
    *,
    depth: int,
    initial: int,
    slope: float,
    factor: float,
    group: int,
    squeeze: float = 0.0,
    min_ratio: float = 0.0,
) -> Any:
    """The last feature maps [B, h / 32, w / 32, D] of scaled images.

    Args:
        images: [B, h, w, 3].
        depth: blocks.
        initial: channels of the first block before rounding (w_0 of the paper).
        slope: additional channels of each further block (w_a).
        factor: ratio of the channels of neighbouring stages (w_m).
        group: channels of a group.
        squeeze: channels of the squeeze-and-excite as a fraction of the block's input; 0: without.
        min_ratio: channels are rounded up to whole groups where rounding to the nearest leaves a
            smaller fraction of them (torchvision: 0.9); 0: always to the nearest.
    """
    x = layers.ReLU()(_conv(images, _STEM, 3, 2, "stem"))
    widths = _widths(depth, initial, slope, factor, group, min_ratio)
    for number, width in enumerate(widths):
        stride = 1 if number and width == widths[number - 1] else 2
        x = _block(x, width, stride, min(group, width), squeeze, f"block{number}")
    return x


def _widths(
    depth: int, initial: int, slope: float, factor: float, group: int, min_ratio: float
) -> list[int]:
    """The channels of each block: a line, rounded to powers of the factor, in whole groups."""
    widths = []
    for number in range(depth):
        power = round(math.log((initial + slope * number) / initial, factor))
        width = _MULTIPLE * round(initial * factor**power / _MULTIPLE)
        size = min(group, width)
        rounded = round(width / size) * size
        if min_ratio:
            rounded = max(size, (width + size // 2) // size * size)
            rounded += size if rounded < min_ratio * width else 0
        widths.append(rounded)
    return widths


def _block(before: Any, width: int, stride: int, group: int, squeeze: float, name: str) -> Any:
    x = layers.ReLU()(_conv(before, width, 1, 1, f"{name}_conv1"))
    x = layers.ReLU()(_norm(_grouped(x, group, stride, f"{name}_conv2"), f"{name}_conv2_bn"))
    if squeeze:
        few = round(squeeze * before.shape[-1])
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        gate = layers.Conv2D(few, 1, activation="relu", name=f"{name}_se_reduce")(gate)
        gate = layers.Conv2D(width, 1, activation="sigmoid", name=f"{name}_se_expand")(gate)
        x = layers.Multiply()([x, gate])
    x = _conv(x, width, 1, 1, f"{name}_conv3")
    shortcut = before
    if stride > 1 or before.shape[-1] != width:
        shortcut = _conv(before, width, 1, stride, f"{name}_downsample")
    return layers.ReLU()(layers.Add(name=f"{name}_add")([shortcut, x]))


def _grouped(x: Any, group: int, stride: int, name: str) -> Any:
    """A 3x3 convolution within each group of channels."""
    channels = x.shape[-1]
    x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, stride, depth_multiplier=group, use_bias=False, name=name)(
        x
    )  # [B, h, w, channels * group]
    height, width = x.shape[1:3]
    x = layers.Reshape((height, width, channels // group, group, group))(x)
    return layers.Reshape((height, width, channels))(ops.sum(x, axis=-2))


def _conv(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    """Convolution and normalisation; the padding does not depend on the image size."""
    if size > 1:
        x = layers.ZeroPadding2D(size // 2)(x)
    x = layers.Conv2D(filters, size, strides=stride, use_bias=False, name=name)(x)
    return _norm(x, f"{name}_bn")


def _norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
