"""Reads weights of every supported format as arrays by name.

file = read_weights("pretrained/model.ckpt", model)
file.values["MobilenetV1/Conv2d_0/weights"].shape
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from tf_image_classification.checkpoints import keras_h5, torch_files
from tf_image_classification.checkpoints.store import CheckpointStore, read_tensors
from tf_image_classification.errors import CheckpointError
from tf_image_classification.fused_batch_norm import FOLDED, OFFSET, SCALE
from tf_image_classification.system import files

Values = dict[str, npt.NDArray[Any]]

_PART = re.compile(r"\.(index|data-\d{5}-of-\d{5}|meta)$")
_KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
_SHADOW = "/ExponentialMovingAverage"
_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """The content of a file or folder of weights.

    Attributes:
        values: its variables by their names in the file, in its order.
        has_keras_names: whether the names are Keras's, by layers.
        is_in_order: whether their order is that of the layers.
        is_whole: whether they are the weights of one network, so that each should be used.
    """

    values: Values
    has_keras_names: bool = False
    is_in_order: bool = False
    is_whole: bool = False


def read_weights(path: str, model: keras.Model, *, with_averages: bool = False) -> WeightFile:
    """The weights in a file or folder.

    Args:
        path: a TensorFlow 1 or 2 checkpoint (its prefix, either of its files, or the single file of
            the oldest form), a folder of checkpoints, a model folder, a SavedModel, a Keras
            ``.weights.h5``, ``.h5`` or ``.keras`` file, a PyTorch ``.pth``, ``.pt``, ``.bin``,
            ``.safetensors`` or Lightning ``.ckpt`` file, or a folder with such a file under the
            name that Hugging Face gives it; local or remote.
        model: the network to fill; needed for Keras files without layer names.
        with_averages: whether to use the moving averages of a TensorFlow 1 checkpoint in place of
            its weights. Those in a run's own checkpoints are always used.

    Raises:
        CheckpointError: it is missing, incomplete or unreadable.
    """
    if path.endswith(_KERAS_SUFFIXES):
        file = _read_keras(path, model)
    elif torch_file := torch_files.file_in(path):
        with _local_file(torch_file) as local:
            values = torch_files.read_torch(local)
        file = WeightFile(values, is_whole=True)
    else:
        prefix = _PART.sub("", path)
        if files.is_folder(prefix):
            prefix = _in_folder(prefix)
        file = _of_checkpoint(_read_checkpoint(prefix))
    if not with_averages:
        return file
    named = file.values.items()
    averages = {n.removesuffix(_SHADOW): v for n, v in named if n.endswith(_SHADOW)}
    if not averages:
        raise CheckpointError(
            f"{path} holds no moving averages (names that end in {_SHADOW}). Remove "
            "checkpoint_averages."
        )
    return dataclasses.replace(file, values=file.values | averages)


def _of_checkpoint(values: Values) -> WeightFile:
    """The weights among the tensors of a checkpoint: of a run, of an object graph, or of TF 1."""
    if "notes" in values and any(name.startswith("model/") for name in values):
        return WeightFile(_model_part(values), has_keras_names=True, is_whole=True)
    if _GRAPH in values:
        return WeightFile(_by_full_name(values), has_keras_names=True, is_whole=True)
    return WeightFile(values)


def _read_checkpoint(prefix: str) -> Values:
    try:
        return read_tensors(prefix)
    except CheckpointError as error:
        folder, _, name = prefix.rpartition("/")
        names = files.list_folder(folder or ".", missing_ok=True)
        if f"{name}.index" in names and not any(n.startswith(f"{name}.data-") for n in names):
            raise CheckpointError(
                f"The checkpoint {prefix} is incomplete: only its .index exists, without the "
                f".data-00000-of-00001 that holds the values. Copy that file as well."
            ) from error
        raise CheckpointError(
            f"{error} Expected a TensorFlow checkpoint, a SavedModel, a model folder, a Keras "
            ".weights.h5, .h5 or .keras file, or a PyTorch .pth, .pt or .safetensors file."
        ) from error


def _in_folder(folder: str) -> str:
    """The prefix of the checkpoint in a folder."""
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
    """The model's weights in a run's checkpoint, averaged where it keeps averages."""
    ours = {n.removeprefix("model/"): v for n, v in values.items() if n.startswith("model/")}
    averages = {
        n.removeprefix("average/"): v for n, v in values.items() if n.startswith("average/")
    }
    return ours | averages


def _by_full_name(values: Values) -> Values:
    """The variables of a TensorFlow 2 checkpoint by their names, not by their object paths."""
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(values[_GRAPH].item())
    named = {}
    for attribute in (a for node in graph.nodes for a in node.attributes):
        if attribute.checkpoint_key in values:
            name = attribute.full_name or attribute.checkpoint_key
            named[name.partition(":")[0]] = values[attribute.checkpoint_key]
    return _unfolded(named)


def _unfolded(values: Values) -> Values:
    """The weights of an exported model before its batch normalisation was folded."""
    plain = dict(values)
    for name in values:
        kernel = name.removesuffix(FOLDED)
        if kernel == name or kernel + SCALE not in values:
            continue
        folded, scale = plain.pop(name), plain.pop(kernel + SCALE)
        plain[kernel] = np.divide(folded, scale, out=np.zeros_like(folded), where=scale != 0)
        del plain[kernel + OFFSET]
    return plain


def _read_keras(path: str, model: keras.Model) -> WeightFile:
    try:
        with _local_file(path) as local:
            if path.endswith(".keras"):
                return _read_archive(local, model)
            legacy = _read_legacy(local)
            return _unordered(local, model) if legacy is None else _ordered(legacy)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0][:300]
        raise CheckpointError(f"The Keras file {path} cannot be loaded: {reason}") from error


def _ordered(values: Values) -> WeightFile:
    return WeightFile(values, has_keras_names=True, is_in_order=True, is_whole=True)


def _unordered(path: str, model: keras.Model) -> WeightFile:
    return WeightFile(keras_h5.read(path, model), has_keras_names=True, is_whole=True)


def _read_archive(path: str, model: keras.Model) -> WeightFile:
    """The variables of a ``.keras`` file, even if Keras 3 cannot build its model."""
    try:
        source = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError):  # of Keras 2, or with a custom layer
        with (
            zipfile.ZipFile(path) as archive,
            tempfile.TemporaryDirectory(prefix="tfic-") as folder,
        ):
            weights = archive.extract("model.weights.h5", folder)
            return _unordered(weights, model)
    return _ordered({v.path: np.asarray(v.numpy()) for v in source.variables})


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
    """The weights of a Keras 2 file, which has their names; None for a newer file."""
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        if "layer_names" not in root.attrs:
            return None
        values = {}
        for layer in map(_text, root.attrs["layer_names"]):
            names = [_text(name) for name in root[layer].attrs["weight_names"]]
            for name, whole in zip(names, _with_layer(layer, names), strict=True):
                values[whole] = np.asarray(root[layer][name])
        return values


def _with_layer(layer: str, names: Sequence[str]) -> list[str]:
    """The names of a layer's weights with the layer's name in front.

    Usually they have it: ``conv1/kernel:0``. Keras 1 wrote ``conv1_W:0``, and a repeated build in
    one graph ``conv1_1/kernel:0``. A nested model has the names of its own layers.
    """
    plain = [name.partition(":")[0] for name in names]
    scopes = {name.rpartition("/")[0] for name in plain}
    if len(scopes) > 1 or not re.fullmatch(
        rf"({re.escape(layer)}(_\d+)*)?", min(scopes, default="")
    ):
        return plain
    return [f"{layer}/{name.rpartition('/')[2]}" for name in plain]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
