"""``tfic train``: what a user's script does, without the script, or without any class at all."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification import command_line, train_estimator
from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.cli import specs

USAGE = f"usage: tfic train {specs.WHICH} [flags]"


def main(arguments: Sequence[str]) -> int:
    """Train; returns the exit status."""
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(USAGE))
        return 0
    with train_estimator.ends_the_process():
        train_estimator.train(*specs.spec_and_settings(arguments, USAGE))
    return 0
