"""``tfic submit vertex | kubernetes | docker``: sends a training to a cloud."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence

import yaml

from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.cloud import kubernetes, package, vertex
from tf_image_classification.cloud.job import CloudJob, read_job
from tf_image_classification.cloud.package import Application
from tf_image_classification.cloud.sent_files import ARGUMENTS, SentFiles
from tf_image_classification.errors import ConfigError
from tf_image_classification.system import files
from tf_image_classification.system.process_exit import ends_the_process

_EXAMPLE = (
    "example: tfic submit vertex --config cloud.yml -- python myEstimator.py --train_metadata "
    "'gs://bucket/train*'"
)


def main(arguments: Sequence[str]) -> int:
    """Submit; returns the exit status."""
    parser = cli_arguments.Parser(
        "tfic submit",
        description="Send a training to a cloud; the command after -- is what each machine runs.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    platforms = parser.add_subparsers(dest="platform", required=True, metavar="PLATFORM")
    on_vertex = platforms.add_parser("vertex", help="a custom job, or with a study a tuning job")
    on_kubernetes = platforms.add_parser("kubernetes", help="print manifests for kubectl apply")
    on_kubernetes.add_argument("--api", choices=("tfjob", "trainjob"), default="tfjob")
    on_kubernetes.add_argument("--output", default="", help="file to write instead of printing")
    for platform in (on_vertex, on_kubernetes):
        platform.add_argument("--config", required=True, help="the job's description in YAML")
    docker = platforms.add_parser(
        "docker", help="write a folder that docker build makes an image of"
    )
    docker.add_argument("--output", required=True, help="folder to write; new or empty")
    docker.add_argument("--image", required=True, help="the image's name with its registry")
    docker.add_argument("--gpu", action="store_true", help="with CUDA's libraries")
    for platform in (on_vertex, on_kubernetes, docker):
        platform.add_argument(
            "--dry_run", action="store_true", help="print what would be sent, and send nothing"
        )
        platform.add_argument(
            "--allow_secret",
            action="append",
            default=[],
            metavar="FILE",
            help="send this file although it seems to hold a key or a token; 'arguments' stands "
            "for the command; may be repeated",
        )
        platform.add_argument("command", nargs=argparse.REMAINDER, help="after --")
    given = parser.parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    with ends_the_process():
        application = package.application_of(command)
        package.check_arguments(application, allowed=given.allow_secret)
        if given.platform == "docker":
            _write_context(given, application)
        elif given.platform == "kubernetes":
            _write_manifests(given, application)
        else:
            _submit_to_vertex(given, application)
    return 0


def _sent(given: argparse.Namespace, application: Application) -> SentFiles:
    """The application's files that are sent, listed on standard error."""
    sent = package.application_files(application, allowed=given.allow_secret)
    print(sent.text(), file=sys.stderr)
    return sent


def _send_no_files(given: argparse.Namespace, image: str) -> None:
    """Say that the job's files are those of its image; an option that is for files is refused."""
    if set(given.allow_secret) - {ARGUMENTS}:
        raise ConfigError("--allow_secret FILE has no effect: no files are sent. Remove it.")
    print(f"no files are sent: those of the image {image} are used", file=sys.stderr)


def _write_context(given: argparse.Namespace, application: Application) -> None:
    package.check_new_folder(given.output)
    sent = _sent(given, application)
    if not given.dry_run:
        accelerator = "gpu" if given.gpu else "cpu"
        package.write_docker_context(application, sent, given.output, accelerator)
    name = shlex.quote(given.image)
    print(f"docker build --tag {name} {shlex.quote(given.output)} && docker push {name}")


def _write_manifests(given: argparse.Namespace, application: Application) -> None:
    job, notes = read_job(given.config, refused=kubernetes.WITHOUT_EFFECT)
    _tell(notes)
    make = kubernetes.tf_job if given.api == "tfjob" else kubernetes.train_job
    text = yaml.safe_dump_all(make(job, application, given.config), sort_keys=False)
    _send_no_files(given, job.image)
    if given.output and not given.dry_run:
        files.write_bytes(given.output, text.encode())
        print(f"kubectl apply --filename {shlex.quote(given.output)}")
    else:
        print(text, end="")


def _submit_to_vertex(given: argparse.Namespace, application: Application) -> None:
    job, notes = read_job(given.config)
    vertex.check(job, given.config)
    _tell(notes)
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


def _tell(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"# {note}")
