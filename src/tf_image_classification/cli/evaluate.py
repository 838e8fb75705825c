"""``tfic evaluate --model_dir DIR --eval_metadata DATA``: the model of a folder, on any data."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification import command_line, train_estimator
from tf_image_classification.cli import arguments as cli_arguments

USAGE = (
    "usage: tfic evaluate --model_dir DIR --eval_metadata FILES [--spec file.py:Class] [flags]\n\n"
    "Without --spec the exported model in the folder is evaluated, which needs no other code;\n"
    "with it the best checkpoint is, with the spec's own metrics."
)


def main(arguments: Sequence[str]) -> int:
    """Evaluate; returns the exit status."""
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(USAGE))
        return 0
    with train_estimator.ends_the_process():
        reference, rest = cli_arguments.take(arguments, "spec")
        settings = train_estimator.settings_of_command_line(rest)
        train_estimator.prepare_tensorflow(settings)
        from tf_image_classification.estimator_specs import load_spec

        train_estimator.evaluate(load_spec(reference) if reference else None, settings)
    return 0
