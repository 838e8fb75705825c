"""A training from the first check to the exported model, in the order in which it happens."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.config import Settings
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.hooks import Hook
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files
from tf_image_classification.training import loop
from tf_image_classification.workflows import (
    evaluate_continuously,
    export_saved_model,
    messages,
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
from tf_image_classification.workflows.setup.environment import cache_dir
from tf_image_classification.workflows.setup.pending_evaluations import Owed
from tf_image_classification.workflows.setup.run_data import Data


def train(
    spec: EstimatorSpec,
    settings: Settings,
    workers: Workers,
    hooks: Sequence[Any],
    reporting_hooks: Sequence[Hook],
) -> TrainResult:
    """Train, evaluate on the way, save, and export the best checkpoint; resumes a run that stopped.

    Args:
        spec: the user's spec.
        settings: all settings.
        workers: this process among the workers, which are connected.
        hooks: hooks and Keras callbacks of the program, whose state is saved.
        reporting_hooks: hooks that the environment asks for.
    """
    # 1. The recipe fills in every option that the user did not set.
    say = print if workers.is_writer else _print_nothing
    spec, settings, chosen = recipe.settle(spec, settings, cache_dir(settings))
    if chosen:
        say(chosen)

    # 2. Everything that can be wrong is found before anything is written or computed.
    is_apart = evaluate_continuously.evaluates_apart(settings, workers.cluster)
    opened = validate.open_run(spec, settings, cache_dir(settings), num_workers=workers.count)
    folder, data, settings = opened.folder, opened.data, opened.settings
    if is_apart:
        data = dataclasses.replace(data, evaluation=None)
    workers.check_same("spec, data and settings", opened.record.digest())
    for note in opened.notes:
        say(note)

    # 3. The run is put together and put where it was.
    all_hooks = default_hooks.all_hooks(
        settings,
        data,
        folder,
        [*hooks, default_hooks.KeptHooks(spec, hooks), *reporting_hooks],
        is_evaluated_apart=is_apart,
    )
    bad_images = default_hooks.BadImageList(folder, workers.rank)
    owed = Owed(folder, settings) if is_apart else None
    parts = build.assemble(
        spec,
        settings,
        data,
        workers,
        all_hooks,
        on_bad_images=bad_images,
        owed=owed,
        before_writing=functools.partial(folder.put_back, opened.record),
    )
    exports = export_saved_model.exports(spec, settings)
    if exports and not CheckpointStore(folder.checkpoints).steps():
        # On every worker, so that all end alike where it fails.
        export_saved_model.try_export(spec, settings, data.schema, parts.state.model)
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
                head_init.fit_outputs(
                    spec, settings, data, parts.state.model, workers, cache_dir(settings)
                )
            )
            parts.state.begin_averages()
        if workers.is_writer:
            folder.write_manifest(opened.record)
        is_evaluated = parts.evaluate_some is None or parts.run.evaluated_step == parts.run.step
        if parts.run.is_complete and is_evaluated:
            say(messages.already_complete(parts.run))
            exports = exports and not export_saved_model.is_exported(folder, settings)
            failed = (
                export_saved_model.export_at_the_end(spec, settings, parts, folder)
                if exports
                else None
            )
            workers.wait_for_all()
            if failed:
                raise failed
            return TrainResult(folder.path, parts.run.step, folder.last_metrics())

        # 4. It trains, and what came out is shown and exported.
        evaluate_fn = (
            parts.evaluate_some(settings.evaluation.eval_freq) if parts.evaluate_some else None
        )
        evaluation = loop.train(parts.run, evaluate_fn, default_hooks.when_to_evaluate(settings))
        if evaluation is not None:
            say(messages.evaluation_table(evaluation, parts.run.step))
        failed = (
            export_saved_model.export_at_the_end(spec, settings, parts, folder) if exports else None
        )
    say(messages.farewell(parts.run, settings))
    workers.wait_for_all()
    if failed:
        raise failed
    return TrainResult(
        folder.path, parts.run.step, evaluation.scalars() if evaluation is not None else {}
    )


def _print_nothing(text: str) -> None:
    """The print function of workers that do not write."""


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
        report = build.start_from_checkpoint(parts.state.model, settings, data)
        parts.state.begin_averages()
        if workers.is_writer:
            files.write_json(files.join(folder.path, "warm_start.json"), dataclasses.asdict(report))
        return report.text()
    return f"new run in {folder.path} from initial weights"
