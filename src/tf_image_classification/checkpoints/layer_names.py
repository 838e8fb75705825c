"""Matches variables of a Keras file with those of a model whose names differ.

    by_layer(["block1a_dwconv/depthwise_kernel"], model)
    {"block1a_dwconv/kernel": "block1a_dwconv/depthwise_kernel"}

Keras 2 and Keras 3 name the same network differently: a depthwise convolution's kernel, slashes and
capitals in layer names, the scopes around a layer, and the numbers of unnamed layers. Layers are
matched first, then the variables inside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy.typing as npt

from tf_image_classification.checkpoints.name_maps import SEED_STATE
from tf_image_classification.checkpoints.slim_names import INCEPTION_SCOPES

# Layers that Keras names by class and number.
_KINDS = (
    *("conv1d", "conv2d", "conv3d", "conv1d_transpose", "conv2d_transpose", "conv3d_transpose"),
    *("depthwise_conv1d", "depthwise_conv2d", "separable_conv1d", "separable_conv2d", "dense"),
    *("batch_normalization", "layer_normalization", "group_normalization", "normalization"),
    *("embedding", "einsum_dense", "multi_head_attention", "p_re_lu", "lstm", "gru"),
)
_NUMBERED = re.compile(rf"({'|'.join(_KINDS)})(?:_(\d+))?")


class _Variable(NamedTuple):
    """A variable of a file or of a model.

    Attributes:
        name: its whole name.
        word: the last part of it, e.g. kernel.
        shape: its shape.
    """

    name: str
    word: str
    shape: tuple[int, ...]


_Layers = dict[str, list[_Variable]]


def by_layer(values: Mapping[str, npt.NDArray[Any]], model: keras.Model) -> dict[str, str]:
    """The names in a file of the variables of a model, matched by their layers.

    Args:
        values: the file's variables, in its order.
        model: the model.

    Returns:
        By the path of the model's variable; those without a layer in the file are left out.
    """
    of_file = _layers({name: tuple(value.shape) for name, value in values.items()}, "")
    of_model = _layers(
        {v.path: tuple(v.shape) for v in model.variables if not v.path.endswith(SEED_STATE)},
        f"{model.name}/",
    )
    found: dict[str, str] = {}
    for ours, theirs in _matched(of_file, of_model).items():
        found |= _variables(of_file[theirs], of_model[ours])
    return found


def _layers(shapes: Mapping[str, tuple[int, ...]], root: str) -> _Layers:
    """Variables by the full name of their layer, scopes included."""
    layers: _Layers = {}
    for name, shape in shapes.items():
        layer, slash, word = name.rpartition("/")
        if slash:
            layers.setdefault(layer.removeprefix(root), []).append(_Variable(name, word, shape))
    return layers


def _matched(of_file: _Layers, of_model: _Layers) -> dict[str, str]:
    """The file's layer for each layer of the model, by four comparisons, the strictest first."""
    numbered = _numbered(of_file, of_model)
    matched = {ours: theirs for ours, theirs in numbered.items() if theirs}
    keys = (lambda layer: layer, _plain, lambda layer: _plain(layer.rpartition("/")[2]))
    for key in keys:
        free_of_file = _unique({layer: key(layer) for layer in of_file})
        free_of_model = _unique({layer: key(layer) for layer in of_model})
        taken = set(matched.values())
        for name, ours in free_of_model.items():
            theirs = free_of_file.get(name)
            if ours not in numbered and ours not in matched and theirs and theirs not in taken:
                matched[ours] = theirs
    return matched


def _unique(keys: Mapping[str, str]) -> dict[str, str]:
    """The layer of each key that only one layer has."""
    layers: dict[str, list[str]] = {}
    for layer, key in keys.items():
        layers.setdefault(key, []).append(layer)
    return {key: found[0] for key, found in layers.items() if len(found) == 1}


def _plain(layer: str) -> str:
    """A layer's name as Keras 3 writes it: ``Conv/BatchNorm`` is ``conv_bn``."""
    return layer.lower().replace("/", "_").replace("batchnorm", "bn")


def _numbered(of_file: _Layers, of_model: _Layers) -> dict[str, str | None]:
    """The file's layer for each unnamed, numbered layer of the model; None: the file has none.

    Numbers depend on the other models of the process, and began at 1 before TensorFlow 2. Where
    the file does not have all numbers of the model, layers are matched in order.
    """
    found: dict[str, str | None] = {}
    ours, theirs = _by_kind(_names_with_numbers(of_model)), _by_kind({n: n for n in of_file})
    for kind, layers in ours.items():
        of_kind = theirs.get(kind, {})
        if set(layers) <= set(of_kind):
            found |= {layers[number]: of_kind[number] for number in layers}
            continue
        in_order = [of_kind[number] for number in sorted(of_kind)]
        for i, number in enumerate(sorted(layers)):
            found[layers[number]] = in_order[i] if i < len(in_order) else None
    return found


def _by_kind(names: Mapping[str, str]) -> dict[str, dict[int, str]]:
    """Layers by kind and number, from their names; kinds with a repeated number are left out."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for layer, name in names.items():
        match = _NUMBERED.fullmatch(name.rpartition("/")[2])
        if match:
            kinds.setdefault(match[1], []).append((int(match[2] or 0), layer))
    return {
        kind: dict(layers)
        for kind, layers in kinds.items()
        if len({number for number, _ in layers}) == len(layers)
    }


def _names_with_numbers(of_model: _Layers) -> dict[str, str]:
    """The model's layers with their names in Keras; those of Inception are renamed here."""
    names = {layer: layer for layer in of_model}
    leaves = {layer.rpartition("/")[2]: layer for layer in of_model}
    for scopes in INCEPTION_SCOPES.values():
        ours = [scope.replace("/", "_") for scope in scopes]
        if not all(name in leaves for name in ours):
            continue
        for number, name in enumerate(ours):
            names[leaves[name]] = f"conv2d_{number}"
            if f"{name}_bn" in leaves:
                names[leaves[f"{name}_bn"]] = f"batch_normalization_{number}"
    return names


def _variables(of_file: list[_Variable], of_model: list[_Variable]) -> dict[str, str]:
    """The file's name for each variable of a layer: by word, else by order and shape."""
    by_word = {variable.word: variable for variable in of_file}
    found = {v.name: by_word[v.word].name for v in of_model if v.word in by_word}
    used = set(found.values())
    left = [v for v in of_model if v.name not in found]
    left_of_file = [v for v in of_file if v.name not in used]
    if [v.shape for v in left] == [v.shape for v in left_of_file]:
        found |= {a.name: b.name for a, b in zip(left, left_of_file, strict=True)}
    return found
