r"""Variable names of PyTorch's files: those of timm, of torchvision and of EfficientNet-Lite.

No TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tf_image_classification.checkpoints.name_rows import NameMap, Row

_WORDS = {
    **dict.fromkeys(("kernel", "depthwise_kernel", "gamma"), "weight"),
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _converted(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A kernel of PyTorch, output channels first, in TensorFlow's order."""
    if value.ndim < 4:
        return np.transpose(value)
    is_depthwise = value.shape[1] == 1 and value.shape[0] == shape[2]
    return np.transpose(value, (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))


def _row(layer: str, name: str, epsilon_difference: float = 0.0) -> Row:
    return Row(layer, name, _WORDS, _converted, epsilon_difference)


def _value_row(layer: str, name: str, change: Any) -> Row:
    """A layer whose only variable is a whole entry of the file."""
    scope, _, word = name.rpartition("/")
    variables = ("embeddings", "depthwise_kernel", "kernel")
    return Row(layer, scope, dict.fromkeys(variables, word), change)


def _as_row(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return value.reshape(-1, value.shape[-1])


def _as_factor(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The factors of channels as the kernel of a depthwise convolution."""
    return value.reshape(1, 1, -1, 1)


def _as_multiplied(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The kernel of a grouped convolution [G * n, n, h, w] as a depthwise one [h, w, G * n, n]."""
    outputs, group, height, width = value.shape
    grouped = value.reshape(-1, group, group, height, width)  # [G, out, in, h, w]
    kernel: npt.NDArray[Any] = grouped.transpose(3, 4, 0, 2, 1)
    return kernel.reshape(height, width, outputs, group)


def resampled_positions(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Position embeddings [1, 1 + n, D] of a square grid as [1 + m, D] of another one.

    The class token's is kept; the others are resampled bicubically with antialiasing, as by timm.
    """
    table = value.reshape(-1, value.shape[-1])
    theirs, ours = math.isqrt(len(table) - 1), math.isqrt(shape[0] - 1)
    if theirs == ours or theirs**2 != len(table) - 1:
        return table
    planes = table[1:].astype(np.float32).reshape(theirs, theirs, -1).transpose(2, 0, 1)
    resized = [
        np.asarray(Image.fromarray(plane).resize((ours, ours), Image.Resampling.BICUBIC))
        for plane in planes
    ]
    return np.concatenate([table[:1], np.stack(resized, axis=-1).reshape(ours * ours, -1)])


_EFFICIENTNET_LITE = NameMap(
    "PyTorch efficientnet_lite",
    (
        _row("stem", "_conv_stem"),
        _row("stem_bn", "_bn0"),
        _row(r"block(\d+)_(expand|depthwise|project)", r"_blocks/\1/_\2_conv"),
        _row(r"block(\d+)_expand_bn", r"_blocks/\1/_bn0"),
        _row(r"block(\d+)_depthwise_bn", r"_blocks/\1/_bn1"),
        _row(r"block(\d+)_project_bn", r"_blocks/\1/_bn2"),
        _row("head", "_conv_head"),
        _row("head_bn", "_bn1"),
        _row("logits", "_fc"),
    ),
    only_with="block0_depthwise",
)

_RESNET = NameMap(
    "PyTorch resnet",
    (
        _row("conv1|bn1", r"\g<0>"),
        _row(r"layer(\d)_(\d+)_(conv\d|bn\d)", r"layer\1/\2/\3"),
        _row(r"layer(\d)_(\d+)_downsample_(\d)", r"layer\1/\2/downsample/\3"),
        _row("logits", "fc"),
    ),
    only_with="layer1_0_conv1",
)


def _regnet_rows() -> Iterator[Row]:
    pairs = (("conv1", "f/a"), ("conv2", "f/b"), ("conv3", "f/c"), ("downsample", "proj"))
    for layer, torchvision in pairs:
        for conv, norm in (
            (f"{layer}/conv", f"{layer}/bn"),
            (f"{torchvision}/0", f"{torchvision}/1"),
        ):
            change = _as_multiplied if layer == "conv2" else _converted
            yield Row(rf"block(\d+)_{layer}", rf"blocks/\1/{conv}", _WORDS, change)
            yield _row(rf"block(\d+)_{layer}_bn", rf"blocks/\1/{norm}")
    for part, name in (("reduce", "fc1"), ("expand", "fc2")):
        for scope in ("se", "f/se"):
            yield _row(rf"block(\d+)_se_{part}", rf"blocks/\1/{scope}/{name}")
    for conv, norm in (("stem/conv", "stem/bn"), ("stem/0", "stem/1")):
        yield from (_row("stem", conv), _row("stem_bn", norm))
    yield from (_row("logits", scope) for scope in ("head/fc", "fc"))


_REGNET = NameMap(
    "PyTorch regnet",
    tuple(_regnet_rows()),
    only_with="block0_conv1",
    numbered=r"s(\d)/b(\d+)/|trunk_output/block(\d)/block\d-(\d+)/",
)

_TIMM_BLOCKS = (
    ("stem", "conv_stem", "bn1"),
    (r"separable(\d+)_depthwise", r"blocks/\1/conv_dw", r"blocks/\1/bn1"),
    (r"separable(\d+)_project", r"blocks/\1/conv_pw", r"blocks/\1/bn2"),
    (r"block(\d+)_expand", r"blocks/\1/conv_pw", r"blocks/\1/bn1"),
    (r"block(\d+)_depthwise", r"blocks/\1/conv_dw", r"blocks/\1/bn2"),
    (r"block(\d+)_project", r"blocks/\1/conv_pwl", r"blocks/\1/bn3"),
    ("last", "blocks/15/conv", "blocks/15/bn1"),  # of MobileNetV3-Large
    ("last", "blocks/11/conv", "blocks/11/bn1"),  # of MobileNetV3-Small, which has no block 15
    ("head", "conv_head", "bn2"),
)
# torchvision numbers the layers of a block, and leaves out those that a block lacks: of two rows
# for a layer, the first whose name is in the file counts.
_TORCHVISION_BLOCKS = (
    ("stem", "features/0/0", "features/0/1"),
    (r"separable(\d+)_depthwise", r"blocks/\1/block/0/0", r"blocks/\1/block/0/1"),
    (r"separable(\d+)_project", r"blocks/\1/block/2/0", r"blocks/\1/block/2/1"),
    (r"separable(\d+)_project", r"blocks/\1/block/1/0", r"blocks/\1/block/1/1"),
    (r"block(\d+)_expand", r"blocks/\1/block/0/0", r"blocks/\1/block/0/1"),
    (r"block(\d+)_depthwise", r"blocks/\1/block/1/0", r"blocks/\1/block/1/1"),
    (r"block(\d+)_project", r"blocks/\1/block/3/0", r"blocks/\1/block/3/1"),
    (r"block(\d+)_project", r"blocks/\1/block/2/0", r"blocks/\1/block/2/1"),
    # MobileNetV2
    (r"separable(\d+)_depthwise", r"blocks/\1/conv/0/0", r"blocks/\1/conv/0/1"),
    (r"separable(\d+)_project", r"blocks/\1/conv/1", r"blocks/\1/conv/2"),
    (r"block(\d+)_expand", r"blocks/\1/conv/0/0", r"blocks/\1/conv/0/1"),
    (r"block(\d+)_depthwise", r"blocks/\1/conv/1/0", r"blocks/\1/conv/1/1"),
    (r"block(\d+)_project", r"blocks/\1/conv/2", r"blocks/\1/conv/3"),
    # The last convolution of MobileNetV3-Small and -Large, of EfficientNet and of MobileNetV2
    *(("last", f"features/{n}/0", f"features/{n}/1") for n in (16, 12)),
    *(("head", f"features/{n}/0", f"features/{n}/1") for n in (8, 18)),
)
_ANY_BLOCK = r"(?:block|separable)(\d+)"


def _inverted_residuals(name: str, only_with: str, epsilon_difference: float) -> NameMap:
    """The names of MobileNets and EfficientNets; the epsilon is torchvision's."""
    rows = []
    for table, difference in ((_TIMM_BLOCKS, 0.0), (_TORCHVISION_BLOCKS, epsilon_difference)):
        for layer, conv, norm in table:
            rows += [_row(layer, conv), _row(f"{layer}_bn", norm, difference)]
    rows += [
        _row(rf"{_ANY_BLOCK}_se_(reduce|expand)", r"blocks/\1/se/conv_\2"),
        *(_row(rf"{_ANY_BLOCK}_se_reduce", rf"blocks/\1/block/{i}/fc1") for i in (1, 2)),
        *(_row(rf"{_ANY_BLOCK}_se_expand", rf"blocks/\1/block/{i}/fc2") for i in (1, 2)),
        *(_row("hidden", scope) for scope in ("conv_head", "classifier/0")),
        *(_row("logits", scope) for scope in ("classifier", "classifier/1", "classifier/3")),
    ]
    numbered = r"blocks/(\d+)/(\d+)/|features/(\d+)/(?:(\d+)/)?(?=block/|conv/)"
    return NameMap(name, tuple(rows), only_with, numbered)


_CONVNEXT = NameMap(
    "PyTorch convnext",
    (
        *(_row("stem", scope) for scope in ("stem/0", "features/0/0")),
        *(_row("stem_norm", scope) for scope in ("stem/1", "features/0/1")),
        _row(r"downsample(\d)_norm", r"stages/\1/downsample/0"),
        _row(r"downsample(\d)", r"stages/\1/downsample/1"),
        *(_row(f"downsample{i}_norm", f"features/{2 * i}/0") for i in (1, 2, 3)),
        *(_row(f"downsample{i}", f"features/{2 * i}/1") for i in (1, 2, 3)),
        *(_row(r"block(\d+)_depthwise", rf"blocks/\1/{n}") for n in ("conv_dw", "block/0")),
        *(_row(r"block(\d+)_norm", rf"blocks/\1/{name}") for name in ("norm", "block/2")),
        *(_row(r"block(\d+)_expand", rf"blocks/\1/{name}") for name in ("mlp/fc1", "block/3")),
        *(_row(r"block(\d+)_project", rf"blocks/\1/{name}") for name in ("mlp/fc2", "block/5")),
        _value_row(r"block(\d+)_gamma", r"blocks/\1/gamma", _as_factor),
        _value_row(r"block(\d+)_gamma", r"blocks/\1/layer_scale", _as_factor),
        *(_row("norm", scope) for scope in ("head/norm", "classifier/0")),
        *(_row("logits", scope) for scope in ("head/fc", "classifier/2")),
    ),
    only_with="block0_gamma",
    numbered=r"stages/(\d+)/blocks/(\d+)/|features/(\d+)/(\d+)/(?=block/|layer_scale)",
)

_ENCODER = r"encoder/layers/encoder_layer_\1"
_VIT = NameMap(
    "PyTorch vit",
    (
        *(_row("patch_embed", scope) for scope in ("patch_embed/proj", "conv_proj")),
        *(_value_row("class_token", name, _as_row) for name in ("cls_token", "class_token")),
        _value_row("position_embed", "pos_embed", resampled_positions),
        _value_row("position_embed", "encoder/pos_embedding", resampled_positions),
        _row(r"block(\d+)_(norm\d)", r"blocks/\1/\2"),
        _row(r"block(\d+)_(qkv|proj)", r"blocks/\1/attn/\2"),
        _row(r"block(\d+)_(fc\d)", r"blocks/\1/mlp/\2"),
        _row(r"block(\d+)_norm(\d)", rf"{_ENCODER}/ln_\2"),
        Row(
            r"block(\d+)_qkv",
            f"{_ENCODER}/self_attention",
            {"kernel": "in_proj_weight", "bias": "in_proj_bias"},
            _converted,
        ),
        _row(r"block(\d+)_proj", f"{_ENCODER}/self_attention/out_proj"),
        *(_row(r"block(\d+)_fc1", f"{_ENCODER}/mlp/{name}") for name in ("0", "linear_1")),
        *(_row(r"block(\d+)_fc2", f"{_ENCODER}/mlp/{name}") for name in ("3", "linear_2")),
        *(_row("norm", scope) for scope in ("norm", "encoder/ln")),
        *(_row("logits", scope) for scope in ("head", "heads/head")),
    ),
    only_with="position_embed",
)

MAPS = (
    _EFFICIENTNET_LITE,
    _RESNET,
    _REGNET,
    _inverted_residuals("PyTorch mobilenet_v3", "last", epsilon_difference=1e-3 - 1e-5),
    # Of EfficientNet B5 to B7.
    _inverted_residuals("PyTorch efficientnet_b5", "block38_depthwise", 1e-3 - 1e-5),
    # MobileNetV3 has this layer as well; the rows of maps above come first.
    _inverted_residuals("PyTorch mobilenet_v2", "separable0_depthwise", epsilon_difference=0.0),
    _CONVNEXT,
    _VIT,
)
