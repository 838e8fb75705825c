"""``tfic train``: what a user's script does, without the script, or without any class at all."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification import command_line, train_estimator
from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.errors import ConfigError

USAGE = "usage: tfic train --spec module:Class | --spec file.py:Class | --backbone NAME [flags]"


def main(arguments: Sequence[str]) -> int:
    """Train; returns the exit status."""
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(USAGE))
        return 0
    with train_estimator.ends_the_process():
        reference, rest = cli_arguments.take(arguments, "spec")
        settings = train_estimator.settings_of_command_line(rest)
        if bool(reference) == bool(settings.ready.backbone):
            raise ConfigError(f"Give either a spec or a backbone. {USAGE}")
        train_estimator.prepare_tensorflow(settings)
        if reference:
            from tf_image_classification.estimator_specs import load_spec

            train_estimator.train(load_spec(reference), settings)
        else:
            from tf_image_classification.runs import ready

            settings = ready.ready_settings(settings)
            train_estimator.train(ready.make_ready_spec(settings), settings)
    return 0
