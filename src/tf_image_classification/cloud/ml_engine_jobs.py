"""Job files of ML Engine, Vertex AI's predecessor (``trainingInput:``), translated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_image_classification.config.search_space import check_keys
from tf_image_classification.errors import ConfigError

# The machines of each tier: https://cloud.google.com/ai-platform/training/docs/machine-types
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
_OF_CUSTOM = ["masterType", "workerType", "workerCount"]
_OF_CUSTOM += ["parameterServerType", "parameterServerCount"]
_RENAMED = {"region": "region", "serviceAccount": "service_account", "network": "network"}
_DONE_ELSEWHERE = {
    "runtimeVersion": "the image has its own TensorFlow",
    "pythonVersion": "the image has its own Python",
    "packageUris": "the application is packaged anew",
    "pythonModule": "the command is given after --",
    "args": "the command is given after --",
    "jobDir": "it is output_dir",
    "parameterServerType": "workers hold equal copies of the model and need no parameter servers",
}


def translate_job(given: Mapping[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    """The values of an old file by key of ``cloud.yml``, and notes on changes.

    Keys of ``cloud.yml`` beside ``trainingInput`` give the rest, e.g. the project.

    Raises:
        ConfigError: a key has no counterpart, or is given twice; names it.
    """
    old = given["trainingInput"]
    if not isinstance(old, Mapping):
        raise ConfigError(f"{path}: trainingInput holds no settings.")
    origin = f"{path}: trainingInput"
    values, notes = _machines(old, path)
    for key, value in old.items():
        if key in ("scaleTier", "masterType", "workerType", "workerCount"):
            continue
        if key == "parameterServerCount":
            if _count(old, key, origin):
                notes.append(
                    f"{key} {value}: left out, since {_DONE_ELSEWHERE['parameterServerType']}"
                )
        elif key in _RENAMED:
            values[_RENAMED[key]] = value
        elif key == "hyperparameters":
            values["study"] = _study(value, f"{origin}.hyperparameters")
        elif key in _DONE_ELSEWHERE:
            notes.append(f"{key} {value}: left out, since {_DONE_ELSEWHERE[key]}")
        else:
            raise ConfigError(f"{origin}.{key} has no counterpart here. Remove it.")
    others = {key: value for key, value in given.items() if key != "trainingInput"}
    for key in others:
        if key in values:
            raise ConfigError(
                f"{path}: {key} stands beside trainingInput and follows from it. Remove it."
            )
    return values | others, notes


def _machines(old: Mapping[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    """The machines and workers of a job, and notes."""
    origin = f"{path}: trainingInput"
    tier = str(old.get("scaleTier", "BASIC"))
    if tier in _TIERS:
        for key in _OF_CUSTOM:
            if key in old:
                raise ConfigError(
                    f"{origin}.{key} has no effect with scaleTier {tier}. Remove it, or write "
                    "scaleTier: CUSTOM."
                )
        has_servers = tier in ("STANDARD_1", "PREMIUM_1")
        notes = [f"scaleTier {tier}: its parameter servers are left out"] if has_servers else []
        return dict(_TIERS[tier]), notes
    if tier != "CUSTOM":
        raise ConfigError(
            f"{path}: scaleTier {tier!r} has no counterpart, expected CUSTOM, {', '.join(_TIERS)}. "
            "Write a cloud.yml with machine_type and accelerator_type."
        )
    workers = 1 + _count(old, "workerCount", origin)
    master = old.get("masterType", "")
    worker = old.get("workerType", master)
    differs = workers > 1 and worker != master
    notes = [f"workerType {worker}: all workers get the machine of masterType"] if differs else []
    return {"workers": workers} | _machine(str(master), origin), notes


def _count(old: Mapping[str, Any], key: str, origin: str, default: int = 0) -> int:
    value = old.get(key, default)
    if not str(value).isdigit():
        raise ConfigError(f"{origin}.{key} is {value!r}, expected a number.")
    return int(value)


def _machine(name: str, origin: str) -> dict[str, Any]:
    if name in _GPU_MACHINES:
        machine, count = _GPU_MACHINES[name]
        kind = {"standard_p100": "NVIDIA_TESLA_P100", "standard_v100": "NVIDIA_TESLA_V100"}
        return {
            "machine_type": machine,
            "accelerator_type": kind.get(name, "NVIDIA_TESLA_T4"),
            "accelerator_count": count,
        }
    if name in _MACHINES or "-" in name:  # a machine of Compute Engine
        return {"machine_type": _MACHINES.get(name, name)}
    raise ConfigError(
        f"{origin}.masterType {name!r} has no counterpart, expected one of "
        f"{', '.join([*_MACHINES, *_GPU_MACHINES])} or a machine of Compute Engine."
    )


def _study(old: Any, origin: str) -> dict[str, Any]:
    keys = ("goal", "hyperparameterMetricTag", "maxTrials", "maxParallelTrials", "params")
    check_keys(old, keys, origin)
    if not isinstance(old.get("params"), list):
        raise ConfigError(f"{origin} holds no params.")
    if "hyperparameterMetricTag" not in old:
        raise ConfigError(f"{origin}.hyperparameterMetricTag is missing. Name one of the metrics.")
    return {
        "metric": old["hyperparameterMetricTag"],
        "goal": str(old.get("goal", "MAXIMIZE")).lower(),
        "max_trials": _count(old, "maxTrials", origin, 1),
        "parallel_trials": _count(old, "maxParallelTrials", origin, 1),
        "parameters": dict(_parameter(value, f"{origin}.params") for value in old["params"]),
    }


def _parameter(old: Any, origin: str) -> tuple[str, dict[str, Any]]:
    keys = ("parameterName", "type", "minValue", "maxValue", "scaleType")
    check_keys(old, (*keys, "categoricalValues", "discreteValues"), origin)
    name, kind = str(old.get("parameterName", "")).lstrip("-"), old.get("type")
    origin = f"{origin}: {name}"
    if kind in ("CATEGORICAL", "DISCRETE"):
        key = "categoricalValues" if kind == "CATEGORICAL" else "discreteValues"
        return name, {"choices": old.get(key)}
    if kind not in ("DOUBLE", "INTEGER"):
        raise ConfigError(f"{origin}: type {kind!r} has no counterpart.")
    scale = old.get("scaleType", "UNIT_LINEAR_SCALE")
    if scale not in ("UNIT_LINEAR_SCALE", "UNIT_LOG_SCALE", "NONE"):
        raise ConfigError(f"{origin}: scaleType {scale} has no counterpart.")
    low, high = (_number(old, key, kind == "INTEGER", origin) for key in ("minValue", "maxValue"))
    return name, {"low": low, "high": high, "log": scale == "UNIT_LOG_SCALE"}


def _number(old: Mapping[str, Any], key: str, is_whole: bool, origin: str) -> float:
    expected = "a whole number" if is_whole else "a number"
    try:
        number = float(old.get(key, ""))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{origin}: {key} is {old.get(key)!r}, expected {expected}.") from error
    if not is_whole:
        return number
    if not number.is_integer():
        raise ConfigError(f"{origin}: {key} is {old[key]!r}, expected {expected}.")
    return int(number)
