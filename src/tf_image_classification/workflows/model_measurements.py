"""Measurements of an evaluated model for its report: accuracy in training, images, leakage.

leakage = find_leakage(model)
findings = diagnose(measure_model(label, model, label_errors, leakage.count))
"""

from __future__ import annotations

import io
import logging

import numpy as np
import tensorflow as tf

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import TficError
from tf_image_classification.evaluation.intervals import (
    FRACTION_BOUNDS,
    Interval,
    mean_with_interval,
)
from tf_image_classification.evaluation.label_errors import LabelErrors
from tf_image_classification.inspection.findings import EVALUATION
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.report.content import NOT_COMPARED, Leakage
from tf_image_classification.report.error_analysis import Measurements
from tf_image_classification.workflows.evaluated_model import EvaluatedModel
from tf_image_classification.workflows.inspect import inspect

log = logging.getLogger("tf_image_classification")

_BATCH_SIZE = 32
_NUM_TRAIN, _NUM_SIZES = 500, 200
_MAX_COMPARED = 20_000
_MAX_GROUPS = 100


def measure_model(
    label: Label,
    model: EvaluatedModel,
    label_errors: LabelErrors | None,
    num_leaked: int | None,
) -> Measurements:
    """Measurements of a single-label classifier.

    Args:
        label: the label.
        model: the model.
        label_errors: likely wrong labels among the evaluation examples, or None.
        num_leaked: evaluation images that are in the training set too; None: unknown.
    """
    found = model.analysis.labels[label.name]
    recalls = [found.measures.of_classes[name]["recall"].value for name in label.named_classes()]
    return Measurements(
        accuracy=found.score,
        balanced_accuracy=found.measures.overall["balanced_accuracy"],
        train_accuracy=_train_accuracy(label, model),
        train_counts=None if model.train is None else class_counts(label, model.train),
        recalls=np.array(recalls),
        label_errors=label_errors,
        median_side=_median_side(model.evaluation),
        image_size=int(model.manifest.settings["image_size"]),
        num_leaked=num_leaked,
        is_pretrained=model.manifest.has_pretrained_weights,
    )


def _train_accuracy(label: Label, model: EvaluatedModel) -> Interval | None:
    """Accuracy on a sample of the training examples, preprocessed as in an evaluation."""
    table = model.train
    if table is None:
        return None
    column = table.columns[label.name]
    chosen = evenly_spaced(table.num_examples, _NUM_TRAIN)
    chosen = chosen[column.mask[chosen]]
    is_right = []
    for start in range(0, len(chosen), _BATCH_SIZE):
        rows = chosen[start : start + _BATCH_SIZE]
        predictions = model.predictor.predict(table.fetch(tf.constant(rows)).numpy().tolist())
        is_right += [
            one.labels[label.name].value == value
            for one, value in zip(predictions, column.values[rows], strict=True)
            if not one.error
        ]
    return mean_with_interval(is_right, bounds=FRACTION_BOUNDS) if is_right else None


def class_counts(label: Label, table: Table) -> list[int]:
    """Examples by class; a multilabel example counts for each of its classes."""
    column = table.columns[label.name]
    values = column.values[column.mask]
    if label.kind == MULTILABEL:
        return [int(count) for count in values.sum(axis=0)]
    return [int(count) for count in np.bincount(values.astype(int), minlength=label.depth)]


def _median_side(table: Table) -> float | None:
    """Median of the shorter sides of a sample of images, in pixels, without decoding them."""
    from PIL import Image

    chosen = evenly_spaced(table.num_examples, _NUM_SIZES)
    sides = []
    for data in table.fetch(tf.constant(chosen)).numpy().tolist():
        try:
            with Image.open(io.BytesIO(data)) as image:
                sides.append(min(image.size))
        except (OSError, Image.DecompressionBombError):
            continue
    return float(np.median(sides)) if sides else None


def find_leakage(model: EvaluatedModel) -> Leakage:
    """Evaluation images that are in the training set too, exactly or nearly.

    The sets are compared if each is one source and together they have at most 20,000 images. A
    held-out part is not: identical images are on one side of it.
    """
    data = model.settings.data
    training = data.train_metadata or tuple(model.manifest.settings["train_metadata"])
    if data.eval_split or model.train is None or len(training) != 1 or len(data.eval_metadata) != 1:
        return NOT_COMPARED
    if model.train.num_examples + model.evaluation.num_examples > _MAX_COMPARED:
        return NOT_COMPARED
    try:
        found = inspect(training[0], data.eval_metadata[0])
    except TficError as error:
        log.warning("Training and evaluation images are not compared: %s", error)
        return NOT_COMPARED
    leak = next((finding for finding in found.findings if finding.kind == "leak"), None)
    if leak is None:
        return Leakage(0, "No evaluation image is in the training set, exactly or nearly.")
    leaked = {i for group in leak.members for i in group if found.sets[i] == EVALUATION}
    groups = [[found.images[i].where for i in group] for group in leak.members[:_MAX_GROUPS]]
    return Leakage(len(leaked), leak.text, groups)
