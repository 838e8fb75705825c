"""``tfic report``: gathers what is known of a folder's model, its mistakes and its data."""

from __future__ import annotations

import base64
import dataclasses
import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification import files
from tf_image_classification.config import Settings
from tf_image_classification.dataset.pipeline import Pipeline
from tf_image_classification.dataset.sources import Table
from tf_image_classification.errors import CheckpointError, ConfigError, TficError
from tf_image_classification.evaluation.intervals import Interval, mean_with_interval
from tf_image_classification.evaluation.judgement import Judgement, OfOneLabel, judge
from tf_image_classification.evaluation.limits import Facts, limits_of
from tf_image_classification.evaluation.predictions import OfLabel, Predictions
from tf_image_classification.evaluation.report import (
    calibration_json,
    curves,
    interval_json,
    model_card,
    report_html,
)
from tf_image_classification.inspection.inspect import inspect
from tf_image_classification.labels import SEPARATOR, Label
from tf_image_classification.labels.schema import SEVERAL
from tf_image_classification.metrics.label_errors import likely_label_errors
from tf_image_classification.model_folder import ModelFolder, RunRecord, versions
from tf_image_classification.runs import folder_evaluation, reading
from tf_image_classification.serving.export import ExportedModel
from tf_image_classification.serving.pictures import heat_png, seen_image
from tf_image_classification.serving.predictor import Predictor, load_model

log = logging.getLogger("tf_image_classification")
Array = npt.NDArray[Any]

_MOST_PICTURES, _MOST_BYTES = 2_000, 12_000_000
_MOST_HEATED, _MOST_IN_A_GALLERY = 200, 96
_SHOWN_OF_A_CLASS = 10
_SIDE = 112
_AT_ONCE = 32
_NUM_TRAIN, _NUM_SIZES = 500, 200
_MOST_INSPECTED = 20_000
_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class _Known:
    """What a report is made from."""

    record: RunRecord
    settings: Settings
    data: reading.Data
    predictor: Predictor
    predictions: Predictions
    judgement: Judgement

    @property
    def evaluation(self) -> Table:
        assert isinstance(self.data.evaluation, Pipeline)
        assert isinstance(self.data.evaluation.source, Table)
        return self.data.evaluation.source

    @property
    def train(self) -> Table | None:
        source = getattr(self.data.train, "source", None)
        return source if isinstance(source, Table) else None


def write_report(
    settings: Settings,
    cache_dir: str,
    *,
    group: str = "",
    output: str = "",
    is_inspected: bool = True,
) -> tuple[str, str]:
    """Write the page and the model card; returns their paths.

    Args:
        settings: ``model_dir``, and ``eval_metadata`` where other images are wanted.
        cache_dir: folder for indexes and unpacked records.
        group: as ``judgement.judge`` takes it.
        output: of the page; "": ``report.html`` in the folder, and the card beside it.
        is_inspected: whether near duplicates between training and evaluation are looked for, among
            at most 20,000 images.

    Raises:
        TficError: there is no model or nothing to evaluate it on.
    """
    folder = ModelFolder(settings.run.model_dir)
    known = _known(folder, settings, cache_dir, group)
    leaks, num_leaked = _leaks(known) if is_inspected else (_NOT_COMPARED, None)
    content = _content(folder, known, leaks, num_leaked)
    page = output or files.join(folder.path, "report.html")
    beside = page.rpartition("/")[0]
    if beside:
        files.make_folder(beside)
    card = files.join(beside, "model_card.md") if beside else "model_card.md"
    files.write_bytes(page, report_html(content).encode())
    files.write_bytes(card, model_card(content).encode())
    return page, card


def _known(folder: ModelFolder, settings: Settings, cache_dir: str, group: str) -> _Known:
    record = folder.read_record()
    if record is None:
        raise CheckpointError(f"{folder.path} is not a model folder: it has no run.json.")
    settings = folder_evaluation.inherited(settings, record)
    if not settings.data.eval_metadata:
        raise ConfigError("There is nothing to evaluate on. Give --eval_metadata.")
    exported = ExportedModel(folder.saved_model).load()
    data = _data(exported, record, settings, cache_dir)
    assert data.evaluation is not None
    predictions = folder_evaluation.kept_predictions(
        folder, settings, cache_dir, exported.step, data.evaluation.fingerprint
    )
    predictor = load_model(folder.path)
    return _Known(record, settings, data, predictor, predictions, judge(predictions, group))


def _data(
    exported: ExportedModel, record: RunRecord, settings: Settings, cache_dir: str
) -> reading.Data:
    """The evaluation set, with the training set where it can still be read."""
    spec = folder_evaluation.ExportedSpec(exported, record.schema)
    training = settings.data.train_metadata or tuple(record.settings["train_metadata"])
    if training:
        both = settings.replace(train_metadata=training)
        try:
            return reading.read_data(spec, both, cache_dir, record.schema)
        except TficError as error:
            log.warning("The training examples are left out: %s", error)
    return reading.read_data(spec, settings, cache_dir, record.schema, with_training=False)


