"""Starting from the weights of another model: what fits by name and shape, and a report of it.

report = warm_start(model, "pretrained/model.ckpt")
print(report.summary())
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification import files
from tf_image_classification.checkpoints.store import CheckpointStore, read_tensors
from tf_image_classification.errors import CheckpointError, did_you_mean

_PART = re.compile(r"\.(index|data-\d{5}-of-\d{5}|meta)$")
_KERAS_SUFFIXES = (".weights.h5", ".h5", ".keras")


@dataclasses.dataclass(frozen=True)
class WarmStartReport:
    """What became of every variable.

    Attributes:
        source: the checkpoint.
        loaded: model variables that took a value.
        initialised: model variables that the file does not have.
        excluded: model variables that the scopes left out.
        mismatched: model variables whose shape differs, with both shapes.
        unused: variables of the file that nothing took.
    """

    source: str
    loaded: tuple[str, ...]
    initialised: tuple[str, ...]
    excluded: tuple[str, ...]
    mismatched: tuple[str, ...]
    unused: tuple[str, ...]

    def summary(self) -> str:
        """One line with the counts."""
        return (
            f"warm start from {self.source}: {len(self.loaded)} variables loaded, "
            f"{len(self.initialised)} left at initialisation, {len(self.excluded)} excluded, "
            f"{len(self.mismatched)} of another shape, {len(self.unused)} unused in the file"
        )


def warm_start(
    model: keras.Model,
    path: str,
    *,
    restore_scopes: Sequence[str] = (),
    exclude_scopes: Sequence[str] = (),
) -> WarmStartReport:
    """Set the variables of a model to those of a checkpoint, where name and shape agree.

    A variable ``net/conv/kernel`` takes the file's value of that name, or of ``conv/kernel`` when
    the file does not have the model's own name in front. Moving averages in our own checkpoints are
    preferred to the raw weights.

    Args:
        model: the model, built.
        path: a TensorFlow checkpoint (either of its files, or its prefix), a model folder of ours,
            a Keras ``.weights.h5``, ``.h5`` or ``.keras`` file; local or remote.
        restore_scopes: load only variables whose names begin with one of these; empty: all.
        exclude_scopes: do not load variables whose names begin with one of these.

    Raises:
        CheckpointError: the file is missing or unreadable, or nothing in it fits.
    """
    values = _read(model, path)
    loaded, initialised, excluded, mismatched = [], [], [], []
    used = set()
    for variable in model.variables:
        names = _names(model, variable)
        if _begins(names, exclude_scopes) or (
            restore_scopes and not _begins(names, restore_scopes)
        ):
            excluded.append(variable.path)
            continue
        found = next((name for name in names if name in values), None)
        if found is None:
            initialised.append(variable.path)
        elif tuple(values[found].shape) != tuple(variable.shape):
            used.add(found)
            mismatched.append(
                f"{variable.path}: {tuple(values[found].shape)} in the file, "
                f"{tuple(variable.shape)} in the model"
            )
        else:
            used.add(found)
            variable.assign(values[found])
            loaded.append(variable.path)
    unused = tuple(sorted(set(values) - used))
    report = WarmStartReport(
        path, tuple(loaded), tuple(initialised), tuple(excluded), tuple(mismatched), unused
    )
    if not loaded:
        raise CheckpointError(
            f"{report.summary()}. Nothing fits, so this would be a training from scratch. "
            + _why_nothing_fits(report, values)
        )
    return report


def _why_nothing_fits(report: WarmStartReport, values: Mapping[str, npt.NDArray[Any]]) -> str:
    if report.mismatched:
        return f"Shapes differ: {'; '.join(report.mismatched[:3])}."
    if report.initialised:
        wanted = report.initialised[0]
        return f"The model's {wanted} is not in the file. {did_you_mean(wanted, values)}"
    return "The scopes leave out every variable; correct checkpoint_restore_scopes or _exclude_."


def _names(model: keras.Model, variable: keras.Variable) -> tuple[str, ...]:
    """The names under which a model variable may lie in a file."""
    path = str(variable.path)
    return tuple(dict.fromkeys([path, path.removeprefix(f"{model.name}/")]))


def _begins(names: Sequence[str], scopes: Sequence[str]) -> bool:
    return any(name.startswith(scope) for name in names for scope in scopes)


def _read(model: keras.Model, path: str) -> Mapping[str, npt.NDArray[Any]]:
    if path.endswith(_KERAS_SUFFIXES):
        return _read_keras(model, path)
    prefix = _PART.sub("", path)
    if files.is_folder(prefix):
        prefix = _newest_in(prefix)
    try:
        return _model_part(read_tensors(prefix))
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} Expected a TensorFlow checkpoint, a model folder, or a Keras .weights.h5, "
            ".h5 or .keras file."
        ) from error


def _newest_in(folder: str) -> str:
    for inner in ("best", "checkpoints", ""):
        store = CheckpointStore(files.join(folder, inner) if inner else folder)
        if store.steps():
            return store.prefix(store.steps()[-1])
    latest = tf.train.latest_checkpoint(folder)
    if latest is None:
        raise CheckpointError(
            f"The folder {folder} holds no checkpoint. Name the checkpoint itself, without .index."
        )
    return str(latest)


def _model_part(values: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The weights among a checkpoint's tensors; of one of ours those of the model, averaged."""
    ours = {n.removeprefix("model/"): v for n, v in values.items() if n.startswith("model/")}
    if not ours or "notes" not in values:
        return dict(values)
    averages = {
        n.removeprefix("average/"): v for n, v in values.items() if n.startswith("average/")
    }
    return ours | averages


def _read_keras(model: keras.Model, path: str) -> dict[str, npt.NDArray[Any]]:
    """The variables of a Keras file, under the names that they have in this model."""
    try:
        if path.endswith(".keras"):
            source = keras.models.load_model(path, compile=False, safe_mode=True)
            return {v.path: np.asarray(v.numpy()) for v in source.variables}
        source = keras.models.clone_model(model)
        # Such a file knows its layers by kind and order only, so Keras must find them. What still
        # holds no number afterwards was not in the file, or has another shape there.
        for variable in _floating(source):
            variable.assign(np.full(variable.shape, np.nan))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report says it
            source.load_weights(path, skip_mismatch=True)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"The Keras file {path} cannot be loaded: {error}") from error
    return {v.path: v.numpy() for v in _floating(source) if not np.isnan(v.numpy()).any()}


def _floating(model: keras.Model) -> list[keras.Variable]:
    return [v for v in model.variables if tf.as_dtype(v.dtype).is_floating]
