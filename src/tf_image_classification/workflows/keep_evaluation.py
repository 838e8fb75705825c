"""The evaluation that a model folder stores: the basis of its reports and calibration.

print(keep(folder, predictions, analysis, choice="auto"))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.evaluation.analysis import MIN_TO_CALIBRATE, Analysis
from tf_image_classification.evaluation.predictions import (
    Predictions,
    read_predictions,
    write_predictions,
)
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files

AUTO, ALWAYS, NEVER = CHOICES = ("auto", "yes", "no")
"""Whether an evaluation is stored; auto: unless a calibration would be lost."""

KEPT = "kept: "
"""Begins the sentence of ``keep`` on an evaluation that is stored."""

_FILES = "predictions.parquet, judgement.json and calibration.json"
_USERS = "tfic predict, serve, export and report"


def check_choice(choice: str) -> None:
    """Check a value of ``keep_evaluation``.

    Raises:
        ConfigError: it is not one of ``CHOICES``.
    """
    if choice not in CHOICES:
        raise ConfigError(f"keep_evaluation is {choice!r}, expected {', '.join(CHOICES)}.")


def keep(
    folder: ModelFolder,
    predictions: Predictions,
    analysis: Analysis,
    *,
    choice: str,
) -> str:
    """Store an evaluation in the folder, or not; returns a sentence with the reason.

    Args:
        folder: of the model.
        predictions: of the evaluation.
        analysis: of these predictions.
        choice: one of ``CHOICES``.

    Raises:
        DataError: the folder cannot be written.
    """
    before = _kept_before(folder, predictions.step)
    if choice == NEVER:
        return f"not kept (--keep_evaluation no). {_stays(before)}"
    new = {
        name: of_label.calibrated.calibration.to_json()
        for name, of_label in analysis.labels.items()
        if of_label.calibrated is not None
    }
    uncalibrated = _uncalibrated(predictions, analysis)
    lost = sorted(set(before.get("calibrations", {})) - set(new))
    if choice == AUTO and lost:
        return (
            f"not kept: {uncalibrated}, and the calibration of label {', '.join(lost)} would be "
            f"lost. {_stays(before)} --keep_evaluation yes replaces it."
        )
    write_predictions(folder.predictions, predictions)
    files.write_json(folder.analysis, analysis.to_json())
    files.write_json(folder.calibration, {"step": predictions.step, "labels": new})
    place = ""
    if before and before["data"] != predictions.data:
        place = f", and replace those of {before['count']} other examples"
    text = f"{KEPT}{_FILES} hold this evaluation of {len(predictions)} examples{place}."
    if lost:
        text += f" The calibration of label {', '.join(lost)} was removed: {uncalibrated}."
    elif uncalibrated:
        text += f" Not calibrated: {uncalibrated}."
    return text


def _kept_before(folder: ModelFolder, step: int) -> dict[str, Any]:
    """Number of examples, fingerprint and calibrations of the stored evaluation; {} without one."""
    if not files.exists(folder.predictions):
        return {}
    try:
        found = read_predictions(folder.predictions)
        stored: Mapping[str, Any] = (
            files.read_json(folder.calibration) if files.exists(folder.calibration) else {}
        )
    except (DataError, ValueError):  # damaged: it is written anew
        return {}
    if found.step != step:
        return {}
    calibrations = stored.get("labels", {}) if stored.get("step") == step else {}
    return {"count": len(found), "data": found.data, "calibrations": calibrations}


def _stays(before: Mapping[str, Any]) -> str:
    if not before:
        return "The folder holds no evaluation of this model."
    return f"{_USERS} still use the evaluation of {before['count']} examples."


def _uncalibrated(predictions: Predictions, analysis: Analysis) -> str:
    """Which labels have too few examples to be calibrated, or ""."""
    few = [
        f"label {label.name} has {int(predictions.labels[label.name].mask.sum())} labelled examples"
        for label in predictions.schema
        if label.has_classes
        and (label.name not in analysis.labels or analysis.labels[label.name].calibrated is None)
    ]
    if not few:
        return ""
    return f"{', '.join(few)}, too few to calibrate (at least {MIN_TO_CALIBRATE} in two halves)"
