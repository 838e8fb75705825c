"""A hyperparameter search on Vertex AI: the key ``study`` of ``cloud.yml``.

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
from typing import Any

from tf_image_classification.config import search_space
from tf_image_classification.config.search_space import Parameter
from tf_image_classification.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Study:
    """A hyperparameter search.

    Attributes:
        metric: the metric to optimize.
        goal: "maximize" or "minimize".
        max_trials: total number of trainings.
        parallel_trials: trainings at a time.
        parameters: the search space.
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
        ConfigError: a key is unknown or missing, or a value is out of range.
    """
    origin = f"{origin}: study"
    search_space.check_keys(given, _KEYS, origin)
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
    parameters = search_space.parameters_of(given["parameters"], f"{origin}: parameters")
    return Study(str(given["metric"]), given["goal"], counts[0], counts[1], parameters)
