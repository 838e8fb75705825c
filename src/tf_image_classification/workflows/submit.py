"""``tfic submit``: a training as a job of Vertex AI or Kubernetes, or as a container image."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence

import yaml

from tf_image_classification.cloud import kubernetes, packaging, vertex
from tf_image_classification.cloud.job import CloudJob, read_job
from tf_image_classification.cloud.packaging import Application
from tf_image_classification.cloud.source_files import ARGUMENTS, SourceFiles
from tf_image_classification.errors import ConfigError
from tf_image_classification.system import files

MANIFESTS = {"tfjob": kubernetes.tf_job, "trainjob": kubernetes.train_job}


def checked_application(command: Sequence[str], *, allowed: Sequence[str]) -> Application:
    """The application of a command, which holds no secret.

    Args:
        command: the command that each machine runs.
        allowed: files to send although they seem to hold a secret; ``ARGUMENTS`` for the command.

    Raises:
        ConfigError: the command is not one of a training, or it holds a secret.
    """
    application = packaging.application_of(command)
    packaging.check_arguments(application, allowed=allowed)
    return application


def write_docker_context(
    application: Application,
    folder: str,
    image: str,
    accelerator: str,
    *,
    allowed: Sequence[str],
    dry_run: bool,
) -> None:
    """Write a new folder for ``docker build``, and print the commands that make the image.

    Raises:
        ConfigError: the folder is not empty, or a file holds a secret.
    """
    packaging.check_new_folder(folder)
    sources = _listed_files(application, allowed)
    if not dry_run:
        packaging.write_docker_context(application, sources, folder, accelerator)
    name = shlex.quote(image)
    print(f"docker build --tag {name} {shlex.quote(folder)} && docker push {name}")


def write_manifests(
    application: Application,
    config: str,
    api: str,
    output: str,
    *,
    allowed: Sequence[str],
    dry_run: bool,
) -> None:
    """Write Kubernetes manifests to a file, or print them if it is "".

    Raises:
        ConfigError: the description in the file ``config`` is wrong.
    """
    job, notes = read_job(config, refused=kubernetes.WITHOUT_EFFECT)
    _print_notes(notes)
    text = yaml.safe_dump_all(MANIFESTS[api](job, application, config), sort_keys=False)
    _send_no_files(job.image, allowed)
    if output and not dry_run:
        files.write_bytes(output, text.encode())
        print(f"kubectl apply --filename {shlex.quote(output)}")
    else:
        print(text, end="")


def submit_to_vertex(
    application: Application, config: str, *, allowed: Sequence[str], dry_run: bool
) -> None:
    """Create a job of Vertex AI and print its name and folder, or print the job.

    Raises:
        ConfigError: the description is wrong, a client is missing, or Vertex AI rejects the job.
    """
    job, notes = read_job(config)
    vertex.check(job, config)
    _print_notes(notes)
    addresses: list[str] = []
    if job.executor_image:
        packages = vertex.packages(job, application, _listed_files(application, allowed))
        if not dry_run:
            vertex.upload_packages(job, packages)
        addresses = [f"{vertex.staging_folder(job)}/{name}" for name, _ in packages]
    else:
        _send_no_files(job.image, allowed)
    request = vertex.describe(job, application, addresses)
    if dry_run:
        _print_job(job, request)
    else:
        print(f"created {vertex.create(job, request)}")
        print(f"its folder: {job.output_dir}")


def _listed_files(application: Application, allowed: Sequence[str]) -> SourceFiles:
    """The application's files, listed on standard error."""
    sources = packaging.application_files(application, allowed=allowed)
    print(sources.text(), file=sys.stderr)
    return sources


def _send_no_files(image: str, allowed: Sequence[str]) -> None:
    """Note on standard error that the files are those of the image.

    Raises:
        ConfigError: files are allowed, which has no effect.
    """
    if set(allowed) - {ARGUMENTS}:
        raise ConfigError("--allow_secret FILE has no effect: no files are sent. Remove it.")
    print(f"no files are sent: those of the image {image} are used", file=sys.stderr)


def _print_job(job: CloudJob, request: dict[str, object]) -> None:
    line, file = vertex.gcloud_command(job, request)
    print(json.dumps(request, indent=2))
    print(f"\n# job.yaml\n{file}\n# the same job with gcloud\n{line}")


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"# {note}")
