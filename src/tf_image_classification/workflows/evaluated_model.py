"""The exported model of a folder with its evaluation: the input of a report.

model = load_evaluated(ModelFolder("./models/pets"), settings)
model.analysis.labels["pet"].score
"""

from __future__ import annotations

import dataclasses
import logging

from tf_image_classification.config import Settings
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import TficError
from tf_image_classification.evaluation.analysis import Analysis, analyze
from tf_image_classification.evaluation.predictions import Predictions
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.serving.predictor import Predictor, load_model
from tf_image_classification.workflows import evaluate
from tf_image_classification.workflows.pool_folds import CrossValidation
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import make_context

log = logging.getLogger("tf_image_classification")


@dataclasses.dataclass(frozen=True)
class EvaluatedModel:
    """An exported model with its data and its evaluation.

    Attributes:
        manifest: of the run that trained it.
        settings: those of the run, overridden by those given since.
        data: evaluation examples, and the training examples where they can still be read.
        predictor: runs the exported model.
        predictions: for the evaluation examples.
        analysis: of the predictions.
        folds: of a cross-validation its result, and then the evaluation examples are all examples
            and model and training examples those of its first fold; else None.
    """

    manifest: RunManifest
    settings: Settings
    data: run_data.Data
    predictor: Predictor
    predictions: Predictions
    analysis: Analysis
    folds: CrossValidation | None = None

    @property
    def evaluation(self) -> Table:
        """The evaluation examples."""
        assert self.data.evaluation is not None and self.data.evaluation.table is not None
        return self.data.evaluation.table

    @property
    def train(self) -> Table | None:
        """The training examples; None where they cannot be read, or only as a stream."""
        return self.data.train.table if self.data.train is not None else None


def load_evaluated(folder: ModelFolder, settings: Settings, group: str = "") -> EvaluatedModel:
    """The exported model of a folder; evaluates it unless its predictions are stored.

    Args:
        folder: the model folder.
        settings: with ``eval_metadata`` to evaluate on other examples than the run's own.
        group: column whose examples are resampled together, see ``analysis.analyze``.

    Raises:
        TficError: the folder has no exported model, or there are no evaluation examples.
    """
    manifest = folder.known_manifest()
    settings = evaluate.settings_of_kept(folder, settings, manifest)
    exported = ExportedModel(folder.saved_model).load()
    data = _data(exported, manifest, settings)
    assert data.evaluation is not None
    predictions = evaluate.kept_predictions(
        folder, settings, exported.step, data.evaluation.fingerprint, may_replace=True
    )
    return EvaluatedModel(
        manifest=manifest,
        settings=settings,
        data=data,
        predictor=load_model(folder.path),
        predictions=predictions,
        analysis=analyze(predictions, group),
    )


def _data(exported: ExportedModel, manifest: RunManifest, settings: Settings) -> run_data.Data:
    """The evaluation set, and the training set where it can still be read."""
    spec = evaluate.ExportedSpec(exported, manifest.schema)
    training = settings.data.train_metadata or tuple(manifest.settings["train_metadata"])
    if training:
        both = settings.replace(train_metadata=training)
        try:
            return run_data.read_data(make_context(spec, both), manifest.schema)
        except TficError as error:
            log.warning("The training examples cannot be read: %s", error)
    return run_data.read_data(make_context(spec, settings), manifest.schema, with_training=False)
