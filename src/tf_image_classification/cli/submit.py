"""``tfic submit vertex | kubernetes | docker``: a training as a cloud job."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence

import yaml

from tf_image_classification.cli.verb import verb
from tf_image_classification.cloud import kubernetes, package, vertex
from tf_image_classification.cloud.job import CloudJob, read_job
from tf_image_classification.cloud.package import Application
from tf_image_classification.cloud.sent_files import ARGUMENTS, SentFiles
from tf_image_classification.config import Settings, declare
from tf_image_classification.errors import ConfigError, UsageError
from tf_image_classification.system import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic submit``."""

    platform: str = declare(
        "",
        "vertex: create a custom job, or with a study a tuning job; kubernetes: print manifests "
        "for kubectl apply; docker: write a build context for docker build.",
        choices=("vertex", "kubernetes", "docker"),
        is_required=True,
    )
    command: tuple[str, ...] = declare(
        (), "Command of each machine, after --.", separator="", is_required=True
    )
    config: str = declare(
        "", "Description of the job in YAML.", applies=("platform", ("vertex", "kubernetes"))
    )
    api: str = declare(
        "tfjob",
        "Kubernetes resource.",
        choices=("tfjob", "trainjob"),
        applies=("platform", ("kubernetes",)),
    )
    output: str = declare(
        "",
        "File for the manifests instead of standard output; new or empty folder for docker.",
        applies=("platform", ("kubernetes", "docker")),
    )
    image: str = declare(
        "", "Name of the image with its registry.", applies=("platform", ("docker",))
    )
    gpu: bool = declare(False, "Include the CUDA libraries.", applies=("platform", ("docker",)))
    dry_run: bool = declare(False, "Print what would be sent, and send nothing.")
    allow_secret: tuple[str, ...] = declare(
        (),
        "Send this file although it seems to contain a key or a token; 'arguments' stands for the "
        "command.",
        separator="",
    )


_NEEDED = {"vertex": ("config",), "kubernetes": ("config",), "docker": ("output", "image")}
"""Arguments that must be given, by platform."""


@verb(
    "submit",
    Arguments,
    description="Send a training to a cloud; the command after -- is run on each machine.",
    example="tfic submit vertex --config cloud.yml -- python myEstimator.py --train_metadata "
    "'gs://bucket/train*'",
    positions=("platform",),
    rest="command",
)
def main(given: Arguments, settings: Settings) -> int:
    """Submit; returns the exit status."""
    missing = [f"--{name}" for name in _NEEDED[given.platform] if not getattr(given, name)]
    if missing:
        raise UsageError(f"missing: {', '.join(missing)}.")
    application = package.application_of(given.command)
    package.check_arguments(application, allowed=given.allow_secret)
    if given.platform == "docker":
        _write_context(given, application)
    elif given.platform == "kubernetes":
        _write_manifests(given, application)
    else:
        _submit_to_vertex(given, application)
    return 0


def _sent(given: Arguments, application: Application) -> SentFiles:
    """The application's files that are sent, listed on standard error."""
    sent = package.application_files(application, allowed=given.allow_secret)
    print(sent.text(), file=sys.stderr)
    return sent


def _send_no_files(given: Arguments, image: str) -> None:
    """Print that the job's files are those of its image; reject options for files."""
    if set(given.allow_secret) - {ARGUMENTS}:
        raise ConfigError("--allow_secret FILE has no effect: no files are sent. Remove it.")
    print(f"no files are sent: those of the image {image} are used", file=sys.stderr)


def _write_context(given: Arguments, application: Application) -> None:
    package.check_new_folder(given.output)
    sent = _sent(given, application)
    if not given.dry_run:
        accelerator = "gpu" if given.gpu else "cpu"
        package.write_docker_context(application, sent, given.output, accelerator)
    name = shlex.quote(given.image)
    print(f"docker build --tag {name} {shlex.quote(given.output)} && docker push {name}")


def _write_manifests(given: Arguments, application: Application) -> None:
    job, notes = read_job(given.config, refused=kubernetes.WITHOUT_EFFECT)
    _print_notes(notes)
    make = kubernetes.tf_job if given.api == "tfjob" else kubernetes.train_job
    text = yaml.safe_dump_all(make(job, application, given.config), sort_keys=False)
    _send_no_files(given, job.image)
    if given.output and not given.dry_run:
        files.write_bytes(given.output, text.encode())
        print(f"kubectl apply --filename {shlex.quote(given.output)}")
    else:
        print(text, end="")


def _submit_to_vertex(given: Arguments, application: Application) -> None:
    job, notes = read_job(given.config)
    vertex.check(job, given.config)
    _print_notes(notes)
    addresses: list[str] = []
    if job.executor_image:
        sent = _sent(given, application)
        addresses = (
            [
                f"{vertex.staging_folder(job)}/{name}"
                for name, _ in vertex.packages(job, application, sent)
            ]
            if given.dry_run
            else vertex.upload_packages(job, application, sent)
        )
    else:
        _send_no_files(given, job.image)
    described = vertex.describe(job, application, addresses)
    if given.dry_run:
        _print_plan(job, described)
        return
    name = vertex.create(job, described)
    print(f"created {name}")
    print(f"its folder: {job.output_dir}")


def _print_plan(job: CloudJob, described: dict[str, object]) -> None:
    line, file = vertex.gcloud_command(job, described)
    print(json.dumps(described, indent=2))
    print(f"\n# job.yaml\n{file}\n# the same job with gcloud\n{line}")


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"# {note}")
