"""Error analysis: likely causes of a model's errors, each with the measurement behind it.

for finding in diagnose(measurements):
    print(finding.title, finding.word, finding.text)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import counted
from tf_image_classification.evaluation.intervals import Interval
from tf_image_classification.evaluation.label_errors import LabelErrors

FOUND, NOT_FOUND, UNKNOWN = "warning", "ok", "unknown"
_WORDS = {FOUND: "found", NOT_FOUND: "not found", UNKNOWN: "not measured"}

_MIN_GAP = 0.05  # training accuracy above evaluation accuracy
_MIN_TRAIN_ACCURACY = 0.9
_MIN_NOISE = 0.02
_MIN_IMBALANCE = 3.0
_MIN_EXAMPLES = 100  # of the median class
_MIN_DIFFERENCE = 0.05


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Measurements of a single-label classifier; None where one was not possible.

    Attributes:
        accuracy: on the evaluation examples.
        balanced_accuracy: on the evaluation examples.
        train_accuracy: on a sample of the training examples.
        train_counts: training examples by class.
        recalls: by class, on the evaluation examples; NaN without any.
        label_errors: likely wrong labels of the evaluation examples.
        median_side: median of the evaluation images' shorter sides, in pixels.
        image_size: side of the model's input, in pixels.
        num_leaked: evaluation images that are in the training set too.
        is_pretrained: whether the training started from pretrained weights.
    """

    accuracy: Interval
    balanced_accuracy: Interval
    train_accuracy: Interval | None
    train_counts: Sequence[int] | None
    recalls: npt.NDArray[np.float64]
    label_errors: LabelErrors | None
    median_side: float | None
    image_size: int
    num_leaked: int | None
    is_pretrained: bool = False

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing."""
        return 1 / max(1, int((~np.isnan(self.recalls)).sum()))

    @property
    def may_be_chance(self) -> bool:
        """Whether the model is not distinguishable from guessing; also of too few examples."""
        return self.chance < 1 and not self.balanced_accuracy.low > self.chance

    @property
    def has_errors(self) -> bool:
        """Whether there is room for improvement."""
        return self.accuracy.value < 1 - _MIN_DIFFERENCE


@dataclasses.dataclass(frozen=True)
class Finding:
    """One possible cause of errors.

    Attributes:
        title: the cause.
        status: FOUND, NOT_FOUND or UNKNOWN.
        text: the measurement, and what to do.
    """

    title: str
    status: str
    text: str

    @property
    def word(self) -> str:
        """The status in words."""
        return _WORDS[self.status]


def diagnose(measurements: Measurements) -> list[Finding]:
    """All possible causes, those that were found first."""
    found = [finding for check in _CHECKS for finding in check(measurements)]
    order = list(_WORDS)
    return sorted(found, key=lambda finding: order.index(finding.status))


def _finding(title: str, is_found: bool, text: str, advice: str) -> Finding:
    return (
        Finding(title, FOUND, f"{text} {advice}") if is_found else Finding(title, NOT_FOUND, text)
    )


def _chance(given: Measurements) -> Iterable[Finding]:
    yield _finding(
        "No better than chance",
        given.may_be_chance,
        f"Balanced accuracy {given.balanced_accuracy} (chance level {given.chance:.3f}).",
        "The model cannot be distinguished from guessing, which makes all other findings "
        "unreliable: check the loss curves, the labels and the learning rate first.",
    )


def _underfitting(given: Measurements) -> Iterable[Finding]:
    train = given.train_accuracy
    if train is None:
        yield Finding("Underfitting", UNKNOWN, "The training examples could not be read.")
        return
    yield _finding(
        "Underfitting",
        train.high < _MIN_TRAIN_ACCURACY,
        f"Training accuracy {train.value:.1%} on {train.count} sampled examples.",
        f"Try a {'larger' if given.is_pretrained else 'pretrained or larger'} backbone, more steps "
        "or a higher learning rate.",
    )


def _overfitting(given: Measurements) -> Iterable[Finding]:
    train = given.train_accuracy
    if train is None:
        yield Finding("Overfitting", UNKNOWN, "The training examples could not be read.")
        return
    gap = train.value - given.accuracy.value
    yield _finding(
        "Overfitting",
        gap > _MIN_GAP and train.low > given.accuracy.high,
        f"Training accuracy {train.value:.1%}, evaluation accuracy {given.accuracy.value:.1%}: "
        f"gap {gap:+.1%}.",
        "Add data, stronger augmentation or regularization.",
    )


def _few_examples(given: Measurements) -> Iterable[Finding]:
    title, counts = "Too few training examples", given.train_counts
    if counts is None:
        yield Finding(title, UNKNOWN, "The training examples could not be counted.")
        return
    median = float(np.median([count for count in counts if count] or [0]))
    yield _finding(
        title,
        median < _MIN_EXAMPLES and given.has_errors,
        f"The median class has {median:.0f} training examples.",
        "Add images of the weakest classes."
        if given.is_pretrained
        else "Use a pretrained backbone and add images of the weakest classes.",
    )


def _imbalance(given: Measurements) -> Iterable[Finding]:
    counts = given.train_counts
    if counts is None or np.isnan(given.recalls).all():
        yield Finding("Class imbalance", UNKNOWN, "The training examples could not be counted.")
        return
    in_both = ~np.isnan(given.recalls) & (np.asarray(counts) > 0)
    sizes, recalls = np.asarray(counts)[in_both], given.recalls[in_both]
    if len(sizes) < 2:
        return
    ratio = sizes.max() / sizes.min()
    order = np.argsort(sizes)
    third = max(1, len(order) // 3)
    rare, frequent = recalls[order[:third]].mean(), recalls[order[-third:]].mean()
    yield _finding(
        "Class imbalance",
        ratio > _MIN_IMBALANCE and frequent - rare > _MIN_DIFFERENCE,
        f"The largest class has {ratio:.1f} times the examples of the smallest. Mean recall "
        f"{rare:.0%} in the rarest third of the classes, "
        f"{frequent:.0%} in the most frequent third.",
        "Try --class_weights balanced or --balanced_sampling.",
    )


def _label_noise(given: Measurements) -> Iterable[Finding]:
    title, errors = "Label noise", given.label_errors
    if errors is None:
        text = "cleanlab is not installed; pip install 'tf_image_classification[quality]'."
        yield Finding(title, UNKNOWN, text)
    elif given.may_be_chance:
        text = "A model at chance level cannot identify wrong labels."
        yield Finding(title, UNKNOWN, text)
    elif errors.num_wrong is None and 1 - given.accuracy.value >= _MIN_NOISE:
        yield Finding(title, UNKNOWN, errors.text())
    else:
        is_found = errors.num_wrong is not None and errors.num_wrong > _MIN_NOISE * errors.count
        advice = "Check these labels first; the examples are below."
        yield _finding(title, is_found, errors.text(), advice)


def _resolution(given: Measurements) -> Iterable[Finding]:
    title, side, size = "Image resolution", given.median_side, given.image_size
    if side is None:
        yield Finding(title, UNKNOWN, "The images could not be read.")
        return
    is_low = side < size / 2
    yield _finding(
        title,
        is_low or (side > 2 * size and given.has_errors),
        f"The median shorter side is {side:.0f} pixels; the model's input is {size} pixels.",
        "The images have less detail than the model can use: larger originals would help."
        if is_low
        else "Small details may be lost: try a larger --image_size.",
    )


def _leakage(given: Measurements) -> Iterable[Finding]:
    title, count = "Train/eval leakage", given.num_leaked
    if count is None:
        text = "Training and evaluation images were not compared; tfic inspect compares them."
        yield Finding(title, UNKNOWN, text)
        return
    yield _finding(
        title,
        count > 0,
        f"{counted(count, 'evaluation image is', 'evaluation images are')} also in the "
        "training set, exactly or nearly.",
        "The metrics are too optimistic: split the data again with tfic convert.",
    )


_CHECKS = (
    _chance,
    _underfitting,
    _overfitting,
    _few_examples,
    _imbalance,
    _label_noise,
    _resolution,
    _leakage,
)
