"""Checks of Keras's backend, image data format and dtype, before Keras is imported. Internal.

Keras takes them from the environment, from ``keras.json`` and from the program. With other values
than ours Keras fails on import, or trains nonsense without an error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from tf_image_classification.errors import ConfigError

BACKEND, DATA_FORMAT, FLOAT = "tensorflow", "channels_last", "float32"


def require(environment: Mapping[str, str]) -> None:
    """Check that Keras computes with TensorFlow, on images [H, W, C], in float32.

    Args:
        environment: the process's variables.

    Raises:
        ConfigError: it does not; names where it was set and what to set.
    """
    path = _config_path(environment)
    file = _read(path)
    imported = sys.modules.get("keras")
    if imported is not None:
        backend = imported.backend.backend()
    else:
        backend = environment.get("KERAS_BACKEND") or str(file.get("backend", BACKEND))
    if backend != BACKEND:
        where = "KERAS_BACKEND" if environment.get("KERAS_BACKEND") == backend else path
        raise ConfigError(
            f"Keras is set to the backend {backend} (in {where}), but this package computes with "
            "TensorFlow. Set KERAS_BACKEND=tensorflow before Keras is imported."
        )
    require_formats(path, file)


def require_formats(path: str = "", file: Mapping[str, Any] | None = None) -> None:
    """Check that Keras works on images [H, W, C] in float32.

    Args:
        path: of ``keras.json``.
        file: its content; None: any other value was set by the program.

    Raises:
        ConfigError: it does not.
    """
    import keras  # late: with another backend the import may fail, and it takes seconds

    found = {
        "image_data_format": (keras.config.image_data_format(), DATA_FORMAT),
        "floatx": (keras.config.floatx(), FLOAT),
    }
    for name, (value, wanted) in found.items():
        if value == wanted:
            continue
        is_of_file = file is not None and file.get(name) == value
        place = f"in {path}" if is_of_file else "set by the program"
        how = (
            f'"{name}": "{wanted}" there' if is_of_file else f'keras.config.set_{name}("{wanted}")'
        )
        text = f"Keras's {name} is {value} ({place}), but this package needs {wanted}. Write {how}."
        if name == "floatx":
            text += " --precision mixed_bfloat16 or mixed_float16 computes in fewer bits."
        raise ConfigError(text)


def require_policy(precision: str, *, where: str) -> None:
    """Check that no dtype policy is set that ``precision`` would override.

    Args:
        precision: the setting of this name.
        where: the code that may have set a policy, for the message.

    Raises:
        ConfigError: another policy is set; names the setting to use instead.
    """
    import keras  # late, as above

    policy = keras.config.dtype_policy().name
    if policy not in (FLOAT, precision):
        raise ConfigError(
            f"{where} sets Keras's dtype policy to {policy}, but precision is {precision}. Give "
            f"--precision {policy}, which scales the loss too where that is needed, or remove the "
            "policy."
        )


def _config_path(environment: Mapping[str, str]) -> str:
    home = environment.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return os.path.join(os.path.expanduser(home), "keras.json")


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except (OSError, ValueError):  # Keras leaves such a file alone too
        return {}
    return value if isinstance(value, dict) else {}
