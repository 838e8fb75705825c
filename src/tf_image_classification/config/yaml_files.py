"""YAML files in which every name may be given once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.system import files


def read_mapping(path: str, option: str) -> Mapping[str, Any]:
    """The names and values of a YAML file.

    Args:
        path: the file, local or remote.
        option: the flag it was named by, for messages.

    Raises:
        ConfigError: the file does not exist, is not YAML, or contains no mapping.
    """
    try:
        value = yaml.load(files.read_text(path), _UniqueKeys)
    except DataError as error:
        raise ConfigError(f"{option}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{option}: {path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{option}: {path} is not YAML: {reason}") from error
    if not isinstance(value, Mapping):
        raise ConfigError(f"{option}: {path} holds no settings, expected lines of name: value.")
    return value


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a name that is given twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is given twice", key.start_mark
                )
        return super().construct_mapping(node, deep)
