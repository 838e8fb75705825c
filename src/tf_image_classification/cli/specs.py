"""What the verbs share that work on a spec: ``--spec`` or ``--backbone``, and the flags."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from tf_image_classification import train_estimator
from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.config import OPTIONS, command_line
from tf_image_classification.errors import ConfigError
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

if TYPE_CHECKING:
    from tf_image_classification.config import Settings
    from tf_image_classification.estimator_specs import EstimatorSpec
    from tf_image_classification.workflows.setup.context import RunContext

WHICH = "--spec module:Class | --spec file.py:Class | --backbone NAME"
_NOT_IN_A_TRIAL = {
    *("model_dir", "evaluate", "plan", "allow_changes", "cluster_timeout_secs", "progress"),
    *("eval_metadata", "inspect", "head_phase", "eval_crop", "steps_per_call"),
    "early_stopping_patience",
}
OPTIONS_OF_A_TRIAL = tuple(
    name
    for name, option in OPTIONS.items()
    if option.group in ("run", "data", "model", "backbone_spec", "training", "optimizer")
    and name not in _NOT_IN_A_TRIAL
)
"""What decides the first steps of a training; nothing does that is of evaluations or files."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """Some steps of training, in no model folder.

    Attributes:
        doing: what they are for, in messages.
        acting: names of the options that do something.
    """

    doing: str
    acting: Collection[str] = OPTIONS_OF_A_TRIAL


def act(
    arguments: Sequence[str],
    usage: str,
    action: Callable[[EstimatorSpec, Settings, str], None],
    *,
    output: str = "",
    trial: Trial | None = None,
) -> int:
    """What a verb does that works on a spec; returns the exit status.

    Args:
        arguments: the line after the verb.
        usage: its usage line, shown when help is asked for or no spec is named.
        action: takes spec, settings, and the path that ``--output`` names.
        output: that path where it is not named; empty: the verb has no such argument.
        trial: what is tried, if the verb does no more than that.
    """
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(usage, trial.acting if trial else OPTIONS))
        return 0
    with ends_the_process(), contextlib.ExitStack() as stack:
        path = ""
        if output:
            path, arguments = cli_arguments.take(arguments, "output")
            cli_arguments.check_output("output", path)
        reference, rest = cli_arguments.take(arguments, "spec")
        settings = train_estimator.settings_of_command_line(rest)
        if trial:
            cli_arguments.refuse_others(settings, trial.acting, trial.doing)
            # What lies in the folder of another run has no say in a trial.
            empty = stack.enter_context(tempfile.TemporaryDirectory())
            settings = settings.replace(model_dir=empty)
        action(*_spec_and_settings(reference, settings, usage), path or output)
    return 0


def settled(spec: EstimatorSpec, settings: Settings) -> RunContext:
    """The run of a trial, with the recipe's choices."""
    from tf_image_classification.workflows.setup import recipe  # late: it needs TensorFlow
    from tf_image_classification.workflows.setup.context import make_context

    context, _ = recipe.settle(make_context(spec, settings))
    return context


def _spec_and_settings(
    reference: str, settings: Settings, usage: str
) -> tuple[EstimatorSpec, Settings]:
    """The spec that is named, or the ready one of the backbone, and the settings.

    Raises:
        ConfigError: none is named or both are.
        SpecError: the spec cannot be loaded.
        DataError: the labels of the ready spec cannot be told from the data.
    """
    if bool(reference) == bool(settings.backbone_spec.backbone):
        raise ConfigError(f"Give either a spec or a backbone. {usage}")
    prepare_tensorflow(settings)
    if reference:
        from tf_image_classification.estimator_specs import load_spec

        return load_spec(reference), settings
    from tf_image_classification.workflows.setup import backbone_spec

    settings = backbone_spec.backbone_settings(settings)
    return backbone_spec.make_backbone_spec(settings), settings
