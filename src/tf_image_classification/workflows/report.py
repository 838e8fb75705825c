"""``tfic report``: one HTML page about the exported model of a folder, and its model card."""

from __future__ import annotations

import base64
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.config import OPTIONS, Settings
from tf_image_classification.errors import ConfigError, TficError, counted
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.evaluation.analysis import LabelAnalysis, few_values
from tf_image_classification.evaluation.label_errors import LabelErrors, label_errors
from tf_image_classification.evaluation.predictions import LabelPredictions, Predictions
from tf_image_classification.labels import SEPARATOR, Label
from tf_image_classification.labels.outputs import confidence_of
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.pages.render import render
from tf_image_classification.pages.tables import Cell, Table, count_cell, number_text
from tf_image_classification.report import content
from tf_image_classification.report.content import (
    Example,
    Gallery,
    LabelContent,
    Leakage,
    Outcome,
    Report,
)
from tf_image_classification.report.error_analysis import diagnose
from tf_image_classification.report.similar_errors import similar_groups
from tf_image_classification.report.training_log import (
    CURVES,
    read_training_curves,
    training_log_folder,
)
from tf_image_classification.run_manifest import RunManifest, versions
from tf_image_classification.serving.rendering import heat_png, seen_image
from tf_image_classification.system import files
from tf_image_classification.workflows import pool_folds
from tf_image_classification.workflows.embedding import features
from tf_image_classification.workflows.evaluated_folds import load_cross_validated
from tf_image_classification.workflows.evaluated_model import EvaluatedModel, load_evaluated
from tf_image_classification.workflows.export_keras import best_model
from tf_image_classification.workflows.model_measurements import (
    class_counts,
    find_leakage,
    measure_model,
)
from tf_image_classification.workflows.pool_folds import CrossValidation
from tf_image_classification.workflows.report_unknown import refused_rows, unknown_content
from tf_image_classification.workflows.setup.environment import cache_dir

Array = npt.NDArray[Any]

_MAX_EXAMPLES, _MAX_BYTES = 2_000, 10_000_000
_MAX_HEATED, _MAX_IN_GALLERY = 200, 96
_MAX_GROUPED = 400
_MAX_CLASSES_OF_MATRIX = 200
_NUM_OF_EACH_CLASS = 10
_SIDE = 128  # of an image, in pixels
_BATCH_SIZE = 32


def write_report(
    settings: Settings,
    *,
    group: str = "",
    output: str = "",
    is_inspected: bool = True,
    spec: EstimatorSpec | None = None,
) -> tuple[str, str]:
    """Write the page and the model card; returns their paths.

    Args:
        settings: ``model_dir``, and ``eval_metadata`` to evaluate on other examples.
        group: column whose examples are resampled together, see ``analysis.analyze``.
        output: path of the page; "": ``report.html`` in the model folder. The card lies beside it.
        is_inspected: whether training and evaluation images are compared to find leakage; at most
            20,000 images.
        spec: of a run with a spec of its own, for the features of its errors; None: that of a run
            with ``--backbone``.

    Raises:
        TficError: the folder has no exported model, or there are no evaluation examples.
    """
    folder = ModelFolder(settings.run.model_dir)
    if folder.is_cross_validation:
        model, leakage = load_cross_validated(folder, settings, group), content.FOLDS_ARE_APART
    else:
        model = load_evaluated(folder, settings, group)
        leakage = find_leakage(model) if is_inspected else content.NOT_COMPARED
    report = _report(folder, model, leakage, spec)
    page = output or files.join(folder.path, "report.html")
    beside = page.rpartition("/")[0]
    if beside:
        files.make_folder(beside)
    card = files.join(beside, "model_card.md") if beside else "model_card.md"
    files.write_bytes(page, render("report.html", report=report).encode())
    files.write_bytes(card, render("model_card.md", report=report).encode())
    return page, card


