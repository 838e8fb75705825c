"""Packages of the extras, imported late."""

from __future__ import annotations

import importlib
from typing import Any

from tf_image_classification.errors import ConfigError


def import_extra(module: str, name: str) -> Any:
    """A module of the extra ``name``.

    Raises:
        ConfigError: it is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        extra = name.lower()
        raise ConfigError(
            f"{name} needs {module.partition('.')[0]}. Install it with: "
            f"pip install 'tf_image_classification[{extra}]'."
        ) from error
