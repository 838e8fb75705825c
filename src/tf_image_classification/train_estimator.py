"""The front door: the flags, ``train`` and ``evaluate``, and the order in which a run happens.

# myEstimator.py
train_estimator.train(MySpec())

python myEstimator.py --train_metadata tfrecords/train* --eval_metadata tfrecords/eval*
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from tf_image_classification import command_line, files, keras_settings, signals, streams, tasks
from tf_image_classification.config import Settings, check_needs
from tf_image_classification.errors import (
    ConfigError,
    ExportError,
    RunInterrupted,
    TficError,
    did_you_mean,
)
from tf_image_classification.estimator_specs import is_loading_a_spec
from tf_image_classification.model_folder import ModelFolder

if TYPE_CHECKING:
    import keras

    from tf_image_classification.estimator_specs import EstimatorSpec
    from tf_image_classification.hooks import Hook
    from tf_image_classification.runs.assembly import Assembly
    from tf_image_classification.runs.reading import Data
    from tf_image_classification.training.workers import Workers

FLAGS = flags.FLAGS
command_line.define_flags(FLAGS)


@dataclasses.dataclass(frozen=True)
class TrainResult(Mapping[str, Any]):
    """What a training or an evaluation gave; also a mapping from metric names to values.

    As a mapping it has the numbers, the arrays, and ``global_step``, the steps done.

    Attributes:
        model_dir: the model folder.
        step: steps done.
        metrics: the last evaluation's numbers by name; empty without evaluation.
        arrays: its arrays by name, such as a confusion matrix that ``metric_ops`` gives.

    Example:
        >>> TrainResult("./models", 10, {"accuracy": 0.5})["accuracy"]
        0.5
    """

    model_dir: str
    step: int
    metrics: Mapping[str, float]
    arrays: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def __getitem__(self, name: str) -> Any:
        values = {"global_step": self.step, **self.arrays, **self.metrics}
        if name not in values:
            raise KeyError(f"There is no metric {name!r}. {did_you_mean(name, values)}")
        return values[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self.metrics, *self.arrays, "global_step"])

    def __len__(self) -> int:
        return len(self.metrics) + len(self.arrays) + 1


def train(
    spec: EstimatorSpec,
    settings: Settings | None = None,
    *,
    hooks: Sequence[Hook | keras.callbacks.Callback] = (),
    argv: Sequence[str] | None = None,
) -> TrainResult:
    """Train, evaluate or plan, as the settings say; the same call resumes an interrupted run.

    Without ``settings`` this is a program's main function: it reads the command line, prints, and
    ends the process on an error (status 1) or an interruption (status 75, start me again). It does
    nothing while a verb of ``tfic`` imports the program to take its spec.

    Args:
        spec: what is particular to this classifier.
        settings: all settings; then errors are raised instead.
        hooks: further hooks or Keras callbacks, called after the ready-made hooks but before the
            state is saved.
        argv: the command line without the program's name; that of the process when not given.

    Raises:
        TficError: with settings given, what is wrong; before the first step if it can be known.
        RunInterrupted: with settings given, when a signal stopped the run.
    """
    if settings is not None:
        return _act(spec, settings, hooks)
    if is_loading_a_spec():
        return TrainResult("", 0, {})
    try:
        streams.prepare()
        with streams.may_end(), ends_the_process():
            settings = settings_of_command_line(sys.argv[1:] if argv is None else argv)
            return _act(spec, settings, hooks)
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
        return _evaluate(spec, settings, group_column, keep_evaluation)
    if is_loading_a_spec():
        return TrainResult("", 0, {})
    streams.prepare()
    with streams.may_end(), ends_the_process():
        settings = settings_of_command_line(sys.argv[1:] if argv is None else argv)
        result = _evaluate(spec, settings, group_column, keep_evaluation)
        if _is_evaluator():  # the program has nothing to do with the metrics that it expects
            raise SystemExit(0)
        return result


def _is_evaluator() -> bool:
    """Whether this process is the evaluator task of a cluster."""
    cluster = tasks.read_cluster(os.environ)
    return cluster is not None and cluster.is_evaluator


def _evaluate(
    spec: EstimatorSpec | None, settings: Settings, group_column: str, keep_evaluation: str
) -> TrainResult:
    if _is_evaluator():
        return _leave_to_workers(settings)
    with signals.stage("before the evaluation was complete", again="", resumes=False):
        workers = join(settings)
        from tf_image_classification.runs import folder_evaluation, messages

        found = folder_evaluation.evaluate_folder(
            spec, settings, cache_dir(settings), workers, group=group_column, choice=keep_evaluation
        )
    if found.judgement is not None:
        for note in found.notes:
            print(note)
        print(messages.judged_table(found.evaluation, found.step, found.judgement))
        print(found.kept)
    if found.failure is not None and keep_evaluation == "yes":
        raise found.failure
    metrics = found.evaluation.metrics
    arrays = {name: value for name, value in metrics.items() if np.ndim(value)}
    return TrainResult(settings.run.model_dir, found.step, found.evaluation.scalars(), arrays)


def _act(spec: EstimatorSpec, settings: Settings, hooks: Sequence[Any]) -> TrainResult:
    settings = _with_own_evaluation(spec, settings)
    cluster = tasks.read_cluster(os.environ)
    is_evaluator = cluster is not None and cluster.is_evaluator
    if is_evaluator and (settings.run.evaluate or settings.run.plan):
        return _leave_to_workers(settings)
    if settings.run.evaluate:
        return evaluate(spec, settings)
    if settings.run.plan:
        workers = join(settings)
        from tf_image_classification.runs import plan, recipe

        spec, settings, _ = recipe.settle(spec, settings, cache_dir(settings))
        text = plan.describe(spec, settings, cache_dir(settings), workers)
        if workers.is_writer:
            print(text)
        return TrainResult(settings.run.model_dir, 0, {})
    if cluster is not None and is_evaluator:
        with signals.resumable(
            "in the evaluator task",
            again="Start it again with the workers; it continues with the checkpoints that are not "
            "evaluated yet.",
        ):
            return _follow(spec, settings, cluster)
    with signals.resumable(
        "before the first step. Nothing was lost",
        again="Start the same command again to train.",
    ):
        return _train(spec, settings, hooks)


def _with_own_evaluation(spec: EstimatorSpec, settings: Settings) -> Settings:
    """The settings, with the evaluation part of a divided training set where no other is given."""
    if spec.has_own_input:  # only it knows what its examples are
        check_needs(settings)
        return settings
    from tf_image_classification.estimator_specs import schema_of
    from tf_image_classification.runs import parts  # late: buckets need TensorFlow

    schema_of(spec)  # what is wrong with it is told before any data are read
    return parts.with_own_evaluation(settings)


def _leave_to_workers(settings: Settings) -> TrainResult:
    print("The evaluator has nothing to do: the workers do that together.")
    return TrainResult(settings.run.model_dir, 0, {})


def join(settings: Settings) -> Workers:
    """This process's place among the workers that the environment describes.

    ``train`` does it by itself. A program that uses TensorFlow before, for instance to convert its
    data, must call this first: afterwards the workers cannot be connected any more. It returns when
    all have come; ``is_writer`` of what it returns says who may write files for all, and
    ``wait_for_all`` lets the others wait for them.

    Raises:
        ConfigError: TensorFlow is not installed, or the environment contradicts the settings.
        WorkerLostError: a worker did not start in time.
    """
    prepare_tensorflow(settings)
    from tf_image_classification.training import workers

    cluster = tasks.read_cluster(os.environ)
    if cluster is not None and cluster.is_evaluator:
        cluster = None  # it works by itself
    return workers.join(
        settings.run.strategy, cluster, timeout_secs=settings.run.cluster_timeout_secs
    )


def _train(spec: EstimatorSpec, settings: Settings, hooks: Sequence[Any]) -> TrainResult:
    """The run, in the order in which it happens; heavy modules are imported when it is certain."""
    # 1. The workers find one another: TensorFlow must not be used before.
    workers = join(settings)
    from tf_image_classification.checkpoints.store import CheckpointStore
    from tf_image_classification.runs import (
        assembly,
        evaluator_task,
        head_phase,
        messages,
        opening,
        ready_hooks,
        recipe,
        run_export,
        shared_folder,
    )
    from tf_image_classification.runs.owed_evaluations import Owed

    say = print if workers.is_writer else _say_nothing
    spec, settings, chosen = recipe.settle(spec, settings, cache_dir(settings))
    if chosen:
        say(chosen)

    # 2. Everything that can be wrong is found before anything is written or computed.
    is_apart = evaluator_task.evaluates_apart(settings, workers.cluster)
    opened = opening.open_run(spec, settings, cache_dir(settings), num_workers=workers.count)
    folder, data, settings = opened.folder, opened.data, opened.settings
    if is_apart:
        data = dataclasses.replace(data, evaluation=None)
    workers.check_same("spec, data and settings", opened.record.digest())
    for note in opened.notes:
        say(note)

    # 3. The run is put together and put where it was.
    all_hooks = ready_hooks.all_hooks(
        settings,
        data,
        folder,
        [*hooks, ready_hooks.KeptHooks(spec, hooks), *_reports()],
        is_evaluated_apart=is_apart,
    )
    bad_images = ready_hooks.BadImageList(folder, workers.rank)
    owed = Owed(folder, settings) if is_apart else None
    parts = assembly.assemble(
        spec,
        settings,
        data,
        workers,
        all_hooks,
        on_bad_images=bad_images,
        owed=owed,
        before_writing=functools.partial(folder.put_back, opened.record),
    )
    exports = run_export.exports(spec, settings)
    if exports and not CheckpointStore(folder.checkpoints).steps():
        # On every worker, so that all end alike where it fails.
        run_export.try_export(spec, settings, data.schema, parts.state.model)
    exports = exports and workers.is_writer and not is_apart
    say(messages.announcement(parts, data, settings, workers))
    files.make_folder(folder.path)
    shared_folder.check_shared(folder.path, workers)
    if workers.is_writer and data.left_out:
        bad_images(data.left_out)
    if workers.is_writer and opened.counts:
        files.write_json(folder.data_counts, opened.counts)
    with folder.locked() if workers.is_writer else contextlib.nullcontext():
        say(_restore(parts, data, folder, settings, workers, keeps_evaluations=is_apart))
        if settings.model.head_phase and not parts.run.was_resumed:
            say(
                head_phase.fit_outputs(
                    spec, settings, data, parts.state.model, workers, cache_dir(settings)
                )
            )
            parts.state.begin_averages()
        if workers.is_writer:
            folder.write_record(opened.record)
        is_evaluated = parts.evaluate_some is None or parts.run.evaluated_step == parts.run.step
        if parts.run.is_complete and is_evaluated:
            say(messages.already_complete(parts.run))
            exports = exports and not run_export.is_exported(folder, settings)
            failed = _export(spec, settings, parts, folder) if exports else None
            workers.wait_for_all()
            if failed:
                raise failed
            return TrainResult(folder.path, parts.run.step, _last_metrics(folder))

        # 4. It trains, and what came out is shown and exported.
        evaluate_fn = (
            parts.evaluate_some(settings.evaluation.eval_freq) if parts.evaluate_some else None
        )
        evaluation = parts.run.train(evaluate_fn, ready_hooks.when_to_evaluate(settings))
        if evaluation is not None:
            say(messages.evaluation_table(evaluation, parts.run.step))
        failed = _export(spec, settings, parts, folder) if exports else None
    say(messages.farewell(parts.run, settings))
    workers.wait_for_all()
    if failed:
        raise failed
    return TrainResult(
        folder.path, parts.run.step, evaluation.scalars() if evaluation is not None else {}
    )


def _export(
    spec: EstimatorSpec, settings: Settings, parts: Assembly, folder: ModelFolder
) -> ExportError | None:
    """Export the model of a complete run, unless a signal comes or has come; says what is where.

    An error is for later, so that the other workers end well.
    """
    from tf_image_classification.runs import run_export

    with signals.stage(
        "before the model was exported. The training is complete and saved",
        again="Start the same command again to export it.",
        resumes=True,
    ):
        signals.check()
        try:
            state = parts.state
            print(run_export.export_run(spec, settings, parts.run.schema, state.model, folder))
        except ExportError as error:
            stopped = signals.cause_of(error)
            if stopped is not None:
                raise stopped from None
            return error
    return None


def _reports() -> list[Hook]:
    """What reports evaluations to the service that started this process, if one did."""
    path = os.environ.get("CLOUD_ML_HP_METRIC_FILE", "")
    if not path:
        return []
    from tf_image_classification.hooks import MetricFileHook

    return [MetricFileHook(path, os.environ.get("CLOUD_ML_TRIAL_ID", "0"))]


def _say_nothing(text: str) -> None:
    """What the workers print that do not write."""


def _restore(
    parts: Assembly,
    data: Data,
    folder: ModelFolder,
    settings: Settings,
    workers: Workers,
    *,
    keeps_evaluations: bool,
) -> str:
    """Put the run where it belongs on every worker, in this order, and say where that is.

    1. The newest readable checkpoint of this model folder: everything continues.
    2. The pretrained checkpoint that was named: weights only.
    3. Neither: initial weights.
    """
    from tf_image_classification.checkpoints.store import CheckpointStore
    from tf_image_classification.runs import assembly

    saved = CheckpointStore(folder.checkpoints).newest()
    workers.check_same(
        f"newest checkpoint. {folder.path} must be one folder that every worker sees",
        saved.step if saved else -1,
    )
    if saved is not None:
        parts.run.restore(saved.tensors, saved.notes)
        if workers.is_writer and not keeps_evaluations:
            # A later evaluation will be made again, and one that is owed as well.
            last = saved.step - int(saved.notes["owes_evaluation"])
            folder.write_evaluations(e for e in folder.evaluations() if e["step"] <= last)
        return f"resumed at step {saved.step}, from {folder.checkpoints}"
    if settings.model.checkpoint_path:
        report = assembly.start_from_checkpoint(parts.state.model, settings, data)
        parts.state.begin_averages()
        if workers.is_writer:
            files.write_json(files.join(folder.path, "warm_start.json"), dataclasses.asdict(report))
        return report.text()
    return f"new run in {folder.path} from initial weights"


def _follow(spec: EstimatorSpec, settings: Settings, cluster: tasks.Cluster) -> TrainResult:
    """What the evaluator of a cluster does while the workers train."""
    prepare_tensorflow(settings)
    from tf_image_classification.runs import (
        assembly,
        evaluator_task,
        messages,
        opening,
        ready_hooks,
        recipe,
        run_export,
    )
    from tf_image_classification.training.cluster import make_strategy
    from tf_image_classification.training.workers import Workers

    spec, settings, _ = recipe.settle(spec, settings, cache_dir(settings))
    evaluator_task.evaluates_apart(settings, cluster)
    opened = opening.open_run(spec, settings, cache_dir(settings))
    folder, data, settings = opened.folder, opened.data, opened.settings
    parts = assembly.assemble(spec, settings, data, Workers(make_strategy("auto")), [])
    print(f"evaluates the checkpoints of {folder.path}")
    files.make_folder(folder.path)
    record, best = ready_hooks.evaluation_hooks(settings, folder)
    # The record last: what it holds is not evaluated again, so the best one must be safe by then.
    hooks = [*ready_hooks.summary_hooks(settings), best, *_reports(), record]
    evaluation = evaluator_task.follow(parts, settings, data.schema, hooks)
    lines = folder.evaluations()
    if evaluation is not None:
        print(messages.evaluation_table(evaluation, lines[-1]["step"]))
    if run_export.exports(spec, settings) and not run_export.is_exported(folder, settings):
        failed = _export(spec, settings, parts, folder)
        if failed:
            raise failed
    return TrainResult(folder.path, lines[-1]["step"], _last_metrics(folder))


def _last_metrics(folder: ModelFolder) -> dict[str, float]:
    lines = folder.evaluations()
    numbers = lines[-1] if lines else {}
    left_out = ("step", "time", "num_examples")
    return {k: v for k, v in numbers.items() if isinstance(v, float) and k not in left_out}


def settings_of_command_line(arguments: Sequence[str]) -> Settings:
    """Parse a command line; ``--help`` and ``--print_config`` answer and end the process.

    Raises:
        ConfigError: a flag, a value or the settings file is wrong.
    """
    if any(argument in ("-h", "--help", "-help", "--helpfull") for argument in arguments):
        print(command_line.help_text(f"usage: {os.path.basename(sys.argv[0])} [flags]"))
        raise SystemExit(0)
    command_line.parse(arguments, FLAGS)
    settings = command_line.settings_from(FLAGS, os.environ)
    for name in command_line.hidden_options(FLAGS):
        print(
            f"--{name} is a flag of the program itself and does not set the framework's {name}.",
            file=sys.stderr,
        )
    if not command_line.is_of_program("print_config", FLAGS) and FLAGS["print_config"].value:
        print(command_line.settings_text(settings), end="")
        raise SystemExit(0)
    return settings


class ends_the_process:
    """Inside the block an error of ours, or a signal, ends the process with a line and a status."""

    def __enter__(self) -> None:
        """From here on signals are handled."""
        self._signals = signals.handled()
        self._signals.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        """Turn an error of ours into a message and a status."""
        try:
            if (ending := _ending(error)) is not None:
                signals.tell_last(ending[0])
                raise SystemExit(ending[1])
        finally:
            self._signals.__exit__(None, None, None)


def _ending(error: BaseException | None) -> tuple[str, int] | None:
    """The last words and the status of a process that ends with this error; None: Python's own."""
    if (stopped := signals.cause_of(error)) is not None:
        return str(stopped), stopped.exit_code
    if isinstance(error, TficError):
        name = "" if isinstance(error, RunInterrupted) else f"{type(error).__name__}: "
        return f"{name}{error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):  # outside the main thread nothing is handled
        return "Stopped by SIGINT.", 130
    if error is not None and _is_of_a_bucket(error):
        return f"DataError: {' '.join(str(error).split())[:500]}", 1
    if error is not None and (problem := files.system_problem(error)):
        return f"DataError: {problem}", 1
    return None


def _is_of_a_bucket(error: BaseException) -> bool:
    """Whether TensorFlow could not read or write a bucket, deep inside one of its functions."""
    tensorflow = sys.modules.get("tensorflow")
    return (
        tensorflow is not None
        and isinstance(error, tensorflow.errors.OpError)
        and "gs://" in str(error)
    )


def prepare_tensorflow(settings: Settings) -> None:
    """Import TensorFlow and make it as exact as the settings say; check that Keras fits.

    Raises:
        ConfigError: TensorFlow is not installed, or Keras is set to what this package cannot use.
        DataError: there is no room for temporary files, which TensorFlow needs to read functions.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    files.check_temporary()
    files.allow_open_files()
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise ConfigError(
            "TensorFlow is not installed. Install it with this package: "
            "pip install 'tf_image_classification[cpu]', or [gpu] for NVIDIA GPUs."
        ) from error
    keras_settings.require(os.environ)
    if settings.run.deterministic:
        tf.config.experimental.enable_op_determinism()


def cache_dir(settings: Settings) -> str:
    """The folder for indexes and unpacked records."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return settings.data.cache_dir or os.path.join(base, "tf_image_classification")
