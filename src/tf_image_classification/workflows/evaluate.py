"""Evaluating the model that lies in a folder, and what the folder keeps of it."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_image_classification.config import OPTIONS, Settings
from tf_image_classification.dataset.pipeline.distribute import Feed
from tf_image_classification.dataset.pipeline.pipeline import Pipeline
from tf_image_classification.dataset.pipeline.user_input import GivenInput
from tf_image_classification.dataset.table import Table
from tf_image_classification.distributed.devices import make_strategy
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import (
    ConfigError,
    DataError,
    RunMismatchError,
)
from tf_image_classification.estimator_specs import (
    EstimatorSpec,
    own_metrics,
    source_digest,
    spec_name,
)
from tf_image_classification.evaluation.analysis import Analysis, analyze
from tf_image_classification.evaluation.loop import Evaluation
from tf_image_classification.evaluation.predictions import Keeper, Predictions, read_predictions
from tf_image_classification.export.saved_model import (
    ExportedModel,
    exported_step,
)
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.metrics.streaming import metric_names
from tf_image_classification.model_folder import ModelFolder, evaluation_line
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.system import files
from tf_image_classification.training.step import Forward
from tf_image_classification.workflows import keep_evaluation
from tf_image_classification.workflows.setup import build, default_hooks, png16_range, run_data
from tf_image_classification.workflows.setup.slices import columns_beside
from tf_image_classification.workflows.setup.weights import assign_weights, newest_weights

log = logging.getLogger("tf_image_classification")


@dataclasses.dataclass(frozen=True)
class FolderEvaluation:
    """What came of evaluating a folder's model.

    Attributes:
        evaluation: metrics over all examples.
        step: the model's.
        predictions: what it said of every example.
        analysis: what follows from that; None where another worker worked it out.
        notes: what the user should know of the evaluation set, in sentences.
        kept: what the folder keeps of it, in a sentence.
        failure: why the folder could not be written, or None.
    """

    evaluation: Evaluation
    step: int
    predictions: Predictions
    analysis: Analysis | None
    notes: tuple[str, ...] = ()
    kept: str = ""
    failure: DataError | None = None


def evaluate_folder(
    spec: EstimatorSpec | None,
    settings: Settings,
    cache_dir: str,
    workers: Workers,
    *,
    group: str = "",
    choice: str = keep_evaluation.AUTO,
) -> FolderEvaluation:
    """Evaluate a folder's model on the whole evaluation set, and keep what it says.

    What the folder keeps is what its exported model says: an evaluation of a changed spec, or with
    other settings than the run's, is not kept. A folder that cannot be written keeps nothing; the
    evaluation is what it is all the same.

    Args:
        spec: as ``train_estimator.evaluate``.
        settings: those of this call; the run's own hold for what is not given.
        cache_dir: folder for indexes and unpacked records.
        workers: those that share the work.
        group: as ``analysis.analyze`` takes it.
        choice: one of ``keeping.CHOICES``.

    Raises:
        TficError: there is no model or no data, or one of them is unusable.
    """
    keep_evaluation.check_choice(choice)
    differs = ""
    folder = ModelFolder(settings.run.model_dir)
    record = folder.known_manifest()
    if spec is None:
        _refuse_for_exported(settings, record)
    elif changes := _changes(spec, settings, record):
        differs = (
            "not kept for reports, exports and predictions, which are of the model as it was "
            f"trained: {'; '.join(changes)}."
        )
        if choice == keep_evaluation.ALWAYS:
            raise ConfigError(f"keep_evaluation is yes, but the evaluation is {differs}")
    names_own_set = settings.origin("eval_metadata") == "default"
    settings = inherited(settings, record)
    if not settings.data.eval_metadata:
        raise ConfigError("There is nothing to evaluate on. Give --eval_metadata.")
    strategy = workers.strategy
    replicas = strategy.num_replicas_in_sync
    batch_size = -(-settings.data.batch_size // replicas) * replicas  # each has the same share
    settings = settings.replace(batch_size=batch_size)
    exported = None if spec else ExportedModel(folder.saved_model).load()
    spec = spec or ExportedSpec(exported, record.schema)  # type: ignore[arg-type]
    try:
        data = run_data.read_data(spec, settings, cache_dir, record.schema, with_training=False)
    except DataError as error:
        if not names_own_set or spec.has_own_input:
            raise
        raise DataError(
            f"{error} {folder.path} names it so; give --eval_metadata if it is elsewhere now, or "
            "start where the training was started."
        ) from error
    assert data.evaluation is not None
    schema = _in_names_of_run(data.schema, record)
    forward: Forward
    if exported is not None:
        forward, step, regularisation = exported.forward, exported.step, 0.0
    else:
        saved, _ = newest_weights(folder)
        model = build.build_model(spec, settings, data.evaluation.image_shape, strategy)
        assign_weights(model, saved)
        forward = build.make_forward(model, schema, settings)
        step, regularisation = saved.step, build.regularisation_of(model)
    bad_images = _if_possible(default_hooks.BadImageList(folder, workers.rank))
    if workers.is_writer and data.left_out:
        bad_images(data.left_out)
    feed = Feed(
        data.evaluation,
        strategy,
        is_training=False,
        skip_bad_images=settings.data.on_bad_image == "skip",
        on_skip=bad_images,
        rank=workers.rank,
    )
    keeper = Keeper(schema)
    evaluate = build.make_evaluate(
        feed,
        workers,
        forward,
        schema,
        metric_fn=functools.partial(own_metrics, spec, schema),
        loss_fn=None if exported else build.make_losses(spec, schema, settings),
        regularisation=lambda: regularisation,
        keep=keeper,
    )
    evaluation = evaluate()
    assert evaluation is not None
    predictions = keeper.predictions(
        step=step,
        data=data.evaluation.fingerprint,
        locate=_locate(data.evaluation),
        exchange=workers.exchange if workers.count > 1 else None,
    )
    if not workers.is_writer:
        return FolderEvaluation(evaluation, step, predictions, None)
    if settings.evaluation.output_cm_folder:
        default_hooks.write_confusion_pictures(
            settings.evaluation.output_cm_folder, data.schema, evaluation
        )
    if isinstance(data.evaluation, Pipeline):
        assert isinstance(data.evaluation.source, Table)
        columns = columns_beside(data.evaluation.source)
        slices = {n: [texts[i] for i in predictions.ids.tolist()] for n, texts in columns.items()}
        predictions = dataclasses.replace(predictions, slices=slices)
    analysis = analyze(predictions, group)
    evaluation = _with_measures(evaluation, analysis, data.schema)
    line = evaluation_line(step, evaluation.num_examples, evaluation.metrics)
    names = list(settings.data.eval_metadata)
    failure = None
    try:
        folder.add_later_evaluation(
            line | {"eval_metadata": names, "eval_data": data.evaluation.fingerprint}
        )
        kept = differs or keep_evaluation.keep(folder, predictions, analysis, choice=choice)
    except DataError as error:
        failure, kept = error, f"not kept: {error}"
    return FolderEvaluation(evaluation, step, predictions, analysis, data.notes, kept, failure)


def _with_measures(evaluation: Evaluation, analysis: Analysis, schema: LabelSchema) -> Evaluation:
    """The evaluation with all metrics of the table, as they were worked out of the predictions.

    A metric that the spec itself gives under a name of the table stays the spec's.
    """
    metrics = dict(evaluation.metrics)
    for name, (label, metric) in metric_names(schema).items():
        if label.name not in analysis.labels:
            continue
        value = analysis.labels[label.name].measures.overall[metric.name].value
        if name not in metrics or np.allclose(metrics[name], value, rtol=1e-9, equal_nan=True):
            metrics[name] = value
    return dataclasses.replace(evaluation, metrics=metrics)


def _if_possible(write: Callable[[Any], None]) -> Callable[[Any], None]:
    """The list of bad images, where the folder can be written."""

    def try_to_write(bad_images: Any) -> None:
        try:
            write(bad_images)
        except DataError as error:
            log.warning("The list of bad images is not kept: %s", error)

    return try_to_write


def settings_of_kept(folder: ModelFolder, settings: Settings, record: RunManifest) -> Settings:
    """As ``inherited``, with the evaluation set that was evaluated last where none is given now.

    Raises:
        ConfigError: there is none.
    """
    if settings.origin("eval_metadata") == "default" and files.exists(folder.predictions):
        kept = read_predictions(folder.predictions)
        names = [
            tuple(line["eval_metadata"])  # () of an input_fn
            for line in folder.later_evaluations()
            if line["eval_data"] == kept.data and line["eval_metadata"]
        ]
        if names and kept.step == exported_step(folder.saved_model):
            settings = settings.replace(eval_metadata=names[-1])
    settings = inherited(settings, record)
    if not settings.data.eval_metadata:
        raise ConfigError("There is nothing to evaluate on. Give --eval_metadata.")
    return settings


def kept_predictions(
    folder: ModelFolder,
    settings: Settings,
    cache_dir: str,
    step: int,
    data: str,
    *,
    may_replace: bool,
) -> Predictions:
    """What the exported model has said of the evaluation set; it is asked now if it has not been.

    Args:
        folder: of the run.
        settings: as ``evaluate_folder``.
        cache_dir: as ``evaluate_folder``.
        step: of the exported model.
        data: fingerprint of the evaluation set.
        may_replace: whether what is asked now takes the place of what was kept of another set.
    """
    choice = keep_evaluation.AUTO
    if files.exists(folder.predictions):
        found = read_predictions(folder.predictions)
        if (found.step, found.data) == (step, data):
            return found
        if found.step == step and not may_replace:
            choice = keep_evaluation.NEVER
    alone = Workers(make_strategy("one_device"))
    evaluated = evaluate_folder(None, settings, cache_dir, alone, choice=choice)
    log.warning("evaluated %d examples; %s", evaluated.evaluation.num_examples, evaluated.kept)
    return evaluated.predictions


def _locate(source: Pipeline | GivenInput) -> Callable[[int], str]:
    return source.source.locate if isinstance(source, Pipeline) else "example {}".format


def _refuse_for_exported(settings: Settings, record: RunManifest) -> None:
    """What an exported model has in itself cannot be chosen any more."""
    for name in _set_otherwise(settings, record):
        raise ConfigError(
            f"{name} is {settings.values()[name]}, but the exported model was made with "
            f"{record.settings[name]}. Remove it, or name the spec to evaluate a checkpoint."
        )


def _set_otherwise(settings: Settings, record: RunManifest) -> list[str]:
    """Settings given now that decide what a model says, and were others in the training."""
    fixed = ("image_size", "precision", "label_smoothing", "regression_loss", "huber_delta")
    settings = png16_range.as_begun(settings, record)
    return [
        name
        for name in (*fixed, "test_time_augmentation", "png16_range")
        if settings.origin(name) != "default"
        and settings.values()[name] != record.settings.get(name, OPTIONS[name].default)
    ]


def _changes(spec: EstimatorSpec, settings: Settings, record: RunManifest) -> list[str]:
    """In what an evaluation of a spec is not one of the model as it was trained."""
    changes = [
        f"{name} is {settings.values()[name]}, was {record.settings[name]}"
        for name in _set_otherwise(settings, record)
    ]
    if source_digest(spec) != record.spec_source:
        changes.append(f"the source of {spec_name(spec)} has changed since the training")
    return changes


def _in_names_of_run(schema: LabelSchema, record: RunManifest) -> LabelSchema:
    """The schema of an evaluation with the class names of the run.

    A model that knows its classes by number only may be evaluated with a file of their names.

    Raises:
        RunMismatchError: the classes have other names than in the run.
    """
    names = {}
    for label in record.schema.labels_with_classes:
        given = schema[label.name].class_names if label.name in schema.names else ()
        numbers = tuple(map(str, range(label.depth)))
        if label.class_names == numbers and len(given) == label.depth:
            names[label.name] = numbers
        elif given != label.class_names:
            raise RunMismatchError(
                f"The model knows the classes of label {label.name!r} as "
                f"{', '.join(label.class_names[:10])}, but here they are {', '.join(given[:10])}. "
                "Leave --labels out: the names are stored with the model."
            )
    return schema.with_vocabularies(names)


_OF_TRAINING = (
    *("input_mode", "stream_block", "gradient_accumulation_steps", "balanced_sampling"),
    *("head_phase", "layer_decay", "freeze_batch_norm", "trainable_scopes"),
    *("batch_norm_momentum", "mixup_alpha", "cutmix_alpha"),
)


def inherited(settings: Settings, record: RunManifest) -> Settings:
    """These settings, with the run's own for all that is not given now and decides the result.

    How a training reads its examples and changes its variables does not.
    """
    settings = png16_range.as_begun(settings, record)
    missing = {
        name: record.settings[name]
        for name in record.origins
        if settings.origin(name) == "default"
        and name in OPTIONS
        and (OPTIONS[name].resume == "same" or name == "eval_metadata")
        and OPTIONS[name].group not in ("optimizer", "schedule")
        and name not in _OF_TRAINING
    }
    return settings.replace(**missing)


class ExportedSpec(EstimatorSpec):
    """An exported model in the form of a spec, with metrics by label kind.

    Attributes:
        class_dict: the labels of the run.
    """

    def __init__(self, exported: ExportedModel, schema: LabelSchema) -> None:
        self.class_dict: tuple[Label, ...] = schema.labels
        self._exported = exported

    def get_preproc_fn(self, is_training: bool) -> Any:
        """The exported preprocessing."""
        return self._exported.preproc

    def get_model_fn(self, checkpoint_path: str | None) -> Any:
        """The exported model, which is not built anew."""
        return lambda image_shape, params: self._exported

    def metric_ops(self, labels: Any, predictions: Any) -> None:
        """None: metrics by label kind."""
