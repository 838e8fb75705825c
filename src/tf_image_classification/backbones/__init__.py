"""Backbones: ``create`` builds one with its preprocessing, ``find`` looks up its properties."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_image_classification.backbones.building import create as create
    from tf_image_classification.backbones.building import imagenet_values as imagenet_values
    from tf_image_classification.backbones.catalog import KERAS_HUB as KERAS_HUB
    from tf_image_classification.backbones.catalog import Backbone as Backbone
    from tf_image_classification.backbones.catalog import find as find
    from tf_image_classification.backbones.catalog import names as names
    from tf_image_classification.backbones.torch_weights import fitting as fitting

_HOMES = {
    "Backbone": "catalog",
    "KERAS_HUB": "catalog",
    "create": "building",
    "imagenet_values": "building",
    "find": "catalog",
    "fitting": "torch_weights",
    "names": "catalog",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
