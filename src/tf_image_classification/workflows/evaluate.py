"""Evaluation of the model in a folder: metrics, predictions and their analysis, stored there."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_image_classification.config import OPTIONS, Settings
from tf_image_classification.dataset.pipeline.distribute import DistributedBatches
from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.distributed.devices import make_strategy
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import (
    ConfigError,
    DataError,
    RunMismatchError,
    TficError,
)
from tf_image_classification.estimator_specs import (
    EstimatorSpec,
    own_metrics,
    source_digest,
    spec_name,
)
from tf_image_classification.evaluation.analysis import Analysis, analyze
from tf_image_classification.evaluation.loop import Evaluation
from tf_image_classification.evaluation.predictions import (
    Predictions,
    PredictionStore,
    read_predictions,
)
from tf_image_classification.export.saved_model import (
    ExportedModel,
    exported_step,
)
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.metrics.definitions import metric_names
from tf_image_classification.model_folder import ModelFolder, evaluation_line
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.system import files
from tf_image_classification.training.step import Forward
from tf_image_classification.workflows import keep_evaluation, unknown
from tf_image_classification.workflows.setup import default_hooks, png16_range, run_data
from tf_image_classification.workflows.setup.context import RunContext, make_context
from tf_image_classification.workflows.setup.default_folder import same_sources
from tf_image_classification.workflows.setup.evaluator import make_evaluate, regularisation_of
from tf_image_classification.workflows.setup.losses import make_losses
from tf_image_classification.workflows.setup.model import build_model, make_forward
from tf_image_classification.workflows.setup.slices import columns_beside
from tf_image_classification.workflows.setup.weights import assign_weights, newest_weights

log = logging.getLogger("tf_image_classification")


@dataclasses.dataclass(frozen=True)
class FolderEvaluation:
    """The result of evaluating the model of a folder.

    Attributes:
        evaluation: metrics over all examples.
        step: the model's.
        predictions: the logits and labels of every example.
        analysis: of these predictions; None on workers that do not write.
        notes: notes on the evaluation set, in sentences.
        kept: a sentence that names what the folder stores.
        unknown: a line on the limit for unknown pictures, or "".
        failure: why the folder could not be written, or None.
    """

    evaluation: Evaluation
    step: int
    predictions: Predictions
    analysis: Analysis | None
    notes: tuple[str, ...] = ()
    kept: str = ""
    unknown: str = ""
    failure: DataError | None = None


def evaluate_folder(
    spec: EstimatorSpec | None,
    settings: Settings,
    workers: Workers,
    *,
    group: str = "",
    choice: str = keep_evaluation.AUTO,
) -> FolderEvaluation:
    """Evaluate the model of a folder on the whole evaluation set, and store its predictions.

    Only predictions of the exported model are stored: an evaluation of a changed spec, or with
    other settings than the run's, is not. A folder that cannot be written is no error here.

    Args:
        spec: as ``train_estimator.evaluate``.
        settings: of this call; options that are not given are inherited from the run.
        workers: the processes and devices that share the work.
        group: as ``analysis.analyze`` takes it.
        choice: one of ``keeping.CHOICES``.

    Raises:
        TficError: there is no model or no data, or one of them is unusable.
    """
    keep_evaluation.check_choice(choice)
    folder = ModelFolder(settings.run.model_dir)
    manifest = folder.known_manifest()
    differs = _why_not_stored(spec, settings, manifest, choice)
    names_own_set = settings.origin("eval_metadata") == "default"
    has_own_unknown = settings.origin("unknown_examples") != "default"
    settings = inherited(settings, manifest)
    if not settings.data.eval_metadata:
        raise ConfigError("There is nothing to evaluate on. Give --eval_metadata.")
    settings = _with_usable_unknown(settings, are_given=has_own_unknown)
    replicas = workers.strategy.num_replicas_in_sync
    batch_size = -(-settings.data.batch_size // replicas) * replicas  # a multiple of the replicas
    exported = None if spec else ExportedModel(folder.saved_model).load()
    context = make_context(
        spec or ExportedSpec(exported, manifest.schema),  # type: ignore[arg-type]
        settings.replace(batch_size=batch_size),
        workers,
    )
    data = _read_data(context, manifest, names_own_set=names_own_set)
    evaluation, predictions = _evaluate(context, data, manifest, exported)
    if not workers.is_writer:
        return FolderEvaluation(evaluation, predictions.step, predictions, None)

    picture_folder = settings.evaluation.output_cm_folder
    if picture_folder:
        default_hooks.write_confusion_pictures(picture_folder, data.schema, evaluation)
    predictions = _with_groups(_with_slices(predictions, data), context, data)
    analysis = analyze(predictions, group)
    evaluation = _with_measures(evaluation, analysis, data.schema)
    line = evaluation_line(predictions.step, evaluation.num_examples, evaluation.metrics)
    of_set = {"eval_metadata": list(settings.data.eval_metadata), "eval_data": predictions.data}
    failure, line_on_unknown = None, ""
    try:
        folder.add_later_evaluation(line | of_set)
        kept = differs or keep_evaluation.keep(folder, predictions, analysis, choice=choice)
        if kept.startswith(keep_evaluation.KEPT):
            line_on_unknown = _fit_unknown(context, data, manifest)
    except DataError as error:
        failure, kept = error, f"not kept: {error}"
    return FolderEvaluation(
        evaluation, predictions.step, predictions, analysis, data.notes, kept,
        line_on_unknown, failure,
    )  # fmt: skip


def _with_usable_unknown(settings: Settings, *, are_given: bool) -> Settings:
    """The settings; without unknown examples of the training that are not there any more.

    Raises:
        ConfigError: those that are given now cannot be used.
    """
    try:
        unknown.check_examples(settings.evaluation.unknown_examples)
    except ConfigError as error:
        if are_given:
            raise
        log.warning("Evaluated without the training's unknown examples. %s", error)
        return settings.replace(unknown_examples=())
    return settings


def _fit_unknown(context: RunContext, data: run_data.Data, manifest: RunManifest) -> str:
    """Fit the limit for unknown pictures to the evaluation; returns a line on it, or ""."""
    folder, settings = context.folder, context.settings
    if files.is_remote(folder.path) or exported_step(folder.saved_model) is None:
        return ""

    def train() -> BatchSource | None:
        both = settings.replace(train_metadata=tuple(manifest.settings["train_metadata"]))
        try:
            again = make_context(context.spec, both)
            return run_data.read_data(again, manifest.schema).train
        except TficError as error:
            log.warning("The training examples cannot be read: %s", error)
            return None

    return unknown.fit_detector(
        folder,
        unknown.Request.of(settings),
        schema=manifest.schema,
        train=train,
        evaluation=data.evaluation,
        may_keep_distances=True,
    )


def _why_not_stored(
    spec: EstimatorSpec | None, settings: Settings, manifest: RunManifest, choice: str
) -> str:
    """A sentence why the evaluation is of another model than the trained one, or "".

    Raises:
        ConfigError: it is, but the evaluation of the trained model was asked for.
    """
    if spec is None:
        _refuse_for_exported(settings, manifest)
        return ""
    changes = _changes(spec, settings, manifest)
    if not changes:
        return ""
    differs = (
        "not kept for reports, exports and predictions, which are of the model as it was "
        f"trained: {'; '.join(changes)}."
    )
    if choice == keep_evaluation.ALWAYS:
        raise ConfigError(f"keep_evaluation is yes, but the evaluation is {differs}")
    return differs


def _read_data(context: RunContext, manifest: RunManifest, *, names_own_set: bool) -> run_data.Data:
    try:
        return run_data.read_data(context, manifest.schema, with_training=False)
    except DataError as error:
        if not names_own_set or context.spec.has_own_input:
            raise
        raise DataError(
            f"{error} The manifest of {context.folder.path} names this evaluation set; give "
            "--eval_metadata if it is elsewhere now, or start where the training was started."
        ) from error


def _evaluate(
    context: RunContext, data: run_data.Data, manifest: RunManifest, exported: ExportedModel | None
) -> tuple[Evaluation, Predictions]:
    """The metrics and predictions of the exported model, or of the spec's best checkpoint."""
    assert data.evaluation is not None
    settings, workers = context.settings, context.workers
    schema = _in_names_of_run(data.schema, manifest)
    forward: Forward
    if exported is not None:
        forward, step, regularisation = exported.forward, exported.step, 0.0
    else:
        saved, _ = newest_weights(context.folder)
        model = build_model(context, data.evaluation.image_shape)
        assign_weights(model, saved)
        forward = make_forward(model, schema, settings)
        step, regularisation = saved.step, regularisation_of(model)
    bad_images = _if_possible(default_hooks.BadImageList(context.folder, workers.rank))
    if workers.is_writer and data.left_out:
        bad_images(data.left_out)
    store = PredictionStore(schema)
    evaluate = make_evaluate(
        DistributedBatches(
            data.evaluation,
            workers.strategy,
            is_training=False,
            skip_bad_images=settings.data.on_bad_image == "skip",
            on_skip=bad_images,
            rank=workers.rank,
        ),
        workers,
        forward,
        schema,
        metric_fn=functools.partial(own_metrics, context.spec, schema),
        loss_fn=None if exported else make_losses(context, schema),
        regularisation=lambda: regularisation,
        store=store,
    )
    evaluation = evaluate()
    assert evaluation is not None
    predictions = store.predictions(
        step=step,
        data=data.evaluation.fingerprint,
        locate=data.evaluation.locate,
        exchange=workers.exchange if workers.count > 1 else None,
    )
    return evaluation, predictions