def _content(
    folder: ModelFolder, known: _Known, leaks: Mapping[str, Any], num_leaked: int | None
) -> dict[str, Any]:
    labels = [
        _label_content(label, known, num_leaked)
        for label in known.record.schema
        if label.name in known.judgement.labels
    ]
    chosen = _chosen(known, labels)
    thumbs = _thumbs(known, chosen)
    name = folder.path.rstrip("/").rpartition("/")[2]
    values, origins = known.record.settings, known.record.origins
    of_step = f"step {known.predictions.step}"
    group = f", drawn by {known.judgement.group}" if known.judgement.group else ""
    return {
        "title": f"Report of {name}",
        "lead": f"The exported model of {of_step} on {len(known.predictions)} examples{group}.",
        "summary": [
            ["model folder", folder.path],
            ["spec", known.record.spec.rpartition("/")[2]],
            ["training examples", str(known.record.num_train_examples or "unknown")],
            ["evaluation", " ".join(known.settings.data.eval_metadata)],
            ["labels", ", ".join(f"{one.name} ({one.describe()})" for one in known.record.schema)],
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


def _label_content(label: Label, known: _Known, num_leaked: int | None) -> dict[str, Any]:
    found = known.judgement.labels[label.name]
    of_label = known.predictions.labels[label.name]
    errors = _label_errors(label, of_label)
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
        "limits": _limits(label, known, found, errors, num_leaked),
        "examples": _examples(label, of_label),
        "galleries": _galleries(label, of_label, errors),
    }


def _per_class(found: OfOneLabel) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "count": next((one.count for one in scores.values()), 0),
            "scores": {key: interval_json(one) for key, one in scores.items()},
        }
        for name, scores in found.measures.of_classes.items()
    ]


def _matrix(found: OfOneLabel) -> list[list[int]] | None:
    confusion = found.measures.confusion
    return None if confusion is None or len(confusion) > 200 else confusion.tolist()


def _examples(label: Label, of_label: OfLabel) -> dict[str, list[Any]]:
    """What the page needs of every example."""

    def plain(values: Array) -> list[Any]:
        if label.kind == SEVERAL:
            names = np.array(label.named_classes(), object)
            return [SEPARATOR.join(names[row > 0]) for row in values]
        return [
            round(value, _DIGITS) if label.kind == "value" else value for value in values.tolist()
        ]

    truth = [
        value if is_known else None
        for value, is_known in zip(plain(of_label.truth), of_label.known, strict=True)
    ]
    confidence: list[float | None] = [None] * len(truth)
    if label.has_classes:
        confidence = np.round(_confidence(of_label), _DIGITS).tolist()
    return {"truth": truth, "predicted": plain(of_label.predicted), "confidence": confidence}


def _confidence(of_label: OfLabel) -> Array:
    """Of the predicted class; of several classes that of the least sure decision."""
    probabilities = of_label.probabilities.astype(np.float64)
    if of_label.predicted.ndim == 2:
        sure = np.where(of_label.predicted > 0, probabilities, 1 - probabilities)
        return np.asarray(sure.min(axis=1))
    return np.asarray(np.take_along_axis(probabilities, of_label.predicted[:, None], axis=1)[:, 0])


def _label_errors(label: Label, of_label: OfLabel) -> Array | None:
    """Numbers of the examples whose label is likely to be wrong; None where that is not known."""
    if not label.is_class:
        return None
    rows = np.flatnonzero(of_label.known)
    try:
        return rows[likely_label_errors(of_label.truth[rows], of_label.probabilities[rows])]
    except ConfigError:
        return None


def _galleries(label: Label, of_label: OfLabel, errors: Array | None) -> dict[str, dict[str, Any]]:
    known = of_label.known
    if not label.has_classes:
        wrong = np.where(known, np.abs(of_label.predicted - of_label.truth), -1.0)
        worst = [int(i) for i in np.argsort(-wrong) if wrong[i] > 0]
        return {"worst": _gallery("largest errors", "The values that are furthest off.", worst)}
    mistakes = np.flatnonzero(known & ~of_label.is_right)
    confidence = _confidence(of_label)
    if label.kind == SEVERAL:
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
        text = (
            "Labels that are likely to be wrong, by confident learning: check them before you "
            "believe that the model is."
        )
        found["errors"] = _gallery("likely label errors", text, errors.tolist())
    return found


def _gallery(title: str, text: str, indices: Sequence[int]) -> dict[str, Any]:
    return {"title": title, "text": text, "indices": list(indices[:_MOST_IN_A_GALLERY])}


