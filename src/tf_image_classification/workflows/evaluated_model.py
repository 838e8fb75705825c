"""A folder's model with what it said of the evaluation examples: what a report is made from.

known = know(ModelFolder("./models/pets"), settings)
known.analysis.labels["pet"].score
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
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import make_context

log = logging.getLogger("tf_image_classification")


@dataclasses.dataclass(frozen=True)
class KnownModel:
    """A model and what is known of it.

    Attributes:
        record: of the run that made it.
        settings: those of the run, but for what was given since.
        data: evaluation examples, and the training examples where they can still be read.
        predictor: of the exported model.
        predictions: what it said of the evaluation examples.
        analysis: what follows from them.
    """

    record: RunManifest
    settings: Settings
    data: run_data.Data
    predictor: Predictor
    predictions: Predictions
    analysis: Analysis

    @property
    def evaluation(self) -> Table:
        """The evaluation examples."""
        assert self.data.evaluation is not None
        assert self.data.evaluation.table is not None
        return self.data.evaluation.table

    @property
    def train(self) -> Table | None:
        """The training examples; None where they cannot be read, or not by number."""
        return self.data.train.table if self.data.train is not None else None


def know(folder: ModelFolder, settings: Settings, group: str = "") -> KnownModel:
    """What is known of a folder's model; evaluates it where that was not done yet.

    Args:
        folder: the model's.
        settings: with ``eval_metadata`` where other examples are wanted.
        group: as ``analysis.analyze`` takes it.

    Raises:
        TficError: there is no model or nothing to evaluate it on.
    """
    record = folder.known_manifest()
    settings = evaluate.settings_of_kept(folder, settings, record)
    exported = ExportedModel(folder.saved_model).load()
    data = _data(exported, record, settings)
    assert data.evaluation is not None
    predictions = evaluate.kept_predictions(
        folder, settings, exported.step, data.evaluation.fingerprint, may_replace=True
    )
    predictor = load_model(folder.path)
    return KnownModel(record, settings, data, predictor, predictions, analyze(predictions, group))


def _data(exported: ExportedModel, record: RunManifest, settings: Settings) -> run_data.Data:
    """The evaluation set, with the training set where it can still be read."""
    spec = evaluate.ExportedSpec(exported, record.schema)
    training = settings.data.train_metadata or tuple(record.settings["train_metadata"])
    if training:
        both = settings.replace(train_metadata=training)
        try:
            return run_data.read_data(make_context(spec, both), record.schema)
        except TficError as error:
            log.warning("The training examples are left out: %s", error)
    return run_data.read_data(make_context(spec, settings), record.schema, with_training=False)
