"""The search space of a hyperparameter search, as written in YAML.

learning_rate: {low: 0.0001, high: 0.1, log: true}
optimizer: {choices: [adamw, momentum]}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tf_image_classification.config import ALIASES, OPTIONS
from tf_image_classification.errors import ConfigError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One hyperparameter and its range or choices.

    Attributes:
        name: the setting.
        low: lower bound of a range, or None.
        high: upper bound of a range, or None.
        is_log: whether the range is searched on a log scale.
        choices: the values, if there is no range.
    """

    name: str
    low: float | None = None
    high: float | None = None
    is_log: bool = False
    choices: tuple[Any, ...] = ()


def parameters_of(given: Any, origin: str) -> tuple[Parameter, ...]:
    """The parameters that a mapping of a file describes.

    Raises:
        ConfigError: a name is not a setting, or a value is not allowed for it.
    """
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(f"{origin} is {given!r}, expected lines of name: range.")
    return tuple(_parameter(str(name), value, origin) for name, value in given.items())


def check_keys(given: Any, known: Sequence[str], origin: str) -> None:
    """Check that a value is a mapping with known keys.

    Raises:
        ConfigError: it is not; names the key and near ones.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{origin} is {given!r}, expected lines of name: value.")
    for key in given:
        if key not in known:
            raise ConfigError(f"{origin}: unknown key {key!r}. {did_you_mean(str(key), known)}")


def _parameter(name: str, given: Any, origin: str) -> Parameter:
    option = OPTIONS.get(ALIASES.get(name, name))
    if option is None:
        raise ConfigError(
            f"{origin}: unknown setting {name!r}. {did_you_mean(name, [*OPTIONS, *ALIASES])}"
        )
    origin = f"{origin}: {name}"
    check_keys(given, ("low", "high", "log", "choices"), origin)
    is_range = "low" in given and "high" in given
    if is_range == ("choices" in given):
        raise ConfigError(f"{origin}: give either low and high, or choices.")
    values = [given["low"], given["high"]] if is_range else given["choices"]
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{origin}: choices is {values!r}, expected a list.")
    try:
        checked = [option.check(value) for value in values]
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
    if not is_range:
        return Parameter(name, choices=tuple(checked))
    if option.kind not in (int, float) or not checked[0] < checked[1]:
        raise ConfigError(f"{origin}: low must be less than high, and the setting a number.")
    is_log = bool(given.get("log", False))
    if is_log and checked[0] <= 0:
        raise ConfigError(f"{origin}: a log range needs low above 0.")
    return Parameter(name, float(checked[0]), float(checked[1]), is_log)
