"""MobileNetV2, MobileNetV3, EfficientNet and EfficientNet-Lite: networks of inverted residuals.

Arithmetic and padding are those of timm and torchvision, or of TensorFlow for the variants that
timm names ``tf_``, so that their weights give the same logits (Sandler et al., arXiv 1801.04381;
Howard et al., arXiv 1905.02244; Tan and Le, arXiv 1905.11946; EfficientNet-Lite:
github.com/tensorflow/tpu, models/official/efficientnet/lite).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from keras import layers


class _Stage(NamedTuple):
    """Blocks of one resolution: their number, kernel size, stride, expansion and filters."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


class _Block(NamedTuple):
    """One block; ``expanded`` and ``squeezed`` are numbers of channels.

    ``expanded`` equals the input's channels in a block without expansion; ``squeezed`` 0: without
    squeeze-and-excite.
    """

    kernel: int
    expanded: int
    filters: int
    squeezed: int
    activation: str
    stride: int


@dataclasses.dataclass(frozen=True)
class _Family:
    """What the networks of a family share.

    Attributes:
        stages: their stages, to be scaled, or ().
        blocks: their blocks, where each is different.
        activation: of the stem and the top, and of blocks of stages.
        gate: activation of the squeeze-and-excite's output.
        has_squeeze: whether blocks of stages have squeeze-and-excite.
        stem: filters of the first convolution.
        is_scaled_everywhere: whether width and depth scale the stem, the top and the outer stages.
        hidden: width of a layer behind the pooling, or 0.
        first: the name of a block without expansion.
        epsilon: of batch normalisations.
        momentum: of batch normalisations.
        padding: "symmetric" as in PyTorch, or "same" as in TensorFlow.
    """

    stages: tuple[_Stage, ...] = ()
    blocks: tuple[_Block, ...] = ()
    activation: str = "silu"
    gate: str = "sigmoid"
    has_squeeze: bool = False
    stem: int = 32
    is_scaled_everywhere: bool = True
    hidden: int = 0
    first: str = "separable"
    epsilon: float = 1e-5
    momentum: float = 0.9
    padding: str = "symmetric"


_EFFICIENTNET = _Family(
    stages=(
        _Stage(1, 3, 1, 1, 16),
        _Stage(2, 3, 2, 6, 24),
        _Stage(2, 5, 2, 6, 40),
        _Stage(3, 3, 2, 6, 80),
        _Stage(3, 5, 1, 6, 112),
        _Stage(4, 5, 2, 6, 192),
        _Stage(1, 3, 1, 6, 320),
    ),
    has_squeeze=True,
)
_MOBILENET_V2 = _Family(
    stages=(
        _Stage(1, 3, 1, 1, 16),
        _Stage(2, 3, 2, 6, 24),
        _Stage(3, 3, 2, 6, 32),
        _Stage(4, 3, 2, 6, 64),
        _Stage(3, 3, 1, 6, 96),
        _Stage(3, 3, 2, 6, 160),
        _Stage(1, 3, 1, 6, 320),
    ),
    activation="relu6",
)
_MOBILENET_V3_LARGE = _Family(
    blocks=(
        _Block(3, 16, 16, 0, "relu", 1),
        _Block(3, 64, 24, 0, "relu", 2),
        _Block(3, 72, 24, 0, "relu", 1),
        _Block(5, 72, 40, 24, "relu", 2),
        _Block(5, 120, 40, 32, "relu", 1),
        _Block(5, 120, 40, 32, "relu", 1),
        _Block(3, 240, 80, 0, "hard_silu", 2),
        _Block(3, 200, 80, 0, "hard_silu", 1),
        _Block(3, 184, 80, 0, "hard_silu", 1),
        _Block(3, 184, 80, 0, "hard_silu", 1),
        _Block(3, 480, 112, 120, "hard_silu", 1),
        _Block(3, 672, 112, 168, "hard_silu", 1),
        _Block(5, 672, 160, 168, "hard_silu", 2),
        _Block(5, 960, 160, 240, "hard_silu", 1),
        _Block(5, 960, 160, 240, "hard_silu", 1),
    ),
    activation="hard_silu",
    gate="hard_sigmoid",
    stem=16,
    hidden=1280,
)
_MOBILENET_V3_SMALL = dataclasses.replace(
    _MOBILENET_V3_LARGE,
    blocks=(
        _Block(3, 16, 16, 8, "relu", 2),
        _Block(3, 72, 24, 0, "relu", 2),
        _Block(3, 88, 24, 0, "relu", 1),
        _Block(5, 96, 40, 24, "hard_silu", 2),
        _Block(5, 240, 40, 64, "hard_silu", 1),
        _Block(5, 240, 40, 64, "hard_silu", 1),
        _Block(5, 120, 48, 32, "hard_silu", 1),
        _Block(5, 144, 48, 40, "hard_silu", 1),
        _Block(5, 288, 96, 72, "hard_silu", 2),
        _Block(5, 576, 96, 144, "hard_silu", 1),
        _Block(5, 576, 96, 144, "hard_silu", 1),
    ),
    hidden=1024,
)


def _of_tensorflow(family: _Family) -> _Family:
    return dataclasses.replace(family, epsilon=1e-3, padding="same")


