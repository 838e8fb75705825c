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
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.config import FULL_RANGE, Settings, read_pixel_range
from tf_image_classification.dataset.image.decode import decoder
from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import ConfigError, DataError, ExportError, brief
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.evaluation.predictions import Predictions
from tf_image_classification.evaluation.unknown_detector import Detector
from tf_image_classification.export.description import describe
from tf_image_classification.export.formats import (
    FORMATS,
    WEB_FORMAT,
    WEB_PAGE,
    Format,
    load_file,
    write_file,
)
from tf_image_classification.export.frozen_graph import half_precision
from tf_image_classification.export.identity import file_fingerprint
from tf_image_classification.export.inference_module import ExportPlan
from tf_image_classification.export.names import (
    INT8,
    KERAS,
    LITERT,
    PIXELS,
    UINT8,
    UNKNOWN_SCORE,
    WEB,
)
from tf_image_classification.export.pixel_scaling import PixelScaling, pixel_scaling
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

Prepare = Callable[[bytes], npt.NDArray[Any]]
"""An encoded image to the file's input."""

LABELS = "labels.txt"
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
    scaling = pixel_scaling(exported)
    if request.input_type == UINT8:
        _check_takes_pixels(manifest, scaling)
    if request.input_type == PIXELS and not manifest.is_of_backbone:
        raise ConfigError(
            f"{request.name} needs the preprocessing of a run with --backbone; this one has that "
            f"of {manifest.spec.rpartition('/')[2]}. Use --format onnx."
        )
    own_formats = {WEB: WEB_FORMAT, **FORMATS}
    kind = own_formats.get(request.format) or keras_format(spec, settings, folder, manifest)
    data = _read_data(exported, manifest, settings, request)
    evaluated = _table_of(data.evaluation)
    predictions = evaluate.kept_predictions(
        folder, settings, exported.step, evaluated.fingerprint, may_replace=False
    )
    predictor = load_model(folder.path)  # with the calibration of that evaluation
    calibrations = predictor.calibrations

    png16_range = read_pixel_range(manifest.settings.get("png16_range", "full")) or FULL_RANGE
    decode = decoder(predictor.max_pixels, png16_range)

    def prepare(data: bytes) -> npt.NDArray[Any]:
        if request.input_type == PIXELS:
            return np.asarray(decode(tf.constant(data)).numpy())
        image = predictor.prepare(data).numpy()
        return scaling.pixels(image) if scaling and request.input_type == UINT8 else image

    batch_size = 1 if request.input_type == PIXELS else _BATCH_SIZE  # images of any size
    has_calibrated = request.format != KERAS and request.input_type != UINT8
    detector, unknown = _detector(predictor, exported, kind, request)
    plan = ExportPlan(
        manifest.schema,
        calibrations,
        describe(
            manifest,
            exported,
            calibrations,
            kind,
            scaling=scaling,
            input_type=request.input_type,
        )
        | unknown,
        request.quantization,
        lambda: _representative_images(data, prepare, batch_size),
        request.input_type,
        scaling,
        decode,
        detector=detector,
    )
    path = files.join(folder.path, "exports", request.name)
    try:
        with replaced_folder(path) as new:
            file = os.path.join(new, kind.file_name)
            description = write_file(kind, exported, plan, file)
            rows = evenly_spaced(len(predictions), request.num_examples)
            verification = verify_file(
                load_file(kind, file),
                _batches(
                    evaluated,
                    predictions.ids[rows],
                    None if kind.takes_bytes else prepare,
                    batch_size,
                ),
                _references(predictions, rows, calibrations if has_calibrated else {}),
                manifest.schema,
                file,
                _scores(predictor, evaluated, predictions.ids[rows])
                if detector is not None and not kind.is_package
                else None,
            )
            half = half_precision(exported.loaded)
            check_verification(verification, request, manifest.schema, half)
            write_notes(new, file, manifest.schema, description, verification)
            if request.input_type == UINT8:  # the name that Frigate looks for
                shutil.copy(os.path.join(new, LABELS), os.path.join(new, "labelmap.txt"))
            if request.format == WEB:
                shutil.copy(WEB_PAGE, os.path.join(new, "index.html"))
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(
            f"The {request.format} file could not be written to {path}: {brief(error)}. What was "
            "there before is unchanged. When the cause is removed, run the same tfic export again."
        ) from error
    if verification.num_examples < min(_MIN_EXAMPLES, request.num_examples):
        log.warning(_few_examples(verification, request))
    return Exported(path, verification)


