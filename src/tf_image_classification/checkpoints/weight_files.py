"""Reading weights in every form that they come in, as arrays by name.

values = read_weights("pretrained/model.ckpt", model)
values["MobilenetV1/Conv2d_0/weights"].shape
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from tf_image_classification import files
from tf_image_classification.checkpoints.store import CheckpointStore, read_tensors
from tf_image_classification.errors import CheckpointError

Values = dict[str, npt.NDArray[Any]]

_PART = re.compile(r"\.(index|data-\d{5}-of-\d{5}|meta)$")
_KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
_SHADOW = "/ExponentialMovingAverage"
_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def read_weights(path: str, model: keras.Model, *, with_averages: bool = False) -> Values:
    """Every variable of a file or folder by its name there.

    Args:
        path: a TensorFlow 1 or 2 checkpoint (its prefix, either of its files, or the single file of
            the oldest form), a folder of checkpoints, a model folder of ours, a SavedModel, or a
            Keras ``.weights.h5``, ``.h5`` or ``.keras`` file; local or remote.
        model: the network to fill; files of Keras that know their layers by kind and order only are
            read with its help.
        with_averages: whether moving averages beside the weights of a TensorFlow 1 checkpoint take
            their place. Those in checkpoints of ours always do.

    Raises:
        CheckpointError: it is missing, incomplete or unreadable.
    """
    if path.endswith(_KERAS_SUFFIXES):
        values = _read_keras(path, model)
    else:
        prefix = _PART.sub("", path)
        if files.is_folder(prefix):
            prefix = _in_folder(prefix)
        values = _by_full_name(_model_part(_read_checkpoint(prefix)))
    if not with_averages:
        return values
    averages = {n.removesuffix(_SHADOW): v for n, v in values.items() if n.endswith(_SHADOW)}
    if not averages:
        raise CheckpointError(
            f"{path} holds no moving averages (names that end in {_SHADOW}). Remove "
            "checkpoint_averages."
        )
    return values | averages


def _read_checkpoint(prefix: str) -> Values:
    try:
        return read_tensors(prefix)
    except CheckpointError as error:
        folder, _, name = prefix.rpartition("/")
        names = files.list_folder(folder or ".", missing_ok=True)
        if f"{name}.index" in names and not any(n.startswith(f"{name}.data-") for n in names):
            raise CheckpointError(
                f"The checkpoint {prefix} is incomplete: only its .index is there, without the "
                f".data-00000-of-00001 that holds the numbers. Copy that beside it."
            ) from error
        raise CheckpointError(
            f"{error} Expected a TensorFlow checkpoint, a SavedModel, a model folder, or a Keras "
            ".weights.h5, .h5 or .keras file."
        ) from error


def _in_folder(folder: str) -> str:
    """The prefix of the checkpoint that a folder stands for."""
    if files.exists(files.join(folder, "saved_model.pb")):
        return files.join(folder, "variables/variables")
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


def _model_part(values: Mapping[str, npt.NDArray[Any]]) -> Values:
    """The weights among a checkpoint's tensors; of one of ours those of the model, averaged."""
    ours = {n.removeprefix("model/"): v for n, v in values.items() if n.startswith("model/")}
    if not ours or "notes" not in values:
        return dict(values)
    averages = {
        n.removeprefix("average/"): v for n, v in values.items() if n.startswith("average/")
    }
    return ours | averages


def _by_full_name(values: Values) -> Values:
    """The variables of a TensorFlow 2 checkpoint by their own names, not by places in a graph."""
    if _GRAPH not in values:
        return values
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(values[_GRAPH].item())
    named = {}
    for attribute in (a for node in graph.nodes for a in node.attributes):
        if attribute.checkpoint_key in values:
            name = attribute.full_name or attribute.checkpoint_key
            named[name.partition(":")[0]] = values[attribute.checkpoint_key]
    return named


def _read_keras(path: str, model: keras.Model) -> Values:
    try:
        with _local_file(path) as local:
            if path.endswith(".keras"):
                source = keras.models.load_model(local, compile=False, safe_mode=True)
                return {v.path: np.asarray(v.numpy()) for v in source.variables}
            legacy = _read_legacy(local)
            return _read_by_order(local, model) if legacy is None else legacy
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"The Keras file {path} cannot be loaded: {error}") from error


@contextlib.contextmanager
def _local_file(path: str) -> Iterator[str]:
    if not files.is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tfic-") as folder:
        local = os.path.join(folder, os.path.basename(path))
        files.download(path, local)
        yield local


def _read_legacy(path: str) -> Values | None:
    """The weights of a file of Keras 2, which has their names; None when it is a newer one."""
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            return None
        values = {}
        for group in (root[_text(name)] for name in root.attrs["layer_names"]):
            for name in map(_text, group.attrs["weight_names"]):
                values[name.partition(":")[0]] = np.asarray(group[name])
        return values


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_by_order(path: str, model: keras.Model) -> Values:
    """The variables of a Keras 3 file, under the names that they have in this model.

    Such a file knows its layers by kind and order only, so Keras must find them. What still holds
    no number afterwards was not in the file, or has another shape there.
    """
    source = keras.models.clone_model(model)
    for variable in _floating(source):
        variable.assign(np.full(variable.shape, np.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says it
        source.load_weights(path, skip_mismatch=True)
    return {v.path: v.numpy() for v in _floating(source) if not np.isnan(v.numpy()).any()}


def _floating(model: keras.Model) -> list[keras.Variable]:
    return [v for v in model.variables if tf.as_dtype(v.dtype).is_floating]
