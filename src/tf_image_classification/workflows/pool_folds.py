"""The result of a cross-validation: the predictions of its folds, pooled to one evaluation.

result = pool(plan, predictions_of_folds, group="")
result.scores["label"]            # the mean over all examples, with its interval
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import DataError, RunMismatchError
from tf_image_classification.evaluation.analysis import (
    FOUND_GROUPS,
    Analysis,
    analyze,
    main_score,
)
from tf_image_classification.evaluation.intervals import (
    FRACTION_BOUNDS,
    Interval,
    mean_with_interval,
    of_folds,
)
from tf_image_classification.evaluation.predictions import LabelPredictions, Predictions
from tf_image_classification.workflows import keep_evaluation
from tf_image_classification.workflows.setup.folds import (
    Fold,
    FoldPlan,
    folder_of_repeat,
    read_plan,
)
from tf_image_classification.workflows.train_fold import complete_predictions

FOLD_COLUMN = "fold"
"""The column of the pooled predictions with the number of each example's fold."""


@dataclasses.dataclass(frozen=True)
class FoldScore:
    """The evaluation of one fold.

    Attributes:
        fold: the fold.
        num_examples: that it held out.
        scores: by label name its main metric.
    """

    fold: Fold
    num_examples: int
    scores: Mapping[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "repeat": self.fold.repeat,
            "fold": self.fold.number,
            "group": self.fold.group,
            "model_dir": self.fold.folder.path,
            "num_examples": self.num_examples,
            "scores": {name: _plain(one) for name, one in self.scores.items()},
        }


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """The result of a cross-validation.

    Attributes:
        model_dir: its folder.
        folds: the evaluation of each fold.
        repeats: by division and label the main metric over all examples, without interval.
        scores: by label the main metric over all examples, the mean over the divisions.
        score_names: by label the name of its main metric.
        analysis: of the pooled predictions of the first division.
        predictions: of the first division.
    """

    model_dir: str
    folds: Sequence[FoldScore]
    repeats: Sequence[Mapping[str, float]]
    scores: Mapping[str, Interval]
    score_names: Mapping[str, str]
    analysis: Analysis
    predictions: Predictions

    def to_json(self) -> dict[str, Any]:
        """Plain values; undefined numbers are null."""
        return {
            "model_dir": self.model_dir,
            "num_examples": len(self.predictions),
            "scores": {
                name: {"metric": self.score_names[name], **_plain(one)}
                for name, one in self.scores.items()
            },
            "repeats": [dict(one) for one in self.repeats],
            "folds": [one.to_json() for one in self.folds],
            "analysis": self.analysis.to_json(),
        }


def pool(
    plan: FoldPlan, predictions: Mapping[Fold, Predictions], group: str = ""
) -> CrossValidation:
    """The result of complete folds; each example counts once in a division.

    Args:
        plan: the folds.
        predictions: of each fold, for the examples that it held out.
        group: column whose values are the clusters of the bootstrap, or "".

    Raises:
        RunMismatchError: the folds have other labels or classes than one another.
    """
    pooled = [
        _pooled(plan, {f: p for f, p in predictions.items() if f.repeat == repeat})
        for repeat in range(1, plan.repeats + 1)
    ]
    first = pooled[0]
    analysis = analyze(first, group)
    groups = first.groups(group)
    scores = {}
    names = {n: m for n, m in score_names(first).items() if n in analysis.labels}
    repeats: list[dict[str, float]] = [{} for _ in pooled]
    for name in analysis.labels:
        label = first.schema[name]
        of_repeats = [main_score(label, one.labels[name])[1] for one in pooled]
        mask = first.labels[name].mask
        for found, values in zip(repeats, of_repeats, strict=True):
            found[name] = float(values[mask].mean())
        if len(pooled) == 1:
            scores[name] = analysis.labels[name].score
        else:
            mean = np.mean(of_repeats, axis=0)[mask]
            interval = mean_with_interval(mean, None if groups is None else groups[mask])
            bounds = FRACTION_BOUNDS if label.has_classes else (0.0, math.inf)
            scores[name] = of_folds(interval, first.num_folds, bounds)
    return CrossValidation(
        plan.root,
        [score_of(fold, one, group) for fold, one in predictions.items()],
        repeats,
        scores,
        names,
        analysis,
        first,
    )


def meaning(result: CrossValidation) -> str:
    """What the interval of a result is of, in words."""
    by = result.analysis.group
    group = f", for new {by if by == FOUND_GROUPS else f'values of {by}'}" if by else ""
    percent = 100 - 100 / result.predictions.num_folds
    return (
        f"95 % interval of the mean of models trained on {percent:.0f} % of the examples{group}, "
        "each scored by its last checkpoint"
    )


