"""Whether one model is better than another on the same examples, or whether nobody can tell.

comparison = compare(predictions_of_a, predictions_of_b)["kind"]
comparison.verdict          "B is better", "B is worse" or "cannot tell"
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import ConfigError, DataError, did_you_mean
from tf_image_classification.evaluation.analysis import main_score
from tf_image_classification.evaluation.intervals import CHANGE, SHARE, Interval, mean_with_interval
from tf_image_classification.evaluation.predictions import Predictions
from tf_image_classification.labels import Label


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models on one label.

    Attributes:
        score_name: what is compared: accuracy, exact match or mean absolute error.
        a: the first model's.
        b: the second's.
        difference: b less a, example by example, with its interval.
        p_value: of McNemar's exact test that as many became right as wrong; of the sign test for
            real values; of no use where examples come in groups.
        gained: names of examples that only b has right, or has nearer to the truth.
        lost: names of those that only a has.
        is_more_better: whether a larger score is the better one.
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
        """In words, by whether the interval of the difference holds 0."""
        low, high = self.difference.low, self.difference.high
        if not (low > 0 or high < 0):
            return "cannot tell"
        return "B is better" if (low > 0) == self.is_more_better else "B is worse"


def compare(a: Predictions, b: Predictions, group: str = "") -> dict[str, Comparison]:
    """By label name, over the examples that both have and whose label is known.

    Args:
        a: of the first model.
        b: of the second.
        group: column of ``a`` whose examples belong together, such as people, or "".

    Raises:
        DataError: they have no examples or labels in common, or name different truths.
        ConfigError: there is no such column.
    """
    if group and group not in a.slices:
        raise ConfigError(f"There is no column {group!r}. {did_you_mean(group, a.slices)}")
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
    groups = np.asarray(a.slices[group], object).astype(str)[of_a] if group else None
    found = {}
    for label in a.schema:
        if label.name in b.schema.names:
            found[label.name] = _of_label(label, a, b, (of_a, of_b), names, groups)
    if not found:
        raise DataError("The two models have no label in common.")
    return found


def _names(a: Predictions, b: Predictions) -> tuple[Sequence[object], Sequence[object]]:
    """What the examples of both are told apart by: their numbers if the sets are the same."""
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
    known = one.known & two.known
    if not known.any():
        raise DataError(f"Label {label.name!r} is not known of any example that both have.")
    if not np.array_equal(one.truth[known], two.truth[known]):
        raise DataError(
            f"The two evaluations name different truths for label {label.name!r} of the same "
            "examples. Evaluate both models on the same --eval_metadata."
        )
    name, scores_a = main_score(label, one)
    _, scores_b = main_score(label, two)
    scores_a, scores_b = scores_a[known], scores_b[known]
    kept = None if groups is None else groups[known]
    known_names = [name for name, is_known in zip(names, known, strict=True) if is_known]
    change = (scores_b - scores_a) * (1 if label.has_classes else -1)
    gained = [known_names[i] for i in np.flatnonzero(change > 0)]
    lost = [known_names[i] for i in np.flatnonzero(change < 0)]
    flipped = len(gained) + len(lost)
    return Comparison(
        name,
        mean_with_interval(scores_a, kept, bounds=SHARE if label.has_classes else None),
        mean_with_interval(scores_b, kept, bounds=SHARE if label.has_classes else None),
        mean_with_interval(scores_b - scores_a, kept, bounds=CHANGE if label.has_classes else None),
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
