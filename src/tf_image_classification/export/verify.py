"""Verification of an exported file: its predictions against those of the evaluation.

The file runs the evaluated images in its own runtime.
"""

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

from tf_image_classification.errors import ParityError
from tf_image_classification.estimator_specs import predicted_classes
from tf_image_classification.export.names import UNKNOWN_SCORE
from tf_image_classification.export.runtimes import InferenceFn, Outputs
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.outputs import (
    calibrated_key,
    class_names_key,
    exported_outputs,
    predicted_names,
    probabilities_key,
)
from tf_image_classification.labels.schema import MULTILABEL

Array = npt.NDArray[Any]
_NUM_TIMED = 20
_ROUNDING = 1e-6  # of float32, between two probabilities


@dataclasses.dataclass(frozen=True)
class Verification:
    """Differences between a file's predictions and those of the evaluation.

    Attributes:
        num_examples: examples compared.
        max_difference: largest difference of a probability, calibrated or not, or of a regression
            value in units of its label's ``scale_of``.
        label: the label with the largest difference.
        mean_difference: mean of the same differences.
        num_changed: changed predictions, added up over the labels.
        num_contradictions: examples whose calibrated probabilities name another class than their
            probabilities, added up over the labels.
        reference_accuracy: accuracy of the evaluation over all labels with classes; NaN without
            any.
        accuracy: the same of the file.
        losses: by label the drop in accuracy, or the rise of the mean absolute error in units of
            ``scale_of``; negative where the file is better. Labels without a true value in these
            examples are absent.
        milliseconds: median latency of one image.
        megabytes: size of the file or folder.
        added: largest differences of the outputs beside the predictions, by name, each over its
            largest absolute value in the reference.
    """

    num_examples: int
    max_difference: float
    label: str
    mean_difference: float
    num_changed: int
    num_contradictions: int
    reference_accuracy: float
    accuracy: float
    losses: Mapping[str, float]
    milliseconds: float
    megabytes: float
    added: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def accuracy_drop(self) -> float:
        """Accuracy lost by the file; negative where it is better."""
        return self.reference_accuracy - self.accuracy


@dataclasses.dataclass(frozen=True)
class Reference:
    """One label's predictions in the evaluation.

    Attributes:
        output: probabilities [n, D] or values [n].
        predicted: class numbers [n], values [n], or of a multilabel label 0 and 1 [n, D].
        truth: as ``predicted``.
        mask: bool [n]; False where the true value is missing.
        calibrated: calibrated probabilities [n, D], or None without calibration.
    """

    output: Array
    predicted: Array
    truth: Array
    mask: npt.NDArray[np.bool_]
    calibrated: Array | None = None


def verify_file(
    infer: InferenceFn,
    batches: Iterable[Array],
    references: Mapping[str, Reference],
    schema: LabelSchema,
    path: str,
    added: Mapping[str, Array] | None = None,
) -> Verification:
    """Run the file on the images and compare its predictions with the references.

    Args:
        infer: the file in its runtime.
        batches: the file's input, in the order of the references.
        references: by label name.
        schema: the labels.
        path: the file, for its size.
        added: by name the expected values of the file's outputs beside the predictions.

    Raises:
        ParityError: an output is missing, or has no reference.
    """
    parts: list[Outputs] = []
    first: Array | None = None
    for images in batches:
        first = images[:1] if first is None else first
        parts.append(infer(images))
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    added = added or {}
    _check_names(outputs, references, schema, added)
    compared = {label.name: _compare(label, references[label.name], outputs) for label in schema}
    differences = np.concatenate([one.differences for one in compared.values()])
    with_classes = [compared[label.name] for label in schema.labels_with_classes]
    assert first is not None
    return Verification(
        num_examples=len(next(iter(references.values())).output),
        max_difference=float(differences.max()),
        label=max(compared, key=lambda name: compared[name].differences.max()),
        mean_difference=float(differences.mean()),
        num_changed=sum(one.num_changed for one in with_classes),
        num_contradictions=sum(one.num_contradictions for one in with_classes),
        reference_accuracy=-_mean([one.reference_loss for one in with_classes]),
        accuracy=-_mean([one.loss for one in with_classes]),
        losses={
            name: _mean([one.loss]) - _mean([one.reference_loss])
            for name, one in compared.items()
            if len(one.loss)
        },
        milliseconds=_milliseconds(infer, first),
        megabytes=num_bytes(path) / 1e6,
        added={name: _relative(name, outputs[name], expected) for name, expected in added.items()},
    )


def _relative(name: str, found: Array, expected: Array) -> float:
    """The largest difference over the largest expected absolute value.

    Of scores the squares are compared, of which the largest is at least 1: a distance is the root
    of a difference of squares, so near 0 only its square is exact.
    """
    exact, found, least = expected.astype(np.float64), found.reshape(expected.shape), 1e-9
    if name == UNKNOWN_SCORE:
        exact, found, least = exact**2, found.astype(np.float64) ** 2, 1.0
    return float(np.abs(found - exact).max() / max(np.abs(exact).max(), least))


