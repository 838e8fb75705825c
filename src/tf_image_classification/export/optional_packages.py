"""Packages of the optional extras, imported late."""

from __future__ import annotations

import importlib
from typing import Any

from tf_image_classification.errors import ConfigError


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
        extra = name.lower()
        raise ConfigError(
            f"{name} needs {module.partition('.')[0]}. Install it with: "
            f"pip install 'tf_image_classification[{extra}]'."
        ) from error
