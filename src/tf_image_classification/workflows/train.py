"""A training from the first check to the exported model, in the order in which it happens."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.evaluation.loop import Evaluation
from tf_image_classification.hooks import Hook
from tf_image_classification.system import files, screen
from tf_image_classification.training import loop
from tf_image_classification.workflows import (
    evaluate_continuously,
    export_saved_model,
    messages,
    unknown,
)
from tf_image_classification.workflows.result import TrainResult
from tf_image_classification.workflows.setup import (
    build,
    default_hooks,
    head_init,
    recipe,
    shared_folder,
    validate,
)
from tf_image_classification.workflows.setup.build import Assembly
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.model import start_from_checkpoint
from tf_image_classification.workflows.setup.pending_evaluations import PendingEvaluations
from tf_image_classification.workflows.setup.run_data import Data


def train(
    context: RunContext, hooks: Sequence[Any], reporting_hooks: Sequence[Hook]
) -> TrainResult:
    """Train, evaluate on the way, save, and export the best checkpoint; resumes a run that stopped.

    Args:
        context: the run; its workers are connected.
        hooks: hooks and Keras callbacks of the program, whose state is saved.
        reporting_hooks: hooks that the environment asks for.
    """
    workers = context.workers
    show = screen.say if workers.is_writer else _print_nothing

    # 1. The recipe fills in every option that the user did not set.
    context, chosen = recipe.settle(context)
    if chosen:
        show(chosen)

    # 2. Whatever can be wrong is found before anything is written or computed.
    is_evaluated_apart = evaluate_continuously.evaluates_apart(context.settings, workers.cluster)
    opened = validate.open_run(context)
    context, data, manifest = opened.context, opened.data, opened.manifest
    spec, settings, folder = context.spec, context.settings, context.folder
    if is_evaluated_apart:
        data = dataclasses.replace(data, evaluation=None)
    workers.check_same("spec, data and settings", manifest.digest())
    for note in opened.notes:
        show(note)
    if workers.is_writer:
        unknown.check_examples(settings.evaluation.unknown_examples)

    # 3. Model, optimizer, step and loop are built; the export of a user's model is tried first.
    bad_images = default_hooks.BadImageList(folder, workers.rank)
    all_hooks = default_hooks.all_hooks(
        context,
        data,
        [*hooks, default_hooks.KeptHooks(spec, hooks), *reporting_hooks],
        is_evaluated_apart=is_evaluated_apart,
    )
    parts = build.assemble(
        context,
        data,
        all_hooks,
        on_bad_images=bad_images,
        pending=PendingEvaluations(folder, settings) if is_evaluated_apart else None,
        before_writing=functools.partial(folder.put_back, manifest),
    )
    run, model = parts.run, parts.state.model
    exports = export_saved_model.exports(spec, settings)
    is_own = type(spec) is not BackboneSpec  # built-in models are known to be exportable
    if exports and is_own and not CheckpointStore(folder.checkpoints).steps():
        # On every worker, so that all end alike where it fails.
        export_saved_model.try_export(spec, settings, data.schema, model)
    exports = exports and workers.is_writer and not is_evaluated_apart

    # 4. The model folder is created or found, and the run continues where it was.
    show(messages.announcement(context, parts, data))
    files.make_folder(folder.path)
    shared_folder.check_shared(folder.path, workers)
    if workers.is_writer and data.left_out:
        bad_images(data.left_out)
    if workers.is_writer and opened.counts:
        files.write_json(folder.data_counts, opened.counts)
    with folder.locked() if workers.is_writer else contextlib.nullcontext():
        show(_restore(context, parts, data, keeps_evaluations=is_evaluated_apart))
        if settings.model.head_phase and not run.was_resumed:
            show(head_init.fit_outputs(context, data, model))
            parts.state.begin_averages()
        if workers.is_writer:
            if settings.data.eval_split:
                names = settings.data.train_metadata
                held = context.sources.held_out(names, "train_metadata", settings)
                files.write_json(folder.held_out, held.to_json())
            folder.write_manifest(manifest)

        # 5. It trains, evaluates and saves, unless that is done already.
        is_evaluated = parts.evaluate_some is None or run.evaluated_step == run.step
        was_complete = run.is_complete and is_evaluated
        is_exporting = False
        if was_complete:
            show(messages.already_complete(run))
            is_exporting = exports
            exports = exports and not export_saved_model.is_exported(folder, settings)
            metrics = folder.last_metrics()
        else:
            metrics = _train_and_evaluate(context, parts, show)

        # 6. The best checkpoint is exported.
        failure = None
        if exports:
            failure = export_saved_model.export_at_the_end(spec, settings, parts, folder, data)
        elif is_exporting and not unknown.is_fitted(folder):  # killed before it was
            export_saved_model.fit_unknown(settings, folder, data)
    if not was_complete:
        show(messages.farewell(run, settings))
    workers.wait_for_all()
    if failure is not None:
        raise failure
    return TrainResult(folder.path, run.step, metrics)


def _train_and_evaluate(
    context: RunContext, parts: Assembly, show: Callable[[str], None]
) -> dict[str, float]:
    """Run the training loop; returns the metrics of the last evaluation."""
    evaluation = context.settings.evaluation
    evaluate = parts.evaluate_some(evaluation.eval_freq) if parts.evaluate_some else None
    when = default_hooks.when_to_evaluate(context.settings)
    last: Evaluation | None = loop.train(parts.run, evaluate, when)
    if last is None:
        return {}
    if context.workers.is_writer:
        print(messages.evaluation_table(last, parts.run.step))
    return last.scalars()


def _print_nothing(text: str) -> None:
    """The print function of workers that do not write."""


def _restore(context: RunContext, parts: Assembly, data: Data, *, keeps_evaluations: bool) -> str:
    """Restore the run on every worker; returns a sentence that names its beginning.

    1. The newest readable checkpoint of this model folder: everything continues.
    2. The pretrained checkpoint that was named: weights only.
    3. Neither: initial weights.
    """
    settings, workers, folder = context.settings, context.workers, context.folder
    saved = CheckpointStore(folder.checkpoints).newest()
    workers.check_same(
        f"newest checkpoint. {folder.path} must be one folder that every worker sees",
        saved.step if saved else -1,
    )
    if saved is not None:
        parts.run.restore(saved.tensors, saved.notes)
        if workers.is_writer and not keeps_evaluations:
            # Later evaluations will be repeated, and so will one that is still missing.
            last = saved.step - int(saved.notes["owes_evaluation"])
            folder.write_evaluations(e for e in folder.evaluations() if e["step"] <= last)
        return f"resumed at step {saved.step}, from {folder.checkpoints}"
    if settings.model.checkpoint_path:
        report = start_from_checkpoint(settings, parts.state.model, data)
        parts.state.begin_averages()
        if workers.is_writer:
            files.write_json(files.join(folder.path, "warm_start.json"), dataclasses.asdict(report))
        return report.text()
    return f"new run in {folder.path} from initial weights"
