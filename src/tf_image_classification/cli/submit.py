"""``tfic submit vertex | kubernetes | docker``: sends a training to a cloud."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence

import yaml

from tf_image_classification import files, train_estimator
from tf_image_classification.cloud import kubernetes, package, vertex
from tf_image_classification.cloud.job import CloudJob, read_job
from tf_image_classification.cloud.package import Application

_EXAMPLE = (
    "example: tfic submit vertex --config cloud.yml -- python myEstimator.py --train_metadata "
    "'gs://bucket/train*'"
)


def main(arguments: Sequence[str]) -> int:
    """Submit; returns the exit status."""
    parser = argparse.ArgumentParser(
        "tfic submit",
        description="Send a training to a cloud; the command after -- is what each machine runs.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    platforms = parser.add_subparsers(dest="platform", required=True, metavar="PLATFORM")
    on_vertex = platforms.add_parser("vertex", help="a custom job, or with a study a tuning job")
    on_vertex.add_argument("--dry_run", action="store_true", help="print the job, send nothing")
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
        platform.add_argument("command", nargs=argparse.REMAINDER, help="after --")
    given = parser.parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    with train_estimator.ends_the_process():
        application = package.application_of(command)
        if given.platform == "docker":
            _write_context(given.output, given.image, application, "gpu" if given.gpu else "cpu")
        elif given.platform == "kubernetes":
            _write_manifests(given.config, given.api, given.output, application)
        else:
            _submit_to_vertex(given.config, application, is_dry=given.dry_run)
    return 0


def _write_context(folder: str, image: str, application: Application, accelerator: str) -> None:
    package.write_docker_context(application, folder, accelerator)
    name = shlex.quote(image)
    print(f"docker build --tag {name} {shlex.quote(folder)} && docker push {name}")


def _write_manifests(config: str, api: str, output: str, application: Application) -> None:
    job, notes = read_job(config, refused=kubernetes.WITHOUT_EFFECT)
    _tell(notes)
    make = kubernetes.tf_job if api == "tfjob" else kubernetes.train_job
    text = yaml.safe_dump_all(make(job, application, config), sort_keys=False)
    if output:
        files.write_bytes(output, text.encode())
        print(f"kubectl apply --filename {shlex.quote(output)}")
    else:
        print(text, end="")


def _submit_to_vertex(config: str, application: Application, *, is_dry: bool) -> None:
    job, notes = read_job(config)
    vertex.check(job, config)
    _tell(notes)
    addresses: list[str] = []
    if job.executor_image:
        addresses = (
            [
                f"{vertex.staging_folder(job)}/{name}"
                for name, _ in vertex.packages(job, application)
            ]
            if is_dry
            else vertex.upload_packages(job, application)
        )
    described = vertex.describe(job, application, addresses)
    if is_dry:
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
