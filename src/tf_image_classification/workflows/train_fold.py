"""One fold of a cross-validation: a run in a folder of its own that resumes, then its evaluation.

predictions = train_fold(spec, settings, sources, plan, fold)
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.config import OPTIONS, Settings, make_settings
from tf_image_classification.config.groups import BackboneSettings
from tf_image_classification.errors import DataError
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.evaluation.predictions import Predictions, read_predictions
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files, signals
from tf_image_classification.workflows import keep_evaluation
from tf_image_classification.workflows.evaluate import evaluate_folder
from tf_image_classification.workflows.setup.context import Sources, make_context
from tf_image_classification.workflows.setup.environment import join
from tf_image_classification.workflows.setup.folds import Fold, FoldPlan
from tf_image_classification.workflows.train import train

ORIGIN = "fold"
"""The origin of the settings that are chosen here."""

_LATER_THAN_ANY_STEP = 2**31 - 1


def fold_settings(settings: Settings, plan: FoldPlan, fold: Fold) -> Settings:
    """The settings of a fold's training, of which the last checkpoint is evaluated and exported.

    There is one evaluation, after the last step: a checkpoint that was chosen on the examples that
    are then scored would look better than it is.
    """
    choices = {
        "eval_metadata": settings.data.train_metadata,
        "eval_split": 1 / plan.num_folds,
        "eval_every_steps": _LATER_THAN_ANY_STEP,
    }
    settings = settings.replace(model_dir=fold.folder.path)
    return settings.with_choices(choices, ORIGIN, over=("backbone", ORIGIN))


def complete_predictions(folder: ModelFolder) -> Predictions | None:
    """The predictions of a fold that is complete, or None."""
    if not files.exists(folder.fold):
        return None
    try:
        mark = files.read_json(folder.fold)
        found = read_predictions(folder.predictions)
        is_its_own = (found.step, found.data) == (mark["step"], mark["data"])
    except (DataError, ValueError, KeyError, TypeError):  # it is made again
        return None
    return found if is_its_own else None


def train_fold(
    spec: EstimatorSpec, settings: Settings, sources: Sources, plan: FoldPlan, fold: Fold
) -> Predictions:
    """Train a fold and evaluate it on what it holds out; what is complete is not repeated.

    Its lines are written to log.txt in its folder.

    Raises:
        TficError: as ``train`` and ``evaluate_folder``.
        RunInterrupted: a signal stopped it.
    """
    found = complete_predictions(fold.folder)
    if found is not None:
        return found
    began = time.monotonic()
    settings = fold_settings(settings, plan, fold)
    sources.divide(settings.data.train_metadata, settings, plan.held(fold), plan.found_groups)
    folder = fold.folder
    files.make_folder(folder.path)
    with (
        open(files.join(folder.path, "log.txt"), "a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        signals.resumable(
            f"in {fold.title}, before its evaluation was complete",
            again="Start the same command again to continue the cross-validation.",
        ),
    ):
        workers = join(settings)
        train(make_context(spec, settings, workers, sources), (), ())
        evaluated = evaluate_folder(
            _as_trained(spec, folder),
            _of_evaluation(settings),
            workers,
            group=settings.data.group_column,
            choice=keep_evaluation.ALWAYS,
        )
        print(evaluated.kept)
    predictions = evaluated.predictions
    mark: dict[str, Any] = {
        "repeat": fold.repeat,
        "fold": fold.number,
        "group": fold.group,
        "step": predictions.step,
        "data": predictions.data,
        "num_examples": len(predictions),
        "secs": round(time.monotonic() - began, 1),
    }
    files.write_json(folder.fold, mark)
    return predictions


def _as_trained(spec: EstimatorSpec, folder: ModelFolder) -> EstimatorSpec:
    """The spec with the settings that the recipe has chosen for the fold, e.g. its crop."""
    if not isinstance(spec, BackboneSpec):
        return spec
    manifest = folder.known_manifest()
    chosen: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value, list) else value
        for field in dataclasses.fields(BackboneSettings)
        if (value := manifest.settings.get(field.name)) is not None
    }
    return BackboneSpec(manifest.schema.labels, BackboneSettings(**chosen))


def _of_evaluation(settings: Settings) -> Settings:
    """The settings that an evaluation of the fold does not take from its run."""
    given = {
        name: value
        for name, value in settings.values().items()
        if settings.is_chosen(name)
        and "evaluate" in OPTIONS[name].verbs
        and not OPTIONS[name].is_exported
        and not OPTIONS[name].is_inherited
    }
    return make_settings(given | {"model_dir": settings.run.model_dir})