def _detector(
    predictor: Predictor, exported: ExportedModel, kind: Format, request: ExportRequest
) -> tuple[Detector | None, dict[str, Any]]:
    """The detector whose score the file gives, and what its description holds of it."""
    detector, reason = predictor.detector, ""
    if detector is None:
        return None, {}
    if request.is_quantised:
        reason = "quantised features shift the score, so that its limit would not hold"
    elif request.format == KERAS:
        reason = "a Keras file holds the network alone"
    elif request.format == LITERT and exported.is_traced_for_one:
        reason = "a LiteRT file of a model with recurrent layers has no features"
    if reason:
        return None, {"unknown": {"none": reason}}
    return detector, {"unknown": detector.described()}


def _scores(
    predictor: Predictor, table: Table, numbers: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[Any]]:
    """The scores of examples by the exported model and the detector of its folder."""
    prepared = _batches(
        table, numbers, lambda data: np.asarray(predictor.prepare(data)), _BATCH_SIZE
    )
    found = [predictor.outputs(list(images))[UNKNOWN_SCORE] for images in prepared]
    return {UNKNOWN_SCORE: np.concatenate(found)}


def _check_takes_pixels(manifest: RunManifest, scaling: PixelScaling | None) -> None:
    """Check that a model's input can be pixels, and its output probabilities of one label."""
    if scaling is None:
        raise ConfigError(
            "uint8 input needs a preprocessing that crops, resizes and scales pixels; that of "
            f"{manifest.spec.rpartition('/')[2]} does more. Use --input_type float32."
        )
    if len(manifest.schema.labels) != 1 or not manifest.schema.labels[0].has_classes:
        raise ConfigError(
            "uint8 output is possible for a model with a single label with classes, this one has "
            f"{', '.join(manifest.schema.names)}. Use --input_type float32."
        )


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
    table: Table,
    numbers: npt.NDArray[np.int64],
    prepare: Prepare | None,
    batch_size: int,
) -> Iterator[npt.NDArray[Any]]:
    """Images of examples, prepared or encoded."""
    for start in range(0, len(numbers), batch_size):
        data = table.fetch(tf.constant(numbers[start : start + batch_size], tf.int64)).numpy()
        yield data if prepare is None else np.stack([prepare(one) for one in data.tolist()])


def _representative_images(
    data: run_data.Data, prepare: Prepare, batch_size: int
) -> Iterator[npt.NDArray[Any]]:
    """Preprocessed training images, [1, H, W, C] each, evenly over the set."""
    table = _table_of(data.train)
    numbers = evenly_spaced(table.num_examples, _NUM_REPRESENTATIVE)
    for images in _batches(table, numbers, prepare, batch_size):
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
    path: str,
    schema: LabelSchema,
    description: Mapping[str, Any],
    verification: Verification,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write the files that describe an exported file into a folder: hash and further notes too."""
    numbers = {
        _PARITY_KEYS.get(name, name): (
            None if isinstance(value, float) and not math.isfinite(value) else value
        )
        for name, value in dataclasses.asdict(verification).items()
    }
    if not os.path.isdir(path):
        numbers["sha256"] = file_fingerprint(path)
    files.write_json(os.path.join(folder, "parity.json"), numbers | dict(more or {}))
    files.write_json(os.path.join(folder, "model.json"), dict(description))
    if len(schema.labels) == 1 and schema.labels[0].has_classes:
        names = "".join(f"{name}\n" for name in schema.labels[0].named_classes())
        files.write_bytes(os.path.join(folder, LABELS), names.encode())


def _few_examples(verification: Verification, request: ExportRequest) -> str:
    text = f"The {request.format} file was verified on {verification.num_examples} examples only"
    if request.is_quantised:
        text += f": a drop in accuracy of {request.max_accuracy_drop:g} would not show"
    return f"{text}. Give --eval_metadata with {_MIN_EXAMPLES} examples or more."
