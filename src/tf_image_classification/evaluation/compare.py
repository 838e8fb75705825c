"""Paired comparison of two models on the same examples.

comparison = compare(predictions_of_a, predictions_of_b)["kind"]
comparison.verdict          "B is better", "B is worse" or "cannot tell"
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tf_image_classification.evaluation.analysis import main_score
from tf_image_classification.evaluation.intervals import (
    CONFIDENCE,
    DIFFERENCE_BOUNDS,
    DIFFERENCE_OF_FOLDS,
    FRACTION_BOUNDS,
    Interval,
    mean_with_interval,
    of_folds,
)
from tf_image_classification.evaluation.pairing import LabelPair, pair
from tf_image_classification.evaluation.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The comparison of two models on one label.

    Attributes:
        score_name: accuracy, exact match or mean absolute error.
        a: score of the first model.
        b: score of the second model.
        difference: mean paired difference, b minus a, with its interval.
        p_value: of McNemar's exact test; for regression of the sign test. Not valid for grouped
            examples and for cross-validations.
        gained: names of examples that only b predicts right, or that b predicts better.
        lost: names of examples for which the same holds of a.
        is_more_better: whether a higher score is better.
        notes: on classes that one of the models lacks, in sentences.
    """

    score_name: str
    a: Interval
    b: Interval
    difference: Interval
    p_value: float
    gained: Sequence[str]
    lost: Sequence[str]
    is_more_better: bool
    notes: Sequence[str] = ()

    @property
    def verdict(self) -> str:
        """The result in words: decided when the interval of the difference excludes 0."""
        low, high = self.difference.low, self.difference.high
        if not (low > 0 or high < 0):
            return "cannot tell"
        return "B is better" if (low > 0) == self.is_more_better else "B is worse"


def compare(a: Predictions, b: Predictions, group: str = "") -> dict[str, Comparison]:
    """The comparison by label name, over the labelled examples that both have.

    Args:
        a: of the first model.
        b: of the second model.
        group: column of ``a`` whose values are the clusters of the bootstrap, e.g. people, or "".

    Raises:
        DataError: they have no examples or labels in common, or different true labels.
        ConfigError: there is no such column.
    """
    return {name: comparison_of(one) for name, one in pair(a, b, group).items()}


def comparison_of(found: LabelPair) -> Comparison:
    """The comparison of one label."""
    from scipy import stats  # late: it takes half a second

    label = found.label
    name, scores_a = main_score(label, found.a)
    _, scores_b = main_score(label, found.b)
    change = (scores_b - scores_a) * (1 if label.has_classes else -1)
    gained = [found.names[i] for i in np.flatnonzero(change > 0).tolist()]
    lost = [found.names[i] for i in np.flatnonzero(change < 0).tolist()]
    flipped = len(gained) + len(lost)
    fractions, differences = None, None
    if label.has_classes:
        fractions, differences = FRACTION_BOUNDS, DIFFERENCE_BOUNDS
    of_a, of_b = found.num_folds
    return Comparison(
        name,
        of_folds(mean_with_interval(scores_a, found.groups, bounds=fractions), of_a, fractions),
        of_folds(mean_with_interval(scores_b, found.groups, bounds=fractions), of_b, fractions),
        of_folds(
            mean_with_interval(scores_b - scores_a, found.groups, bounds=differences),
            max(of_a, of_b),
            differences,
            DIFFERENCE_OF_FOLDS,
        ),
        float(stats.binomtest(len(gained), flipped).pvalue) if flipped else 1.0,
        gained,
        lost,
        label.has_classes,
        found.notes,
    )


def as_json(comparisons: Mapping[str, Comparison]) -> dict[str, object]:
    """Plain values."""
    return {
        name: dataclasses.asdict(one) | {"verdict": one.verdict, "confidence": CONFIDENCE}
        for name, one in comparisons.items()
    }
