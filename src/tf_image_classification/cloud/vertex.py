"""Custom jobs and hyperparameter tuning jobs of Vertex AI: their request, and sending it."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from tf_image_classification.cloud import packaging
from tf_image_classification.cloud.job import CloudJob, require
from tf_image_classification.cloud.packaging import Application
from tf_image_classification.cloud.source_files import SourceFiles
from tf_image_classification.config import ALIASES, OPTIONS
from tf_image_classification.config.search_space import Parameter
from tf_image_classification.errors import ConfigError

_EXTRA = "pip install 'tf_image_classification[cloud]'"


def staging_folder(job: CloudJob) -> str:
    """The gs:// folder for packages."""
    if job.staging_bucket:
        return job.staging_bucket.rstrip("/")
    return "/".join(job.output_dir.split("/")[:3]) + "/tfic-staging"


def check(job: CloudJob, origin: str) -> None:
    """Check that everything is given that Vertex AI needs.

    Raises:
        ConfigError: a key is missing.
    """
    require(job, ("project", "name", "output_dir"), origin)
    if not (job.image or job.executor_image):
        raise ConfigError(
            f"{origin}: image is missing. Make one with tfic submit docker, or give "
            "executor_image, a prebuilt image on which the application's package is installed."
        )


def describe(
    job: CloudJob, application: Application, package_uris: Sequence[str] = ()
) -> dict[str, Any]:
    """The request of Vertex AI's REST API: a CustomJob or a HyperparameterTuningJob.

    Args:
        job: the job.
        application: the application.
        package_uris: addresses of its packages, for a prebuilt image.
    """
    spec = _job_spec(job, application, package_uris)
    described: dict[str, Any] = {"displayName": job.name}
    if job.labels:
        described["labels"] = dict(label.split("=", 1) for label in job.labels)
    study = job.study
    if study is None:
        return described | {"jobSpec": spec}
    return described | {
        "studySpec": {
            "metrics": [{"metricId": study.metric, "goal": study.goal.upper()}],
            "parameters": [_parameter(parameter) for parameter in study.parameters],
        },
        "maxTrialCount": study.max_trials,
        "parallelTrialCount": study.parallel_trials,
        "trialJobSpec": spec,
    }


def gcloud_command(job: CloudJob, described: Mapping[str, Any]) -> tuple[str, str]:
    """The ``gcloud`` line that creates the same job, and the file that it reads."""
    if job.study is not None:
        verb = "hp-tuning-jobs"
        config = {k: described[k] for k in ("studySpec", "trialJobSpec")}
        counts = (
            f" --max-trial-count={job.study.max_trials}"
            f" --parallel-trial-count={job.study.parallel_trials}"
        )
    else:
        verb, config, counts = "custom-jobs", described["jobSpec"], ""
    labels = f" --labels={','.join(job.labels)}" if job.labels else ""
    line = (
        f"gcloud ai {verb} create --project={shlex.quote(job.project)} "
        f"--region={shlex.quote(job.region)} --display-name={shlex.quote(job.name)}"
        f"{counts}{labels} --config=job.yaml"
    )
    return line, yaml.safe_dump(config, sort_keys=False)


def packages(
    job: CloudJob, application: Application, sources: SourceFiles
) -> list[tuple[str, bytes]]:
    """The packages for a prebuilt image: file names and contents, the framework first."""
    return [
        packaging.framework_package(),
        packaging.application_package(application, sources, accelerator(job)),
    ]


def upload_packages(job: CloudJob, contents: Sequence[tuple[str, bytes]]) -> None:
    """Upload packages, file names and contents, to the staging folder.

    Raises:
        ConfigError: the client is not installed, or the packages cannot be stored; gives the
            reason.
    """
    folder = staging_folder(job)
    bucket_name, _, prefix = folder.removeprefix("gs://").partition("/")
    with _client_errors("google-cloud-storage", f"Packages cannot be stored in {folder}"):
        from google.cloud import storage

        bucket = storage.Client(project=job.project).bucket(bucket_name)
        for name, content in contents:
            path = f"{prefix}/{name}" if prefix else name
            bucket.blob(path).upload_from_string(content, "application/gzip")


def accelerator(job: CloudJob) -> str:
    """The TensorFlow variant of the machines: "cpu" or "gpu"."""
    return "gpu" if job.accelerator_type else "cpu"


