"""The hyperparameters that a cloud job varies: the part ``study`` of ``cloud.yml``.

study:
  metric: accuracy
  goal: maximize
  max_trials: 20
  parallel_trials: 4
  parameters:
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
    """One setting and the values that are tried.

    Attributes:
        name: the setting.
        low: least value of a range, or None.
        high: greatest value of a range, or None.
        is_log: whether the range is searched by order of magnitude.
        choices: the values, where there is no range.
    """

    name: str
    low: float | None = None
    high: float | None = None
    is_log: bool = False
    choices: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Study:
    """What is varied and what for.

    Attributes:
        metric: the metric that decides.
        goal: "maximize" or "minimize".
        max_trials: trainings in all.
        parallel_trials: trainings at a time.
        parameters: what is varied.
    """

    metric: str
    goal: str
    max_trials: int
    parallel_trials: int
    parameters: tuple[Parameter, ...]


_KEYS = ("metric", "goal", "max_trials", "parallel_trials", "parameters")


def make_study(given: Any, origin: str) -> Study:
    """A study from the values of a file.

    Raises:
        ConfigError: a key is unknown or missing, or a value is none that the setting could have.
    """
    origin = f"{origin}: study"
    _check_keys(given, _KEYS, origin)
    for key in ("metric", "goal", "parameters"):
        if not given.get(key):
            raise ConfigError(f"{origin}: {key} is missing.")
    if given["goal"] not in ("maximize", "minimize"):
        raise ConfigError(f"{origin}: goal is {given['goal']!r}, expected maximize or minimize.")
    counts = [given.get("max_trials", 10), given.get("parallel_trials", 1)]
    if not all(type(n) is int and n >= 1 for n in counts) or counts[1] > counts[0]:
        raise ConfigError(
            f"{origin}: max_trials is {counts[0]!r} and parallel_trials {counts[1]!r}, expected "
            "numbers from 1, the second not more than the first."
        )
    parameters = given["parameters"]
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"{origin}: parameters is {parameters!r}, expected lines of name: range.")
    found = [_parameter(name, value, origin) for name, value in parameters.items()]
    return Study(str(given["metric"]), given["goal"], counts[0], counts[1], tuple(found))


def _check_keys(given: Any, known: Sequence[str], origin: str) -> None:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{origin} is {given!r}, expected lines of name: value.")
    for key in given:
        if key not in known:
            raise ConfigError(f"{origin}: unknown key {key!r}. {did_you_mean(str(key), known)}")


def _parameter(name: str, given: Any, origin: str) -> Parameter:
    option = OPTIONS.get(ALIASES.get(name, name))
    if option is None:
        raise ConfigError(
            f"{origin}: there is no setting {name!r}. {did_you_mean(name, [*OPTIONS, *ALIASES])}"
        )
    origin = f"{origin}: {name}"
    _check_keys(given, ("low", "high", "log", "choices"), origin)
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
