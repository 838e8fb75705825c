"""Output rows of other weights by the names of their classes, not by their numbers.

    theirs = classes_of("models/one")                    {"pet": ("cat", "dog")}
    changes = row_changes(model, schema, theirs, image_shape)

Class numbers are lines of a vocabulary: one class more, or another name, moves them. Weights that
bring their class names are therefore loaded class by class, and new classes start fresh.
"""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import outputs_of
from tf_image_classification.errors import CheckpointError, LabelError
from tf_image_classification.labels import Label, LabelSchema, read_class_names
from tf_image_classification.labels.schema import THRESHOLDS
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files

ARCHIVE_MEMBER = "tf_image_classification.json"
"""What describes a ``.keras`` file of ours, inside it."""

_INNER = ("checkpoints", "best", "saved_model", "variables")  # folders of a model folder
_NEW = -1
_MOST_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class RowChange:
    """What becomes of the rows of one variable, along its last axis.

    Attributes:
        label: the label's name.
        num_theirs: rows in the file.
        sources: for each of the model's rows the file's, or -1 for a new one.
        text: the same in words.
    """

    label: str
    num_theirs: int
    sources: tuple[int, ...]
    text: str

    @property
    def has_common(self) -> bool:
        """Whether any class is known to both."""
        return max(self.sources) != _NEW

    def fits(self, value: npt.NDArray[Any], shape: tuple[int, ...]) -> bool:
        """Whether a value of the file has the rows that its class names promise."""
        return value.shape == (*shape[:-1], self.num_theirs)

    def apply(self, initial: npt.NDArray[Any], value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The model's value with the file's rows in their places."""
        changed = np.array(initial)
        for ours, theirs in enumerate(self.sources):
            if theirs != _NEW:
                changed[..., ours] = value[..., theirs]
        return changed


def classes_of(path: str) -> dict[str, Label]:
    """The labels with classes that weights bring, by name; {} where they bring none.

    Those of a model folder, of an exported model, and of a ``labels.txt`` beside a file, whose
    label has no name.

    Args:
        path: as ``read_weights`` takes it.
    """
    if (labels := _in_archive(path)) is not None:
        return _with_classes(labels)
    for folder in _folders(path):
        for read in (_in_run, _in_export, _in_description, _in_saved_model):
            labels = read(folder)
            if labels is not None:
                return _with_classes(labels)
        if names := _in_text(folder):
            return {"": Label("labels", depth=len(names), class_names=names)}
    return {}


def _with_classes(labels: Sequence[Mapping[str, Any]]) -> dict[str, Label]:
    return {label.name: label for label in LabelSchema.from_json(labels).labels_with_classes}


def _folders(path: str) -> Iterator[str]:
    """The folder of weights, and those around it in a model folder or an export."""
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


def _in_run(folder: str) -> list[dict[str, Any]] | None:
    is_run = ModelFolder(folder).has_manifest
    return _json_labels(files.join(folder, "labels.json"), lambda value: value) if is_run else None


def _in_export(folder: str) -> list[dict[str, Any]] | None:
    return _json_labels(files.join(folder, "step.json"), lambda value: value.get("labels"))


def _in_description(folder: str) -> list[dict[str, Any]] | None:
    return _json_labels(files.join(folder, "model.json"), lambda value: value["labels"])


def _json_labels(path: str, pick: Callable[[Any], Any]) -> list[dict[str, Any]] | None:
    if not files.exists(path):
        return None
    try:
        labels = pick(files.read_json(path))
        return labels if isinstance(labels, list) else None
    except (ValueError, KeyError, TypeError, AttributeError):  # a file of others of this name
        return None


def _in_saved_model(folder: str) -> list[dict[str, Any]] | None:
    """The labels in the description that a SavedModel of ``tfic export`` holds."""
    graph = files.join(folder, "saved_model.pb")
    if not files.exists(graph) or b"describe" not in files.read_bytes(graph):
        return None
    try:
        text = tf.saved_model.load(folder).describe().numpy()
        labels: list[dict[str, Any]] = json.loads(text)["labels"]
    except (AttributeError, ValueError, KeyError, TypeError, OSError, tf.errors.OpError):
        return None  # a model of others with a function of this name
    return labels


def _in_text(folder: str) -> tuple[str, ...]:
    """The class names of a file beside the weights, a line each; TF-Slim writes ``0:daisy``."""
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
    """The output variables whose rows in a file stand for other classes, by path.

    Args:
        model: the model, built.
        schema: its labels.
        theirs: the labels that the weights bring.
        image_shape: of the model's images; None: as the model says.
        must_be_found: whether variables of the output that are not found are an error.

    Raises:
        CheckpointError: the classes differ, and the variables of the output are not found.
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
                f"The weights know the classes of label {label.name!r} as "
                f"{_listed(other.named_classes() if other else ())}, the model as "
                f"{_listed(label.named_classes())}, and no variable was found whose rows are these "
                "classes. Leave out the output layer with --checkpoint_exclude_scopes NAME, which "
                "then starts fresh."
            )
        changes |= dict.fromkeys(paths, change)
    return changes


def _partner(label: Label, schema: LabelSchema, theirs: Mapping[str, Label]) -> Label | None:
    """The label of the weights that stands for one of ours: of its name, or the only one."""
    if label.name in theirs:
        return theirs[label.name]
    is_only = len(theirs) == 1 and len(schema.labels_with_classes) == 1
    return next(iter(theirs.values())) if is_only else None


def _change(label: Label, other: Label) -> RowChange | None:
    """What becomes of the rows; None where the rows of the file are those of the model."""
    ours, theirs = _names(label), _names(other)
    same_rows = ours == theirs and label.coding == other.coding
    if same_rows or _is_numbered(ours) != _is_numbered(theirs):
        return None
    if THRESHOLDS in (label.coding, other.coding):
        rows = (_NEW,) * label.logits_shape[0]
        text = f"label {label.name!r}: other classes in order, so the output starts fresh"
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
    """Whether classes have no names but their numbers."""
    return list(names) == [str(number) for number in range(len(names))]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_SHOWN
    return ", ".join(names[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _output_variables(
    model: keras.Model, schema: LabelSchema, label: Label, image_shape: Sequence[int] | None
) -> list[str]:
    """The paths of the variables of which row j decides logit j of a label and nothing else."""
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
        logits = _logits(outputs_of(model, tf.constant(pixels), training=False), schema, label)
        sums = [tf.reduce_sum(tf.cast(logits, tf.float32)[..., row]) for row in rows]
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
    known = isinstance(shape, tuple) and all(isinstance(size, int) for size in shape[1:])
    return tuple(shape[1:]) if known and shape else None


def _logits(outputs: Any, schema: LabelSchema, label: Label) -> tf.Tensor:
    if isinstance(outputs, Mapping):
        return outputs[label.name]
    if isinstance(outputs, (list, tuple)):
        return outputs[schema.names.index(label.name)]
    return outputs
