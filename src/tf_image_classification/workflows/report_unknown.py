"""The report's section on pictures of none of the classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.intervals import FRACTION_BOUNDS, mean_with_interval
from tf_image_classification.evaluation.unknown_detector import Detector
from tf_image_classification.pages.tables import Cell, Table, count_cell, interval_cell
from tf_image_classification.report.content import Example, Gallery, UnknownContent
from tf_image_classification.workflows.evaluated_model import EvaluatedModel

_MAX_IN_GALLERY = 96


def refused_rows(model: EvaluatedModel) -> list[int]:
    """Rows of the evaluation examples above the limit, the farthest first."""
    detector = _detector(model)
    if detector is None:
        return []
    rows, scores = _scored_rows(model, detector)
    refused = [row for row in np.argsort(-scores, kind="stable") if scores[row] > 1]
    found: list[int] = rows[refused[:_MAX_IN_GALLERY]].tolist()
    return found


def unknown_content(
    model: EvaluatedModel, examples: Mapping[int, Example]
) -> UnknownContent | None:
    """The section; None without a detector that was fitted to this evaluation.

    Args:
        model: the model with its evaluation.
        examples: by row, those with an image on the page.
    """
    detector = _detector(model)
    if detector is None:
        return None
    refused = [examples[row] for row in refused_rows(model) if row in examples]
    text = "Highest score first. They show a known class and lie far from the training set."
    return UnknownContent(
        _text(detector),
        _by_class(model, detector),
        Gallery("unknown", "Refused evaluation examples", text, refused),
    )


def _detector(model: EvaluatedModel) -> Detector | None:
    detector = model.predictor.detector
    is_of_it = detector is not None and detector.data == model.predictions.data
    return detector if is_of_it else None


def _scored_rows(
    model: EvaluatedModel, detector: Detector
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows of the predictions that have a score, and the scores."""
    rows = {int(number): row for row, number in enumerate(model.predictions.ids)}
    has_row = np.array([int(number) in rows for number in detector.ids], bool)
    found = np.array([rows[int(number)] for number in detector.ids[has_row]], np.int64)
    return found, detector.known_scores[has_row]


def _text(detector: Detector) -> str:
    limit, result = detector.limit, detector.result
    score = (
        f"unknown_score is the distance to the training set ({detector.choice.name}, "
        f"{detector.num_train:,} training examples)"
    )
    if limit.exists:
        text = (
            f"{score}. Above 1 a picture shows none of the classes. The limit refuses at most "
            f"{limit.rate:.3g} of pictures of known classes on average; of new ones "
            f"{limit.low:.3f} to {limit.high:.3f} (95 % interval of {limit.count:,} evaluation "
            "examples, if new pictures are like these)."
        )
    else:
        text = f"{score}. It has no limit: {limit.note}."
    if result is None:
        return f"{text} How many unknown pictures it finds: give --unknown_examples."
    found = "" if result.detected is None else f", fraction above the limit {result.detected}"
    return f"{text} {result.count} unknown examples: AUROC {result.auroc}{found}."


def _by_class(model: EvaluatedModel, detector: Detector) -> list[Table]:
    """The refused fraction of each class, of the first label with one class an example."""
    if not detector.limit.exists:
        return []
    rows, scores = _scored_rows(model, detector)
    for label in model.manifest.schema.class_labels[:1]:
        some = model.predictions.labels[label.name].rows(rows)
        cells: list[list[Cell]] = []
        for number, name in enumerate(label.named_classes()):
            of_class = scores[some.mask & (some.truth == number)] > 1
            found = mean_with_interval(of_class.astype(float), bounds=FRACTION_BOUNDS)
            cell = interval_cell(found.value, found.low, found.high, found.note)
            cells.append([name, count_cell(len(of_class)), cell])
        return [Table("Refused by class", ["class", "examples", "refused"], cells)]
    return []
