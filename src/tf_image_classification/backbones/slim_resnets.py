"""ResNets in TF-Slim's layout, so that its checkpoints give the same predictions.

They differ from ``keras.applications`` in the unit of a block that has stride 2 (the last, not the
first), in the padding of the first pooling, and, for version 1, in lacking biases beside batch
normalisation (He et al., arXiv 1512.03385 and 1603.05027; slim/nets/resnet_v1.py, resnet_v2.py).
Layers are named after their scopes there.
"""

from __future__ import annotations

from typing import Any

from keras import layers

_UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_FILTERS = (64, 128, 256, 512)
_EPSILON = 1e-5


def body(images: Any, *, version: int, depth: int) -> Any:
    """The last feature maps [B, h / 32, w / 32, 2048] of scaled images."""
    root = f"resnet_v{version}_{depth}"
    unit = _unit_v1 if version == 1 else _unit_v2
    x = layers.ZeroPadding2D(3)(images)
    x = layers.Conv2D(64, 7, strides=2, use_bias=version == 2, name=f"{root}_conv1")(x)
    if version == 1:
        x = layers.ReLU()(_norm(x, f"{root}_conv1_bn"))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for block, (filters, count) in enumerate(zip(_FILTERS, _UNITS[depth], strict=True), start=1):
        for number in range(1, count + 1):
            stride = 2 if number == count and block < len(_FILTERS) else 1
            x = unit(x, filters, stride, f"{root}_block{block}_unit_{number}")
    return layers.ReLU()(_norm(x, f"{root}_postnorm")) if version == 2 else x


def _unit_v1(x: Any, filters: int, stride: int, name: str) -> Any:
    shortcut = _subsampled(x, stride)
    if x.shape[-1] != 4 * filters:
        shortcut = _conv(x, 4 * filters, 1, stride, f"{name}_shortcut")
    x = layers.ReLU()(_conv(x, filters, 1, 1, f"{name}_conv1"))
    x = layers.ReLU()(_conv(x, filters, 3, stride, f"{name}_conv2"))
    x = _conv(x, 4 * filters, 1, 1, f"{name}_conv3")
    return layers.ReLU()(layers.Add()([shortcut, x]))


def _unit_v2(x: Any, filters: int, stride: int, name: str) -> Any:
    active = layers.ReLU()(_norm(x, f"{name}_preact"))
    shortcut = _subsampled(x, stride)
    if x.shape[-1] != 4 * filters:
        shortcut = layers.Conv2D(4 * filters, 1, strides=stride, name=f"{name}_shortcut")(active)
    x = layers.ReLU()(_conv(active, filters, 1, 1, f"{name}_conv1"))
    x = layers.ReLU()(_conv(x, filters, 3, stride, f"{name}_conv2"))
    x = layers.Conv2D(4 * filters, 1, name=f"{name}_conv3")(x)
    return layers.Add()([shortcut, x])


def _conv(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    """Convolution and normalisation; the padding does not depend on the image size."""
    if stride > 1 and size > 1:
        x = layers.ZeroPadding2D(size // 2)(x)
    padding = "valid" if stride > 1 else "same"
    x = layers.Conv2D(filters, size, strides=stride, padding=padding, use_bias=False, name=name)(x)
    return _norm(x, f"{name}_bn")


def _norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.997, epsilon=_EPSILON, name=name)(x)


def _subsampled(x: Any, stride: int) -> Any:
    return layers.MaxPooling2D(1, strides=stride)(x) if stride > 1 else x
