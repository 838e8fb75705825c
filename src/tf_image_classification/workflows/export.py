"""``tfic export``: a run's model as a file for another runtime, verified before it is kept.

exports/litert-int8/
    model.tflite        the model, with its description inside
    model.json          the same description: labels, input, preprocessing, calibration
    labels.txt          one class name per line, of a model with a single label
    parity.json         differences from the evaluation's predictions
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.config import Settings
from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import ConfigError, DataError, ExportError, brief
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.evaluation.predictions import Predictions
from tf_image_classification.export.description import describe
from tf_image_classification.export.formats import FORMATS, load_file, write_file
from tf_image_classification.export.frozen_graph import half_precision
from tf_image_classification.export.inference_module import INT8, ExportPlan
from tf_image_classification.export.names import KERAS
from tf_image_classification.export.request import ExportRequest, check_verification
from tf_image_classification.export.saved_model import ExportedModel, replace_folder
from tf_image_classification.export.verify import Reference, Verification, verify_file
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.serving.predictor import Predictor, load_model
from tf_image_classification.system import files
from tf_image_classification.workflows import evaluate
from tf_image_classification.workflows.export_keras import backbone_spec_of, keras_format
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import make_context

log = logging.getLogger("tf_image_classification")

_MIN_EXAMPLES = 100  # fewer show little
_NUM_REPRESENTATIVE = 100
_BATCH_SIZE = 32
_PARITY_KEYS = {
    "max_difference": "largest",
    "mean_difference": "mean",
    "num_changed": "flipped",
    "num_contradictions": "contradictions",
    "reference_accuracy": "accuracy_there",
    "accuracy": "accuracy_here",
    "losses": "lost",
}
"""Keys in parity.json, where other programs read them, by field of ``Verification``."""


@dataclasses.dataclass(frozen=True)
class Exported:
    """One exported file.

    Attributes:
        path: its folder.
        verification: its differences from the evaluation.
    """

    path: str
    verification: Verification


def export_folder(
    settings: Settings, request: ExportRequest, spec: EstimatorSpec | None = None
) -> Exported:
    """Write a run's exported model in another format, and keep the file if it passes verification.

    Args:
        settings: ``model_dir``, and ``eval_metadata`` to verify on other images than the run's.
        request: what to export.
        spec: for "keras" the spec of the run, whose model is written.

    Raises:
        ParityError: the predictions differ too much; nothing is kept.
        ExportError: the file cannot be written; names the operation that the format lacks.
        TficError: the model, the evaluation examples or a package is missing.
    """
    if request.format == KERAS and spec is None:
        spec = backbone_spec_of(settings.run.model_dir)
    request.check(has_spec=spec is not None)
    folder = ModelFolder(settings.run.model_dir)
    manifest = folder.known_manifest()
    if files.is_remote(folder.path):
        raise ConfigError(f"{folder.path} is remote. Copy it to this machine to export from it.")
    settings = evaluate.settings_of_kept(folder, settings, manifest)
    exported = ExportedModel(folder.saved_model).load()
    kind = FORMATS.get(request.format) or keras_format(spec, settings, folder, manifest)
    data = _read_data(exported, manifest, settings, request)
    evaluated = _table_of(data.evaluation)
    predictions = evaluate.kept_predictions(
        folder, settings, exported.step, evaluated.fingerprint, may_replace=False
    )
    predictor = load_model(folder.path)  # with the calibration of that evaluation
    calibrations = predictor.calibrations
    plan = ExportPlan(
        manifest.schema,
        calibrations,
        describe(manifest, exported, calibrations, kind),
        request.quantization,
        lambda: _representative_images(data, predictor),
    )
    name = f"{request.format}-{request.quantization}" if request.is_quantised else request.format
    path = files.join(folder.path, "exports", name)
    try:
        with replaced_folder(path) as new:
            file = os.path.join(new, kind.file_name)
            description = write_file(kind, exported, plan, file)
            rows = evenly_spaced(len(predictions), request.num_examples)
            verification = verify_file(
                load_file(kind, file),
                _batches(evaluated, predictions.ids[rows], predictor, encoded=kind.takes_bytes),
                _references(predictions, rows, {} if request.format == KERAS else calibrations),
                manifest.schema,
                file,
            )
            half = half_precision(exported.loaded)
            check_verification(verification, request, manifest.schema, half)
            write_notes(new, manifest.schema, description, verification)
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(
            f"The {request.format} file could not be written to {path}: {brief(error)}. What was "
            "there before is unchanged. When the cause is removed, run the same tfic export again."
        ) from error
    if verification.num_examples < min(_MIN_EXAMPLES, request.num_examples):
        log.warning(_few_examples(verification, request))
    return Exported(path, verification)


def _read_data(
    exported: ExportedModel,
    manifest: RunManifest,
    settings: Settings,
    request: ExportRequest,
) -> run_data.Data:
    needs_training = request.quantization == INT8
    if needs_training and not settings.data.train_metadata:
        settings = settings.replace(train_metadata=tuple(manifest.settings["train_metadata"]))
        if not settings.data.train_metadata:
            raise ConfigError("int8 is calibrated on training images. Give --train_metadata.")
    spec = evaluate.ExportedSpec(exported, manifest.schema)
    return run_data.read_data(
        make_context(spec, settings), manifest.schema, with_training=needs_training
    )


def _table_of(examples: BatchSource | None) -> Table:
    """The examples of a set by number."""
    table = None if examples is None else examples.table
    if table is None:
        raise DataError("An export reads images by number: use input_mode indexed.")
    return table


def _references(
    predictions: Predictions,
    chosen: npt.NDArray[np.int64],
    calibrations: Mapping[str, Calibration],
) -> dict[str, Reference]:
    found = {}
    for label in predictions.schema:
        rows = predictions.labels[label.name].rows(chosen)
        output = rows.probabilities if label.has_classes else rows.predicted
        calibration = calibrations.get(label.name)
        calibrated = None if calibration is None else calibration.apply(output)
        found[label.name] = Reference(output, rows.predicted, rows.truth, rows.mask, calibrated)
    return found


def _batches(
    table: Table, numbers: npt.NDArray[np.int64], predictor: Predictor, *, encoded: bool
) -> Iterator[npt.NDArray[Any]]:
    """Encoded or preprocessed images of examples."""
    for start in range(0, len(numbers), _BATCH_SIZE):
        data = table.fetch(tf.constant(numbers[start : start + _BATCH_SIZE], tf.int64)).numpy()
        if encoded:
            yield data
        else:
            yield np.stack([predictor.prepare(one).numpy() for one in data.tolist()])


def _representative_images(data: run_data.Data, predictor: Predictor) -> Iterator[npt.NDArray[Any]]:
    """Preprocessed training images, [1, H, W, C] each, evenly over the set."""
    table = _table_of(data.train)
    numbers = evenly_spaced(table.num_examples, _NUM_REPRESENTATIVE)
    for images in _batches(table, numbers, predictor, encoded=False):
        for image in images:
            yield image[None]


@contextlib.contextmanager
def replaced_folder(path: str) -> Iterator[str]:
    """A new folder that replaces the one at ``path`` when the block succeeds."""
    parent = os.path.dirname(path)
    files.make_folder(parent)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=parent) as temporary:
        new = os.path.join(temporary, "export")
        os.mkdir(new)
        yield new
        replace_folder(new, path)


def write_notes(
    folder: str,
    schema: LabelSchema,
    description: Mapping[str, Any],
    verification: Verification,
) -> None:
    """Write the files beside an exported file."""
    numbers = {
        _PARITY_KEYS.get(name, name): (
            None if isinstance(value, float) and not math.isfinite(value) else value
        )
        for name, value in dataclasses.asdict(verification).items()
    }
    files.write_json(os.path.join(folder, "parity.json"), numbers)
    files.write_json(os.path.join(folder, "model.json"), dict(description))
    if len(schema.labels) == 1 and schema.labels[0].has_classes:
        names = "".join(f"{name}\n" for name in schema.labels[0].named_classes())
        files.write_bytes(os.path.join(folder, "labels.txt"), names.encode())


def _few_examples(verification: Verification, request: ExportRequest) -> str:
    text = f"The {request.format} file was verified on {verification.num_examples} examples only"
    if request.is_quantised:
        text += f": a drop in accuracy of {request.max_accuracy_drop:g} would not show"
    return f"{text}. Give --eval_metadata with {_MIN_EXAMPLES} examples or more."
