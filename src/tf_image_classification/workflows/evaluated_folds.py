"""A cross-validation as the input of a report: its pooled predictions, and one fold's model.

model = load_cross_validated(ModelFolder("./cv/pets"), settings)
model.folds.scores["pet"]
"""

from __future__ import annotations

from tf_image_classification.config import Settings
from tf_image_classification.errors import ConfigError
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving.predictor import load_model
from tf_image_classification.workflows import evaluate, pool_folds
from tf_image_classification.workflows.evaluated_model import EvaluatedModel
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import make_context
from tf_image_classification.workflows.setup.folds import stored_plan


def load_cross_validated(
    folder: ModelFolder, settings: Settings, group: str = ""
) -> EvaluatedModel:
    """The pooled evaluation of a cross-validation; the model and its training are the first fold's.

    Args:
        folder: of the cross-validation.
        settings: all settings.
        group: column whose examples are resampled together; "": that of the folds, if any.

    Raises:
        TficError: it is not complete, its examples are gone or others, or the first fold has no
            exported model.
    """
    if settings.is_chosen("eval_metadata"):
        raise ConfigError(
            f"{folder.path} is a cross-validation, which is reported on its own examples. Remove "
            "--eval_metadata, or give the folder of a fold."
        )
    first = ModelFolder(pool_folds.first_fold(folder.path))
    manifest = first.known_manifest()
    settings = evaluate.inherited(settings.replace(model_dir=first.path), manifest)
    exported = ExportedModel(first.saved_model).load()
    spec = evaluate.ExportedSpec(exported, manifest.schema)
    training = tuple(manifest.settings["train_metadata"])
    of_fold = make_context(spec, settings.replace(train_metadata=training))
    data = run_data.read_data(of_fold, manifest.schema)
    whole_settings = settings.replace(train_metadata=training, eval_metadata=(), eval_split=0.0)
    whole = make_context(spec, whole_settings, sources=of_fold.sources)
    evaluation = run_data.read_data(whole, manifest.schema).train
    assert evaluation is not None
    listing, _ = whole.sources.find(training, "train_metadata", whole_settings)
    plan = stored_plan(folder.path, listing, evaluation.fingerprint)
    group = group or pool_folds.group_of(folder.path)
    result = pool_folds.pool(plan, pool_folds.read_folds(plan), group)
    return EvaluatedModel(
        manifest=manifest,
        settings=settings,
        data=run_data.Data(manifest.schema, data.train, evaluation),
        predictor=load_model(first.path),
        predictions=result.predictions,
        analysis=result.analysis,
        folds=result,
    )