_FAMILIES = {
    "efficientnet": _EFFICIENTNET,
    "tf_efficientnet": _of_tensorflow(_EFFICIENTNET),
    "efficientnet_lite": dataclasses.replace(
        _of_tensorflow(_EFFICIENTNET),
        activation="relu6",
        has_squeeze=False,
        is_scaled_everywhere=False,
        first="block",
        momentum=0.99,
    ),
    "mobilenet_v2": _MOBILENET_V2,
    "mobilenet_v3_large": _MOBILENET_V3_LARGE,
    "mobilenet_v3_small": _MOBILENET_V3_SMALL,
    "tf_mobilenet_v3_large": _of_tensorflow(_MOBILENET_V3_LARGE),
    "tf_mobilenet_v3_small": _of_tensorflow(_MOBILENET_V3_SMALL),
}
NAMES = tuple(_FAMILIES)
"""The families that ``body`` builds."""


def body(images: Any, *, family: str, width: float = 1.0, depth: float = 1.0) -> Any:
    """The last feature maps [B, h / 32, w / 32, D] of scaled images; MobileNetV3: features [B, D].

    Args:
        images: [B, h, w, 3].
        family: one of ``NAMES``.
        width: factor of the numbers of channels.
        depth: factor of the numbers of blocks.
    """
    network = _FAMILIES[family]
    stem = _rounded(network.stem * width) if network.is_scaled_everywhere else network.stem
    x = _conv(images, stem, 3, 2, "stem", network, network.activation)
    blocks = network.blocks or _scaled(network, stem, width, depth)
    for number, block in enumerate(blocks):
        x = _block(x, block, number, network)
    if network.hidden:
        x = _conv(x, 6 * x.shape[-1], 1, 1, "last", network, network.activation)
        x = layers.GlobalAveragePooling2D(name="average_pool")(x)
        return layers.Dense(network.hidden, network.activation, name="hidden")(x)
    top = max(1280, _rounded(1280 * width)) if network is _MOBILENET_V2 else 1280
    if network.has_squeeze:
        top = _rounded(1280 * width)
    return _conv(x, top, 1, 1, "head", network, network.activation)


def _scaled(network: _Family, channels: int, width: float, depth: float) -> Iterator[_Block]:
    """The blocks of stages with scaled numbers of channels and of repetitions."""
    for number, stage in enumerate(network.stages):
        is_outer = number in (0, len(network.stages) - 1)
        is_deeper = network.is_scaled_everywhere or not is_outer
        filters = _rounded(stage.filters * width)
        for i in range(math.ceil(stage.repeats * depth) if is_deeper else stage.repeats):
            yield _Block(
                stage.kernel,
                channels * stage.expansion,
                filters,
                channels // 4 if network.has_squeeze else 0,
                network.activation,
                stage.stride if i == 0 else 1,
            )
            channels = filters


def _block(before: Any, block: _Block, number: int, network: _Family) -> Any:
    x, channels = before, before.shape[-1]
    is_expanded = block.expanded != channels
    name = f"block{number}" if is_expanded else f"{network.first}{number}"
    if is_expanded:
        x = _conv(x, block.expanded, 1, 1, f"{name}_expand", network, block.activation)
    x, padding = _padded(x, block.kernel, block.stride, network)
    x = layers.DepthwiseConv2D(
        block.kernel, block.stride, padding, use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = layers.Activation(block.activation)(_norm(x, f"{name}_depthwise_bn", network))
    if block.squeezed:
        x = _squeeze(x, block, name, network)
    x = _conv(x, block.filters, 1, 1, f"{name}_project", network)
    is_residual = block.stride == 1 and channels == block.filters
    return layers.Add(name=f"{name}_add")([before, x]) if is_residual else x


def _squeeze(x: Any, block: _Block, name: str, network: _Family) -> Any:
    """Squeeze-and-excite: channels are weighted by a function of their means."""
    means = layers.GlobalAveragePooling2D(keepdims=True)(x)
    activation = block.activation if network.has_squeeze else "relu"
    few = layers.Conv2D(block.squeezed, 1, activation=activation, name=f"{name}_se_reduce")(means)
    gate = layers.Conv2D(x.shape[-1], 1, activation=network.gate, name=f"{name}_se_expand")(few)
    return layers.Multiply()([x, gate])


def _conv(
    x: Any,
    filters: int,
    size: int,
    stride: int,
    name: str,
    network: _Family,
    activation: str = "linear",
) -> Any:
    """Convolution, normalisation and activation."""
    x, padding = _padded(x, size, stride, network)
    x = layers.Conv2D(filters, size, stride, padding, use_bias=False, name=name)(x)
    x = _norm(x, f"{name}_bn", network)
    return x if activation == "linear" else layers.Activation(activation)(x)


def _padded(x: Any, size: int, stride: int, network: _Family) -> tuple[Any, str]:
    """The input of a convolution, and its kind of padding."""
    if stride == 1 or network.padding == "same":
        return x, "same"
    return layers.ZeroPadding2D(size // 2)(x), "valid"


def _norm(x: Any, name: str, network: _Family) -> Any:
    return layers.BatchNormalization(momentum=network.momentum, epsilon=network.epsilon, name=name)(
        x
    )


def _rounded(filters: float) -> int:
    """The nearest multiple of 8, at most a tenth below."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded
