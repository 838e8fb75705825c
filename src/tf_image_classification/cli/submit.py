"""``tfic submit vertex | kubernetes | docker``: a training as a cloud job."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.errors import UsageError
from tf_image_classification.workflows import submit


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
    application = submit.checked_application(given.command, allowed=given.allow_secret)
    choices: dict[str, Any] = {"allowed": given.allow_secret, "dry_run": given.dry_run}
    if given.platform == "docker":
        accelerator = "gpu" if given.gpu else "cpu"
        submit.write_docker_context(application, given.output, given.image, accelerator, **choices)
    elif given.platform == "kubernetes":
        submit.write_manifests(application, given.config, given.api, given.output, **choices)
    else:
        submit.submit_to_vertex(application, given.config, **choices)
    return 0
