"""Packages of the optional extras, imported late."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from tf_image_classification.errors import ConfigError

_PACKAGES = {"LiteRT": ("ai_edge_litert",), "ONNX": ("onnx", "tf2onnx", "onnxruntime")}


def check_installed(format_name: str) -> None:
    """Check that the packages of a format are installed, without importing them.

    Raises:
        ConfigError: one is missing; names its extra.
    """
    for name, packages in _PACKAGES.items():
        for package in packages:
            if name.lower() == format_name and importlib.util.find_spec(package) is None:
                raise _missing(package, name)


def import_extra(module: str, name: str) -> Any:
    """The imported module of an optional extra.

    Args:
        module: its full name.
        name: the extra, as the message writes it.

    Raises:
        ConfigError: it is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(module.partition(".")[0], name) from error


def _missing(package: str, name: str) -> ConfigError:
    return ConfigError(
        f"{name} needs {package}. Install it with: "
        f"pip install 'tf_image_classification[{name.lower()}]'."
    )