def _report(
    folder: ModelFolder, model: EvaluatedModel, leakage: Leakage, spec: EstimatorSpec | None
) -> Report:
    manifest, predictions = model.manifest, model.predictions
    labels = [label for label in manifest.schema if label.name in model.analysis.labels]
    errors = {label.name: _label_errors(label, predictions.labels[label.name]) for label in labels}
    chosen = {
        label.name: _gallery_rows(label, predictions.labels[label.name], *errors[label.name])
        for label in labels
    }
    slices = _slices(model)
    rows = dict.fromkeys([*refused_rows(model), *_shown_rows(model, labels, chosen)])
    examples = _examples(model, labels, list(rows)[:_MAX_EXAMPLES], slices)
    similar, no_similar = _similar_errors(folder.path, model, labels, spec)
    name = folder.path.rstrip("/").rpartition("/")[2]
    shown = sorted(examples.values(), key=lambda example: example.is_right)
    return Report(
        title=f"Report of {name}",
        lead=_lead(model),
        step=predictions.step,
        num_examples=len(predictions),
        num_train_examples=f"{manifest.num_train_examples:,}"
        if manifest.num_train_examples
        else "unknown",
        summary=[
            *_trained_text(manifest),
            ("evaluation set", _set_text(model)),
            *_groups_text(predictions),
            ("labels", ", ".join(f"{one.name} ({one.describe()})" for one in manifest.schema)),
        ],
        details=[
            ("model folder", folder.path),
            ("spec", manifest.spec.rpartition("/")[2]),
            ("class activation maps", _heat_text(model, shown)),
            *([("groups of similar errors", f"none: {no_similar}")] if no_similar else []),
            ("versions", ", ".join(f"{k} {v}" for k, v in versions().items())),
        ],
        curves=content.learning_curves(
            folder.evaluations(),
            read_training_curves(training_log_folder(folder, manifest), CURVES),
        ),
        labels=[
            _label_content(label, model, examples, chosen[label.name], errors[label.name][0],
                           similar.get(label.name, ()), leakage.count)
            for label in labels
        ],
        examples=shown,
        examples_text=f"{len(shown)} of {len(predictions)} evaluation examples, errors first. "
        "predictions.parquet in the model folder has all of them.",
        leakage=leakage,
        folds=_folds_table(model.folds) if model.folds else None,
        counts=[_counts_table(label, model) for label in manifest.schema if label.has_classes],
        slices=[f"{column} = {value}" for column, value in slices],
        changed_settings=_settings_table(manifest, of_changed=True),
        default_settings=_settings_table(manifest, of_changed=False),
        unknown=unknown_content(model, examples),
    )  # fmt: skip


def _lead(model: EvaluatedModel) -> str:
    """What was evaluated, in a sentence."""
    group = f", resampled by {model.analysis.group}" if model.analysis.group else ""
    count = len(model.predictions)
    if model.folds:
        return (
            f"Cross-validation: each of {count} examples is scored by the one of "
            f"{model.predictions.num_folds} models that was trained without it{group}. Training "
            "examples, steps and settings are those of the first fold."
        )
    step = model.predictions.step
    return f"Exported model of step {step}, evaluated on {count} examples{group}."


def _folds_table(result: CrossValidation) -> Table:
    """The main metric of each label by fold, and of all examples."""
    names = result.score_names
    columns = ["fold", "examples"]
    columns += [
        f"{label} {name}".removeprefix(f"{label} " if len(names) == 1 else "").replace("_", " ")
        for label, name in names.items()
    ]
    rows: list[list[Cell]] = [
        [
            one.fold.title,
            count_cell(one.num_examples),
            *(content.score_cell(names[n], one.scores[n]) for n in names),
        ]
        for one in result.folds
    ]
    mean = [content.score_cell(names[n], result.scores[n]) for n in names]
    rows.append(["all", count_cell(len(result.predictions)), *mean])
    return Table(pool_folds.meaning(result), columns, rows)


def _trained_text(manifest: RunManifest) -> list[tuple[str, str]]:
    """The model and its training, as names and values."""
    given = manifest.settings
    optimizer = (
        f"{given['optimizer']}, learning rate {given['learning_rate']}, "
        f"batch size {given['batch_size']}"
    )
    training = " ".join(map(str, given.get("train_metadata") or ()))
    return [
        *manifest.model_facts().items(),
        ("optimizer", optimizer),
        *([("training set", training)] if training else []),
    ]