def _with_slices(predictions: Predictions, data: run_data.Data) -> Predictions:
    """The predictions with the columns of the evaluation set beside its labels."""
    if data.evaluation is None or data.evaluation.table is None:
        return predictions
    columns = columns_beside(data.evaluation.table)
    slices = {n: [texts[i] for i in predictions.ids.tolist()] for n, texts in columns.items()}
    return dataclasses.replace(predictions, slices=slices)


def _with_groups(predictions: Predictions, context: RunContext, data: run_data.Data) -> Predictions:
    """The predictions with the groups that are found in the evaluation set, if there are any."""
    if data.evaluation is None or data.evaluation.table is None:
        return predictions
    groups = context.sources.evaluation_groups(context.settings)
    if not any(groups):
        return predictions
    found = [groups[i] for i in predictions.ids.tolist()]
    return dataclasses.replace(predictions, found_groups=found)


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


def settings_of_kept(folder: ModelFolder, settings: Settings, manifest: RunManifest) -> Settings:
    """As ``inherited``; without an evaluation set the one that was evaluated last is used.

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
    settings = inherited(settings, manifest)
    if not settings.data.eval_metadata:
        raise ConfigError("There is nothing to evaluate on. Give --eval_metadata.")
    return settings


def kept_predictions(
    folder: ModelFolder,
    settings: Settings,
    step: int,
    data: str,
    *,
    may_replace: bool,
) -> Predictions:
    """The stored predictions of the exported model; it is evaluated now if there are none.

    Args:
        folder: of the run.
        settings: as ``evaluate_folder``.
        step: of the exported model.
        data: fingerprint of the evaluation set.
        may_replace: whether a new evaluation may replace the stored one of another set.
    """
    choice = keep_evaluation.AUTO
    if files.exists(folder.predictions):
        found = read_predictions(folder.predictions)
        if (found.step, found.data) == (step, data):
            return found
        if found.step == step and not may_replace:
            choice = keep_evaluation.NEVER
    alone = Workers(make_strategy("one_device"))
    evaluated = evaluate_folder(None, settings, alone, choice=choice)
    log.warning("evaluated %d examples; %s", evaluated.evaluation.num_examples, evaluated.kept)
    return evaluated.predictions


def _refuse_for_exported(settings: Settings, manifest: RunManifest) -> None:
    """Reject options that are fixed inside an exported model."""
    for name in _set_otherwise(settings, manifest):
        raise ConfigError(
            f"{name} is {settings.values()[name]}, but the exported model was made with "
            f"{manifest.settings[name]}. Remove it, or name the spec to evaluate a checkpoint."
        )


def _set_otherwise(settings: Settings, manifest: RunManifest) -> list[str]:
    """Options given now that change predictions and had other values in the training."""
    settings = png16_range.as_begun(settings, manifest)
    return [
        name
        for name, option in OPTIONS.items()
        if option.is_exported
        and settings.origin(name) != "default"
        and settings.values()[name] != manifest.settings.get(name, option.default)
    ]


def _changes(spec: EstimatorSpec, settings: Settings, manifest: RunManifest) -> list[str]:
    """How the spec and the settings differ from those of the training, in sentences."""
    changes = [
        f"{name} is {settings.values()[name]}, was "
        f"{manifest.settings.get(name, OPTIONS[name].default)}"
        for name in _set_otherwise(settings, manifest)
    ]
    if source_digest(spec) not in ("", manifest.spec_source):
        changes.append(f"the source of {spec_name(spec)} has changed since the training")
    return changes


def _in_names_of_run(schema: LabelSchema, manifest: RunManifest) -> LabelSchema:
    """The schema of an evaluation with the class names of the run.

    A model whose classes have no names but numbers may be evaluated with a file of names.

    Raises:
        RunMismatchError: the classes have other names than in the run.
    """
    names = {}
    for label in manifest.schema.labels_with_classes:
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


def inherited(settings: Settings, manifest: RunManifest) -> Settings:
    """The settings, with the run's values for options that change predictions and are not given.

    Their declarations tell which these are (``Option.is_inherited``).
    """
    settings = png16_range.as_begun(settings, manifest)
    missing = {
        name: manifest.settings[name]
        for name in manifest.origins
        if settings.origin(name) == "default" and name in OPTIONS and OPTIONS[name].is_inherited
    }
    of_run = manifest.settings["eval_metadata"]
    is_own_set = settings.origin("eval_metadata") == "default" or same_sources(
        settings.data.eval_metadata, of_run
    )
    # Of the run's own set only the part that was not trained on.
    missing["eval_split"] = manifest.settings.get("eval_split", 0.0) if is_own_set else 0.0
    if is_own_set and of_run:
        missing["eval_metadata"] = of_run
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
