"""Parameter groups: trained variables, weight decay and layer-wise learning rates.

variables = trainable_variables(model, settings.model.trainable_scopes)
decayed = [variable for variable in variables if decays(variable)]
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tf_image_classification.checkpoints.name_maps import OldName, old_names
from tf_image_classification.errors import ConfigError, SpecError, counted, did_you_mean

# In Keras biases of multi-head attention have two dimensions, position embeddings and class tokens
# three: the number of dimensions alone does not distinguish them from kernels.
_NEVER_DECAYED = re.compile(r"bias|beta|gamma|embed|token")


def decays(variable: Any) -> bool:
    """Whether a variable has weight decay: kernels have, all others have not.

    A kernel has at least two dimensions and is not named bias, beta, gamma, embedding or token.
    timm has the same rule (none for ``ndim <= 1``, ``.bias``, position embeddings and tokens), and
    so have the recipes of big_vision (``kernel`` only).

    Args:
        variable: a Keras variable, or any object with a shape and a path or name.

    Example:
        >>> from types import SimpleNamespace
        >>> decays(SimpleNamespace(path="conv1/kernel", shape=(3, 3, 8, 8)))
        True
        >>> decays(SimpleNamespace(path="conv1/bias", shape=(8,)))
        False
    """
    path = str(getattr(variable, "path", "") or variable.name)
    own_name = path.rsplit("/", 1)[-1]
    return len(variable.shape) >= 2 and not _NEVER_DECAYED.search(own_name)


_NUM_DEPTHS = 12


def rate_factors(model: Any, variables: Sequence[Any], decay: float) -> list[float]:
    """Layer-wise learning-rate factors, which decay from the outputs towards the image.

    The layers with variables are divided in order into twelve depths; each has ``decay`` times the
    factor of the next. Output layers, named ``logits``, have 1.0. For a network of twelve blocks
    the factors are those of timm's ``layer_decay``.

    Args:
        model: the model, built.
        variables: the trained variables.
        decay: factor from one depth to the one before it; 1.0: the same rate everywhere.

    Returns:
        One factor per variable, in order.
    """
    body = _body(model.variables)
    depth = {layer: i * _NUM_DEPTHS // len(body) for i, layer in enumerate(body)}
    return [float(decay ** (_NUM_DEPTHS - depth.get(_layer_of(v), _NUM_DEPTHS))) for v in variables]


def freeze_layers(model: Any, fraction: float) -> None:
    """Freeze a fraction of a model's layers, counted from the image; outputs are not among them.

    Their batch normalisation uses its moving statistics from then on.

    Args:
        model: the model, built.
        fraction: of the layers with trainable variables, from 0 to below 1; rounded to a number of
            layers.

    Raises:
        ConfigError: that is not one layer.
    """
    body = _body(model.trainable_variables)
    frozen = set(body[: round(fraction * len(body))])
    if not frozen:
        raise ConfigError(
            f"freeze_layers {fraction:g} has no effect: the model has "
            f"{counted(len(body), 'layer')} before its outputs. Raise it or remove it."
        )
    for layer in model._flatten_layers(include_self=False):
        own = [v for v in layer.variables if _layer_of(v) in frozen]
        for variable in own:
            variable.trainable = False
        if own and isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def _body(variables: Sequence[Any]) -> list[str]:
    """The paths of the layers of variables in order, without the outputs."""
    layers = dict.fromkeys(_layer_of(variable) for variable in variables)
    return [layer for layer in layers if not layer.rpartition("/")[2].startswith("logits")]


def _layer_of(variable: Any) -> str:
    return str(variable.path).rpartition("/")[0]


def trainable_variables(model: Any, scopes: Sequence[str] = ()) -> list[Any]:
    """The model's trainable variables whose names start with one of the scopes.

    A scope is a name prefix, as in TF-Slim: ``conv1`` matches ``conv10/kernel``, ``conv1/`` does
    not. The name of a Sequential or subclassed model, which Keras prepends to its variables' paths,
    is optional. TF-Slim's names, e.g. ``MobilenetV1/Logits``, match as well if ``name_maps`` has
    them.

    Args:
        model: a built Keras model.
        scopes: prefixes of variable paths, e.g. ``block3/``; empty: all variables.

    Raises:
        ConfigError: a scope matches no variable; the message has similar names.
        SpecError: the model has no trainable variable.

    Example:
        >>> import keras
        >>> inputs = keras.Input([4])
        >>> body = keras.layers.Dense(3, name="body")(inputs)
        >>> model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(body))
        >>> [v.path for v in trainable_variables(model, ("logits",))]
        ['logits/kernel', 'logits/bias']
    """
    variables = list(model.trainable_variables)
    if not variables:
        raise SpecError(
            f"Model {model.name!r} has no trainable variable. Build it before training, and set "
            "trainable to True for at least one layer."
        )
    if not scopes:
        return variables
    old = old_names(v.path for v in variables)
    chosen = [v for v in variables if any(_begins(v, scope, model, old) for scope in scopes)]
    for scope in scopes:
        if not any(_begins(v, scope, model, old) for v in chosen):
            names = _names_of_depth(scope.strip("/").count("/") + 1, variables, model)
            raise ConfigError(
                f"trainable_scopes: no trainable variable's name begins with {scope!r}. "
                + textwrap.shorten(did_you_mean(scope, names), 400, placeholder=" ...")
            )
    return chosen


def _begins(variable: Any, scope: str, model: Any, old: Mapping[str, Sequence[OldName]]) -> bool:
    path = str(variable.path)
    names = [path, path.removeprefix(f"{model.name}/"), *(o.name for o in old.get(path, ()))]
    return any(name.startswith(scope) for name in names)


def _names_of_depth(depth: int, variables: Sequence[Any], model: Any) -> set[str]:
    """Prefixes of the variables' paths with ``depth`` parts, to suggest to the user."""
    parts = [v.path.removeprefix(f"{model.name}/").split("/") for v in variables]
    return {"/".join(itertools.islice(names, depth)) for names in parts}