def _settings_table(manifest: RunManifest, *, of_changed: bool) -> Table:
    """The settings of the run that differ from their defaults, or the others."""
    rows: list[list[Cell]] = []
    for key, value in sorted(manifest.settings.items()):
        default = OPTIONS[key].default if key in OPTIONS else None
        default = list(default) if isinstance(default, tuple) else default
        if (value != default) == of_changed:
            row = [_setting_text(value), _setting_text(default)]
            rows.append([key, *row[: 1 + of_changed], manifest.origins.get(key, "default")])
    columns = ["setting", "value", *(["default"] if of_changed else []), "source"]
    return Table("", columns, rows)


def _setting_text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _slices(model: EvaluatedModel) -> dict[tuple[str, str], Array]:
    """By column and value the mask of the examples of each slice that the analysis has."""
    named = dict.fromkeys(
        (one.column, one.value) for found in model.analysis.labels.values() for one in found.slices
    )
    texts = {
        column: few_values(np.array(model.predictions.slices[column], object).astype(str))
        for column in {column for column, _ in named}
    }
    return {(column, value): texts[column] == value for column, value in sorted(named)}


def _set_text(model: EvaluatedModel) -> str:
    """The name of the evaluation set."""
    settings = model.settings
    names = " ".join(settings.data.eval_metadata)
    if model.folds:
        return f"{names}, every example held out once"
    return f"{names}, the part held out from training" if settings.data.eval_split else names


def _heat_text(model: EvaluatedModel, examples: Sequence[Example]) -> str:
    """For how many examples the page has a class activation map, or why it has none."""
    if model.folds:
        return "none: each fold has a model of its own; the report of a fold has them"
    count = sum(bool(example.heat) for example in examples)
    if count:
        return f"Grad-CAM for {count} examples"
    return f"none: {model.predictor.no_heat_maps or 'the exported model has no function for them'}"


def _label_content(
    label: Label,
    model: EvaluatedModel,
    examples: Mapping[int, Example],
    galleries: Sequence[_GalleryRows],
    errors: LabelErrors | None,
    similar: Sequence[Array],
    num_leaked: int | None,
) -> LabelContent:
    found = model.analysis.labels[label.name]
    of_label = model.predictions.labels[label.name]
    matrix = _matrix(found)
    known = of_label.mask
    return LabelContent(
        name=label.name,
        classes=label.named_classes(),
        score_name=found.score_name.replace("_", " "),
        score=content.score_cell(found.score_name, found.score),
        metrics=content.metrics_table(found),
        per_class=content.per_class_table(found),
        confusion=matrix,
        confused_pairs=content.confused_pairs(of_label.truth[known], of_label.predicted[known])
        if label.is_class and matrix is None
        else (),
        galleries=[
            Gallery(one.key, one.title, one.text, [examples[i] for i in one.rows if i in examples])
            for one in galleries
        ],
        error_groups=content.error_groups(of_label, examples, similar) if similar else [],
        calibration=content.calibration_content(found),
        slices=content.slices_table(found),
        findings=diagnose(measure_model(label, model, errors, num_leaked))
        if label.is_class
        else (),
    )


def _groups_text(predictions: Predictions) -> list[tuple[str, str]]:
    """A row of the summary on the videos and bursts of the evaluation set, if some were found."""
    grouped = [name for name in predictions.found_groups if name]
    if not grouped:
        return []
    count = counted(len(set(grouped)), "group")
    text = f"{counted(len(grouped), 'image')} in {count}; intervals are over them, not over images"
    return [("videos and bursts", text)]


def _similar_errors(
    model_dir: str, model: EvaluatedModel, labels: Sequence[Label], spec: EstimatorSpec | None
) -> tuple[dict[str, list[Array]], str]:
    """Rows of each group of similar errors by single-label label, or why there is no group."""
    wrong = {}
    for label in labels:
        of_label = model.predictions.labels[label.name]
        if label.is_class:
            rows = np.flatnonzero(of_label.mask & ~of_label.is_right)
            wrong[label.name] = rows[evenly_spaced(len(rows), _MAX_GROUPED)]
    if not any(map(len, wrong.values())):
        return {}, ""
    if model.folds:
        return {}, "each fold has a model with other features; the report of a fold has them"
    found = {}
    try:
        network = best_model(model_dir, spec)
        for name, rows in wrong.items():
            encoded = model.evaluation.fetch(tf.constant(model.predictions.ids[rows], tf.int64))
            images = [("", data) for data in encoded.numpy().tolist()]
            computed = features(
                *(network, model.manifest.schema.names, model.predictor, images),
                cache_dir=cache_dir(model.settings),
            )
            found[name] = [rows[group] for group in similar_groups(computed.values)]
    except TficError as error:
        return {}, " ".join(str(error).split())
    return found, ""


