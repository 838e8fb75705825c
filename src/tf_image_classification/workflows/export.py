"""``tfic export``: a folder's model as files for other runtimes, each compared before it stays.

exports/litert-int8/
    model.tflite        the model, with its description inside
    model.json          the same description: labels, input, preprocessing, calibration
    labels.txt          class names, a line each, of a model with one label
    parity.json         how far it is from what was evaluated
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.config import Settings
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import (
    ConfigError,
    DataError,
    ExportError,
    ParityError,
    brief,
)
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.evaluation.predictions import Predictions
from tf_image_classification.export.formats import FORMATS, Format, load_file, write_file
from tf_image_classification.export.output_module import INT8, NONE, Plan
from tf_image_classification.export.plain_graph import half_precision, plain_dtype
from tf_image_classification.export.saved_model import ExportedModel, replace_folder
from tf_image_classification.export.verify import Kept, Parity, compare
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.serving.predictor import Predictor, load_model
from tf_image_classification.system import files
from tf_image_classification.workflows import evaluate
from tf_image_classification.workflows.export_keras import KERAS, backbone_spec_of, keras_format
from tf_image_classification.workflows.setup import run_data
from tf_image_classification.workflows.setup.context import make_context

log = logging.getLogger("tf_image_classification")

NUM_EXAMPLES = 500
TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""Other runtimes compute in float32 what a model computes in half precision, which rounds more."""

