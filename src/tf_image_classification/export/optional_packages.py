"""Packages of the optional extras, imported late."""

from __future__ import annotations

import importlib
from typing import Any

from tf_image_classification.errors import ConfigError
from tf_image_classification.export.names import LITERT, ONNX, WEB
from tf_image_classification.system.packages import is_installed

_OF_ONNX = ("onnx", "tf2onnx", "onnxruntime")
CONVERTERS = {LITERT: ("ai_edge_litert",), ONNX: _OF_ONNX, WEB: _OF_ONNX}
"""By format the packages that write and verify it."""

_EXTRAS = {LITERT: "LiteRT", ONNX: "ONNX", WEB: "ONNX"}


def check_installed(format_name: str) -> None:
    """Check that the packages of a format are installed, without importing them.

    Raises:
        ConfigError: one is missing; names its extra.
    """
    for package in CONVERTERS.get(format_name, ()):
        if not is_installed(package):
            raise _missing(package, _EXTRAS[format_name])


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
