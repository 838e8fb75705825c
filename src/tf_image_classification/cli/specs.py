"""What the verbs share that work on a spec: ``--spec`` or ``--backbone``, and the flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tf_image_classification import command_line, train_estimator
from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.errors import ConfigError

if TYPE_CHECKING:
    from tf_image_classification.config import Settings
    from tf_image_classification.estimator_specs import EstimatorSpec

WHICH = "--spec module:Class | --spec file.py:Class | --backbone NAME"


def act(
    arguments: Sequence[str],
    usage: str,
    action: Callable[[EstimatorSpec, Settings, str], None],
    *,
    output: str = "",
) -> int:
    """What a verb does that works on a spec; returns the exit status.

    Args:
        arguments: the line after the verb.
        usage: its usage line, shown when help is asked for or no spec is named.
        action: takes spec, settings, and the path that ``--output`` names.
        output: that path where it is not named; empty: the verb has no such argument.
    """
    if cli_arguments.asks_for_help(arguments):
        print(command_line.help_text(usage))
        return 0
    with train_estimator.ends_the_process():
        path = ""
        if output:
            path, arguments = cli_arguments.take(arguments, "output")
        action(*_spec_and_settings(arguments, usage), path or output)
    return 0


def settled(spec: EstimatorSpec, settings: Settings) -> tuple[EstimatorSpec, Settings, str]:
    """Spec and settings with what the recipe chooses, and the folder for caches."""
    from tf_image_classification.runs import recipe  # late: it needs TensorFlow

    cache = train_estimator.cache_dir(settings)
    spec, settings, _ = recipe.settle(spec, settings, cache)
    return spec, settings, cache


def _spec_and_settings(arguments: Sequence[str], usage: str) -> tuple[EstimatorSpec, Settings]:
    """The spec that a line names, or the ready one of its backbone, and the settings.

    Raises:
        ConfigError: none is named or both are, or a setting is wrong.
        SpecError: the spec cannot be loaded.
        DataError: the labels of the ready spec cannot be told from the data.
    """
    reference, rest = cli_arguments.take(arguments, "spec")
    settings = train_estimator.settings_of_command_line(rest)
    if bool(reference) == bool(settings.ready.backbone):
        raise ConfigError(f"Give either a spec or a backbone. {usage}")
    train_estimator.prepare_tensorflow(settings)
    if reference:
        from tf_image_classification.estimator_specs import load_spec

        return load_spec(reference), settings
    from tf_image_classification.runs import ready

    settings = ready.ready_settings(settings)
    return ready.make_ready_spec(settings), settings