def create(job: CloudJob, described: Mapping[str, Any]) -> str:
    """Create the job; returns its full name.

    Raises:
        ConfigError: the client is not installed, or Vertex AI rejects the job; gives the reason.
    """
    parent = f"projects/{job.project}/locations/{job.region}"
    with _client_errors("google-cloud-aiplatform", "Vertex AI did not create the job"):
        from google.cloud import aiplatform_v1

        client = _client(job, aiplatform_v1)
        text = json.dumps(described)
        if job.study is None:
            custom = aiplatform_v1.CustomJob.from_json(text)
            return str(client.create_custom_job(parent=parent, custom_job=custom).name)
        tuning = aiplatform_v1.HyperparameterTuningJob.from_json(text)
        created = client.create_hyperparameter_tuning_job(
            parent=parent, hyperparameter_tuning_job=tuning
        )
        return str(created.name)


@contextlib.contextmanager
def _client_errors(distribution: str, trouble: str) -> Iterator[None]:
    """Turns errors of Google's clients, or their absence, into a ConfigError."""
    try:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError

        try:
            yield
        except GoogleAuthError as error:
            raise ConfigError(
                f"{trouble}: {error} Sign in: gcloud auth application-default login."
            ) from error
        except (GoogleAPIError, OSError) as error:
            raise ConfigError(f"{trouble}: {error}") from error
    except ImportError as error:
        raise ConfigError(f"{distribution} is not installed. {_EXTRA}") from error


def _client(job: CloudJob, aiplatform_v1: Any) -> Any:
    endpoint = job.api_endpoint or f"{job.region}-aiplatform.googleapis.com"
    if not endpoint.startswith("http://"):
        options = {"api_endpoint": endpoint}
        return aiplatform_v1.JobServiceClient(client_options=options)
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceRestTransport

    transport = JobServiceRestTransport(host=endpoint, credentials=AnonymousCredentials())
    return aiplatform_v1.JobServiceClient(transport=transport)


def _job_spec(
    job: CloudJob, application: Application, package_uris: Sequence[str]
) -> dict[str, Any]:
    chief = _pool(job, application, package_uris, count=1)
    pools: list[dict[str, Any]] = [chief]
    if job.workers > 1:
        pools.append(_pool(job, application, package_uris, count=job.workers - 1))
    if job.evaluator:  # the fourth pool
        pools += [{}] * (3 - len(pools))
        pools.append(_pool(job, application, package_uris, count=1, is_evaluator=True))
    scheduling: dict[str, Any] = {
        "timeout": f"{job.timeout_secs}s",
        "restartJobOnWorkerRestart": job.restart,
    }
    if job.spot:
        scheduling["strategy"] = "SPOT"
    spec = {
        "workerPoolSpecs": pools,
        "scheduling": scheduling,
        "baseOutputDirectory": {"outputUriPrefix": job.output_dir},
    }
    if job.service_account:
        spec["serviceAccount"] = job.service_account
    if job.network:
        spec["network"] = job.network
    return spec


def _pool(
    job: CloudJob,
    application: Application,
    package_uris: Sequence[str],
    *,
    count: int,
    is_evaluator: bool = False,
) -> dict[str, Any]:
    machine: dict[str, Any] = {"machineType": job.machine_type}
    if is_evaluator and job.evaluator_machine_type:
        machine = {"machineType": job.evaluator_machine_type}
    elif job.accelerator_type and not is_evaluator:
        machine |= {
            "acceleratorType": job.accelerator_type,
            "acceleratorCount": job.accelerator_count,
        }
    pool: dict[str, Any] = {
        "machineSpec": machine,
        "replicaCount": str(count),
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": job.boot_disk_gb},
    }
    arguments = list(application.arguments)
    if job.image:
        command = list(application.program)
        pool["containerSpec"] = {"imageUri": job.image, "command": command, "args": arguments}
    else:
        pool["pythonPackageSpec"] = {
            "executorImageUri": job.executor_image,
            "packageUris": list(package_uris),
            "pythonModule": packaging.MODULE,
            "args": arguments,
        }
    return pool


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {"parameterId": parameter.name}
    kind = OPTIONS[ALIASES.get(parameter.name, parameter.name)].kind
    if parameter.choices:
        if kind in (int, float):
            # The service requires increasing order.
            values = sorted({float(value) for value in parameter.choices})
            return described | {"discreteValueSpec": {"values": values}}
        names = [str(value).lower() if kind is bool else str(value) for value in parameter.choices]
        return described | {"categoricalValueSpec": {"values": names}}
    assert parameter.low is not None and parameter.high is not None
    described["scaleType"] = "UNIT_LOG_SCALE" if parameter.is_log else "UNIT_LINEAR_SCALE"
    if kind is int:
        limits = {"minValue": str(int(parameter.low)), "maxValue": str(int(parameter.high))}
        return described | {"integerValueSpec": limits}
    return described | {"doubleValueSpec": {"minValue": parameter.low, "maxValue": parameter.high}}
