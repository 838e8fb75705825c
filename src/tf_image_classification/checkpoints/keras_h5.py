"""Reads Keras weights that are stored by kind and order of layers: ``.weights.h5``, ``.keras``.

    values = read("model.weights.h5", model)

Such a file has a group for each layer, ``layers/conv2d_1/vars/0``. Keras finds the layers of the
same model in it. Where the model is nested in another way, layers are matched by the names in newer
files, else by the order of each kind.
"""

from __future__ import annotations

import collections
import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.checkpoints.layer_names import by_layer

Values = dict[str, npt.NDArray[Any]]


def read(path: str, model: keras.Model) -> Values:
    """The variables of a file.

    Args:
        path: the file.
        model: the network to fill.

    Returns:
        Values by the path of the model's variable; unmatched ones by their path in the file.
    """
    stored = dict(_stored(path))
    placed = _by_keras(path, model)
    others = _without(stored, placed)
    if others:
        named = _by_name(stored) or _by_kind(stored, model)
        if len(by_layer(named, model)) > len(placed):
            return named
    return placed | {place: stored[place].value for place in others}


class _Stored:
    """A variable of the file.

    Attributes:
        value: its value.
        layer: the name of its layer, or "" in files without names.
    """

    def __init__(self, value: npt.NDArray[Any], layer: str) -> None:
        self.value = value
        self.layer = layer


def _stored(path: str) -> Iterator[tuple[str, _Stored]]:
    """Every weight of the file by its path, layers in the order of their numbers."""
    with h5py.File(path, "r") as file:
        places: list[str] = []
        file.visititems(lambda place, item: places.append(place) if _is_weight(item) else None)
        for place in sorted(places, key=_in_order):
            layer = file[place].parent.attrs.get("name", "")
            yield place, _Stored(np.asarray(file[place]), str(layer))


def _is_weight(item: Any) -> bool:
    is_value = isinstance(item, h5py.Dataset) and item.name.rpartition("/")[0].endswith("/vars")
    return is_value and np.issubdtype(item.dtype, np.floating) and "optimizer" not in item.name


def _in_order(place: str) -> list[tuple[str, int]]:
    """A sort key: numbers at the ends of names by value; a name without a number comes first."""
    parts = []
    for part in place.split("/"):
        found = re.fullmatch(r"(.*?)_?(\d*)", part)
        assert found is not None
        parts.append((found[1], int(found[2] or 0)))
    return parts


def _by_keras(path: str, model: keras.Model) -> Values:
    """The values that Keras loads, by path in this model, which is left unchanged.

    Variables that are still NaN afterwards are not in the file, or have another shape there.
    """
    before = [variable.numpy() for variable in model.variables]
    floating = [v for v in model.variables if tf.as_dtype(v.dtype).is_floating]
    try:
        for variable in floating:
            variable.assign(np.full(variable.shape, np.nan))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report names them
            model.load_weights(path, skip_mismatch=True)
        values = {v.path: np.array(v.numpy()) for v in floating}
    finally:
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
    return {path: value for path, value in values.items() if not np.isnan(value).any()}


def _without(stored: Mapping[str, _Stored], placed: Values) -> list[str]:
    """The paths in the file whose values Keras has not loaded."""
    counts = collections.Counter(_digest(value) for value in placed.values())
    left = []
    for place, item in stored.items():
        digest = _digest(item.value)
        counts[digest] -= 1
        if counts[digest] < 0:
            left.append(place)
    return left


def _digest(value: npt.NDArray[Any]) -> tuple[tuple[int, ...], bytes]:
    content = np.ascontiguousarray(value, np.float32).tobytes()
    return value.shape, hashlib.sha256(content).digest()


def _by_name(stored: Mapping[str, _Stored]) -> Values:
    """The weights by layer name; {} for files without names."""
    if not all(item.layer for item in stored.values()):
        return {}
    return {
        f"{item.layer}/{place.rpartition('/')[2]}": item.value for place, item in stored.items()
    }


def _by_kind(stored: Mapping[str, _Stored], model: keras.Model) -> Values:
    """The weights by the names of the model's layers, matched in the order of each kind."""
    of_model: dict[str, list[str]] = collections.defaultdict(list)
    for layer in _leaves(model):
        of_model[_kind(type(layer).__name__)].append(layer.variables[0].path.rpartition("/")[0])
    seen: dict[str, list[str]] = collections.defaultdict(list)
    values = {}
    for place, item in stored.items():
        group = place.removesuffix(f"/vars/{place.rpartition('/')[2]}")
        kind = _in_order(group)[-1][0]
        if group not in seen[kind]:
            seen[kind].append(group)
        number = seen[kind].index(group)
        known = of_model.get(kind, [])
        layer = known[number] if number < len(known) else group
        values[f"{layer}/{place.rpartition('/')[2]}"] = item.value
    return values


def _leaves(layer: keras.Layer) -> Iterator[keras.Layer]:
    """The layers that have variables of their own, in the order in which Keras stores them."""
    inner = getattr(layer, "layers", None) or layer._layers
    if not inner and layer.variables:
        yield layer
    for each in inner:
        yield from _leaves(each)


def _kind(class_name: str) -> str:
    """Keras's name for layers of a class.

    >>> _kind("DepthwiseConv2D")
    'depthwise_conv2d'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", class_name).lower()