def _matrix(found: LabelAnalysis) -> list[list[int]] | None:
    confusion = found.measures.confusion
    if confusion is None or len(confusion) > _MAX_CLASSES_OF_MATRIX:
        return None
    matrix: list[list[int]] = confusion.tolist()
    return matrix


def _label_errors(label: Label, of_label: LabelPredictions) -> tuple[LabelErrors | None, Array]:
    """Likely wrong labels, None where they cannot be found; and the rows of the candidates."""
    nothing = np.zeros(0, np.int64)
    if not label.is_class:
        return None, nothing
    rows = np.flatnonzero(of_label.mask)
    try:
        found = label_errors(of_label.truth[rows], of_label.probabilities[rows])
    except ConfigError:  # cleanlab is not installed
        return None, nothing
    return found, rows[found.candidates]


class _GalleryRows(NamedTuple):
    key: str
    title: str
    text: str
    rows: Sequence[int]


def _gallery_rows(
    label: Label, of_label: LabelPredictions, errors: LabelErrors | None, candidates: Array
) -> list[_GalleryRows]:
    """The galleries of a label."""
    known = of_label.mask
    if not label.has_classes:
        error = np.where(known, np.abs(of_label.predicted - of_label.truth), -1.0)
        worst = [int(i) for i in np.argsort(-error) if error[i] > 0]
        found = [("worst", "Largest errors", "Largest absolute errors first.", worst)]
    else:
        wrong = np.flatnonzero(known & ~of_label.is_right)
        confidence = confidence_of(of_label.predicted, of_label.probabilities)
        surest = wrong[np.argsort(-confidence[wrong], kind="stable")].tolist()
        if label.kind == MULTILABEL:
            text = "Errors in any class, most confident first."
            found = [("worst", "Worst errors", text, surest)]
        else:
            rows = np.arange(len(known))
            of_truth = of_label.probabilities[rows, of_label.truth]
            worst = wrong[np.argsort(of_truth[wrong], kind="stable")].tolist()
            found = [
                ("worst", "Worst errors", "Lowest probability of the actual class first.", worst),
                (
                    "surest",
                    "Most confident errors",
                    "Often mislabelled or unseen classes.",
                    surest,
                ),
            ]
    if errors is not None:
        found.append(("errors", "Possible label errors", errors.text(), candidates.tolist()))
    return [_GalleryRows(*one[:3], one[3][:_MAX_IN_GALLERY]) for one in found]


def _shown_rows(
    model: EvaluatedModel,
    labels: Sequence[Label],
    galleries: Mapping[str, Sequence[_GalleryRows]],
) -> list[int]:
    """Rows of the examples shown: galleries, then errors, some of each class, then others."""
    found: dict[int, None] = {}
    for of_galleries in galleries.values():
        for gallery in of_galleries:
            found |= dict.fromkeys(gallery.rows)
    with_classes = [model.predictions.labels[label.name] for label in labels if label.has_classes]
    for of_label in with_classes:
        found |= dict.fromkeys(np.flatnonzero(of_label.mask & ~of_label.is_right).tolist())
    for of_label in with_classes:
        if of_label.truth.ndim == 1:
            for k in np.unique(of_label.truth):
                of_class = np.flatnonzero(of_label.mask & (of_label.truth == k))
                found |= dict.fromkeys(of_class[:_NUM_OF_EACH_CLASS].tolist())
    found |= dict.fromkeys(range(min(len(model.predictions), _MAX_EXAMPLES)))
    return list(found)[:_MAX_EXAMPLES]


