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

from tf_image_classification.errors import ParityError
from tf_image_classification.estimator_specs import predicted_classes
from tf_image_classification.export.formats import Run
from tf_image_classification.labels import SEPARATOR, Label, LabelSchema
from tf_image_classification.labels.outputs import calibrated_key, probabilities_key
from tf_image_classification.labels.schema import MULTILABEL

_TIMED_RUNS = 20
_ROUNDING = 1e-6  # of float32, between two probabilities


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far a file's predictions are from those of the evaluation.

    Attributes:
        num_examples: compared.
        largest: largest difference of a probability, calibrated or not, or of a real value in
            units of its label's ``scale_of``.
        label: the label that it is of.
        mean: mean difference.
        flipped: examples of which an output names another class, over all labels.
        contradictions: examples whose calibrated probabilities name another class than their
            probabilities, over all labels.
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
    contradictions: int
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
        truth: as ``predicted``.
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

    Raises:
        ParityError: it gives an output that nothing is known about, or lacks one.
    """
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    first: npt.NDArray[Any] | None = None
    for images in batches:
        first = images[:1] if first is None else first
        for name, value in run(images).items():
            parts.setdefault(name, []).append(value)
    found = {name: np.concatenate(values) for name, values in parts.items()}
    _check_names(found, kept, schema)
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
        contradictions=sum(one.contradictions for one in with_classes),
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


def _check_names(found: Mapping[str, Any], kept: Mapping[str, Kept], schema: LabelSchema) -> None:
    """See that every output is one that is compared, and that none is missing."""
    needed, possible = set(), set()
    for label in schema:
        if not label.has_classes:
            needed.add(label.name)
            continue
        needed.add(probabilities_key(label.name))
        if kept[label.name].calibrated is not None:
            needed.add(calibrated_key(label.name))
        possible.add(_names_key(label))
    other = sorted(needed - set(found)) or sorted(set(found) - needed - possible)
    if other:
        raise ParityError(
            f"The file gives the outputs {', '.join(sorted(found))}; expected "
            f"{', '.join(sorted(needed))}. Nothing was kept."
        )


def _names_key(label: Label) -> str:
    return f"{label.name}_class_name{'s' if label.kind == MULTILABEL else ''}"


@dataclasses.dataclass(frozen=True)
class _OfLabel:
    """One label's differences, and what it costs by known example: an error, or -1 if right."""

    differences: npt.NDArray[np.float64]
    loss_there: npt.NDArray[Any]
    loss_here: npt.NDArray[Any]
    flipped: int = 0
    contradictions: int = 0


def _compare_label(label: Label, kept: Kept, found: Mapping[str, npt.NDArray[Any]]) -> _OfLabel:
    known, truth, before = kept.known, kept.truth, kept.output
    if not label.has_classes:
        after, scale = found[label.name].astype(np.float64).reshape(before.shape), scale_of(before)
        there, here = (np.abs(values - truth)[known] / scale for values in (before, after))
        return _OfLabel(np.abs(after - before) / scale, there, here)
    after = found[probabilities_key(label.name)].astype(np.float64)
    differences = [np.abs(after - before).ravel()]
    chosen = predicted_classes(label, tf.constant(after, tf.float32)).numpy()
    is_flipped = _differs(chosen, kept.predicted)
    contradicts = np.zeros(len(before), bool)
    if kept.calibrated is not None:
        calibrated = found[calibrated_key(label.name)].astype(np.float64)
        differences.append(np.abs(calibrated - kept.calibrated).ravel())
        is_flipped |= _differs(_likeliest(label, calibrated), _likeliest(label, kept.calibrated))
        contradicts = _contradicts(label, after, calibrated)
    if _names_key(label) in found:
        is_flipped |= found[_names_key(label)] != _class_names(label, kept.predicted)
    there, here = (
        -(~_differs(one, truth))[known].astype(np.float64) for one in (kept.predicted, chosen)
    )
    return _OfLabel(
        np.concatenate(differences), there, here, int(is_flipped.sum()), int(contradicts.sum())
    )


def _likeliest(label: Label, probabilities: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The likeliest class [n], or of several those that are likelier than not [n, D]."""
    several = label.kind == MULTILABEL
    return np.asarray(probabilities >= 0.5 if several else probabilities.argmax(axis=1))


def _contradicts(
    label: Label, probabilities: npt.NDArray[Any], calibrated: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """Where calibrated probabilities name a class that was clearly not the likeliest, [n]."""
    if label.kind == MULTILABEL:
        is_clear = np.abs(probabilities - 0.5) > _ROUNDING
        return _differs(is_clear & (probabilities >= 0.5), is_clear & (calibrated >= 0.5))
    named = np.take_along_axis(probabilities, calibrated.argmax(axis=1)[:, None], axis=1)[:, 0]
    gaps = np.asarray(probabilities.max(axis=1) - named)
    return gaps > _ROUNDING


def _differs(some: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where classes [n] or sets of them [n, D] are not the same, [n]."""
    differs = np.asarray(some != others).reshape(len(some), -1)
    return np.asarray(np.any(differs, axis=1))


def _class_names(label: Label, predicted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    names = np.array([name.encode() for name in label.named_classes()], object)
    if label.kind != MULTILABEL:
        return np.asarray(names[predicted])
    joined = [SEPARATOR.encode().join(names[row > 0]) for row in predicted]
    return np.array(joined, object)


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
