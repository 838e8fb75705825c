"""Which variables are trained, and which of them are decayed.

variables = trainable_variables(model, settings.model.trainable_scopes)
decayed = [variable for variable in variables if decays(variable)]
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tf_image_classification.checkpoints.name_maps import OldName, old_names
from tf_image_classification.errors import ConfigError, SpecError, did_you_mean

# Keras gives the biases of multi-head attention two dimensions, and position embeddings and class
# tokens have three: the number of dimensions alone does not tell them from kernels.
_NEVER_DECAYED = re.compile(r"bias|beta|gamma|embed|token")


def decays(variable: Any) -> bool:
    """Whether weight decay acts on the variable: on kernels, not on the rest.

    A kernel has at least two dimensions and is not called a bias, an offset, a scale, an embedding
    or a token. timm does the same (no decay for ``ndim <= 1``, ``.bias`` and what a model lists as
    position embedding or token), and so do big_vision's recipes, which decay ``kernel`` only.

    Args:
        variable: a Keras variable, or anything with a shape and a path or name.
    """
    path = str(getattr(variable, "path", variable.name))
    own_name = path.rsplit("/", 1)[-1]
    return len(variable.shape) >= 2 and not _NEVER_DECAYED.search(own_name)


_NUM_DEPTHS = 12


def rate_factors(model: Any, variables: Sequence[Any], decay: float) -> list[float]:
    """Factors of the learning rate that fall from the outputs towards the image.

    The layers that have variables are divided, in their order, among twelve depths; each has
    ``decay`` times the factor of the next. Outputs, the layers called ``logits``, have 1.0. A
    network of twelve blocks gets what timm's ``layer_decay`` gives it.

    Args:
        model: the model, built.
        variables: those that are trained.
        decay: factor from one depth to the one before it; 1.0: all alike.
    """
    layers = [str(v.path).rpartition("/")[0] for v in model.variables]
    body = list(dict.fromkeys(layer for layer in layers if not _is_output(layer)))
    depth = {layer: i * _NUM_DEPTHS // len(body) for i, layer in enumerate(body)}
    return [
        float(decay ** (_NUM_DEPTHS - depth.get(str(v.path).rpartition("/")[0], _NUM_DEPTHS)))
        for v in variables
    ]


def _is_output(layer: str) -> bool:
    return layer.rpartition("/")[2].startswith("logits")


def trainable_variables(model: Any, scopes: Sequence[str] = ()) -> list[Any]:
    """The model's trainable variables whose names begin with one of the scopes.

    A scope is a plain beginning, as in TF-Slim: ``conv1`` also takes ``conv10/kernel``, ``conv1/``
    does not. Keras puts the name of a Sequential or subclassed model before those of its
    variables; a scope may have it or leave it out. The names of TF-Slim, such as
    ``MobilenetV1/Logits``, count as well where ``name_maps`` knows them.

    Args:
        model: a built Keras model.
        scopes: beginnings of variable paths, such as ``block3/``; empty: all variables.

    Raises:
        ConfigError: a scope takes no variable; names near ones.
        SpecError: the model has no trainable variable at all.

    Example:
        >>> [v.path for v in trainable_variables(model, ("logits",))]
        ['logits/kernel', 'logits/bias']
    """
    variables = list(model.trainable_variables)
    if not variables:
        raise SpecError(
            f"Model {model.name!r} has no trainable variable. Build it before training and leave "
            "some layer's trainable at True."
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
    """Beginnings of the variables' paths with so many parts, to suggest to the user."""
    parts = [v.path.removeprefix(f"{model.name}/").split("/") for v in variables]
    return {"/".join(itertools.islice(names, depth)) for names in parts}