def _chosen(known: _Known, labels: Sequence[Mapping[str, Any]]) -> list[int]:
    """Rows whose pictures are shown: galleries, then mistakes, some of each class, then others."""
    found: dict[int, None] = {}
    for content in labels:
        for gallery in content["galleries"].values():
            found |= dict.fromkeys(gallery["indices"])
    of_classes = [known.predictions.labels[one["name"]] for one in labels if one["classes"]]
    for of_label in of_classes:
        found |= dict.fromkeys(np.flatnonzero(of_label.known & ~of_label.is_right).tolist())
    for of_label in of_classes:
        if of_label.truth.ndim == 1:
            for k in np.unique(of_label.truth):
                mine = np.flatnonzero(of_label.known & (of_label.truth == k))
                found |= dict.fromkeys(mine[:_SHOWN_OF_A_CLASS].tolist())
    found |= dict.fromkeys(range(min(len(known.predictions), _MOST_PICTURES)))
    return list(found)[:_MOST_PICTURES]


def _thumbs(known: _Known, chosen: Sequence[int]) -> dict[int, dict[str, Any]]:
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


def _limits(
    label: Label,
    known: _Known,
    found: OfOneLabel,
    errors: Array | None,
    num_leaked: int | None,
) -> list[list[str]]:
    if not label.is_class:
        return []
    recalls = [found.measures.of_classes[name]["recall"].value for name in label.named_classes()]
    facts = Facts(
        score=found.score,
        train_score=_train_score(label, known),
        train_counts=_class_counts(label, known.train),
        recalls=np.array(recalls),
        num_label_errors=None if errors is None else len(errors),
        num_examples=len(known.predictions),
        median_side=_median_side(known),
        image_size=int(known.record.settings["image_size"]),
        num_leaked=num_leaked,
    )
    return [[limit.title, limit.state, limit.text] for limit in limits_of(facts)]


def _train_score(label: Label, known: _Known) -> Interval | None:
    """How many of some training examples are right, seen as in an evaluation."""
    table = known.train
    if table is None:
        return None
    chosen = np.unique(np.linspace(0, table.num_examples - 1, _NUM_TRAIN).astype(int))
    column = table.columns[label.name]
    chosen = chosen[column.present[chosen]]
    right = []
    for start in range(0, len(chosen), _AT_ONCE):
        rows = chosen[start : start + _AT_ONCE]
        data = table.fetch(tf.constant(rows, tf.int64)).numpy().tolist()
        said = known.predictor.predict(data)
        right += [
            one.labels[label.name].value == value
            for one, value in zip(said, column.values[rows], strict=True)
            if not one.error
        ]
    return mean_with_interval(right) if right else None


def _class_counts(label: Label, table: Table | None) -> list[int] | None:
    if table is None:
        return None
    column = table.columns[label.name]
    values = column.values[column.present]
    if label.kind == SEVERAL:
        counts: Array = values.sum(axis=0)
    else:
        counts = np.bincount(values.astype(int), minlength=label.depth)
    return [int(count) for count in counts]


def _counts(label: Label, known: _Known) -> dict[str, Any]:
    train = _class_counts(label, known.train) or [None] * label.depth  # type: ignore[list-item]
    evaluation = _class_counts(label, known.evaluation)
    assert evaluation is not None
    rows = [list(row) for row in zip(label.named_classes(), train, evaluation, strict=True)]
    return {"caption": f"examples by {label.name}", "rows": rows}


def _median_side(known: _Known) -> float | None:
    """Of the shorter sides of some evaluation images, in pixels, without decoding them."""
    from PIL import Image

    table = known.evaluation
    chosen = np.unique(np.linspace(0, table.num_examples - 1, _NUM_SIZES).astype(int))
    sides = []
    for data in table.fetch(tf.constant(chosen, tf.int64)).numpy().tolist():
        try:
            with Image.open(io.BytesIO(data)) as image:
                sides.append(min(image.size))
        except (OSError, Image.DecompressionBombError):
            continue
    return float(np.median(sides)) if sides else None


_NOT_COMPARED: dict[str, Any] = {
    "text": "Training and evaluation images were not compared; tfic inspect does that.",
    "pairs": [],
}


def _leaks(known: _Known) -> tuple[dict[str, Any], int | None]:
    """Evaluation images that are in the training set too, or nearly."""
    training = known.settings.data.train_metadata or tuple(known.record.settings["train_metadata"])
    evaluation = known.settings.data.eval_metadata
    if known.train is None or len(training) != 1 or len(evaluation) != 1:
        return _NOT_COMPARED, None
    if known.train.num_examples + known.evaluation.num_examples > _MOST_INSPECTED:
        return _NOT_COMPARED, None
    try:
        found = inspect(training[0], evaluation[0], max_pixels=10**8)
    except TficError as error:
        log.warning("Near duplicates were not looked for: %s", error)
        return _NOT_COMPARED, None
    leaks = [finding for finding in found.findings if finding.kind == "leak"]
    if not leaks:
        text = "No evaluation image is in the training set too, or nearly the same as one there."
        return {"text": text, "pairs": []}, 0
    pairs = [[found.facts[i].where for i in pair] for pair in leaks[0].members]
    count = len({i for pair in leaks[0].members for i in pair if found.sets[i] == "eval"})
    return {"text": leaks[0].text, "pairs": pairs[:100]}, count
