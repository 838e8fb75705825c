"""The backbones that a PyTorch file of weights fits, from its names and number of parameters.

fitting("resnet34-b627a593.pth")    ("resnet34",)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from tf_image_classification.backbones.catalog import Backbone, find, names
from tf_image_classification.checkpoints.torch_config import read_config
from tf_image_classification.checkpoints.torch_files import read_torch

_TOLERANCE = 0.006  # million parameters: the catalog has two decimals
_HEAD = re.compile(
    r"(?:^|/)(?:fc|_fc|head|heads/head|head/fc|classifier(?:/[123])?)/(weight|bias)$"
)
# A name that only files of a network have; where timm's and torchvision's networks differ, the
# catalog has a backbone for each.
_TIMM_MOBILE = "blocks/0/0/conv_dw/weight"
_SIGNATURES = {
    "efficientnet_lite": "_blocks/0/_depthwise_conv/weight",
    "resnet": "layer1/0/conv1/weight",
    "regnet": "s1/b1/conv1/conv/weight|trunk_output/block1/block1-0/f/a/0/weight",
    "convnext": "stages/0/blocks/0/conv_dw/weight|features/1/0/layer_scale",
    "mobilenet_v2": f"{_TIMM_MOBILE}|features/1/conv/0/0/weight",
    "mobilenet_v3_small": f"{_TIMM_MOBILE}|features/1/block/0/0/weight",
    "mobilenet_v3_large": f"{_TIMM_MOBILE}|features/1/block/0/0/weight",
    "tf_mobilenet_v3_small": _TIMM_MOBILE,
    "tf_mobilenet_v3_large": _TIMM_MOBILE,
    "efficientnet": f"{_TIMM_MOBILE}|features/1/0/block/0/0/weight",
    "tf_efficientnet": _TIMM_MOBILE,
}
_POSITIONS = re.compile(r"(?:^|/)pos_embed(?:ding)?$")  # their number depends on the image size
_VIT = "blocks/0/attn/qkv/weight"
_TORCHVISION_VIT = "encoder/layers/encoder_layer_0/ln_1/weight"


def fitting(path: str) -> tuple[str, ...]:
    """The names of the backbones whose weights a local PyTorch file can hold.

    Several networks differ only in their arithmetic, e.g. in padding or in the scaling of pixels:
    all are named. The architecture in a ``config.json`` beside the file decides, else the file's
    name where it contains theirs.

    Raises:
        CheckpointError: the file, or the ``config.json`` beside it, cannot be read.
    """
    values = read_torch(path)
    found = [b for b in map(find, names()) if _fits(b, values)]
    for text in (read_config(path).architecture, path.rpartition("/")[2], path):
        named = [b.name for b in found if any(n in _plain(text) for n in _plain_names(b))]
        if named:
            return (max(named, key=len),)
    return tuple(b.name for b in found)


def _fits(backbone: Backbone, values: Mapping[str, npt.NDArray[Any]]) -> bool:
    signature = _SIGNATURES.get(backbone.network)
    if backbone.network == "vit":
        signature = _TORCHVISION_VIT if backbone.name.startswith("torchvision_") else _VIT
    if signature is None or not any(re.search(f"(?:^|/)(?:{signature})$", n) for n in values):
        return False
    others = (_HEAD, _POSITIONS)
    size = sum(v.size for name, v in values.items() if not any(o.search(name) for o in others))
    if backbone.network == "vit":
        options = dict(backbone.options)
        patches = (backbone.image_size // int(options.get("patch", 16))) ** 2
        size += round((1 + patches) * options["width"])
    return abs(size / 1e6 - backbone.params) <= _TOLERANCE


def _plain_names(backbone: Backbone) -> list[str]:
    names_of_both = (backbone.name, *backbone.aliases)
    return [_plain(re.sub("^(timm|torchvision)_", "", name)) for name in names_of_both]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