FEWEST_EXAMPLES = 100
MOST_ACCURACY_LOST = 0.01
_NUM_SAMPLES = 100
_AT_ONCE = 32


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
        tolerance: largest difference as ``Parity``; of a file that is not quantised. None: that of
            ``TOLERANCES`` for the precision that the model computes in.
        max_accuracy_drop: most that a label may lose as ``Parity.lost``; of a quantised one.
    """

    format: str
    quantization: str = NONE
    num_examples: int = NUM_EXAMPLES
    tolerance: float | None = None
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


def export_folder(settings: Settings, wish: Wish, spec: EstimatorSpec | None = None) -> Shipped:
    """Write the exported model of a folder in another format, compare, and keep it if it is alike.

    Args:
        settings: ``model_dir``, and ``eval_metadata`` if other images are to be compared.
        wish: what to export.
        spec: for "keras" the spec of the run, whose model is written.

    Raises:
        ParityError: the file predicts something else; nothing of it stays.
        ExportError: it cannot be written; names the operation that the format lacks.
        TficError: there is no model, nothing to compare with, or a package is missing.
    """
    if wish.format == KERAS and spec is None:
        spec = backbone_spec_of(settings.run.model_dir)
    check(wish, spec)
    folder = ModelFolder(settings.run.model_dir)
    record = folder.known_manifest()
    if files.is_remote(folder.path):
        raise ConfigError(f"{folder.path} is remote. Copy it to this machine to export from it.")
    settings = evaluate.settings_of_kept(folder, settings, record)
    exported = ExportedModel(folder.saved_model).load()
    kind = FORMATS.get(wish.format) or keras_format(spec, settings, folder, record)
    data = _data(exported, record, settings, needs_training=wish.quantization == INT8)
    assert data.evaluation is not None
    predictions = evaluate.kept_predictions(
        folder, settings, exported.step, data.evaluation.fingerprint, may_replace=False
    )
    predictor = load_model(folder.path)  # with the calibration of that evaluation
    table = data.evaluation.table
    assert table is not None
    plan = Plan(
        record.schema,
        predictor.calibrations,
        describe(record, exported, predictor, kind),
        wish.quantization,
        lambda: _samples(data, predictor),
    )
    quantized = "" if wish.quantization == NONE else f"-{wish.quantization}"
    path = files.join(folder.path, "exports", wish.format + quantized)

    def write_and_compare(inner: str) -> tuple[Parity, Mapping[str, Any]]:
        file = os.path.join(inner, kind.file_name)
        chosen = _chosen(predictions, wish.num_examples)
        kept = _kept(predictions, chosen, {} if wish.format == KERAS else predictor.calibrations)
        description = write_file(kind, exported, plan, file)
        batches = _batches(table, predictions.ids[chosen], kind, predictor)
        parity = compare(load_file(kind, file), batches, kept, record.schema, file)
        refuse_others(parity, wish, record.schema, half_precision(exported.loaded))
        if parity.num_examples < min(FEWEST_EXAMPLES, wish.num_examples):
            log.warning(_few_examples(parity, wish))
        return parity, description

    try:
        return Shipped(path, _in_place(path, record.schema, write_and_compare))
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(
            f"The {wish.format} file could not be written to {path}: {brief(error)}. What was "
            "there before is unchanged. When the cause is removed, run the same tfic export again."
        ) from error


def _in_place(
    path: str, schema: LabelSchema, write: Callable[[str], tuple[Parity, Mapping[str, Any]]]
) -> Parity:
    """Let ``write`` fill a new folder, and put that in its place with what is known about it."""
    files.make_folder(os.path.dirname(path))
    with tempfile.TemporaryDirectory(prefix=".export-", dir=os.path.dirname(path)) as temporary:
        inner = os.path.join(temporary, "export")
        os.mkdir(inner)
        parity, description = write(inner)
        files.write_json(os.path.join(inner, "parity.json"), _finite(dataclasses.asdict(parity)))
        files.write_json(os.path.join(inner, "model.json"), dict(description))
        if len(schema.labels) == 1 and schema.labels[0].has_classes:
            names = "".join(f"{name}\n" for name in schema.labels[0].named_classes())
            files.write_bytes(os.path.join(inner, "labels.txt"), names.encode())
        replace_folder(inner, path)
    return parity


def _few_examples(parity: Parity, wish: Wish) -> str:
    text = f"The {wish.format} file was compared on {parity.num_examples} examples only"
    if wish.quantization != NONE:
        text += f": a loss of accuracy of {wish.max_accuracy_drop:g} would not show"
    return f"{text}. --eval_metadata names a larger set; {FEWEST_EXAMPLES} or more say something."


def refuse_others(parity: Parity, wish: Wish, schema: LabelSchema, half: str = "") -> None:
    """See that a file predicts what was evaluated, as near as was wished.

    Args:
        parity: what the comparison gave.
        wish: what was wished.
        schema: the labels.
        half: the half precision that the model computes in, or "".

    Raises:
        ParityError: it does not; names the label.
    """
    problem = ""
    if not math.isfinite(parity.largest):
        problem = "numbers that are not finite"
    elif parity.contradictions:
        problem = (
            "calibrated probabilities that name another class than the probabilities in "
            f"{parity.contradictions} of {parity.num_examples} examples"
        )
    if problem:
        raise ParityError(f"The {wish.format} file gives {problem}. Nothing was kept.")
    if wish.quantization == NONE:
        tolerance = TOLERANCES[half or "float32"] if wish.tolerance is None else wish.tolerance
        if not parity.largest <= tolerance:
            what = (
                f"a probability of label {parity.label!r}"
                if schema[parity.label].has_classes
                else f"a value of label {parity.label!r}, relative to their standard deviation"
            )
            raise ParityError(
                f"The {wish.format} file differs from the evaluation by {parity.largest:.2g} in "
                f"{what} ({parity.flipped} of {parity.num_examples} classes flipped), more than "
                f"the tolerance of {tolerance:g}. Nothing was kept; --tolerance allows more."
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
    record: RunManifest, exported: ExportedModel, predictor: Predictor, kind: Format
) -> dict[str, Any]:
    """What a file says of itself, as plain values."""
    spec = exported.image_spec
    takes = (
        {"name": "image_bytes", "dtype": "string", "shape": [None], "holds": "encoded images"}
        if kind.takes_bytes
        else {
            "name": "images",
            "dtype": spec.dtype.name if kind.name == KERAS else plain_dtype(spec.dtype).name,
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
    record: RunManifest,
    settings: Settings,
    *,
    needs_training: bool,
) -> run_data.Data:
    if needs_training and not settings.data.train_metadata:
        found = tuple(record.settings["train_metadata"])
        settings = settings.replace(train_metadata=found)
        if not found:
            raise ConfigError("int8 is calibrated on training images. Give --train_metadata.")
    spec = evaluate.ExportedSpec(exported, record.schema)
    return run_data.read_data(
        make_context(spec, settings), record.schema, with_training=needs_training
    )


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
            rows.predicted,
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


def _samples(data: run_data.Data, predictor: Predictor) -> Iterator[npt.NDArray[Any]]:
    """Training images evenly over the set, as the model takes them."""
    source = data.train.table if data.train is not None else None
    if source is None:
        raise DataError("int8 is calibrated on images by number: use input_mode indexed.")
    chosen = np.unique(np.linspace(0, source.num_examples - 1, _NUM_SAMPLES).astype(int))
    for number in chosen:
        image = source.fetch(tf.constant([number], tf.int64)).numpy()[0]
        yield predictor.prepare(image).numpy()[None]


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
