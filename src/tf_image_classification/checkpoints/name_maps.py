r"""The names of a network's variables in checkpoints of TF-Slim and PyTorch; no TensorFlow.

A map is a table of rows, each from layers of a network to their scope in a checkpoint. Further maps
can be registered:

    register(NameMap("my_net", (Row(r"block(\d+)_conv", r"MyNet/block_\1/conv"),)))
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy.typing as npt

from tf_image_classification.checkpoints import slim_names, torch_names
from tf_image_classification.checkpoints.name_rows import Change, NameMap, Row, compiled
from tf_image_classification.errors import ConfigError

__all__ = [
    "SEED_STATE", "Change", "NameMap", "OldName", "Row", "old_names", "register",
    "with_block_numbers",
]  # fmt: skip

SEED_STATE = "seed_generator_state"
"""Suffix of the state variables of random layers; they are no weights, and in no checkpoint."""


class OldName(NamedTuple):
    """A name of a variable in a checkpoint, and the conversion of its value."""

    name: str
    change: Change | None


_MAPS = {m.name: m for m in (*slim_names.MAPS, *torch_names.MAPS)}


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
    rows = [row for name_map in _maps_of(layers) for row in name_map.rows]
    found: dict[str, tuple[OldName, ...]] = {}
    of_layer = {layer: [(r, m) for r in rows if (m := r.fits(layer))] for layer in layers}
    for path, (layer, variable) in split.items():
        found[path] = tuple(
            OldName(
                f"{match.expand(row.scope)}/{row.word(variable)}".lstrip("/"),
                row.change_of(variable),
            )
            for row, match in of_layer[layer]
        )
    return found


def with_block_numbers(
    values: Mapping[str, npt.NDArray[Any]], paths: Iterable[str]
) -> dict[str, npt.NDArray[Any]]:
    """A file's values, with the blocks numbered as the maps of a network expect it.

    Args:
        values: the values by name.
        paths: the paths of the network's variables.

    Example:
        >>> file = {"blocks/0/0/bn1/bias": 0, "blocks/1/0/bn1/bias": 1, "blocks/1/1/bn1/bias": 2}
        >>> sorted(with_block_numbers(file, ["separable0_depthwise/kernel"]))
        ['blocks/0/bn1/bias', 'blocks/1/bn1/bias', 'blocks/2/bn1/bias']
    """
    for name_map in _maps_of({path.split("/")[-2] for path in paths if "/" in path}):
        if not name_map.numbered:
            continue
        found = {name: compiled(name_map.numbered).match(name) for name in values}
        blocks = {name: tuple(map(int, filter(None, m.groups()))) for name, m in found.items() if m}
        number = {block: i for i, block in enumerate(sorted(set(blocks.values())))}
        values = {
            f"blocks/{number[blocks[name]]}/{name[match.end() :]}" if match else name: values[name]
            for name, match in found.items()
        }
    return dict(values)


def _maps_of(layers: Collection[str]) -> list[NameMap]:
    """The maps that apply to a network with these layers."""
    return [m for m in _MAPS.values() if not m.only_with or m.only_with in layers]
