"""``tfic export``: a folder's model as files for other runtimes, each compared before it stays.

exports/litert-int8/
    model.tflite        the model, with its description inside
    model.json          the same description: labels, input, preprocessing, calibration
    labels.txt          class names, a line each, of a model with one label
    parity.json         how far it is from what was evaluated
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification import files
from tf_image_classification.batches import probabilities_key
from tf_image_classification.checkpoints.class_rows import ARCHIVE_MEMBER
from tf_image_classification.config import Settings
from tf_image_classification.dataset.pipeline import Pipeline
from tf_image_classification.dataset.sources import Table
from tf_image_classification.errors import CheckpointError, ConfigError, DataError, ParityError
from tf_image_classification.estimator_specs import EstimatorSpec, predictions_from, split_logits
from tf_image_classification.evaluation.predictions import Predictions
from tf_image_classification.labels import LabelSchema
from tf_image_classification.metrics.calibration import Calibration
from tf_image_classification.model_folder import ModelFolder, RunRecord
from tf_image_classification.runs import assembly, folder_evaluation, reading
from tf_image_classification.runs.folder_weights import assign_weights, newest_weights
from tf_image_classification.serving.export import ExportedModel, replace_folder
from tf_image_classification.serving.formats import FORMATS, INT8, NONE, Format, Plan, Run
from tf_image_classification.serving.parity import Kept, Parity, compare
from tf_image_classification.serving.predictor import Predictor, load_model
from tf_image_classification.training.cluster import make_strategy

NUM_EXAMPLES = 500
TOLERANCE = 1e-3
MOST_ACCURACY_LOST = 0.01
_NUM_SAMPLES = 100
_AT_ONCE = 32
KERAS = "keras"


@dataclasses.dataclass(frozen=True)
class Shipped:
    """One file that was written.

    Attributes:
        path: its folder.
        parity: what the comparison gave.
    """

    path: str
    parity: Parity


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is to be exported.

    Attributes:
        format: a name of ``FORMATS``, or "keras".
        quantization: as ``formats.Plan``.
        num_examples: evaluation examples to compare.
        tolerance: largest difference as ``Parity``; of a file that is not quantised.
        max_accuracy_drop: most that a label may lose as ``Parity.lost``; of a quantised one.
    """

    format: str
    quantization: str = NONE
    num_examples: int = NUM_EXAMPLES
    tolerance: float = TOLERANCE
    max_accuracy_drop: float = MOST_ACCURACY_LOST


def check(wish: Wish, spec: EstimatorSpec | None) -> None:
    """See that a wish can be fulfilled, as far as can be told without the model.

    Raises:
        ConfigError: it cannot.
    """
    possible = FORMATS[wish.format].quantizations if wish.format in FORMATS else (NONE,)
    if wish.quantization not in possible:
        raise ConfigError(
            f"{wish.format} with --quantize {wish.quantization} is not possible; it can be "
            f"{', '.join(possible)}."
        )
    if wish.num_examples < 1:
        raise ConfigError(f"examples is {wish.num_examples}, expected at least 1.")
    if wish.format == KERAS and spec is None:
        raise ConfigError("format keras writes the spec's own model. Name it: --spec file.py:Class")


def export_folder(
    settings: Settings, wish: Wish, cache_dir: str, spec: EstimatorSpec | None = None
) -> Shipped:
    """Write the exported model of a folder in another format, compare, and keep it if it is alike.

    Args:
        settings: ``model_dir``, and ``eval_metadata`` if other images are to be compared.
        wish: what to export.
        cache_dir: folder for indexes and unpacked records.
        spec: for "keras" the spec of the run, whose model is written.

    Raises:
        ParityError: the file predicts something else; nothing of it stays.
        TficError: there is no model, nothing to compare with, or a package is missing.
    """
    check(wish, spec)
    folder = ModelFolder(settings.run.model_dir)
    record = folder.read_record()
    if record is None:
        raise CheckpointError(f"{folder.path} is not a model folder: it has no run.json.")
    if files.is_remote(folder.path):
        raise ConfigError(f"{folder.path} is remote. Copy it to this machine to export from it.")
    settings = folder_evaluation.settings_of_kept(folder, settings, record)
    exported = ExportedModel(folder.saved_model).load()
    kind = _format(wish, spec, settings, folder, record)
    data = _data(exported, record, settings, cache_dir, needs_training=wish.quantization == INT8)
    assert data.evaluation is not None
    predictions = folder_evaluation.kept_predictions(
        folder, settings, cache_dir, exported.step, data.evaluation.fingerprint, may_replace=False
    )
    predictor = load_model(folder.path)  # with the calibration of that evaluation
    evaluation = data.evaluation
    assert isinstance(evaluation, Pipeline) and isinstance(evaluation.source, Table)
    plan = Plan(
        record.schema,
        predictor.calibrations,
        describe(record, exported, predictor, kind),
        wish.quantization,
        lambda: _samples(data, predictor),
    )
    quantized = "" if wish.quantization == NONE else f"-{wish.quantization}"
    path = files.join(folder.path, "exports", wish.format + quantized)
    files.make_folder(os.path.dirname(path))
    with tempfile.TemporaryDirectory(prefix=".export-", dir=os.path.dirname(path)) as temporary:
        inner = os.path.join(temporary, "export")
        os.mkdir(inner)
        file = os.path.join(inner, kind.file_name)
        kind.write(exported, plan, file)
        chosen = _chosen(predictions, wish.num_examples)
        parity = compare(
            kind.load(file),
            _batches(evaluation.source, predictions.ids[chosen], kind, predictor),
            _kept(predictions, chosen, predictor.calibrations),
            record.schema,
            file,
        )
        refuse_others(parity, wish, record.schema)
        files.write_json(os.path.join(inner, "parity.json"), _finite(dataclasses.asdict(parity)))
        files.write_json(os.path.join(inner, "model.json"), dict(plan.description))
        if len(record.schema.labels) == 1 and record.schema.labels[0].has_classes:
            names = "".join(f"{name}\n" for name in record.schema.labels[0].named_classes())
            files.write_bytes(os.path.join(inner, "labels.txt"), names.encode())
        replace_folder(inner, path)
    return Shipped(path, parity)


def refuse_others(parity: Parity, wish: Wish, schema: LabelSchema) -> None:
    """See that a file says what was evaluated, as near as was wished.

    Raises:
        ParityError: it does not; names the label.
    """
    if wish.quantization == NONE:
        if not parity.largest <= wish.tolerance:
            what = (
                f"a probability of label {parity.label!r}"
                if schema[parity.label].has_classes
                else f"a value of label {parity.label!r}, relative to their standard deviation"
            )
            raise ParityError(
                f"The {wish.format} file differs from the evaluation by {parity.largest:.2g} in "
                f"{what} ({parity.flipped} of {parity.num_examples} classes flipped), more than "
                f"the tolerance of {wish.tolerance:g}. Nothing was kept; --tolerance allows more."
            )
        return
    for name, lost in parity.lost.items():
        if not lost <= wish.max_accuracy_drop:
            what = (
                f"loses {lost:.4f} of the accuracy"
                if schema[name].has_classes
                else f"adds {lost:.4f} standard deviations to the mean absolute error"
            )
            raise ParityError(
                f"The {wish.format} file with {wish.quantization} weights {what} of label "
                f"{name!r}, more than --max_accuracy_drop {wish.max_accuracy_drop:g}. Nothing was "
                "kept."
            )


def describe(
    record: RunRecord, exported: ExportedModel, predictor: Predictor, kind: Format
) -> dict[str, Any]:
    """What a file says of itself, as plain values."""
    spec = exported.image_spec
    takes = (
        {"name": "image_bytes", "dtype": "string", "shape": [None], "holds": "encoded images"}
        if kind.takes_bytes
        else {
            "name": "images",
            "dtype": spec.dtype.name,
            "shape": [None, *spec.shape],
            "holds": "preprocessed images, RGB, in the range that the preprocessing gives",
        }
    )
    return {
        "labels": record.schema.to_json(),
        "input": takes,
        "outputs": "NAME_probabilities and, where the model was judged, NAME_calibrated for labels "
        "with classes; NAME for real values",
        "preprocessing": {
            "by": "tf_image_classification.load_model(model_dir).prepare(image)",
            "spec": record.spec.rpartition("/")[2],  # not where it lies on this machine
            "image_size": record.settings["image_size"],
            "eval_crop": record.settings.get("eval_crop"),
            "resize": "the middle part, antialiased bilinear"
            if record.settings.get("backbone")
            else "by the spec's get_preproc_fn",
        },
        "calibration": {n: c.to_json() for n, c in predictor.calibrations.items()},
        "step": exported.step,
        "train_data": record.train_data,
        "eval_data": record.eval_data,
    }