def scale_of(values: Array) -> float:
    """The unit in which differences of a regression label are measured.

    The standard deviation of the evaluation's values, at least 1, and at least a thousandth of the
    largest, of which float32 leaves four digits.
    """
    return max(1.0, float(np.std(values)), float(np.abs(values).max()) / 1000)


def _check_names(
    outputs: Outputs,
    references: Mapping[str, Reference],
    schema: LabelSchema,
    added: Mapping[str, Array],
) -> None:
    """Check that every output has a reference, and that none is missing."""
    expected = set(added)
    for label in schema:
        is_calibrated = references[label.name].calibrated is not None
        expected |= set(exported_outputs(label, is_calibrated=is_calibrated))
    optional = {class_names_key(label) for label in schema.labels_with_classes}
    if expected - set(outputs) or set(outputs) - expected - optional:
        raise ParityError(
            f"The file gives the outputs {', '.join(sorted(outputs))}; expected "
            f"{', '.join(sorted(expected))}. Nothing was kept."
        )


@dataclasses.dataclass(frozen=True)
class _Compared:
    """One label's differences, and the losses of its masked examples: an error, or -1 if right."""

    differences: npt.NDArray[np.float64]
    reference_loss: Array
    loss: Array
    num_changed: int = 0
    num_contradictions: int = 0


def _compare(label: Label, reference: Reference, outputs: Outputs) -> _Compared:
    mask, truth, before = reference.mask, reference.truth, reference.output
    if not label.has_classes:
        after = outputs[label.name].astype(np.float64).reshape(before.shape)
        scale = scale_of(before)
        reference_loss, loss = (np.abs(values - truth)[mask] / scale for values in (before, after))
        return _Compared(np.abs(after - before) / scale, reference_loss, loss)
    after = outputs[probabilities_key(label.name)].astype(np.float64)
    differences = [np.abs(after - before).ravel()]
    predicted = predicted_classes(label, tf.constant(after, tf.float32)).numpy()
    is_changed = _differs(predicted, reference.predicted)
    contradicts = np.zeros(len(before), bool)
    if reference.calibrated is not None:
        calibrated = outputs[calibrated_key(label.name)].astype(np.float64)
        differences.append(np.abs(calibrated - reference.calibrated).ravel())
        is_changed |= _differs(
            _most_probable(label, calibrated), _most_probable(label, reference.calibrated)
        )
        contradicts = _contradicts(label, after, calibrated)
    if class_names_key(label) in outputs:
        names = [name.encode() for name in predicted_names(label, reference.predicted)]
        is_changed |= outputs[class_names_key(label)] != np.array(names, object)
    reference_loss, loss = (
        -(~_differs(each, truth))[mask].astype(np.float64)
        for each in (reference.predicted, predicted)
    )
    num_changed, num_contradictions = int(is_changed.sum()), int(contradicts.sum())
    return _Compared(
        np.concatenate(differences), reference_loss, loss, num_changed, num_contradictions
    )


def _most_probable(label: Label, probabilities: Array) -> Array:
    """The most probable class [n], or of a multilabel label those above one half [n, D]."""
    is_multilabel = label.kind == MULTILABEL
    return np.asarray(probabilities >= 0.5 if is_multilabel else probabilities.argmax(axis=1))


def _contradicts(label: Label, probabilities: Array, calibrated: Array) -> npt.NDArray[np.bool_]:
    """Where calibrated probabilities name a class that was clearly not the most probable, [n]."""
    if label.kind == MULTILABEL:
        is_clear = np.abs(probabilities - 0.5) > _ROUNDING
        return _differs(is_clear & (probabilities >= 0.5), is_clear & (calibrated >= 0.5))
    named = np.take_along_axis(probabilities, calibrated.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.asarray(probabilities.max(axis=1) - named > _ROUNDING)


def _differs(some: Array, others: Array) -> npt.NDArray[np.bool_]:
    """Where classes [n] or sets of classes [n, D] are not the same, [n]."""
    differs = np.asarray(some != others).reshape(len(some), -1)
    return np.asarray(np.any(differs, axis=1))


def _mean(parts: list[Array]) -> float:
    flat = np.concatenate(parts) if parts else np.zeros(0)
    return float(flat.mean()) if len(flat) else float("nan")


def _milliseconds(infer: InferenceFn, images: Array) -> float:
    infer(images)
    secs = []
    for _ in range(_NUM_TIMED):
        began = time.monotonic()
        infer(images)
        secs.append(time.monotonic() - began)
    return 1000 * statistics.median(secs)


def num_bytes(path: str) -> int:
    """The size of a file or folder."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )
