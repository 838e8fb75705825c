"""Settings from keyword arguments, with data in memory stored as files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_image_classification.config import Settings, make_settings
from tf_image_classification.config.command_line import read_settings_file
from tf_image_classification.config.groups import SHORT_FORMS
from tf_image_classification.dataset.in_memory import stored_source
from tf_image_classification.errors import ConfigError
from tf_image_classification.system import files
from tf_image_classification.workflows.setup.environment import cache_dir

_NAMES = {short: name for name, shorts in SHORT_FORMS.items() for short in shorts}
_DATA = ("train_metadata", "eval_metadata")


def settings_of(
    options: Mapping[str, Any],
    base: Settings | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of keyword arguments.

    Args:
        options: options by name or short form, and ``config``, a settings file; data sets may be
            in memory, see ``stored_source``.
        base: settings that they override; None: the defaults.
        environment: without ``base``: settings that the platform gives, which all others override.

    Raises:
        ConfigError: as ``make_settings``.
        DataError: data in memory cannot be used.
    """
    plain: dict[str, Any] = {}
    for given, value in options.items():
        name = _NAMES.get(given, given)
        if name in plain:
            raise ConfigError(f"{given} and {name} are two names of one setting. Give one.")
        plain[name] = value
    data = {name: plain[name] for name in _DATA if plain.get(name) is not None}
    plain |= dict.fromkeys(data, ("stored below",))  # options that need a set are checked first
    path = str(plain.pop("config", ""))
    if base is None:
        file = read_settings_file(path) if path else None
        settings = make_settings(plain, environment=environment, file=file, file_path=path)
    else:
        settings = base.replace(**plain)
    folder = files.join(cache_dir(settings), "in_memory")
    stored = {
        name: stored_source(value, option=name, folder=folder) for name, value in data.items()
    }
    return settings.replace(**stored) if stored else settings