def store(plan: FoldPlan, predictions: Mapping[Fold, Predictions], group: str) -> CrossValidation:
    """Pool, and write predictions, analysis and calibration into the folder of each division.

    Raises:
        RunMismatchError: as ``pool``.
        DataError: a folder cannot be written.
    """
    found = pool(plan, predictions, group)
    for repeat in range(1, plan.repeats + 1):
        of_repeat = {f: p for f, p in predictions.items() if f.repeat == repeat}
        one = found.predictions if repeat == 1 else _pooled(plan, of_repeat)
        analysis = found.analysis if repeat == 1 else analyze(one, group)
        folder = folder_of_repeat(plan.root, repeat)
        keep_evaluation.keep(folder, one, analysis, choice=keep_evaluation.ALWAYS)
    return found


def read_folds(plan: FoldPlan) -> dict[Fold, Predictions]:
    """The predictions of all folds of a complete cross-validation.

    Raises:
        DataError: a fold is not complete.
    """
    found = {}
    for fold in plan.folds:
        predictions = complete_predictions(fold.folder)
        if predictions is None:
            raise DataError(
                f"{fold.folder.path} is not complete, or its predictions are of other examples. "
                "Start the command of the cross-validation again, which repeats only that fold."
            )
        found[fold] = predictions
    return found


def first_fold(root: str) -> str:
    """The model folder of the first fold of a cross-validation.

    Raises:
        DataError: as ``read_plan``.
    """
    numbers = (read_plan(root) or {"examples": [{}]})["examples"][0].values()
    return Fold(root, 1, min({number for number in numbers if number}, default=1)).folder.path


def group_of(root: str) -> str:
    """The column that groups the examples of a cross-validation, or "".

    Raises:
        DataError: as ``read_plan``.
    """
    return str((read_plan(root) or {"settings": {}})["settings"].get("group_column", ""))


def _pooled(plan: FoldPlan, predictions: Mapping[Fold, Predictions]) -> Predictions:
    """The predictions of one division as those of one evaluation of the whole set."""
    folds, parts = list(predictions), list(predictions.values())
    first = parts[0]
    for fold, part in predictions.items():
        if part.schema != first.schema:
            raise RunMismatchError(
                f"{fold.folder.path} has other labels or classes than {folds[0].folder.path}. "
                "Name the classes for all folds with --labels, into another --model_dir."
            )
    ids = np.concatenate([plan.members(f)[p.ids] for f, p in predictions.items()])
    order = np.argsort(ids, kind="stable")
    labels = {
        name: LabelPredictions(
            *(
                np.concatenate([getattr(part.labels[name], field.name) for part in parts])[order]
                for field in dataclasses.fields(LabelPredictions)
            )
        )
        for name in first.schema.names
    }
    columns = [name for name in first.slices if all(name in part.slices for part in parts)]
    slices = {name: _joined([part.slices[name] for part in parts], order) for name in columns}
    if FOLD_COLUMN not in slices:
        numbers = [[str(fold.number)] * len(part) for fold, part in predictions.items()]
        slices[FOLD_COLUMN] = _joined(numbers, order)
    return Predictions(
        first.schema,
        ids[order],
        _joined([part.uris for part in parts], order),
        labels,
        max(part.step for part in parts),
        plan.data,
        slices,
        [plan.found_groups.get(plan.ids[i], "") for i in ids[order].tolist()]
        if plan.found_groups
        else (),
        len(parts),
    )


def _joined(parts: Sequence[Sequence[str]], order: npt.NDArray[np.int64]) -> list[str]:
    joined = [text for part in parts for text in part]
    return [joined[i] for i in order.tolist()]


def score_names(predictions: Predictions) -> dict[str, str]:
    """By label the name of its main metric."""
    return {
        label.name: main_score(label, predictions.labels[label.name])[0]
        for label in predictions.schema
    }


def score_of(fold: Fold, predictions: Predictions, group: str = "") -> FoldScore:
    """The main metric of each label on what a fold held out."""
    scores = {}
    groups = predictions.groups(group)
    for label in predictions.schema:
        of_label = predictions.labels[label.name]
        _, values = main_score(label, of_label)
        scores[label.name] = mean_with_interval(
            values[of_label.mask],
            None if groups is None else groups[of_label.mask],
            bounds=FRACTION_BOUNDS if label.has_classes else None,
        )
    return FoldScore(fold, len(predictions), scores)


def _plain(interval: Interval) -> dict[str, Any]:
    values = dataclasses.asdict(interval)
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
