"""The examples and labels that two models have in common, row by row.

    pairs = pair(predictions_of_a, predictions_of_b, group="person")
    pairs.labels["kind"].a.predicted        [n], and those of b for the same examples

A model that was trained with its classes in another order, or with fewer or more of them, is
compared by the names of the classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import DataError
from tf_image_classification.evaluation.predictions import LabelPredictions, Predictions
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import MULTILABEL, ORDINAL

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class LabelPair:
    """The labelled examples of one label that both models have.

    Attributes:
        label: with the classes of both models.
        a: truth and predictions of the first model.
        b: those of the second.
        names: of the examples.
        ids: of the examples in the evaluation of the first model.
        groups: their clusters; None without.
        slices: by column their values.
        notes: on different classes, in sentences.
        num_folds: of both models, ``Predictions.num_folds``.
    """

    label: Label
    a: LabelPredictions
    b: LabelPredictions
    names: Sequence[str]
    ids: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_] | None
    slices: Mapping[str, Array]
    notes: Sequence[str] = ()
    num_folds: tuple[int, int] = (0, 0)


def pair(a: Predictions, b: Predictions, group: str = "") -> dict[str, LabelPair]:
    """The pairs by label name.

    Args:
        a: of the first model.
        b: of the second model.
        group: column of ``a`` whose values are the clusters of examples, e.g. people, or "".

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
    slices = {name: np.array(texts, object).astype(str)[of_a] for name, texts in a.slices.items()}
    found = {}
    for label in a.schema:
        if label.name not in b.schema.names:
            continue
        joined, notes = _joined(label, b.schema[label.name])
        one = _in_classes(label, joined, a.labels[label.name].rows(of_a))
        two = _in_classes(b.schema[label.name], joined, b.labels[label.name].rows(of_b))
        known = one.mask & two.mask
        if not known.any():
            raise DataError(f"No example that both models have has label {label.name!r}.")
        if not np.array_equal(one.truth[known], two.truth[known]):
            raise DataError(
                f"The two evaluations name different truths for label {label.name!r} of the same "
                "examples. Evaluate both models on the same --eval_metadata."
            )
        found[label.name] = LabelPair(
            joined,
            one.rows(known),
            two.rows(known),
            [a.uris[i] for i in of_a[known].tolist()],
            a.ids[of_a[known]],
            None if groups is None else groups[of_a][known],
            {name: values[known] for name, values in slices.items()},
            notes,
            (a.num_folds, b.num_folds),
        )
    if not found:
        raise DataError(
            "The two models have no label in common: A has "
            f"{', '.join(a.schema.names)}, B {', '.join(b.schema.names)}."
        )
    return found


def _names(a: Predictions, b: Predictions) -> tuple[Sequence[object], Sequence[object]]:
    """The names that match examples: indices if the sets are the same, else URIs."""
    return (a.ids.tolist(), b.ids.tolist()) if a.data == b.data else (a.uris, b.uris)


def _joined(a: Label, b: Label) -> tuple[Label, list[str]]:
    """A label with the classes of both models, and notes on those that one of them lacks."""
    if a.kind != b.kind:
        raise DataError(f"Label {a.name!r} is {a.kind} in A and {b.kind} in B.")
    of_a, of_b = a.named_classes(), b.named_classes()
    if of_a == of_b:
        return a, []
    if a.kind == ORDINAL or not {*of_a} & {*of_b}:
        raise DataError(
            f"Label {a.name!r} has other classes in the two models: {_few(of_a)} in A, "
            f"{_few(of_b)} in B. Compare models that were trained with the same classes."
        )
    more = [name for name in of_b if name not in of_a]
    missing = [name for name in of_a if name not in of_b]
    notes = [
        f"{other} does not know {_few(names)} of label {a.name!r}: it never predicts "
        f"{'it' if len(names) == 1 else 'them'}."
        for other, names in (("A", more), ("B", missing))
        if names
    ]
    names = (*of_a, *more)
    return dataclasses.replace(a, depth=len(names), class_names=names), notes


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _in_classes(label: Label, joined: Label, found: LabelPredictions) -> LabelPredictions:
    """Predictions with the classes of another label, which has all of theirs."""
    if not label.has_classes or label.named_classes() == joined.named_classes():
        return found
    to = np.array([joined.named_classes().index(name) for name in label.named_classes()])

    def spread(values: Array) -> Array:
        wide = np.zeros([len(values), joined.depth], values.dtype)
        wide[:, to] = values
        return wide

    in_names = spread if label.kind == MULTILABEL else to.__getitem__
    return LabelPredictions(
        in_names(found.truth),
        in_names(found.predicted),
        spread(found.probabilities),
        found.mask,
    )
