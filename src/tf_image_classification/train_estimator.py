"""``train`` and ``evaluate``, and the absl flags of every setting.

# myEstimator.py
train_estimator.train(MySpec())

python myEstimator.py --train_metadata tfrecords/train* --eval_metadata tfrecords/eval*
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

import tf_image_classification
from tf_image_classification.classifier import Classifier, keyword_errors
from tf_image_classification.classifier import train as train_model
from tf_image_classification.config import OPTIONS, Settings, command_line
from tf_image_classification.config.groups import FILE_OPTIONS
from tf_image_classification.config.parser import FOREIGN
from tf_image_classification.errors import RunInterrupted, UsageError
from tf_image_classification.estimator_specs import EstimatorSpec, is_loading_a_spec
from tf_image_classification.system import signals, streams
from tf_image_classification.system.notebook import is_interactive
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.result import TrainResult
from tf_image_classification.workflows.run import evaluate as run_evaluation
from tf_image_classification.workflows.run import is_evaluator_task
from tf_image_classification.workflows.setup.environment import join

if TYPE_CHECKING:
    import keras

    from tf_image_classification.hooks import Hook

__all__ = ["FLAGS", "TrainResult", "evaluate", "join", "settings_of_command_line", "train"]

FLAGS = flags.FLAGS
command_line.define_flags(FLAGS)


def train(
    data: Any = None,
    settings: Settings | None = None,
    *,
    spec: EstimatorSpec | None = None,
    hooks: Sequence[Hook | keras.callbacks.Callback] = (),
    argv: Sequence[str] | None = None,
    **options: Any,
) -> Classifier:
    """Train a classifier, or evaluate or plan it if the settings ask for that; returns the model.

    ``train("pets")`` is ``tfic train pets``. The same call resumes an interrupted run.

    ``train(MySpec())`` alone is a program's main function: it parses the command line, prints, and
    ends the process on an error (status 1; 2 if the command line is wrong) or an interruption
    (status 75: start the same command again). It does nothing while a verb of ``tfic`` imports the
    program to load its spec. In a notebook and at a prompt it reads no command line.

    Args:
        data: a spec; or the training set, for a built-in backbone: a path or several, of any source
            that ``tfic train`` reads; ``(images, labels)``, arrays [n, h, w, 3] or lists of images
            or paths; a table of pandas or pyarrow; a ``tf.data.Dataset`` of ``(image, label)``.
        settings: all settings, as ``make_settings`` makes them.
        spec: labels, preprocessing, model and metrics of this classifier; None: a backbone.
        hooks: further hooks or Keras callbacks, called after the built-in hooks and before the
            state is saved.
        argv: the command line without the program's name; that of the process when not given.
        options: any option by its name, e.g. ``epochs=3``; ``train`` and ``val`` or ``eval`` are
            the data sets, in any form as ``data``; they override ``settings``.

    Returns:
        The model: it predicts, evaluates, reports and exports, and maps the names of the last
        metrics to their values.

    Raises:
        TficError: except from a program's main function: any error, before the first step if
            possible.
        RunInterrupted: the same: a signal stopped the run.

    Example:
        >>> model = train("pets", epochs=3)  # doctest: +SKIP
        >>> model.predict("cat.jpg")  # doctest: +SKIP
    """
    if isinstance(data, EstimatorSpec):
        if spec is not None:
            raise UsageError(
                "train has two specs. Give one, and the data first: train(data, spec)."
            )
        data, spec = None, data
    is_program = data is None and settings is None and not options
    if is_program and is_loading_a_spec():
        return Classifier(TrainResult("", 0, {}))
    if not is_program:
        with keyword_errors():
            return train_model(data, settings, options, spec=spec, hooks=hooks)
    if argv is None and is_interactive():
        with keyword_errors():
            return train_model(None, settings_of_command_line(()), {}, spec=spec, hooks=hooks)
    try:
        streams.prepare()
        with streams.may_end(), ends_the_process():
            settings = settings_of_command_line(sys.argv[1:] if argv is None else argv)
            return train_model(None, settings, {}, spec=spec, hooks=hooks)
    except SystemExit as ended:
        if argv is None and ended.code == RunInterrupted.exit_code:
            signals.ending_with(ended.code)  # a second signal must not change it
        raise


def evaluate(
    spec: EstimatorSpec | None,
    settings: Settings | None = None,
    *,
    group_column: str = "",
    keep_evaluation: str = "auto",
    argv: Sequence[str] | None = None,
) -> TrainResult:
    """Evaluate the model of a folder on the whole evaluation set, and keep its predictions.

    Without ``settings`` it reads the command line and ends the process on an error, as ``train``.

    Args:
        spec: the spec of the run; then the best checkpoint is evaluated, or the newest one. None:
            the exported model in the folder is, with metrics by label kind.
        settings: ``model_dir``, ``eval_metadata`` and how to read them; then errors are raised.
        group_column: column of the evaluation set whose values are people or other sources of
            several images: intervals are then of other people, not of other images.
        keep_evaluation: whether it becomes the one that the folder's reports, exports and
            predictions are based on. "auto": unless it is too small to calibrate a label that is
            calibrated now. "yes": always; then a folder that cannot be written is an error. "no".
        argv: the command line without the program's name; that of the process when not given.

    Returns:
        The metrics by name: ``evaluate(spec)["accuracy"]``.

    Raises:
        TficError: with settings given: there is no model or no data, or one of them is unusable.
    """
    if settings is not None:
        with keyword_errors():
            return run_evaluation(spec, settings, group_column, keep_evaluation)
    if is_loading_a_spec():
        return TrainResult("", 0, {})
    if argv is None and is_interactive():
        return run_evaluation(spec, settings_of_command_line(()), group_column, keep_evaluation)
    streams.prepare()
    with streams.may_end(), ends_the_process():
        settings = settings_of_command_line(sys.argv[1:] if argv is None else argv)
        result = run_evaluation(spec, settings, group_column, keep_evaluation)
        if is_evaluator_task():  # the program has nothing to do with the metrics that it expects
            raise SystemExit(0)
        return result


def settings_of_command_line(arguments: Sequence[str]) -> Settings:
    """The settings of a program's command line; ``--help`` and ``--print_config`` print and exit.

    Raises:
        UsageError: a flag, a value or the settings file is wrong.
    """
    try:
        line = command_line.parse(arguments, FLAGS)
        if line.asks_for_help:
            print(_help())
            raise SystemExit(0)
        if line.asks_for_version:
            print(f"tf_image_classification {tf_image_classification.__version__}")
            raise SystemExit(0)
        settings = command_line.settings_from(FLAGS, os.environ)
    except UsageError as error:
        raise UsageError(f"{error} See --help.") from error
    for name in command_line.hidden_options(FLAGS):
        print(
            f"--{name} is a flag of the program itself and does not set the framework's {name}.",
            file=sys.stderr,
        )
    if not command_line.is_of_program("print_config", FLAGS) and FLAGS["print_config"].value:
        print(command_line.settings_text(settings), end="")
        raise SystemExit(0)
    return settings


def _help() -> str:
    """The help page of a program: its own flags, then the settings."""
    own = command_line.program_options(FLAGS)
    options = [o for o in own.values() if o.group != FOREIGN]
    options += [o for o in (*OPTIONS.values(), *FILE_OPTIONS.values()) if o.name not in own]
    usage = f"usage: {os.path.basename(sys.argv[0])} [flags]"
    return command_line.help_text(usage, command_line.by_group(options))
