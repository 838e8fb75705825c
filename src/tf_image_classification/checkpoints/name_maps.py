r"""Variable names of TF-Slim's checkpoints (``slim_names.tsv``) and PyTorch's; no TensorFlow.

A map is a table of rows, each from layers of a network to their scope in a checkpoint. Further maps
can be registered:

    register(NameMap("my_net", (Row(r"block(\d+)_conv", r"MyNet/block_\1/conv"),)))
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import ConfigError

Change = Callable[[npt.NDArray[Any], tuple[int, ...]], npt.NDArray[Any]]
"""Converts a value of a checkpoint to our network; takes the value and the wanted shape."""

_WORDS = {
    "kernel": "weights",
    "bias": "biases",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "pointwise_weights",
}
_NUM_IMAGENET_CLASSES = 1000

SEED_STATE = "seed_generator_state"
"""Suffix of the state variables of random layers; they are no weights, and in no checkpoint."""


@dataclasses.dataclass(frozen=True)
class Row:
    r"""Layers of a network and their scope in a checkpoint.

    Attributes:
        layer: regular expression for the layer's name.
        scope: the scope there, with the groups of the expression as ``\1``.
        words: names of variables in that scope that differ from TF-Slim's usual ones:
            ``weights`` for a kernel, ``biases`` for a bias.
        change: converts a kernel or bias, or None.
    """

    layer: str
    scope: str
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    change: Change | None = None

    def fits(self, layer: str) -> re.Match[str] | None:
        """The match of a layer's name, or None."""
        return _compiled(self.layer).fullmatch(layer)

    def word(self, variable: str) -> str:
        """The name of a variable of such a layer in the checkpoint."""
        return self.words.get(variable) or _WORDS.get(variable, variable)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@dataclasses.dataclass(frozen=True)
class NameMap:
    """The names of one kind of checkpoint.

    Attributes:
        name: its name in messages.
        rows: its rows; a layer may match several.
        only_with: a layer that a network of this kind has, or "" for any network.
    """

    name: str
    rows: tuple[Row, ...]
    only_with: str = ""


class OldName(NamedTuple):
    """A name of a variable in a checkpoint, and the conversion of its value."""

    name: str
    change: Change | None


_MAPS: dict[str, NameMap] = {}


def register(name_map: NameMap) -> NameMap:
    """Add a map; it applies to every network whose layers its rows match.

    Raises:
        ConfigError: a map of this name exists.
    """
    if name_map.name in _MAPS:
        raise ConfigError(f"There is a name map {name_map.name!r} already.")
    _MAPS[name_map.name] = name_map
    return name_map


def old_names(paths: Iterable[str]) -> dict[str, tuple[OldName, ...]]:
    """The possible names of each variable of a network in a checkpoint.

    Args:
        paths: the paths of all its variables.

    Example:
        >>> old_names(["conv1/kernel", "conv_dw_1/kernel"])["conv1/kernel"][0].name
        'MobilenetV1/Conv2d_0/weights'
    """
    split = {path: path.split("/")[-2:] for path in paths if "/" in path}
    layers = {layer for layer, _ in split.values()}
    rows = [
        row
        for name_map in _MAPS.values()
        if not name_map.only_with or name_map.only_with in layers
        for row in name_map.rows
    ]
    found: dict[str, tuple[OldName, ...]] = {}
    of_layer = {layer: [(r, m) for r in rows if (m := r.fits(layer))] for layer in layers}
    for path, (layer, variable) in split.items():
        found[path] = tuple(
            OldName(f"{match.expand(row.scope)}/{row.word(variable)}", row.change)
            for row, match in of_layer[layer]
        )
    return found


def _without_background(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Without the background class that Slim's ImageNet heads have before the thousand."""
    has_background = value.shape[-1] == _NUM_IMAGENET_CLASSES + 1
    return value[..., 1:] if has_background and shape[-1] == _NUM_IMAGENET_CLASSES else value


def _to_bgr(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Keras's VGG has BGR input, Slim's RGB; a bias stays."""
    return value[:, :, ::-1] if value.ndim == 4 else value


_OPTIONS: dict[str, dict[str, Any]] = {
    "depthwise": {"words": {"kernel": "depthwise_weights"}},
    "background": {"change": _without_background},
    "bgr": {"change": _to_bgr},
}
_Line = tuple[str, str, str, str]


def _expanded(lines: Sequence[_Line], section: str) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Layer, scope and options of each row of a section, those of its templates included."""
    for _, layer, scope, options in (line for line in lines if line[0] == section):
        if layer != "use":
            yield layer, scope, options.split(",")
            continue
        names, choices = zip(*(value.split("=") for value in options.split(" ")), strict=True)
        for values in zip(*(choice.split("|") for choice in choices), strict=True):
            for row in _expanded(lines, scope):
                filled = [_filled(text, dict(zip(names, values, strict=True))) for text in row[:2]]
                yield filled[0], filled[1], row[2]


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _slim_map(lines: Sequence[_Line], network: str) -> NameMap:
    """The map of one network in ``slim_names.tsv``."""
    rows, only_with = [], ""
    for ours, scope, options in _expanded(lines, network):
        if ours == "only_with":
            only_with = scope
            continue
        layer = ours or _below_root(scope).replace("/", "_")
        chosen = {k: v for option in options for k, v in _OPTIONS.get(option, {}).items()}
        rows.append(Row(layer, scope, **chosen))
        if "batch_norm" in options:
            rows.append(Row(f"{layer}_bn", f"{scope}/BatchNorm"))
    return NameMap(network, tuple(rows), only_with)


def _below_root(scope: str) -> str:
    return scope.partition("/")[2]


def _read_lines() -> list[_Line]:
    text = importlib.resources.files(__package__).joinpath("slim_names.tsv").read_text("utf-8")
    found = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return [(*line, *[""] * (4 - len(line))) for line in found]  # type: ignore[misc]


_LINES = _read_lines()
for _network in dict.fromkeys(line[0] for line in _LINES if not line[0].startswith("<")):
    register(_slim_map(_LINES, _network))


def _from_torch(value: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A kernel of PyTorch, output channels first, in TensorFlow's order."""
    if value.ndim < 4:
        return np.transpose(value)
    is_depthwise = value.shape[1] == 1 and value.shape[0] == shape[2]
    return np.transpose(value, (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))


_TORCH_WORDS = {
    **dict.fromkeys(("kernel", "depthwise_kernel", "gamma"), "weight"),
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _torch_row(layer: str, name: str) -> Row:
    return Row(layer, name, words=_TORCH_WORDS, change=_from_torch)


register(
    NameMap(
        "efficientnet_lite",
        (
            _torch_row("stem", "_conv_stem"),
            _torch_row("stem_bn", "_bn0"),
            _torch_row(r"block(\d+)_(expand|depthwise|project)", r"_blocks/\1/_\2_conv"),
            _torch_row(r"block(\d+)_expand_bn", r"_blocks/\1/_bn0"),
            _torch_row(r"block(\d+)_depthwise_bn", r"_blocks/\1/_bn1"),
            _torch_row(r"block(\d+)_project_bn", r"_blocks/\1/_bn2"),
            _torch_row("head", "_conv_head"),
            _torch_row("head_bn", "_bn1"),
            _torch_row("logits", "_fc"),
        ),
        only_with="block0_depthwise",
    )
)

INCEPTION_SCOPES = {
    network: [_below_root(scope) for layer, scope, _ in _expanded(_LINES, network) if not layer]
    for network in ("inception_v3", "inception_resnet_v2")
}
"""Scopes of the convolutions that Keras only numbers, in the order in which it makes them."""
