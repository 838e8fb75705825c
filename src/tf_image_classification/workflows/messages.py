"""The messages of a run: its summary, its evaluations and its end."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

import numpy as np

from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.backbones import KERAS_HUB, find
from tf_image_classification.config import Settings
from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.evaluation.analysis import FOUND_GROUPS, Analysis
from tf_image_classification.evaluation.loop import Evaluation
from tf_image_classification.export.verify import Verification
from tf_image_classification.labels import Label
from tf_image_classification.model_folder import ModelFolder, tensorboard_folder
from tf_image_classification.report.content import calibration_text
from tf_image_classification.training.run import TrainingRun
from tf_image_classification.workflows.setup import batch_norm
from tf_image_classification.workflows.setup.build import Assembly
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.run_data import Data

_MOST_SLICES = 5
_MOST_CLASSES = 20


def announcement(context: RunContext, parts: Assembly, data: Data) -> str:
    """A summary of the run before its first step: data, classes, length, devices and model."""
    settings, workers = context.settings, context.workers
    train, plan = data.train, parts.plan
    assert train is not None
    examples = "examples of its own input_fn"
    if train.num_examples is not None:
        examples = f"{train.num_examples} examples"
    lines = [*data.notes]
    lines.append(
        f"train: {examples}, {plan.train_steps} steps of {settings.data.batch_size}"
        f" ({plan.train_steps / plan.steps_per_epoch:.3g} epochs)"
    )
    lines += [label_line(data, label, train) for label in data.schema]
    if data.evaluation is not None and data.evaluation.num_examples is not None:
        lines.append(f"evaluation: {data.evaluation.num_examples} examples")
        lines += [label_line(data, label, data.evaluation) for label in data.schema]
    pipeline = train.as_pipeline
    if pipeline is not None and pipeline.preprocessor.bytes_preproc is None:
        lines.append("preprocessing: the spec's own function, on fully decoded images")
    replicas = workers.strategy.num_replicas_in_sync
    if replicas > 1:
        where = f" in {workers.count} processes" if workers.count > 1 else ""
        rows = settings.data.batch_size // replicas
        lines.append(
            f"devices: {replicas}{where}, each computes {rows} of the "
            f"{settings.data.batch_size} examples"
        )
    model = parts.state.model
    name = f"{settings.backbone_spec.backbone}, " if settings.backbone_spec.backbone else ""
    lines.append(f"model: {name}{model.count_params():,} parameters")
    if isinstance(context.spec, BackboneSpec):
        lines += filter(None, [_pixel_line(settings)])
    lines += parts.notes
    if not settings.model.checkpoint_path:
        updates_a_step = settings.training.gradient_accumulation_steps
        lines += filter(None, [batch_norm.warning(model, plan.train_steps, updates_a_step)])
    return "\n".join(lines)


def _pixel_line(settings: Settings) -> str:
    """How the network's pixels are normalized; "" where that is not by mean and deviation."""
    name, given = settings.backbone_spec.backbone, settings.backbone_spec.pixel_scaling
    published = "" if name.startswith(KERAS_HUB) else find(name).pixel_scaling
    if not (given or published):
        return ""
    mean, deviation = (given or published).split("/")
    is_chosen = settings.is_chosen("pixel_scaling")
    source = f"of {name}"
    if given:
        source = "given" if is_chosen else "as with the pretrained weights"
    return f"pixels: normalized with mean {mean} and standard deviation {deviation} ({source})"


def label_line(data: Data, label: Label, of_set: BatchSource) -> str:
    """The kind of a label and its examples per class in one set."""
    name = f"{label.name}: " if len(data.schema.labels) > 1 else ""
    return f"  {name}{label.describe()}{_class_counts(of_set, label)}"


def _class_counts(of_set: BatchSource, label: Label) -> str:
    if of_set.table is None:
        return ""
    column = of_set.table.columns[label.name]
    missing = int((~column.mask).sum())
    ending = f"; missing in {missing}" if missing else ""
    if not label.has_classes:
        return ending
    known = column.values[column.mask]
    counts = np.bincount(known, minlength=label.depth) if label.is_class else known.sum(axis=0)
    named = dict(zip(label.named_classes(), counts.astype(np.int64).tolist(), strict=True))
    absent = [name for name, count in named.items() if not count]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        ending += f"; NO example of {', '.join(absent[:5])}{more}"
    shown = [f"{name[:40]} {count}" for name, count in list(named.items())[:_MOST_CLASSES]]
    if len(named) > _MOST_CLASSES:
        shown.append(f"... ({min(named.values())} to {max(named.values())} examples each)")
    return f": {', '.join(shown)}{ending}"


def already_complete(run: TrainingRun) -> str:
    """A message that the run is complete, with the options that continue it."""
    done = f"{run.step} steps are done"
    if run.stop_reason:
        done = f"it stopped at step {run.step} of {run.train_steps} because {run.stop_reason}"
    return f"The run is complete: {done}. {_how_to_go_on(run)}"


