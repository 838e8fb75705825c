"""EfficientNet-Lite 0 to 4: EfficientNet without squeeze-and-excite, with ReLU6.

The stem, the head and the numbers of blocks in the first and the last stage are not scaled
(github.com/tensorflow/tpu, models/official/efficientnet/lite; Tan and Le, arXiv 1905.11946).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from keras import layers


class _Stage(NamedTuple):
    """Blocks of one resolution: their number, kernel size, stride, expansion and filters."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
# Width and depth by variant.
_SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
_EPSILON = 1e-3


def body(images: Any, *, variant: int) -> Any:
    """The last feature maps [B, h / 32, w / 32, 1280] of scaled images.

    Args:
        images: [B, h, w, 3], (x - 127) / 128 of pixels 0-255.
        variant: 0 to 4.
    """
    width, depth = _SCALES[variant]
    x = _relu(_conv(images, 32, 3, 2, "stem"))
    block = 0
    for number, stage in enumerate(_STAGES):
        is_scaled = 0 < number < len(_STAGES) - 1
        filters = _rounded(stage.filters * width)
        for i in range(math.ceil(stage.repeats * depth) if is_scaled else stage.repeats):
            stride = stage.stride if i == 0 else 1
            x = _block(x, stage, filters, stride, f"block{block}")
            block += 1
    return _relu(_conv(x, 1280, 1, 1, "head"))


def _block(x: Any, stage: _Stage, filters: int, stride: int, name: str) -> Any:
    before = x
    if stage.expansion > 1:
        x = _relu(_conv(x, x.shape[-1] * stage.expansion, 1, 1, f"{name}_expand"))
    x = layers.DepthwiseConv2D(
        stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = _relu(_norm(x, f"{name}_depthwise_bn"))
    x = _conv(x, filters, 1, 1, f"{name}_project")
    is_residual = stride == 1 and before.shape[-1] == filters
    return layers.Add(name=f"{name}_add")([before, x]) if is_residual else x


def _conv(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    """Convolution and normalisation."""
    x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False, name=name)(x)
    return _norm(x, f"{name}_bn")


def _norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=_EPSILON, name=name)(x)


def _relu(x: Any) -> Any:
    return layers.ReLU(6.0)(x)


def _rounded(filters: float) -> int:
    """The nearest multiple of 8, at most a tenth below."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded
