"""``tfic evaluate --model_dir DIR --eval_metadata DATA``: the model of a folder, on any data."""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification import train_estimator
from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.config import OPTIONS, command_line
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

USAGE = (
    "usage: tfic evaluate --model_dir DIR --eval_metadata FILES [--spec file.py:Class]\n"
    "       [--group_column NAME] [--keep_evaluation auto|yes|no] [flags]\n\n"
    "Without --spec the exported model in the folder is evaluated, which needs no other code;\n"
    "with it the best checkpoint is, with the spec's own metrics. Without --eval_metadata the\n"
    "evaluation set of the training is used. --group_column NAME: a column of the evaluation set,\n"
    "such as a person, whose examples belong together; the intervals are then of other people.\n"
    "--keep_evaluation: whether the folder's reports, exports and predictions are based on this\n"
    "evaluation from now on; auto (the default): unless it is too small to calibrate a label that\n"
    "is calibrated now."
)
_LEFT_OUT = {
    *("evaluate", "plan", "allow_changes", "debug", "progress", "train_metadata", "input_mode"),
    *("stream_block", "inspect", "data_service"),
}
OPTIONS_THAT_ACT = tuple(
    name
    for name, option in OPTIONS.items()
    if (option.group in ("run", "data") and name not in _LEFT_OUT)
    or name in ("precision", "label_smoothing", "regression_loss", "huber_delta")
    or name == "output_cm_folder"
)


def main(arguments: Sequence[str]) -> int:
    """Evaluate; returns the exit status."""
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(USAGE, OPTIONS_THAT_ACT))
        return 0
    with ends_the_process():
        reference, rest = cli_arguments.take(arguments, "spec")
        group, rest = cli_arguments.take(rest, "group_column")
        choice, rest = cli_arguments.take(rest, "keep_evaluation")
        settings = train_estimator.settings_of_command_line(rest)
        cli_arguments.refuse_others(settings, OPTIONS_THAT_ACT, "an evaluation")
        prepare_tensorflow(settings)
        from tf_image_classification.estimator_specs import load_spec

        train_estimator.evaluate(
            load_spec(reference) if reference else None,
            settings,
            group_column=group,
            keep_evaluation=choice or "auto",
        )
    return 0
