"""What may limit a folder's model, measured on its examples.

leaks, num_leaked = find_leaks(known)
for title, state, text in measured_limits(label, known, None, num_leaked=0): ...
"""

from __future__ import annotations

import io
import logging
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import TficError
from tf_image_classification.evaluation.intervals import (
    FRACTION_BOUNDS,
    Interval,
    mean_with_interval,
)
from tf_image_classification.evaluation.label_errors import LabelErrors
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.report.diagnosis import Facts, Limit, limits_of
from tf_image_classification.workflows.evaluated_model import KnownModel
from tf_image_classification.workflows.inspect import inspect

log = logging.getLogger("tf_image_classification")

_AT_ONCE = 32
_NUM_TRAIN, _NUM_SIZES = 500, 200
_MOST_INSPECTED = 20_000
NOT_COMPARED: dict[str, Any] = {
    "text": "Training and evaluation images were not compared; tfic inspect does that.",
    "pairs": [],
}


def measured_limits(
    label: Label, known: KnownModel, label_errors: LabelErrors | None, num_leaked: int | None
) -> list[Limit]:
    """What may limit the model in one label; nothing is said of labels without classes.

    Args:
        label: which.
        known: the model.
        label_errors: what is known of wrong labels among the evaluation examples, or None.
        num_leaked: evaluation images that are in the training set too; None: not known.
    """
    if not label.is_class:
        return []
    found = known.analysis.labels[label.name]
    recalls = [found.measures.of_classes[name]["recall"].value for name in label.named_classes()]
    facts = Facts(
        score=found.score,
        balanced=found.measures.overall["balanced_accuracy"],
        train_score=_train_score(label, known),
        train_counts=class_counts(label, known.train),
        recalls=np.array(recalls),
        label_errors=label_errors,
        median_side=_median_side(known),
        image_size=int(known.record.settings["image_size"]),
        num_leaked=num_leaked,
    )
    return limits_of(facts)


def _train_score(label: Label, known: KnownModel) -> Interval | None:
    """How many of some training examples are right, seen as in an evaluation."""
    table = known.train
    if table is None:
        return None
    chosen = np.unique(np.linspace(0, table.num_examples - 1, _NUM_TRAIN).astype(int))
    column = table.columns[label.name]
    chosen = chosen[column.mask[chosen]]
    right = []
    for start in range(0, len(chosen), _AT_ONCE):
        rows = chosen[start : start + _AT_ONCE]
        data = table.fetch(tf.constant(rows, tf.int64)).numpy().tolist()
        said = known.predictor.predict(data)
        right += [
            one.labels[label.name].value == value
            for one, value in zip(said, column.values[rows], strict=True)
            if not one.error
        ]
    return mean_with_interval(right, bounds=FRACTION_BOUNDS) if right else None


def class_counts(label: Label, table: Table | None) -> list[int] | None:
    """Examples by class; None without a table."""
    if table is None:
        return None
    column = table.columns[label.name]
    values = column.values[column.mask]
    if label.kind == MULTILABEL:
        return [int(count) for count in values.sum(axis=0)]
    return [int(count) for count in np.bincount(values.astype(int), minlength=label.depth)]


def _median_side(known: KnownModel) -> float | None:
    """Of the shorter sides of some evaluation images, in pixels, without decoding them."""
    from PIL import Image

    table = known.evaluation
    chosen = np.unique(np.linspace(0, table.num_examples - 1, _NUM_SIZES).astype(int))
    sides = []
    for data in table.fetch(tf.constant(chosen, tf.int64)).numpy().tolist():
        try:
            with Image.open(io.BytesIO(data)) as image:
                sides.append(min(image.size))
        except (OSError, Image.DecompressionBombError):
            continue
    return float(np.median(sides)) if sides else None


def find_leaks(known: KnownModel) -> tuple[dict[str, Any], int | None]:
    """Evaluation images that are in the training set too, or nearly: for the page, and how many.

    The number is None where they were not looked for.
    """
    training = known.settings.data.train_metadata or tuple(known.record.settings["train_metadata"])
    evaluation = known.settings.data.eval_metadata
    if known.train is None or len(training) != 1 or len(evaluation) != 1:
        return NOT_COMPARED, None
    if known.train.num_examples + known.evaluation.num_examples > _MOST_INSPECTED:
        return NOT_COMPARED, None
    try:
        found = inspect(training[0], evaluation[0])
    except TficError as error:
        log.warning("Near duplicates were not looked for: %s", error)
        return NOT_COMPARED, None
    leaks = [finding for finding in found.findings if finding.kind == "leak"]
    if not leaks:
        text = "No evaluation image is in the training set too, or nearly the same as one there."
        return {"text": text, "pairs": []}, 0
    pairs = [[found.facts[i].where for i in pair] for pair in leaks[0].members]
    count = len({i for pair in leaks[0].members for i in pair if found.sets[i] == "eval"})
    return {"text": leaks[0].text, "pairs": pairs[:100]}, count
