"""Translates job files of ML Engine, Vertex AI's predecessor (``trainingInput:``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_image_classification.errors import ConfigError

# What the tiers stood for: https://cloud.google.com/ai-platform/training/docs/machine-types
_TIERS: dict[str, dict[str, Any]] = {
    "BASIC": {"machine_type": "n1-standard-4"},
    "STANDARD_1": {"machine_type": "n1-highcpu-8", "workers": 5},
    "PREMIUM_1": {"machine_type": "n1-highcpu-16", "workers": 20},
    "BASIC_GPU": {
        "machine_type": "n1-standard-8",
        "accelerator_type": "NVIDIA_TESLA_T4",
        "accelerator_count": 1,
    },
}
_MACHINES = {
    "standard": "n1-standard-4",
    "large_model": "n1-highmem-8",
    "complex_model_s": "n1-highcpu-8",
    "complex_model_m": "n1-highcpu-16",
    "complex_model_l": "n1-highcpu-32",
}
_GPU_MACHINES = {
    "standard_gpu": ("n1-standard-8", 1),
    "complex_model_m_gpu": ("n1-standard-16", 4),
    "standard_p100": ("n1-standard-8", 1),
    "standard_v100": ("n1-standard-8", 1),
}
_DONE_ELSEWHERE = {
    "runtimeVersion": "the image has its own TensorFlow",
    "pythonVersion": "the image has its own Python",
    "packageUris": "the application is packaged anew",
    "pythonModule": "the command is given after --",
    "args": "the command is given after --",
    "jobDir": "it is output_dir",
    "parameterServerType": "workers hold equal copies of the model and need no parameter servers",
}


def translated(given: Mapping[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    """The values of an old file under the keys of ``cloud.yml``, and notes on what changed.

    Raises:
        ConfigError: something in it has no counterpart; names it.
    """
    others = sorted(set(given) - {"trainingInput"})
    old = given["trainingInput"]
    if others or not isinstance(old, Mapping):
        raise ConfigError(
            f"{path}: beside trainingInput nothing else is expected, found {', '.join(others)}."
            if others
            else f"{path}: trainingInput holds no settings."
        )
    values: dict[str, Any] = {}
    notes: list[str] = []
    tier = old.get("scaleTier", "BASIC")
    if tier == "CUSTOM":
        values |= _machine(old.get("masterType", "standard"), path)
        values["workers"] = 1 + _count(old, "workerCount", path)
        worker = old.get("workerType", old.get("masterType"))
        if values["workers"] > 1 and worker != old.get("masterType"):
            notes.append(f"workerType {worker}: all workers get the machine of masterType")
    elif tier in _TIERS:
        values |= _TIERS[tier]
        if tier in ("STANDARD_1", "PREMIUM_1"):
            notes.append(f"scaleTier {tier}: its parameter servers are left out")
    else:
        raise ConfigError(
            f"{path}: scaleTier {tier!r} has no counterpart, expected CUSTOM, {', '.join(_TIERS)}. "
            "Write a cloud.yml with machine_type and accelerator_type."
        )
    for key, value in old.items():
        if key in ("scaleTier", "masterType", "workerType", "workerCount"):
            continue
        if key == "parameterServerCount":
            if _count(old, key, path):
                notes.append(
                    f"{key} {value}: left out, since {_DONE_ELSEWHERE['parameterServerType']}"
                )
        elif key == "region":
            values["region"] = value
        elif key == "hyperparameters":
            values["study"] = _study(value, path)
        elif key in _DONE_ELSEWHERE:
            notes.append(f"{key} {value}: left out, since {_DONE_ELSEWHERE[key]}")
        else:
            raise ConfigError(f"{path}: trainingInput.{key} has no counterpart here. Remove it.")
    return values, notes


def _count(old: Mapping[str, Any], key: str, path: str) -> int:
    value = old.get(key, 0)
    if not str(value).isdigit():
        raise ConfigError(f"{path}: trainingInput.{key} is {value!r}, expected a number.")
    return int(value)


def _machine(name: str, path: str) -> dict[str, Any]:
    if name in _GPU_MACHINES:
        machine, count = _GPU_MACHINES[name]
        kind = {"standard_p100": "NVIDIA_TESLA_P100", "standard_v100": "NVIDIA_TESLA_V100"}
        return {
            "machine_type": machine,
            "accelerator_type": kind.get(name, "NVIDIA_TESLA_T4"),
            "accelerator_count": count,
        }
    if name in _MACHINES or "-" in name:  # new names stay
        return {"machine_type": _MACHINES.get(name, name)}
    raise ConfigError(
        f"{path}: trainingInput.masterType {name!r} has no counterpart, expected one of "
        f"{', '.join([*_MACHINES, *_GPU_MACHINES])} or a machine of Compute Engine."
    )


def _study(old: Any, path: str) -> dict[str, Any]:
    origin = f"{path}: trainingInput.hyperparameters"
    if not isinstance(old, Mapping) or not isinstance(old.get("params"), list):
        raise ConfigError(f"{origin} holds no params.")
    parameters = {}
    for parameter in old["params"]:
        name, kind = str(parameter.get("parameterName", "")).lstrip("-"), parameter.get("type")
        scale = parameter.get("scaleType", "UNIT_LINEAR_SCALE")
        if kind in ("DOUBLE", "INTEGER"):
            if scale not in ("UNIT_LINEAR_SCALE", "UNIT_LOG_SCALE", "NONE"):
                raise ConfigError(f"{origin}: {name}: scaleType {scale} has no counterpart.")
            number = float if kind == "DOUBLE" else int
            parameters[name] = {
                "low": number(parameter["minValue"]),
                "high": number(parameter["maxValue"]),
                "log": scale == "UNIT_LOG_SCALE",
            }
        elif kind in ("CATEGORICAL", "DISCRETE"):
            key = "categoricalValues" if kind == "CATEGORICAL" else "discreteValues"
            parameters[name] = {"choices": list(parameter.get(key, ()))}
        else:
            raise ConfigError(f"{origin}: {name}: type {kind!r} has no counterpart.")
    return {
        "metric": old.get("hyperparameterMetricTag", "training/hptuning/metric"),
        "goal": str(old.get("goal", "MAXIMIZE")).lower(),
        "max_trials": int(old.get("maxTrials", 1)),
        "parallel_trials": int(old.get("maxParallelTrials", 1)),
        "parameters": parameters,
    }
