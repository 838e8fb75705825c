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

from tf_image_classification.batches import calibrated_key, probabilities_key
from tf_image_classification.labels import LabelSchema
from tf_image_classification.serving.formats import Run

_TIMED_RUNS = 20


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far a file's predictions are from those of the evaluation.

    Attributes:
        num_examples: compared.
        largest: largest difference of a probability, calibrated or not, or of a real value.
        mean: mean difference.
        flipped: examples whose predicted class differs, over all labels.
        accuracy_there: share of right classes in the evaluation, over the labels with one class;
            NaN without any.
        accuracy_here: the same of the file.
        milliseconds: of one image, median.
        megabytes: of the file or folder.
    """

    num_examples: int
    largest: float
    mean: float
    flipped: int
    accuracy_there: float
    accuracy_here: float
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
        truth: class numbers [n], or None where an example has no one class.
        known: bool [n].
        calibrated: calibrated probabilities [n, D], or None without calibration.
    """

    output: npt.NDArray[Any]
    truth: npt.NDArray[Any] | None
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
    differences, flipped, there, here = [], 0, [], []
    for label in schema:
        before = kept[label.name].output
        if not label.has_classes:
            differences.append(np.abs(found[label.name] - before).ravel())
            continue
        after = found[probabilities_key(label.name)]
        differences.append(np.abs(after.astype(np.float64) - before).ravel())
        calibrated, key = kept[label.name].calibrated, calibrated_key(label.name)
        if calibrated is not None and key in found:
            differences.append(np.abs(found[key].astype(np.float64) - calibrated).ravel())
        if label.value_shape:
            flipped += int(((after >= 0.5) != (before >= 0.5)).any(axis=1).sum())
            continue
        classes_before, classes_after = before.argmax(axis=1), after.argmax(axis=1)
        flipped += int((classes_before != classes_after).sum())
        known, truth = kept[label.name].known, kept[label.name].truth
        there.append((classes_before == truth)[known])
        here.append((classes_after == truth)[known])
    every = np.concatenate(differences)
    assert first is not None
    return Parity(
        num_examples=len(next(iter(kept.values())).output),
        largest=float(every.max()),
        mean=float(every.mean()),
        flipped=flipped,
        accuracy_there=_mean(there),
        accuracy_here=_mean(here),
        milliseconds=_milliseconds(run, first),
        megabytes=_num_bytes(path) / 1e6,
    )


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
