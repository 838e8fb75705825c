"""Manifests for Kubernetes: a TFJob of Kubeflow's training operator, or a TrainJob of its Trainer.

The Trainer has no runtime for TensorFlow, so the job comes with its own: each worker derives its
number from the index of its pod, and the addresses of the others from the headless service of the
JobSet.
"""

from __future__ import annotations

import re
from typing import Any

from tf_image_classification.cloud.job import CloudJob, require
from tf_image_classification.cloud.packaging import Application
from tf_image_classification.distributed.cluster_spec import NUM_WORKERS, WORKER_ADDRESS
from tf_image_classification.errors import ConfigError

WITHOUT_EFFECT = (
    *("project", "region", "output_dir", "staging_bucket", "executor_image", "machine_type"),
    *("evaluator_machine_type", "network", "spot", "boot_disk_gb", "api_endpoint", "study"),
)
"""Keys of ``cloud.yml`` without effect on Kubernetes."""

_PORT = 2222


def tf_job(job: CloudJob, application: Application, origin: str) -> list[dict[str, Any]]:
    """A TFJob (kubeflow.org/v1); the operator sets ``TF_CONFIG``.

    Raises:
        ConfigError: the image is missing, or Kubernetes does not accept the name.
    """
    _check(job, origin)
    # The evaluator is absent from the workers' TF_CONFIG.
    more = ["--evaluator", "task"] if job.evaluator else []
    replicas = {"Worker": job.workers} | ({"Evaluator": 1} if job.evaluator else {})
    specs = {
        kind: {
            "replicas": count,
            "restartPolicy": "OnFailure" if job.restart else "Never",
            "template": {
                "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
                "spec": {
                    **_account(job),
                    "containers": [
                        _container(job, application, "tensorflow", more, kind == "Evaluator")
                    ],
                },
            },
        }
        for kind, count in replicas.items()
    }
    return [
        {
            "apiVersion": "kubeflow.org/v1",
            "kind": "TFJob",
            "metadata": _metadata(job),
            "spec": {
                "runPolicy": {
                    "cleanPodPolicy": "Running",
                    "activeDeadlineSeconds": job.timeout_secs,
                },
                "tfReplicaSpecs": specs,
            },
        }
    ]


def train_job(job: CloudJob, application: Application, origin: str) -> list[dict[str, Any]]:
    """A TrainingRuntime and a TrainJob (trainer.kubeflow.org/v1alpha1).

    Raises:
        ConfigError: as ``tf_job``, or the job has an evaluator, which a TrainJob lacks.
    """
    _check(job, origin)
    if job.evaluator:
        raise ConfigError(
            f"{origin}: a TrainJob has no evaluator. Leave evaluator out: the workers evaluate."
        )
    container = _container(job, application, "node", [])
    host = f"{job.name}-node-0-{{index}}.{job.name}"  # <jobset>-<job>-0-<pod>.<service>
    container["env"] = [
        {"name": NUM_WORKERS, "value": str(job.workers)},
        {"name": WORKER_ADDRESS, "value": f"{host}:{_PORT}"},
    ]
    node = {
        "name": "node",
        "template": {
            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
            "spec": {
                "completionMode": "Indexed",
                "activeDeadlineSeconds": job.timeout_secs,
                "backoffLimit": 10 if job.restart else 0,
                "template": {
                    "spec": {
                        **_account(job),
                        "restartPolicy": "OnFailure" if job.restart else "Never",
                        "containers": [container],
                    }
                },
            },
        },
    }
    runtime = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainingRuntime",
        "metadata": _metadata(job),
        "spec": {
            "mlPolicy": {"numNodes": job.workers},
            "template": {"spec": {"replicatedJobs": [node]}},
        },
    }
    train = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": _metadata(job),
        "spec": {
            "runtimeRef": {
                "apiGroup": "trainer.kubeflow.org",
                "kind": "TrainingRuntime",
                "name": job.name,
            },
            "trainer": {"numNodes": job.workers},
        },
    }
    return [runtime, train]


def _check(job: CloudJob, origin: str) -> None:
    require(job, ("image", "name"), origin)
    longest = 63 - len(f"-evaluator-{job.workers}")  # a pod's name is also that of its host
    if len(job.name) > longest or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", job.name):
        raise ConfigError(
            f"{origin}: name is {job.name!r}, expected at most {longest} lower case letters, "
            "digits and -, a letter first and no - last."
        )


def _metadata(job: CloudJob) -> dict[str, Any]:
    labels = dict(label.split("=", 1) for label in job.labels)
    return {"name": job.name} | ({"labels": labels} if labels else {})


def _account(job: CloudJob) -> dict[str, Any]:
    return {"serviceAccountName": job.service_account} if job.service_account else {}


def _container(
    job: CloudJob,
    application: Application,
    name: str,
    more: list[str],
    is_evaluator: bool = False,
) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": name,
        "image": job.image,
        "command": list(application.program),
        "args": [*application.arguments, *more],
        "ports": [{"containerPort": _PORT}],
    }
    if job.accelerator_type and not is_evaluator:
        container["resources"] = {"limits": {job.accelerator_type: job.accelerator_count}}
    return container
