"""The description of a cloud job: the keys of ``cloud.yml``, read and checked.

project: my-project
region: europe-west4
output_dir: gs://bucket/runs/pets
image: europe-west4-docker.pkg.dev/my-project/images/pets
machine_type: n1-standard-8
workers: 2
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tf_image_classification.cloud import ml_engine_jobs
from tf_image_classification.cloud.study import Study, make_study
from tf_image_classification.config import declare, options_of, yaml_files
from tf_image_classification.errors import ConfigError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloudJob:
    """Place, machines and limits of a training; every field is a key of ``cloud.yml``."""

    project: str = declare("", "Google Cloud project.")
    region: str = declare("us-central1", "Region of the job.")
    name: str = declare("tfic", "Name of the job, as it is shown.")
    output_dir: str = declare("", "gs:// folder of the run: model folder, exports and logs.")
    staging_bucket: str = declare("", "gs:// folder for packages; empty: that of output_dir.")
    image: str = declare("", "Container image with the application (tfic submit docker).")
    executor_image: str = declare("", "Prebuilt image on which the application's package runs.")
    machine_type: str = declare("n1-standard-8", "Machine of each worker.")
    accelerator_type: str = declare("", "Accelerator, e.g. NVIDIA_TESLA_T4; empty: none.")
    accelerator_count: int = declare(1, "Accelerators of each worker.", minimum=1)
    workers: int = declare(1, "Machines that train together.", minimum=1)
    evaluator: bool = declare(False, "One more machine evaluates every checkpoint.")
    evaluator_machine_type: str = declare(
        "", "Its machine; empty: machine_type, without accelerator."
    )
    service_account: str = declare("", "Account that the job runs as; empty: the default one.")
    network: str = declare("", "VPC network to peer with, in full.")
    spot: bool = declare(False, "Use machines that may be taken away, at a lower price.")
    timeout_secs: int = declare(604800, "The job is ended after so many seconds.", minimum=60)
    restart: bool = declare(True, "Start all workers again when one fails; they resume.")
    boot_disk_gb: int = declare(100, "Size of each machine's disk.", minimum=100)
    labels: tuple[str, ...] = declare((), "Labels of the job, as key=value.")
    api_endpoint: str = declare("", "Address of the service; empty: that of the region.")
    study: Study | None = None


OPTIONS = {option.name: option for option in options_of("cloud", CloudJob)}


def read_job(path: str, *, refused: Sequence[str] = ()) -> tuple[CloudJob, list[str]]:
    """The job that a file describes, and notes on translated keys.

    Args:
        path: the file.
        refused: keys that have no effect on the platform that the job is for.

    Raises:
        ConfigError: it cannot be read, names an unknown key, or a value is wrong or missing.
    """
    given = yaml_files.read_mapping(path, "--config")
    notes: list[str] = []
    if "trainingInput" in given:
        given, notes = ml_engine_jobs.translate_job(given, path)
    for key in given:
        if key in refused:
            raise ConfigError(f"{path}: {key} has no effect on this platform. Remove it.")
    return make_job(given, path), notes


def make_job(given: Mapping[str, Any], origin: str) -> CloudJob:
    """A job from values by key.

    Raises:
        ConfigError: as ``read_job``.
    """
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key == "study":
            values[key] = make_study(value, origin)
        elif key not in OPTIONS:
            raise ConfigError(
                f"{origin}: unknown key {key!r}. {did_you_mean(str(key), [*OPTIONS, 'study'])}"
            )
        else:
            try:
                values[key] = OPTIONS[key].check(_listed(value) if key == "labels" else value)
            except ConfigError as error:
                raise ConfigError(f"{origin}: {error}") from error
    job = CloudJob(**values)
    _check(job, given, origin)
    return job


def _listed(value: Any) -> Any:
    return [f"{k}={v}" for k, v in value.items()] if isinstance(value, Mapping) else value


def _check(job: CloudJob, given: Mapping[str, Any], origin: str) -> None:
    if job.image and job.executor_image:
        raise ConfigError(f"{origin}: image and executor_image exclude each other. Give one.")
    for key in ("output_dir", "staging_bucket"):
        path = getattr(job, key)
        if path and not re.fullmatch(r"gs://[^/]+(/.*)?", path):
            raise ConfigError(f"{origin}: {key} is {path!r}, expected gs://bucket/folder.")
    needed = {
        "accelerator_count": "accelerator_type",
        "evaluator_machine_type": "evaluator",
        "staging_bucket": "executor_image",
    }
    for key, other in needed.items():
        if key in given and not getattr(job, other):
            raise ConfigError(f"{origin}: {key} has no effect without {other}. Remove it.")
    keys = [entry.partition("=")[0] for entry in job.labels]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{origin}: label {key!r} is given twice.")
    for entry in job.labels:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*=[a-z0-9_-]*", entry):
            raise ConfigError(
                f"{origin}: label {entry!r} is not of the form key: value in lower case letters, "
                "digits, _ and -."
            )


def require(job: CloudJob, keys: Sequence[str], origin: str) -> None:
    """Check that the keys a platform needs are given.

    Raises:
        ConfigError: one is missing; names the key and its meaning.
    """
    for key in keys:
        if not getattr(job, key):
            raise ConfigError(f"{origin}: {key} is missing. {OPTIONS[key].help}")
