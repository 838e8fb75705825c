"""Paired comparison of two models on the same examples.

comparison = compare(predictions_of_a, predictions_of_b)["kind"]
comparison.verdict          "B is better", "B is worse" or "cannot tell"
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import DataError
from tf_image_classification.evaluation.analysis import main_score
from tf_image_classification.evaluation.intervals import (
    DIFFERENCE_BOUNDS,
    DIFFERENCE_OF_FOLDS,
    FRACTION_BOUNDS,
    Interval,
    mean_with_interval,
    of_folds,
)
from tf_image_classification.evaluation.predictions import Predictions
from tf_image_classification.labels import Label


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
    """

    score_name: str
    a: Interval
    b: Interval
    difference: Interval
    p_value: float
    gained: Sequence[str]
    lost: Sequence[str]
    is_more_better: bool

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
    groups = a.groups(group)
    names_of_a, names_of_b = _names(a, b)
    places = {name: i for i, name in enumerate(names_of_b)}
    rows = [(i, places[name]) for i, name in enumerate(names_of_a) if name in places]
    if not rows:
        raise DataError(
            "The two evaluations have no examples in common: their names differ. Evaluate both "
            "models on the same --eval_metadata."
        )
    of_a, of_b = np.array(rows).T
    names = [a.uris[i] for i in of_a.tolist()]
    groups = None if groups is None else groups[of_a]
    found = {}
    for label in a.schema:
        if label.name in b.schema.names:
            found[label.name] = _of_label(label, a, b, (of_a, of_b), names, groups)
    if not found:
        raise DataError("The two models have no label in common.")
    return found


def _names(a: Predictions, b: Predictions) -> tuple[Sequence[object], Sequence[object]]:
    """The names that match examples: indices if the sets are the same, else URIs."""
    return (a.ids.tolist(), b.ids.tolist()) if a.data == b.data else (a.uris, b.uris)


def _of_label(
    label: Label,
    a: Predictions,
    b: Predictions,
    rows: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    names: Sequence[str],
    groups: npt.NDArray[np.str_] | None,
) -> Comparison:
    from scipy import stats  # late: it takes half a second

    other = b.schema[label.name]
    if (other.kind, other.class_names) != (label.kind, label.class_names):
        raise DataError(f"Label {label.name!r} has other classes in the two models.")
    one, two = a.labels[label.name].rows(rows[0]), b.labels[label.name].rows(rows[1])
    known = one.mask & two.mask
    if not known.any():
        raise DataError(f"No example that both models have has label {label.name!r}.")
    if not np.array_equal(one.truth[known], two.truth[known]):
        raise DataError(
            f"The two evaluations name different truths for label {label.name!r} of the same "
            "examples. Evaluate both models on the same --eval_metadata."
        )
    name, scores_a = main_score(label, one)
    _, scores_b = main_score(label, two)
    scores_a, scores_b = scores_a[known], scores_b[known]
    clusters = None if groups is None else groups[known]
    known_names = [name for name, is_known in zip(names, known, strict=True) if is_known]
    change = (scores_b - scores_a) * (1 if label.has_classes else -1)
    gained = [known_names[i] for i in np.flatnonzero(change > 0)]
    lost = [known_names[i] for i in np.flatnonzero(change < 0)]
    flipped = len(gained) + len(lost)
    fractions, differences = None, None
    if label.has_classes:
        fractions, differences = FRACTION_BOUNDS, DIFFERENCE_BOUNDS
    return Comparison(
        name,
        of_folds(mean_with_interval(scores_a, clusters, bounds=fractions), a.num_folds, fractions),
        of_folds(mean_with_interval(scores_b, clusters, bounds=fractions), b.num_folds, fractions),
        of_folds(
            mean_with_interval(scores_b - scores_a, clusters, bounds=differences),
            max(a.num_folds, b.num_folds),
            differences,
            DIFFERENCE_OF_FOLDS,
        ),
        float(stats.binomtest(len(gained), flipped).pvalue) if flipped else 1.0,
        gained,
        lost,
        label.has_classes,
    )


def as_json(comparisons: Mapping[str, Comparison]) -> dict[str, object]:
    """Plain values."""
    return {
        name: dataclasses.asdict(one) | {"verdict": one.verdict}
        for name, one in comparisons.items()
    }
