"""The table of names between the layers of a network and a kind of checkpoint; no TensorFlow."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Change = Callable[[npt.NDArray[Any], tuple[int, ...]], npt.NDArray[Any]]
"""Converts a value of a checkpoint to our network; takes the value and the wanted shape."""

_WORDS = {
    "kernel": "weights",
    "bias": "biases",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "pointwise_weights",
}


@dataclasses.dataclass(frozen=True)
class Row:
    r"""Layers of a network and their scope in a checkpoint.

    Attributes:
        layer: regular expression for the layer's name.
        scope: the scope there, with the groups of the expression as ``\1``.
        words: names of variables in that scope that differ from TF-Slim's usual ones:
            ``weights`` for a kernel, ``biases`` for a bias.
        change: converts a value, or None.
        epsilon_difference: the epsilon of a batch normalisation there, minus ours; it is added to
            the moving variance.
    """

    layer: str
    scope: str
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    change: Change | None = None
    epsilon_difference: float = 0.0

    def fits(self, layer: str) -> re.Match[str] | None:
        """The match of a layer's name, or None."""
        return compiled(self.layer).fullmatch(layer)

    def word(self, variable: str) -> str:
        """The name of a variable of such a layer in the checkpoint."""
        return self.words.get(variable) or _WORDS.get(variable, variable)

    def change_of(self, variable: str) -> Change | None:
        """The conversion of a variable's value, or None."""
        difference = self.epsilon_difference
        if difference and variable == "moving_variance":
            return lambda value, shape: value + np.asarray(difference, value.dtype)
        return self.change


@functools.cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression, compiled once."""
    return re.compile(pattern)


@dataclasses.dataclass(frozen=True)
class NameMap:
    """The names of one kind of checkpoint.

    Attributes:
        name: its name in messages.
        rows: its rows; a layer may match several.
        only_with: a layer that a network of this kind has, or "" for any network.
        numbered: regular expression of names that begin with the numbers of a stage and of a block
            in it, or of a block alone, as groups; they become ``blocks/N/`` with the block's number
            in the whole network, and the rest of the name.
    """

    name: str
    rows: tuple[Row, ...]
    only_with: str = ""
    numbered: str = ""
