"""Calls of a model's layers, nested ones included, for models written in any way.

with watched_layers(model, lambda layer, inputs, output: print(layer.name)):
    model(images)
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

Call = Callable[..., Any]
Replacement = tuple[keras.layers.Layer, str, Any]
"""A layer, the name of its attribute, and the value in its place."""

Watch = Callable[[keras.layers.Layer, Any, Any], None]


@contextlib.contextmanager
def replaced(replacements: Sequence[Replacement]) -> Iterator[None]:
    """Layers with other attributes inside the block, e.g. ``call``, eagerly and while traced.

    Not for several threads at once.
    """
    before = [(layer, name, vars(layer).get(name)) for layer, name, _ in replacements]
    try:
        for layer, name, value in replacements:
            vars(layer)[name] = value  # setattr would make Keras track it
        yield
    finally:
        for layer, name, value in before:
            vars(layer).pop(name, None)
            if value is not None:
                vars(layer)[name] = value


@contextlib.contextmanager
def replaced_while_used(
    model: keras.Model, kind: str, replacements: Callable[[], Sequence[Replacement]]
) -> Iterator[None]:
    """``replaced`` for blocks of one model that may overlap: from the first one to the last one.

    Replicas of a strategy take turns inside their blocks, whose ends need not be nested.

    Args:
        model: the model of the layers.
        kind: name of the replacements; blocks of another kind are independent.
        replacements: gives them, at the begin of the first block.
    """
    use = _uses.setdefault((id(model), kind), _Use())
    if not use.count:
        use.replaced.enter_context(replaced(replacements()))
    use.count += 1
    try:
        yield
    finally:
        use.count -= 1
        if not use.count:
            del _uses[id(model), kind]
            use.replaced.close()


class _Use:
    """The blocks that a model is in.

    Attributes:
        count: their number.
        replaced: ends with the last of them.
    """

    def __init__(self) -> None:
        self.count = 0
        self.replaced = contextlib.ExitStack()


_uses: dict[tuple[int, str], _Use] = {}  # by the model's id and the kind


def replaced_calls(
    calls: Sequence[tuple[keras.layers.Layer, Call]],
) -> contextlib.AbstractContextManager[None]:
    """Layers with other functions as their ``call``, which take what that takes; see above."""
    return replaced([(layer, "call", call) for layer, call in calls])


@contextlib.contextmanager
def watched_layers(model: keras.Model, watch: Watch) -> Iterator[None]:
    """Calls ``watch`` after each call of a layer inside the block, nested ones included.

    Works for functional models, ``Sequential`` and subclasses alike, eagerly and while a function
    is traced. Not for several threads at once.

    Args:
        model: whose layers are watched; the model itself is not.
        watch: called with the layer, its first argument and its output.
    """

    def watched(layer: keras.layers.Layer) -> Call:
        call = layer.call

        @functools.wraps(call)
        def calling(*arguments: Any, **options: Any) -> Any:
            output = call(*arguments, **options)
            watch(layer, arguments[0] if arguments else None, output)
            return output

        return calling

    layers = [layer for layer in model._flatten_layers(include_self=False) if layer.built]
    with replaced_calls([(layer, watched(layer)) for layer in layers]):
        yield
