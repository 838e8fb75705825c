"""What can be compared: model folders, stored predictions, exported files, servers and CSV files.

    models = read_models("runs/pets", "http://localhost:8080", settings)
    models.b.predictions, models.b.notes

A file, a server or a CSV has no evaluation of its own. It is evaluated here, on the examples of
the model folder that is the other model, or that the file lies in.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.config import Settings
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import BadImageError, ConfigError, DataError
from tf_image_classification.evaluation.outside_outputs import LabelOutputs, predictions_of
from tf_image_classification.evaluation.prediction_tables import (
    PredictionTable,
    read_prediction_table,
)
from tf_image_classification.evaluation.predictions import (
    Predictions,
    is_of_evaluation,
    read_predictions,
)
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels.outputs import probabilities_key
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving.client import ModelServer, is_server
from tf_image_classification.system import files, screen
from tf_image_classification.workflows import evaluate
from tf_image_classification.workflows.exported_file import (
    ExportedFile,
    exported_kind,
    open_exported,
    run_folder_of,
)
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import make_context

Array = npt.NDArray[Any]
Images = Callable[[Array], list[bytes]]
"""Indices of examples in the evaluation set to their encoded images."""

_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".jsonl")
_BATCH_SIZE = 32
FOLDER, PREDICTIONS, FILE, SERVER, TABLE = "folder", "predictions", "file", "server", "table"


@dataclasses.dataclass(frozen=True)
class ComparedModel:
    """One of two models with its predictions.

    Attributes:
        name: as it was given.
        predictions: for the examples of the evaluation.
        notes: on examples without a prediction, in sentences.
        is_without: labels with classes for which it gives no probabilities.
    """

    name: str
    predictions: Predictions
    notes: Sequence[str] = ()
    is_without: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class ComparedModels:
    """Two models.

    Attributes:
        a: the first.
        b: the second.
        images: by index in the evaluation of ``a``; None where they are not at hand.
    """

    a: ComparedModel
    b: ComparedModel
    images: Images | None

    @property
    def is_without(self) -> frozenset[str]:
        """Labels for which one of them gives no probabilities."""
        return frozenset((*self.a.is_without, *self.b.is_without))


def kind_of(given: str) -> str:
    """What a text names.

    Raises:
        ConfigError: it is an address without its scheme.
    """
    if is_server(given):
        return SERVER
    lower = given.lower()
    if lower.endswith(".parquet"):
        return PREDICTIONS if is_of_evaluation(given) else TABLE
    if lower.endswith(_TABLES):
        return TABLE
    if files.exists(ModelFolder(given).manifest):
        return FOLDER
    if files.exists(ModelFolder(given).predictions):
        return FOLDER
    if exported_kind(given):
        return FILE
    return FOLDER


def read_models(a: str, b: str, settings: Settings, *, token: str = "") -> ComparedModels:
    """Two models with their predictions for the same examples.

    Args:
        a: the first: a model folder, its predictions.parquet, an exported file or folder, the
            address of a server, or a CSV of predictions.
        b: the second.
        settings: with ``eval_metadata`` to evaluate both on other examples.
        token: bearer token of a server, or "".

    Raises:
        TficError: one of them cannot be used, or neither has an evaluation.
    """
    kinds = kind_of(a), kind_of(b)
    evaluated = _evaluated(a, b, kinds, settings)
    of_a, of_b = (
        _model(given, kind, evaluated, settings, token)
        for given, kind in zip((a, b), kinds, strict=True)
    )
    is_of_a = of_a.predictions.data == evaluated.predictions.data
    return ComparedModels(of_a, of_b, evaluated.images if is_of_a else None)


class _Evaluated(Protocol):
    """An evaluation that the other model is measured on."""

    @property
    def predictions(self) -> Predictions:
        """Of its model."""

    @property
    def images(self) -> Images | None:
        """Its encoded images, or None where they are not at hand."""


def _evaluated(a: str, b: str, kinds: tuple[str, str], settings: Settings) -> _Evaluated:
    """The evaluation of the first model that has one."""
    given = list(zip((a, b), kinds, strict=True))
    for path, kind in given:
        if kind == FOLDER:
            return _FolderEvaluation(path, settings)
    for path, kind in given:
        if kind == FILE and (folder := run_folder_of(path)):
            return _FolderEvaluation(folder, settings)
    if settings.origin("eval_metadata") != "default":
        raise ConfigError(
            "eval_metadata needs a model folder, whose model is evaluated on it; neither "
            f"{a} nor {b} is or lies in one."
        )
    for path, kind in given:
        if kind == PREDICTIONS:
            return _StoredEvaluation(read_predictions(path))
    for path, kind in given:
        if kind == TABLE:
            return _StoredEvaluation(read_prediction_table(path).truth())
    raise ConfigError(
        f"Neither {a} nor {b} has an evaluation, so there are no examples to compare them on. Name "
        "a model folder, its predictions.parquet, or a CSV with the true classes as one of them."
    )


class _StoredEvaluation:
    """Predictions without their model; images are read by name."""

    def __init__(self, predictions: Predictions) -> None:
        self.predictions = predictions

    @property
    def images(self) -> Images | None:
        uris = self.predictions.uris
        if not len(uris) or not os.path.isfile(uris[0]):
            return None
        places = dict(zip(self.predictions.ids.tolist(), uris, strict=True))
        return lambda ids: [files.read_bytes(places[each]) for each in ids.tolist()]


class _FolderEvaluation:
    """The evaluation of a model folder; its images are opened when they are needed."""

    def __init__(self, path: str, settings: Settings) -> None:
        self._folder = ModelFolder(path)
        self._settings = settings.replace(model_dir=path)

    @functools.cached_property
    def predictions(self) -> Predictions:
        folder = self._folder
        if self._settings.origin("eval_metadata") == "default":
            if not files.exists(folder.predictions):
                folder.known_manifest()
            return read_predictions(folder.predictions)
        manifest = folder.known_manifest()
        settings = evaluate.settings_of_kept(folder, self._settings, manifest)
        return evaluate.kept_predictions(
            folder, settings, self._exported.step, self._table.fingerprint, may_replace=False
        )

    @property
    def images(self) -> Images | None:
        return self._read if self._folder.has_manifest else None

    def _read(self, ids: Array) -> list[bytes]:
        numbers = tf.constant(ids, tf.int64)
        found: list[bytes] = self._checked_table.fetch(numbers).numpy().tolist()
        return found

    @functools.cached_property
    def _checked_table(self) -> Table:
        if self.predictions.data != self._table.fingerprint:
            raise DataError(
                f"The evaluation set of {self._folder.path} has changed since its evaluation. "
                f"Evaluate it again: tfic evaluate {self._folder.path}"
            )
        return self._table

    @functools.cached_property
    def _exported(self) -> ExportedModel:
        return ExportedModel(self._folder.saved_model).load()

    @functools.cached_property
    def _table(self) -> Table:
        manifest = self._folder.known_manifest()
        settings = evaluate.settings_of_kept(self._folder, self._settings, manifest)
        context = make_context(evaluate.ExportedSpec(self._exported, manifest.schema), settings)
        data = run_data.read_data(context, manifest.schema, with_training=False)
        table = None if data.evaluation is None else data.evaluation.table
        if table is None:
            raise DataError("A comparison reads images by number: use input_mode indexed.")
        return table


def _model(
    given: str, kind: str, evaluated: _Evaluated, settings: Settings, token: str
) -> ComparedModel:
    if kind == FOLDER:
        return ComparedModel(given, _FolderEvaluation(given, settings).predictions)
    if kind == PREDICTIONS:
        return ComparedModel(given, read_predictions(given))
    reference = evaluated.predictions
    if kind == TABLE:
        table: PredictionTable = read_prediction_table(given)
        found = table.predictions(reference)
        return ComparedModel(given, found.predictions, found.notes, found.is_without)
    images = evaluated.images
    if images is None:
        raise ConfigError(
            f"{given} needs the images of the evaluation, which are not at hand. Name the model "
            "folder instead of its predictions."
        )
    if kind == SERVER:
        outputs = _of_server(ModelServer(given, token=token), reference, images)
    else:
        outputs = _of_file(open_exported(given), reference, images)
    return ComparedModel(
        given, predictions_of(reference, np.arange(len(reference)), outputs, given)
    )


def _of_file(file: ExportedFile, reference: Predictions, images: Images) -> dict[str, LabelOutputs]:
    """The outputs of an exported file for the examples of an evaluation."""
    parts: list[dict[str, Array]] = []
    with screen.progress("compare", "img") as bar:
        for start in range(0, len(reference), _BATCH_SIZE):
            rows = np.arange(start, min(start + _BATCH_SIZE, len(reference)))
            try:
                parts.append(file.outputs(images(reference.ids[rows])))
            except BadImageError as error:
                raise BadImageError(
                    f"{file.path} cannot use one of {reference.uris[rows[0]]} to "
                    f"{reference.uris[rows[-1]]}: {error}"
                ) from error
            bar(int(rows[-1]) + 1, 0)
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = {}
    for label in file.schema:
        if label.has_classes:
            probabilities = outputs[probabilities_key(label.name)]
            found[label.name] = LabelOutputs(label.named_classes(), probabilities)
        else:
            values = outputs[label.name].reshape(len(reference))
            found[label.name] = LabelOutputs((), None, values.tolist())
    return found


def _of_server(
    server: ModelServer, reference: Predictions, images: Images
) -> dict[str, LabelOutputs]:
    """The outputs of a served model for the examples of an evaluation."""
    classes = server.classes
    rows_of_outputs: list[dict[str, Any]] = []
    with screen.progress("compare", "img") as bar:
        for start in range(0, len(reference), _BATCH_SIZE):
            rows = np.arange(start, min(start + _BATCH_SIZE, len(reference)))
            rows_of_outputs += server.predict(images(reference.ids[rows]))
            bar(int(rows[-1]) + 1, 0)
    found = {}
    try:
        for name, of_label in classes.items():
            if of_label:
                columns = [one[probabilities_key(name)] for one in rows_of_outputs]
                found[name] = LabelOutputs(of_label, np.array(columns, np.float64))
            else:
                found[name] = LabelOutputs((), None, [float(one[name]) for one in rows_of_outputs])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{server.url} gave other outputs than its metadata name: {error}. Is another model "
            "served since?"
        ) from error
    return found
