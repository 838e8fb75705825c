"""``tfic launch --workers N [--evaluator] -- COMMAND``: a cluster on this machine."""

from __future__ import annotations

import dataclasses
import os

from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.distributed.launch import launch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic launch``."""

    command: tuple[str, ...] = declare(
        (), "Command of each task, after --.", separator="", is_required=True
    )
    workers: int = declare(0, "Processes that train together.", is_required=True, minimum=1)
    evaluator: bool = declare(False, "Start one more process that evaluates.")
    max_restarts: int = declare(0, "Maximum restarts after a failure.", minimum=0)
    grace_secs: float = declare(
        20.0,
        "Seconds until SIGTERM for the other tasks after one has failed; they notice it by "
        "themselves within 10.",
        minimum=0.0,
    )
    kill_secs: float = declare(
        30.0, "Seconds from SIGTERM to SIGKILL, in which a task can save.", minimum=0.0
    )
    gpus_per_worker: int = declare(0, "GPUs that each worker sees; 0: each sees all.", minimum=0)


@verb(
    "launch",
    Arguments,
    description="Run a command as every task of a cluster on this machine.",
    example="tfic launch --workers 2 -- python myEstimator.py --epochs 3",
    rest="command",
)
def main(given: Arguments, settings: Settings) -> int:
    """Launch; returns the exit status."""
    if settings.run.verbose:  # the tasks inherit it
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0")
    return launch(
        given.command,
        num_workers=given.workers,
        with_evaluator=given.evaluator,
        max_restarts=given.max_restarts,
        grace_secs=given.grace_secs,
        kill_secs=given.kill_secs,
        gpus_per_worker=given.gpus_per_worker,
    )