def _examples(
    model: EvaluatedModel,
    labels: Sequence[Label],
    rows: Sequence[int],
    slices: Mapping[tuple[str, str], Array],
) -> dict[int, Example]:
    """The examples of some rows, the first ones with their images and class activation maps."""
    outcomes = {
        label.name: _outcomes(label, model.predictions.labels[label.name], rows) for label in labels
    }
    members = np.stack(list(slices.values()), axis=1) if slices else None
    found: dict[int, Example] = {}
    size = 0
    for start in range(0, len(rows), _BATCH_SIZE):
        batch = rows[start : start + _BATCH_SIZE]
        images: list[str] = [""] * len(batch)
        heat: list[dict[str, str]] = [{}] * len(batch)
        if size <= _MAX_BYTES:
            images, heat = _images(
                model, batch, is_heated=start < _MAX_HEATED and model.folds is None
            )
            size += sum(map(len, images)) + sum(len(one) for h in heat for one in h.values())
        for i, row in enumerate(batch):
            found[row] = Example(
                *_names(model, row),
                image=images[i],
                heat=heat[i],
                outcomes={name: of_label[start + i] for name, of_label in outcomes.items()},
                slices=() if members is None else np.flatnonzero(members[row]).tolist(),
            )
    return found


def _names(model: EvaluatedModel, row: int) -> tuple[str, str, str]:
    """The name of an example's image, its file with line or record, and the file's address."""
    where = model.predictions.uris[row]
    table, number = model.evaluation, int(model.predictions.ids[row])
    path = table.paths[number] if len(table.paths) else ""
    named = (table.names[number] if len(table.names) else "") or path or where
    is_local = path and not files.is_remote(path)
    link = pathlib.Path(path).absolute().as_uri() if is_local else ""
    return named.rstrip("/").rpartition("/")[2] or where, where, link


def _images(
    model: EvaluatedModel, rows: Sequence[int], *, is_heated: bool
) -> tuple[list[str], list[dict[str, str]]]:
    """Small images as the model sees them, and class activation maps by label, as data URIs."""
    ids = tf.constant(model.predictions.ids[list(rows)], tf.int64)
    encoded = model.evaluation.fetch(ids).numpy().tolist()
    images = [model.predictor.prepare(data) for data in encoded]
    heat = model.predictor.explain(tf.stack(images)) if is_heated else {}
    return (
        [_data_uri("jpeg", seen_image(image.numpy(), side=_SIDE)) for image in images],
        [
            {name: _data_uri("png", heat_png(maps[i])) for name, maps in heat.items()}
            for i in range(len(images))
        ],
    )


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _outcomes(label: Label, of_label: LabelPredictions, rows: Sequence[int]) -> list[Outcome]:
    """A label's values and predictions of some rows."""
    some = of_label.rows(np.array(rows, np.int64))
    actual, predicted = _texts(label, some.truth), _texts(label, some.predicted)
    is_right, confidence = some.is_right, [""] * len(rows)
    if label.has_classes:
        confidence = [
            f"{100 * value:.0f} %" for value in confidence_of(some.predicted, some.probabilities)
        ]
    return [
        Outcome(
            actual=actual[i] if some.mask[i] else "unknown",
            predicted=predicted[i],
            confidence=confidence[i],
            is_right=bool(is_right[i]) if label.has_classes and some.mask[i] else None,
            actual_classes=_classes(label, some.truth[i]) if some.mask[i] else (),
            predicted_classes=_classes(label, some.predicted[i]),
        )
        for i in range(len(rows))
    ]


def _classes(label: Label, value: Any) -> list[int]:
    """The class numbers of a value."""
    if label.kind == MULTILABEL:
        return [int(k) for k in np.flatnonzero(value)]
    return [int(value)] if label.has_classes else []


def _texts(label: Label, values: Array) -> list[str]:
    names = np.array(label.named_classes(), object)
    if label.kind == MULTILABEL:
        return [SEPARATOR.join(names[row > 0]) or "none" for row in values]
    if label.has_classes:
        return list(names[values])
    return [number_text(value) for value in values.tolist()]


def _counts_table(label: Label, model: EvaluatedModel) -> Table:
    train = [None] * label.depth if model.train is None else class_counts(label, model.train)
    rows = zip(label.named_classes(), train, class_counts(label, model.evaluation), strict=True)
    return Table(
        f"Examples by {label.name}",
        ["class", "training", "evaluation"],
        [[name, count_cell(a), count_cell(b)] for name, a, b in rows],
    )