def _how_to_go_on(run: TrainingRun) -> str:
    length = "--train_steps" if run.settings.training.train_steps is not None else "--epochs"
    if run.stop_reason:
        length += " or another --early_stopping_patience"
    return f"Give a larger {length} to go on, or another --model_dir for a new run."


def farewell(run: TrainingRun, settings: Settings) -> str:
    """The paths of a run's results, with the commands that use them."""
    folder = ModelFolder(run.model_dir)
    lines = []
    if run.stop_reason:
        lines.append(
            f"stopped:       at step {run.step} of {run.train_steps}, because {run.stop_reason}"
        )
    tfic, path = _program("tfic"), shlex.quote(folder.path)
    logs = shlex.quote(tensorboard_folder(settings))
    if run.step_secs:
        lines.append(f"input wait:    {run.wait_secs / run.step_secs:.0%} of the steps' time")
    lines += [
        f"model folder:  {folder.path}",
        f"TensorBoard:   {_program('tensorboard')} --logdir {logs}",
    ]
    if settings.data.eval_metadata and settings.checkpoints.export_saved_model:
        line = f"{tfic} evaluate {path}"
        if not settings.data.eval_split:  # else the folder lists the set
            patterns = " ".join(map(shlex.quote, settings.data.eval_metadata))
            line += f" --eval_metadata {patterns}"
        lines += [
            f"evaluate:      {line}",
            f"report:        {tfic} report {path}",
            f"predict:       {tfic} predict {path} IMAGES",
            f"serve:         {tfic} serve {path}",
        ]
    lines.append(f"resume:        start the same command again. {_how_to_go_on(run)}")
    return "\n".join(lines)


def _program(name: str) -> str:
    """A command as it can be typed; with its folder if it is not on PATH."""
    if shutil.which(name):
        return name
    path = os.path.join(os.path.dirname(sys.executable), name)
    return shlex.quote(min(path, os.path.relpath(path), key=len))


def evaluation_table(evaluation: Evaluation, step: int) -> str:
    """The scalar metrics of an evaluation, one per line."""
    scalars = evaluation.scalars()
    width = max(len(name) for name in scalars)
    lines = [f"evaluation of step {step} on {evaluation.num_examples} examples"]
    lines += [f"  {name:<{width}}  {value:.4f}" for name, value in scalars.items()]
    return "\n".join(lines)


def analysis_table(evaluation: Evaluation, step: int, analysis: Analysis) -> str:
    """All metrics of an evaluation, label by label with confidence intervals.

    Metrics that are not in the table of metrics come first, e.g. the loss. A metric of the
    spec with a name of the table but another value is marked as the spec's own.
    """
    shown = {
        (f"{name}/{key}" if len(analysis.schema.labels) > 1 else key): value.value
        for name, found in analysis.labels.items()
        for key, value in found.measures.overall.items()
    }
    own = {
        name + (" (the spec's own)" if name in shown else ""): value
        for name, value in evaluation.scalars().items()
        if name not in shown or not np.isclose(value, shown[name], equal_nan=True)
    }
    lines = [f"evaluation of step {step} on {evaluation.num_examples} examples"]
    if analysis.group == FOUND_GROUPS:
        lines.append(f"intervals are over {FOUND_GROUPS}, not over images (--groups none)")
    width = max(map(len, own), default=0)
    lines += [f"  {name:<{width}}  {value:.4f}" for name, value in own.items()]
    for name, found in analysis.labels.items():
        lines.append(f"{name}: with 95 % intervals")
        overall = found.measures.overall
        width = max(map(len, overall))
        lines += [f"  {key:<{width}}  {value}" for key, value in overall.items()]
        if analysis.schema[name].has_classes:
            lines.append(f"  calibration: {calibration_text(found.calibrated)}")
        lines += [f"  slice {s.column} = {s.value}: {s.score}" for s in found.slices[:_MOST_SLICES]]
    return "\n".join(lines)


def verification_header() -> str:
    """The head of the table that ``verification_line`` fills."""
    return (
        f"{'format':<12} {'examples':>8} {'max difference':>14} {'mean difference':>15} "
        f"{'changed predictions':>19} {'accuracy':>16} {'ms':>7} {'MB':>7}"
    )


def verification_line(name: str, found: Verification) -> str:
    """An exported file's differences, the evaluation's accuracy and its own, latency and size."""
    accuracies = f"{found.reference_accuracy:.4f} -> {found.accuracy:.4f}"
    return (
        f"{name:<12} {found.num_examples:>8} {found.max_difference:>14.2g} "
        f"{found.mean_difference:>15.2g} {found.num_changed:>19} {accuracies:>16} "
        f"{found.milliseconds:>7.2f} {found.megabytes:>7.2f}"
    )
