"""``tfic launch --workers N [--evaluator] -- COMMAND``: a cluster on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.distributed.launch import launch
from tf_image_classification.errors import ConfigError
from tf_image_classification.system.process_exit import ends_the_process

_EXAMPLE = "example: tfic launch --workers 2 -- python myEstimator.py --epochs 3"


def main(arguments: Sequence[str]) -> int:
    """Launch; returns the exit status."""
    parser = cli_arguments.Parser(
        "tfic launch",
        description="Run a command as every task of a cluster on this machine.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    parser.add_argument("--workers", type=int, required=True, help="processes that train together")
    parser.add_argument("--evaluator", action="store_true", help="one more process evaluates")
    parser.add_argument(
        "--max_restarts", type=int, default=0, help="times to start again after a failure (0)"
    )
    parser.add_argument(
        "--grace_secs",
        type=float,
        default=10.0,
        help="time to end by itself when another task has failed, before SIGTERM (10)",
    )
    parser.add_argument(
        "--kill_secs",
        type=float,
        default=30.0,
        help="time to save and end after SIGTERM, before SIGKILL (30)",
    )
    parser.add_argument(
        "--gpus_per_worker", type=int, default=0, help="GPUs each worker sees; 0: all see all (0)"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --: what each task runs")
    given = parser.parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    with ends_the_process():
        if not command:
            raise ConfigError(f"Which command? {_EXAMPLE}")
        others = (given.max_restarts, given.gpus_per_worker, given.grace_secs, given.kill_secs)
        if given.workers < 1 or not all(number >= 0 for number in others):
            raise ConfigError("--workers must be 1 or more, the other numbers 0 or more.")
        return launch(
            command,
            num_workers=given.workers,
            with_evaluator=given.evaluator,
            max_restarts=given.max_restarts,
            grace_secs=given.grace_secs,
            kill_secs=given.kill_secs,
            gpus_per_worker=given.gpus_per_worker,
        )
