"""Whether a file predicts what was evaluated: the same images, in the file's own runtime."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import calibrated_key, probabilities_key
from tf_image_classification.estimator_specs import predicted_classes
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.serving.formats import Run

_TIMED_RUNS = 20


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far a file's predictions are from those of the evaluation.

    Attributes:
        num_examples: compared.
        largest: largest difference of a probability, calibrated or not, or of a real value in
            units of its label's ``scale_of``.
        label: the label that it is of.
        mean: mean difference.
        flipped: examples whose predicted class differs, over all labels.
        accuracy_there: share of right answers in the evaluation, over the labels with classes;
            NaN without any.
        accuracy_here: the same of the file.
        lost: by label how much less is right here, or by how many ``scale_of`` the mean absolute
            error is larger; negative where it is better; only labels that some example has.
        milliseconds: of one image, median.
        megabytes: of the file or folder.
    """

    num_examples: int
    largest: float
    label: str
    mean: float
    flipped: int
    accuracy_there: float
    accuracy_here: float
    lost: Mapping[str, float]
    milliseconds: float
    megabytes: float

    @property
    def accuracy_drop(self) -> float:
        """How much less is right here; negative where it is more."""
        return self.accuracy_there - self.accuracy_here


@dataclasses.dataclass(frozen=True)
class Kept:
    """What an evaluation had said of one label of the compared examples.

    Attributes:
        output: probabilities [n, D] or values [n].
        predicted: class numbers [n], values [n], or of several classes 0 and 1 [n, D].
        truth: class numbers [n], values [n], or of several classes 0 and 1 [n, D].
        known: bool [n].
        calibrated: calibrated probabilities [n, D], or None without calibration.
    """

    output: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    truth: npt.NDArray[Any]
    known: npt.NDArray[np.bool_]
    calibrated: npt.NDArray[Any] | None = None


def compare(
    run: Run,
    batches: Iterable[npt.NDArray[Any]],
    kept: Mapping[str, Kept],
    schema: LabelSchema,
    path: str,
) -> Parity:
    """Run the images and compare.

    Args:
        run: the file in its runtime.
        batches: what it takes, in the order of ``kept``.
        kept: by label name.
        schema: the labels.
        path: the file, for its size.
    """
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    first: npt.NDArray[Any] | None = None
    for images in batches:
        first = images[:1] if first is None else first
        for name, value in run(images).items():
            parts.setdefault(name, []).append(value)
    found = {name: np.concatenate(values) for name, values in parts.items()}
    of_labels = {label.name: _compare_label(label, kept[label.name], found) for label in schema}
    every = np.concatenate([one.differences for one in of_labels.values()])
    farthest = max(of_labels, key=lambda name: of_labels[name].differences.max())
    with_classes = [of_labels[label.name] for label in schema.labels_with_classes]
    assert first is not None
    return Parity(
        num_examples=len(next(iter(kept.values())).output),
        largest=float(every.max()),
        label=farthest,
        mean=float(every.mean()),
        flipped=sum(one.flipped for one in with_classes),
        accuracy_there=-_mean([one.loss_there for one in with_classes]),
        accuracy_here=-_mean([one.loss_here for one in with_classes]),
        lost={
            name: _mean([one.loss_here]) - _mean([one.loss_there])
            for name, one in of_labels.items()
            if len(one.loss_there)
        },
        milliseconds=_milliseconds(run, first),
        megabytes=_num_bytes(path) / 1e6,
    )


def scale_of(values: npt.NDArray[Any]) -> float:
    """What differences of a real value are measured in.

    The standard deviation of the evaluation's values, at least 1, and at least a thousandth of the
    largest, of which float32 leaves four digits.
    """
    return max(1.0, float(np.std(values)), float(np.abs(values).max()) / 1000)


@dataclasses.dataclass(frozen=True)
class _OfLabel:
    """One label's differences, and what it costs by known example: an error, or -1 if right."""

    differences: npt.NDArray[np.float64]
    flipped: int
    loss_there: npt.NDArray[Any]
    loss_here: npt.NDArray[Any]


def _compare_label(label: Label, kept: Kept, found: Mapping[str, npt.NDArray[Any]]) -> _OfLabel:
    known, truth, before = kept.known, kept.truth, kept.output
    if not label.has_classes:
        after, scale = found[label.name].astype(np.float64).reshape(before.shape), scale_of(before)
        there, here = (np.abs(values - truth)[known] / scale for values in (before, after))
        return _OfLabel(np.abs(after - before) / scale, 0, there, here)
    after = found[probabilities_key(label.name)].astype(np.float64)
    differences = [np.abs(after - before).ravel()]
    key = calibrated_key(label.name)
    if kept.calibrated is not None and key in found:
        differences.append(np.abs(found[key].astype(np.float64) - kept.calibrated).ravel())
    here = predicted_classes(label, tf.constant(after, tf.float32)).numpy()
    chosen = [one.reshape([len(before), -1]) for one in (kept.predicted, here)]
    is_right = [(one == truth.reshape(one.shape)).all(axis=1) for one in chosen]
    losses = [-right[known].astype(np.float64) for right in is_right]
    flipped = int((chosen[0] != chosen[1]).any(axis=1).sum())
    return _OfLabel(np.concatenate(differences), flipped, *losses)


def _mean(parts: list[npt.NDArray[Any]]) -> float:
    flat = np.concatenate(parts) if parts else np.zeros(0)
    return float(flat.mean()) if len(flat) else float("nan")


def _milliseconds(run: Run, images: npt.NDArray[Any]) -> float:
    run(images)
    secs = []
    for _ in range(_TIMED_RUNS):
        began = time.monotonic()
        run(images)
        secs.append(time.monotonic() - began)
    return 1000 * statistics.median(secs)


def _num_bytes(path: str) -> int:
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )
