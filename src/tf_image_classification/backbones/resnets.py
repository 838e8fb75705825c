"""ResNet 18 to 152 in the layout of torchvision and timm: stride 2 is in the 3x3 convolution.

Layers are named after their modules there (He et al., arXiv 1512.03385).
"""

from __future__ import annotations

from typing import Any

from keras import layers

_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_FIRST_BOTTLENECK = 50  # shallower networks have blocks of two convolutions


def body(images: Any, *, depth: int) -> Any:
    """The last feature maps [B, h / 32, w / 32, D] of scaled images; D is 512 or 2048."""
    x = layers.ReLU()(_conv(images, 64, 7, 2, "conv1", "bn1"))
    x = layers.ZeroPadding2D(1)(x)  # zeros are below every value: x is not negative
    x = layers.MaxPooling2D(3, strides=2)(x)
    for stage, count in enumerate(_BLOCKS[depth]):
        for number in range(count):
            stride = 2 if stage and not number else 1
            x = _block(x, 64 << stage, stride, f"layer{stage + 1}_{number}", depth)
    return x


def _block(before: Any, filters: int, stride: int, name: str, depth: int) -> Any:
    kinds = [(filters, 3, stride), (filters, 3, 1)]
    if depth >= _FIRST_BOTTLENECK:
        kinds = [(filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1)]
    x, channels = before, kinds[-1][0]
    for number, (width, size, step) in enumerate(kinds, start=1):
        x = _conv(x, width, size, step, f"{name}_conv{number}", f"{name}_bn{number}")
        x = layers.ReLU()(x) if number < len(kinds) else x
    shortcut = before
    if stride > 1 or before.shape[-1] != channels:
        shortcut = _conv(
            before, channels, 1, stride, f"{name}_downsample_0", f"{name}_downsample_1"
        )
    return layers.ReLU()(layers.Add(name=f"{name}_add")([shortcut, x]))


def _conv(x: Any, filters: int, size: int, stride: int, name: str, norm: str) -> Any:
    """Convolution and normalisation; the padding does not depend on the image size."""
    if size > 1:
        x = layers.ZeroPadding2D(size // 2)(x)
    x = layers.Conv2D(filters, size, strides=stride, use_bias=False, name=name)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)