def _data(
    exported: ExportedModel,
    record: RunRecord,
    settings: Settings,
    cache_dir: str,
    *,
    needs_training: bool,
) -> reading.Data:
    if needs_training and not settings.data.train_metadata:
        found = tuple(record.settings["train_metadata"])
        settings = settings.replace(train_metadata=found)
        if not found:
            raise ConfigError("int8 is calibrated on training images. Give --train_metadata.")
    spec = folder_evaluation.ExportedSpec(exported, record.schema)
    return reading.read_data(spec, settings, cache_dir, record.schema, with_training=needs_training)


def _chosen(predictions: Predictions, count: int) -> npt.NDArray[np.int64]:
    """Rows evenly over the set."""
    return np.unique(np.linspace(0, len(predictions) - 1, min(count, len(predictions))).astype(int))


def _kept(
    predictions: Predictions,
    chosen: npt.NDArray[np.int64],
    calibrations: Mapping[str, Calibration],
) -> dict[str, Kept]:
    found = {}
    for label in predictions.schema:
        rows = predictions.labels[label.name].rows(chosen)
        output = rows.probabilities if label.has_classes else rows.predicted
        calibration = calibrations.get(label.name)
        found[label.name] = Kept(
            output,
            rows.truth,
            rows.known,
            None if calibration is None else calibration.apply(output),
        )
    return found


def _batches(
    table: Table, numbers: npt.NDArray[np.int64], kind: Format, predictor: Predictor
) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(numbers), _AT_ONCE):
        data = table.fetch(tf.constant(numbers[start : start + _AT_ONCE], tf.int64)).numpy()
        if kind.takes_bytes:
            yield data
        else:
            yield np.stack([predictor.prepare(one).numpy() for one in data.tolist()])


def _samples(data: reading.Data, predictor: Predictor) -> Iterator[npt.NDArray[np.float32]]:
    """Training images evenly over the set, as the model takes them."""
    assert isinstance(data.train, Pipeline)
    source = data.train.source
    if not isinstance(source, Table):
        raise DataError("int8 is calibrated on images by number: use input_mode indexed.")
    chosen = np.unique(np.linspace(0, source.num_examples - 1, _NUM_SAMPLES).astype(int))
    for number in chosen:
        image = source.fetch(tf.constant([number], tf.int64)).numpy()[0]
        yield predictor.prepare(image).numpy()[None].astype(np.float32)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _format(
    wish: Wish,
    spec: EstimatorSpec | None,
    settings: Settings,
    folder: ModelFolder,
    record: RunRecord,
) -> Format:
    if wish.format in FORMATS:
        return FORMATS[wish.format]
    assert spec is not None

    def write(exported: ExportedModel, plan: Plan, path: str) -> None:
        saved, _ = newest_weights(folder)
        if saved.step != exported.step:
            raise CheckpointError(
                f"The exported model is of step {exported.step}, the best checkpoint of "
                f"{saved.step}. Complete the run to export it anew."
            )
        height, width, channels = exported.image_spec.shape
        strategy = make_strategy("one_device")
        model = assembly.build_model(spec, settings, (height, width, channels), strategy)
        assign_weights(model, saved)
        model.save(path)
        with zipfile.ZipFile(path, "a") as archive:  # Keras reads its own members only
            archive.writestr(ARCHIVE_MEMBER, json.dumps(dict(plan.description)))

    return Format(KERAS, "model.keras", False, (NONE,), write, _keras_loader(record.schema))


def _keras_loader(schema: LabelSchema) -> Callable[[str], Run]:
    def load(path: str) -> Run:
        model = keras.saving.load_model(path, compile=False)

        def run(images: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
            outputs = model(tf.cast(images, tf.float32), training=False)
            predictions = predictions_from(schema, split_logits(schema, outputs))
            keys: Sequence[str] = [
                probabilities_key(label.name) if label.has_classes else label.name
                for label in schema
            ]
            return {key: predictions[key].numpy() for key in keys}

        return run

    return load
