"""``tfic report``: gathers what is known of a folder's model, its mistakes and its data."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.config import Settings
from tf_image_classification.errors import ConfigError
from tf_image_classification.evaluation.analysis import LabelAnalysis
from tf_image_classification.evaluation.label_errors import LabelErrors, label_errors
from tf_image_classification.evaluation.predictions import LabelPredictions
from tf_image_classification.labels import SEPARATOR, Label
from tf_image_classification.labels.schema import MULTILABEL, REGRESSION
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.report.html import (
    calibration_json,
    curves,
    interval_json,
    model_card,
    report_html,
)
from tf_image_classification.run_manifest import versions
from tf_image_classification.serving.rendering import heat_png, seen_image
from tf_image_classification.system import files
from tf_image_classification.workflows.diagnose import (
    NOT_COMPARED,
    class_counts,
    find_leaks,
    measured_limits,
)
from tf_image_classification.workflows.evaluated_model import KnownModel, know

Array = npt.NDArray[Any]

_MOST_PICTURES, _MOST_BYTES = 2_000, 12_000_000
_MOST_HEATED, _MOST_IN_A_GALLERY = 200, 96
_SHOWN_OF_A_CLASS = 10
_SIDE = 112
_AT_ONCE = 32
_DIGITS = 4


def write_report(
    settings: Settings,
    *,
    group: str = "",
    output: str = "",
    is_inspected: bool = True,
) -> tuple[str, str]:
    """Write the page and the model card; returns their paths.

    Args:
        settings: ``model_dir``, and ``eval_metadata`` where other images are wanted.
        group: as ``analysis.analyze`` takes it.
        output: of the page; "": ``report.html`` in the folder, and the card beside it.
        is_inspected: whether near duplicates between training and evaluation are looked for, among
            at most 20,000 images.

    Raises:
        TficError: there is no model or nothing to evaluate it on.
    """
    folder = ModelFolder(settings.run.model_dir)
    known = know(folder, settings, group)
    leaks, num_leaked = find_leaks(known) if is_inspected else (NOT_COMPARED, None)
    content = _content(folder, known, leaks, num_leaked)
    page = output or files.join(folder.path, "report.html")
    beside = page.rpartition("/")[0]
    if beside:
        files.make_folder(beside)
    card = files.join(beside, "model_card.md") if beside else "model_card.md"
    files.write_bytes(page, report_html(content).encode())
    files.write_bytes(card, model_card(content).encode())
    return page, card


def _content(
    folder: ModelFolder, known: KnownModel, leaks: Mapping[str, Any], num_leaked: int | None
) -> dict[str, Any]:
    labels = [
        _label_content(label, known, num_leaked)
        for label in known.record.schema
        if label.name in known.analysis.labels
    ]
    chosen = _chosen(known, labels)
    thumbs = _thumbs(known, chosen)
    name = folder.path.rstrip("/").rpartition("/")[2]
    values, origins = known.record.settings, known.record.origins
    of_step = f"step {known.predictions.step}"
    group = f", drawn by {known.analysis.group}" if known.analysis.group else ""
    return {
        "title": f"Report of {name}",
        "lead": f"The exported model of {of_step} on {len(known.predictions)} examples{group}.",
        "summary": [
            ["model folder", folder.path],
            ["spec", known.record.spec.rpartition("/")[2]],
            ["training examples", str(known.record.num_train_examples or "unknown")],
            ["evaluation", " ".join(known.settings.data.eval_metadata)],
            ["labels", ", ".join(f"{one.name} ({one.describe()})" for one in known.record.schema)],
            ["heat maps", _heat_text(known, thumbs)],
            ["versions", ", ".join(f"{k} {v}" for k, v in versions().items())],
        ],
        "curves": curves(folder.evaluations()),
        "labels": labels,
        "uris": list(known.predictions.uris),
        "thumbs": thumbs,
        "has_heat": any("heat" in one for one in thumbs.values()),
        "leaks": dict(leaks),
        "counts": [_counts(label, known) for label in known.record.schema if label.has_classes],
        "settings": [
            [key, " ".join(map(str, value)) if isinstance(value, list) else str(value),
             origins.get(key, "default")]
            for key, value in sorted(values.items())
        ],
    }  # fmt: skip


def _heat_text(known: KnownModel, thumbs: Mapping[int, Mapping[str, Any]]) -> str:
    """Of how many pictures the page shows where the model looks, or why of none."""
    count = sum("heat" in one for one in thumbs.values())
    if count:
        return f"Grad-CAM, of {count} pictures"
    reason = known.predictor.no_heat_maps or "the exported model has no function for them"
    return f"none: {reason}"


def _label_content(label: Label, known: KnownModel, num_leaked: int | None) -> dict[str, Any]:
    found = known.analysis.labels[label.name]
    of_label = known.predictions.labels[label.name]
    errors, candidates = _label_errors(label, of_label)
    return {
        "name": label.name,
        "kind": label.kind,
        "classes": list(label.named_classes()),
        "score_name": found.score_name.replace("_", " "),
        "score": interval_json(found.score),
        "measures": [[n, interval_json(v)] for n, v in found.measures.overall.items()],
        "per_class": _per_class(found),
        "confusion": _matrix(found),
        "calibration": calibration_json(found),
        "rejecting": [list(row) for row in found.rejecting],
        "slices": [
            {"column": s.column, "value": s.value, "score": interval_json(s.score)}
            for s in found.slices
        ],
        "limits": [
            [limit.title, limit.state, limit.text]
            for limit in measured_limits(label, known, errors, num_leaked)
        ],
        "examples": _examples(label, of_label),
        "galleries": _galleries(label, of_label, errors, candidates),
    }


def _per_class(found: LabelAnalysis) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "count": next((one.count for one in scores.values()), 0),
            "scores": {key: interval_json(one) for key, one in scores.items()},
        }
        for name, scores in found.measures.of_classes.items()
    ]


def _matrix(found: LabelAnalysis) -> list[list[int]] | None:
    confusion = found.measures.confusion
    return None if confusion is None or len(confusion) > 200 else confusion.tolist()


def _examples(label: Label, of_label: LabelPredictions) -> dict[str, list[Any]]:
    """What the page needs of every example."""

    def plain(values: Array) -> list[Any]:
        if label.kind == MULTILABEL:
            names = np.array(label.named_classes(), object)
            return [SEPARATOR.join(names[row > 0]) for row in values]
        return [
            round(value, _DIGITS) if label.kind == REGRESSION else value
            for value in values.tolist()
        ]

    truth = [
        value if is_known else None
        for value, is_known in zip(plain(of_label.truth), of_label.mask, strict=True)
    ]
    confidence: list[float | None] = [None] * len(truth)
    if label.has_classes:
        confidence = np.round(_confidence(of_label), _DIGITS).tolist()
    return {"truth": truth, "predicted": plain(of_label.predicted), "confidence": confidence}


def _confidence(of_label: LabelPredictions) -> Array:
    """Of the predicted class; of several classes that of the least sure decision."""
    probabilities = of_label.probabilities.astype(np.float64)
    if of_label.predicted.ndim == 2:
        sure = np.where(of_label.predicted > 0, probabilities, 1 - probabilities)
        return np.asarray(sure.min(axis=1))
    return np.asarray(np.take_along_axis(probabilities, of_label.predicted[:, None], axis=1)[:, 0])


def _label_errors(label: Label, of_label: LabelPredictions) -> tuple[LabelErrors | None, Array]:
    """What is known of wrong labels, or None; and the rows of the candidates."""
    if not label.is_class:
        return None, np.zeros(0, np.int64)
    rows = np.flatnonzero(of_label.mask)
    try:
        found = label_errors(of_label.truth[rows], of_label.probabilities[rows])
    except ConfigError:
        return None, np.zeros(0, np.int64)
    return found, rows[found.candidates]


def _galleries(
    label: Label, of_label: LabelPredictions, errors: LabelErrors | None, candidates: Array
) -> dict[str, dict[str, Any]]:
    known = of_label.mask
    if not label.has_classes:
        wrong = np.where(known, np.abs(of_label.predicted - of_label.truth), -1.0)
        worst = [int(i) for i in np.argsort(-wrong) if wrong[i] > 0]
        return {"worst": _gallery("largest errors", "The values that are furthest off.", worst)}
    mistakes = np.flatnonzero(known & ~of_label.is_right)
    confidence = _confidence(of_label)
    if label.kind == MULTILABEL:
        order = mistakes[np.argsort(-confidence[mistakes])].tolist()
        text = "Mistakes in any class, those first of which the model was surest."
        return {"worst": _gallery("worst mistakes", text, order)}
    of_truth = np.take_along_axis(of_label.probabilities, of_label.truth[:, None], axis=1)[:, 0]
    worst = mistakes[np.argsort(of_truth[mistakes], kind="stable")].tolist()
    surest = mistakes[np.argsort(-confidence[mistakes], kind="stable")].tolist()
    found = {
        "worst": _gallery(
            "worst mistakes", "What the true class was least likely for, by the model.", worst
        ),
        "surest": _gallery(
            "most confident mistakes", "Wrong, and sure of it: look here for new kinds.", surest
        ),
    }
    if errors is not None:
        found["errors"] = _gallery(
            "candidates for wrong labels", errors.text(), candidates.tolist()
        )
    return found


def _gallery(title: str, text: str, indices: Sequence[int]) -> dict[str, Any]:
    return {"title": title, "text": text, "indices": list(indices[:_MOST_IN_A_GALLERY])}


def _chosen(known: KnownModel, labels: Sequence[Mapping[str, Any]]) -> list[int]:
    """Rows whose pictures are shown: galleries, then mistakes, some of each class, then others."""
    found: dict[int, None] = {}
    for content in labels:
        for gallery in content["galleries"].values():
            found |= dict.fromkeys(gallery["indices"])
    of_classes = [known.predictions.labels[one["name"]] for one in labels if one["classes"]]
    for of_label in of_classes:
        found |= dict.fromkeys(np.flatnonzero(of_label.mask & ~of_label.is_right).tolist())
    for of_label in of_classes:
        if of_label.truth.ndim == 1:
            for k in np.unique(of_label.truth):
                mine = np.flatnonzero(of_label.mask & (of_label.truth == k))
                found |= dict.fromkeys(mine[:_SHOWN_OF_A_CLASS].tolist())
    found |= dict.fromkeys(range(min(len(known.predictions), _MOST_PICTURES)))
    return list(found)[:_MOST_PICTURES]


def _thumbs(known: KnownModel, chosen: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Small pictures as the model sees them, and where it looks in the first of them."""
    found: dict[int, dict[str, Any]] = {}
    size = 0
    for start in range(0, len(chosen), _AT_ONCE):
        rows = list(chosen[start : start + _AT_ONCE])
        numbers = tf.constant(known.predictions.ids[rows], tf.int64)
        images = []
        for data in known.evaluation.fetch(numbers).numpy().tolist():
            images.append(known.predictor.prepare(data))
        heat: dict[str, Any] = {}
        if start < _MOST_HEATED:
            heat = known.predictor.explain(tf.stack(images))
        for i, row in enumerate(rows):
            picture = seen_image(images[i].numpy(), side=_SIDE)
            one: dict[str, Any] = {"image": base64.b64encode(picture).decode()}
            if heat:
                one["heat"] = {
                    name: base64.b64encode(heat_png(maps[i])).decode()
                    for name, maps in heat.items()
                }
            size += len(one["image"]) + sum(map(len, one.get("heat", {}).values()))
            found[row] = one
        if size > _MOST_BYTES:
            break
    return found


def _counts(label: Label, known: KnownModel) -> dict[str, Any]:
    train = class_counts(label, known.train) or [None] * label.depth  # type: ignore[list-item]
    evaluation = class_counts(label, known.evaluation)
    assert evaluation is not None
    rows = [list(row) for row in zip(label.named_classes(), train, evaluation, strict=True)]
    return {"caption": f"examples by {label.name}", "rows": rows}
