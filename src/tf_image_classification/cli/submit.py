"""``tfic submit vertex | kubernetes | docker``: sends a training to a cloud."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows import submit

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
    choices = {"allowed": given.allow_secret, "dry_run": given.dry_run}
    with ends_the_process():
        application = submit.checked_application(command, allowed=given.allow_secret)
        if given.platform == "docker":
            accelerator = "gpu" if given.gpu else "cpu"
            submit.write_docker_context(
                application, given.output, given.image, accelerator, **choices
            )
        elif given.platform == "kubernetes":
            submit.write_manifests(application, given.config, given.api, given.output, **choices)
        else:
            submit.submit_to_vertex(application, given.config, **choices)
    return 0
