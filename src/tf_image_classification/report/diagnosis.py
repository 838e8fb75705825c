"""What limits a model: each suspicion with the measurement behind it.

for limit in limits_of(facts): print(limit.title, limit.state, limit.text)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.intervals import Interval
from tf_image_classification.evaluation.label_errors import LabelErrors

YES, NO, UNKNOWN = "limits", "does not", "not known"
_MUCH_OVERFIT = 0.05
_WELL_FITTED = 0.9
_MUCH_NOISE = 0.02
_MUCH_IMBALANCE = 3.0
_FEW_EXAMPLES = 100
_SMALL_DIFFERENCE = 0.05


@dataclasses.dataclass(frozen=True)
class Facts:
    """What was measured of a label with classes; None where it could not be.

    Attributes:
        score: accuracy on the evaluation examples.
        balanced: mean of the classes' recalls there.
        train_score: on a sample of the training examples.
        train_counts: training examples by class.
        recalls: by class, on the evaluation examples; NaN without any.
        label_errors: what the predictions say of wrong labels of the evaluation examples.
        median_side: of the evaluation images' shorter sides, in pixels.
        image_size: in pixels, that the model takes.
        num_leaked: evaluation images that are in the training set too.
    """

    score: Interval
    balanced: Interval
    train_score: Interval | None
    train_counts: Sequence[int] | None
    recalls: npt.NDArray[np.float64]
    label_errors: LabelErrors | None
    median_side: float | None
    image_size: int
    num_leaked: int | None


@dataclasses.dataclass(frozen=True)
class Limit:
    """One suspicion.

    Attributes:
        title: what may limit the model.
        state: "limits", "does not" or "not known".
        text: the measurement, and what to do.
    """

    title: str
    state: str
    text: str


def limits_of(facts: Facts) -> list[Limit]:
    """All suspicions, those that hold first."""
    found = [
        *_chance(facts),
        *_underfit(facts),
        *_overfit(facts),
        *_amount(facts),
        *_imbalance(facts),
        *_noise(facts),
        *_resolution(facts),
        *_leak(facts),
    ]
    order = (YES, NO, UNKNOWN)
    return sorted(found, key=lambda limit: order.index(limit.state))


def _chance(facts: Facts) -> Iterable[Limit]:
    share = _guessed(facts)
    text = f"Of a class's examples {facts.balanced} are found; {share:.3f} would be by guessing."
    more = (
        " The evaluation cannot tell the model from guessing, and until it can the rest of this "
        "list is worth little: look at the loss curves, the labels and the learning rate."
    )
    limited = _may_be_guessing(facts)
    yield Limit("no better than chance", YES if limited else NO, text + (more if limited else ""))


def _guessed(facts: Facts) -> float:
    return 1 / max(1, int((~np.isnan(facts.recalls)).sum()))


def _may_be_guessing(facts: Facts) -> bool:
    share = _guessed(facts)
    return share < 1 and not facts.balanced.low > share  # of too few examples it is NaN


def _underfit(facts: Facts) -> Iterable[Limit]:
    score = facts.train_score
    if score is None:
        yield Limit("underfitting", UNKNOWN, "The training examples could not be read.")
        return
    text = f"{score.value:.1%} of {score.count} training examples are right."
    limited = score.high < _WELL_FITTED
    more = " A pretrained or larger network, more steps or a higher learning rate would help."
    yield Limit("underfitting", YES if limited else NO, text + (more if limited else ""))


def _overfit(facts: Facts) -> Iterable[Limit]:
    if facts.train_score is None:
        yield Limit("overfitting", UNKNOWN, "The training examples could not be read.")
        return
    gap = facts.train_score.value - facts.score.value
    is_sure = facts.train_score.low > facts.score.high
    text = (
        f"{facts.train_score.value:.1%} of {facts.train_score.count} training examples are right, "
        f"{facts.score.value:.1%} of the evaluation's: a gap of {gap:+.1%}."
    )
    if gap > _MUCH_OVERFIT and is_sure:
        more = " More data, stronger augmentation or regularisation would help most."
        yield Limit("overfitting", YES, text + more)
    else:
        yield Limit("overfitting", NO, text)


def _amount(facts: Facts) -> Iterable[Limit]:
    counts = facts.train_counts
    if counts is None:
        yield Limit("amount of data", UNKNOWN, "The training examples could not be counted.")
        return
    present = [count for count in counts if count]
    median = float(np.median(present)) if present else 0.0
    text = f"The median class has {median:.0f} training examples."
    limited = median < _FEW_EXAMPLES and facts.score.value < 1 - _SMALL_DIFFERENCE
    more = " A pretrained network and more pictures of the weakest classes would help."
    yield Limit("amount of data", YES if limited else NO, text + (more if limited else ""))


def _imbalance(facts: Facts) -> Iterable[Limit]:
    counts = facts.train_counts
    if counts is None or np.isnan(facts.recalls).all():
        yield Limit("class imbalance", UNKNOWN, "The classes could not be counted.")
        return
    known = ~np.isnan(facts.recalls) & (np.asarray(counts) > 0)
    sizes, recalls = np.asarray(counts)[known], facts.recalls[known]
    if len(sizes) < 2:
        return
    ratio = sizes.max() / sizes.min()
    order = np.argsort(sizes)
    third = max(1, len(order) // 3)
    rare, frequent = recalls[order[:third]].mean(), recalls[order[-third:]].mean()
    text = (
        f"The largest class has {ratio:.1f} times the examples of the smallest; the rarest third "
        f"of the classes is found in {rare:.0%} of the cases, the most frequent in {frequent:.0%}."
    )
    limited = ratio > _MUCH_IMBALANCE and frequent - rare > _SMALL_DIFFERENCE
    more = " Try --class_weights balanced or --balanced_sampling."
    yield Limit("class imbalance", YES if limited else NO, text + (more if limited else ""))


def _noise(facts: Facts) -> Iterable[Limit]:
    errors = facts.label_errors
    if errors is None:
        text = "cleanlab is not installed; pip install 'tf_image_classification[quality]'."
        yield Limit("label noise", UNKNOWN, text)
        return
    if _may_be_guessing(facts):
        text = "A model that may be guessing does not tell wrong labels from right ones."
        yield Limit("label noise", UNKNOWN, text)
        return
    text = errors.text()
    if errors.num_wrong is not None and errors.num_wrong > _MUCH_NOISE * errors.count:
        yield Limit("label noise", YES, f"{text} Look at them below before anything else.")
    elif errors.num_wrong is not None or 1 - facts.score.value < _MUCH_NOISE:
        yield Limit("label noise", NO, text)
    else:
        yield Limit("label noise", UNKNOWN, text)


def _resolution(facts: Facts) -> Iterable[Limit]:
    if facts.median_side is None:
        yield Limit("resolution", UNKNOWN, "The images could not be read.")
        return
    text = (
        f"The images' shorter side is {facts.median_side:.0f} pixels in the median; the model "
        f"takes {facts.image_size}."
    )
    if facts.median_side < facts.image_size / 2:
        more = " The pictures hold less than the model could see: larger originals would help."
        yield Limit("resolution", YES, text + more)
    elif facts.median_side > 2 * facts.image_size and facts.score.value < 1 - _SMALL_DIFFERENCE:
        more = " Small things may be lost: try a larger --image_size."
        yield Limit("resolution", YES, text + more)
    else:
        yield Limit("resolution", NO, text)


def _leak(facts: Facts) -> Iterable[Limit]:
    if facts.num_leaked is None:
        text = "Training and evaluation images were not compared; tfic inspect does that."
        yield Limit("leakage", UNKNOWN, text)
        return
    text = f"{facts.num_leaked} evaluation images are in the training set too, or nearly the same."
    more = " The figures are too good: split again with tfic convert."
    yield Limit(
        "leakage", YES if facts.num_leaked else NO, text + (more if facts.num_leaked else "")
    )
