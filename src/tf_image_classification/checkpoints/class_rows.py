"""Loads output rows by class name instead of class number.

    theirs = classes_of("models/one")                    {"pet": ("cat", "dog")}
    changes = row_changes(model, schema, theirs, image_shape)

Class numbers shift when a class is added or renamed. Weights that come with class names are
therefore loaded class by class, and new classes keep their initial values.
"""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.errors import CheckpointError, LabelError
from tf_image_classification.labels import Label, LabelSchema, read_class_names
from tf_image_classification.labels.schema import THRESHOLDS
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.model_outputs import logits_of
from tf_image_classification.system import files

ARCHIVE_MEMBER = "tf_image_classification.json"
"""Name of our description inside an exported ``.keras`` file."""

_INNER = ("checkpoints", "best", "saved_model", "variables")  # folders of a model folder
_NEW = -1
_MAX_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class RowChange:
    """The rows of one variable in a file and in the model, along its last axis.

    Attributes:
        label: the label's name.
        num_theirs: rows in the file.
        sources: for each row of the model the row of the file, or -1 for a new class.
        text: a description for the report.
    """

    label: str
    num_theirs: int
    sources: tuple[int, ...]
    text: str

    @property
    def has_common(self) -> bool:
        """Whether file and model have a class in common."""
        return max(self.sources) != _NEW

    def fits(self, value: npt.NDArray[Any], shape: tuple[int, ...]) -> bool:
        """Whether a value of the file has as many rows as the file has class names."""
        return value.shape == (*shape[:-1], self.num_theirs)

    def apply(self, initial: npt.NDArray[Any], value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The model's value with the rows of the file copied in."""
        changed = np.array(initial)
        for ours, theirs in enumerate(self.sources):
            if theirs != _NEW:
                changed[..., ours] = value[..., theirs]
        return changed


def classes_of(path: str) -> dict[str, Label]:
    """The labels with classes that are stored with weights, by name; {} without any.

    They come from a model folder, an exported model, or a ``labels.txt`` beside a file, whose
    label has no name.

    Args:
        path: as ``read_weights`` takes it.
    """
    if (labels := _in_archive(path)) is not None:
        return _with_classes(labels)
    for folder in _folders(path):
        if (labels := _in_json(folder) or _in_saved_model(folder)) is not None:
            return _with_classes(labels)
        if names := _in_text(folder):
            return {"": Label("labels", depth=len(names), class_names=names)}
    return {}


def _with_classes(labels: Sequence[Mapping[str, Any]]) -> dict[str, Label]:
    return {label.name: label for label in LabelSchema.from_json(labels).labels_with_classes}


def _folders(path: str) -> Iterator[str]:
    """The folder of weights, and its parents in a model folder or an export."""
    folder = path.rstrip("/")
    if not files.is_folder(folder):
        folder = folder.rpartition("/")[0] or "."
    yield folder
    while folder.rpartition("/")[2] in _INNER:
        folder = folder.rpartition("/")[0] or "."
        yield folder


def _in_archive(path: str) -> list[dict[str, Any]] | None:
    if not path.endswith(".keras") or files.is_remote(path) or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if ARCHIVE_MEMBER not in archive.namelist():
            return None
        labels: list[dict[str, Any]] = json.loads(archive.read(ARCHIVE_MEMBER))["labels"]
        return labels


def _in_json(folder: str) -> list[dict[str, Any]] | None:
    """The labels of a model folder, of a SavedModel of a run, or of an exported file."""
    for name in ("labels.json", "step.json", "model.json"):
        path = files.join(folder, name)
        is_of_run = name != "labels.json" or ModelFolder(folder).has_manifest
        if not is_of_run or not files.exists(path):
            continue
        try:
            value = files.read_json(path)
            labels = value if name == "labels.json" else value["labels"]
        except (ValueError, KeyError, TypeError):  # another program's file of this name
            continue
        if isinstance(labels, list):
            return labels
    return None


def _in_saved_model(folder: str) -> list[dict[str, Any]] | None:
    """The labels in the description inside a SavedModel of ``tfic export``."""
    graph = files.join(folder, "saved_model.pb")
    if not files.exists(graph) or b"describe" not in files.read_bytes(graph):
        return None
    try:
        text = tf.saved_model.load(folder).describe().numpy()
        labels: list[dict[str, Any]] = json.loads(text)["labels"]
    except (AttributeError, ValueError, KeyError, TypeError, OSError, tf.errors.OpError):
        return None  # another program's model with a function of this name
    return labels


def _in_text(folder: str) -> tuple[str, ...]:
    """The class names in ``labels.txt``, one per line; TF-Slim writes ``0:daisy``."""
    path = files.join(folder, "labels.txt")
    if not files.exists(path):
        return ()
    try:
        names = read_class_names(files.read_text(path), path)
    except LabelError:
        return ()
    numbered = [re.fullmatch(r"(\d+):\s*(.+)", name) for name in names]
    if all(match and int(match[1]) == i for i, match in enumerate(numbered)):
        names = tuple(match[2] for match in numbered if match)
    return names if len(names) > 1 else ()


def row_changes(
    model: keras.Model,
    schema: LabelSchema,
    theirs: Mapping[str, Label],
    image_shape: Sequence[int] | None = None,
    *,
    must_be_found: bool = True,
) -> dict[str, RowChange]:
    """The changes of the output variables whose rows in a file are other classes, by path.

    Args:
        model: the model, built.
        schema: its labels.
        theirs: the labels of the weights.
        image_shape: of the model's images; None: the model's input shape.
        must_be_found: whether missing output variables are an error.

    Raises:
        CheckpointError: the classes differ, and the output variables are not found.
    """
    changes: dict[str, RowChange] = {}
    for label in schema.labels_with_classes:
        other = _partner(label, schema, theirs)
        change = None if other is None else _change(label, other)
        if change is None:
            continue
        paths = _output_variables(model, schema, label, image_shape)
        if not paths and must_be_found:
            raise CheckpointError(
                f"Label {label.name!r} has the classes "
                f"{_listed(other.named_classes() if other else ())} in the weights and "
                f"{_listed(label.named_classes())} in the model, but no variable has these classes "
                "as its rows. Leave out the output layer with --checkpoint_exclude_scopes NAME; it "
                "is then initialised."
            )
        changes |= dict.fromkeys(paths, change)
    return changes


def _partner(label: Label, schema: LabelSchema, theirs: Mapping[str, Label]) -> Label | None:
    """The weights' label for one of the model: of the same name, or the only one."""
    if label.name in theirs:
        return theirs[label.name]
    is_only = len(theirs) == 1 and len(schema.labels_with_classes) == 1
    return next(iter(theirs.values())) if is_only else None


def _change(label: Label, other: Label) -> RowChange | None:
    """The change of the rows; None where file and model have the same rows."""
    ours, theirs = _names(label), _names(other)
    same_rows = ours == theirs and label.coding == other.coding
    if same_rows or _is_numbered(ours) != _is_numbered(theirs):
        return None
    if THRESHOLDS in (label.coding, other.coding):
        rows = (_NEW,) * label.logits_shape[0]
        text = f"label {label.name!r}: other classes in order, so the output is initialised"
        return RowChange(label.name, other.logits_shape[0], rows, text)
    places = {name: place for place, name in enumerate(theirs)}
    sources = tuple(places.get(name, _NEW) for name in ours)
    new = [name for name in ours if name not in places]
    unused = [name for name in theirs if name not in set(ours)]
    text = f"label {label.name!r}: {len(ours) - len(new)} of {len(ours)} classes loaded by name"
    text += f"; new, at initialisation: {_listed(new)}" if new else ""
    text += f"; not used from the file: {_listed(unused)}" if unused else ""
    return RowChange(label.name, len(theirs), sources, text)


def _names(label: Label) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", name) for name in label.named_classes())


def _is_numbered(names: Sequence[str]) -> bool:
    """Whether the class names are just the class numbers."""
    return list(names) == [str(number) for number in range(len(names))]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_SHOWN
    return ", ".join(names[:_MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _output_variables(
    model: keras.Model, schema: LabelSchema, label: Label, image_shape: Sequence[int] | None
) -> list[str]:
    """The paths of the variables whose row j affects logit j of a label and no other logit."""
    size = label.logits_shape[0]
    variables = [
        variable
        for variable in model.variables
        if tuple(variable.shape)[-1:] == (size,) and tf.as_dtype(variable.dtype).is_floating
    ]
    shape = image_shape or _shape_of_images(model)
    if shape is None or not variables:
        return []
    pixels = np.random.default_rng(0).uniform(0, 255, [1, *shape]).astype(np.float32)
    values = [variable.value for variable in variables]
    rows = sorted({0, size - 1})
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        for value in values:
            tape.watch(value)
        logits = logits_of(schema, model, tf.constant(pixels), training=False)[label.name]
        sums = [tf.reduce_sum(logits[..., row]) for row in rows]
    gradients = [tape.gradient(total, values) for total in sums]
    found = []
    for place, variable in enumerate(variables):
        of_rows = [gradients[i][place] for i in range(len(rows))]
        if all(_is_of_row(g, row) for g, row in zip(of_rows, rows, strict=True)):
            found.append(str(variable.path))
    return found


def _is_of_row(gradient: tf.Tensor | None, row: int) -> bool:
    if gradient is None:
        return False
    changed = np.abs(np.asarray(tf.convert_to_tensor(gradient), np.float32))
    of_rows = changed.reshape(-1, changed.shape[-1]).max(axis=0)
    return bool(of_rows[row] > 0 and np.delete(of_rows, row).max(initial=0.0) == 0)


def _shape_of_images(model: keras.Model) -> tuple[int, ...] | None:
    shape = getattr(model, "input_shape", None) if model.inputs else None
    is_static = isinstance(shape, tuple) and all(isinstance(size, int) for size in shape[1:])
    return tuple(shape[1:]) if is_static and shape else None
