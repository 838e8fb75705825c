"""What the settings ask of a model's batch normalisation, and whether its averages will be fit.

set_up(model, settings)
print(warning(model, train_steps=80))
"""

from __future__ import annotations

import math

import keras
import numpy as np

from tf_image_classification.config import Settings
from tf_image_classification.errors import ConfigError

_MOST_INITIAL = 0.05
"""Share of initial values in moving averages that does not matter yet."""


def set_up(model: keras.Model, settings: Settings) -> None:
    """Let the model's batch normalisation work as the settings say.

    Raises:
        ConfigError: the model has none, and a setting that was given is about it.
    """
    values, layers = settings.values(), _layers(model)
    momentum = settings.model.batch_norm_momentum
    for option in ("sync_batch_norm", "freeze_batch_norm", "batch_norm_momentum"):
        is_asked = values[option] is not None and values[option] is not False
        if is_asked and not layers and settings.origin(option) != "recipe":
            raise ConfigError(
                f"{option} has no effect: the model has no keras.layers.BatchNormalization. "
                "Remove it."
            )
    for layer in layers:
        if settings.model.sync_batch_norm:
            layer.synchronized = True
        if settings.model.freeze_batch_norm:
            layer.trainable = False
        if momentum is not None:
            layer.momentum = momentum


def warning(model: keras.Model, train_steps: int, updates_a_step: int = 1) -> str:
    """That averages will still be initial values to a good part, and what to do; else nothing.

    Training uses each batch's own mean and variance, evaluations their moving averages, which begin
    as 0 and 1 and keep a share ``momentum`` of that at each update: a model that is right in
    training can be no better than chance in evaluations.

    Args:
        model: as it begins.
        train_steps: of the whole run.
        updates_a_step: parts that a batch is computed in.
    """
    momentum = max((each.momentum for each in _layers(model) if _is_initial(each)), default=0.0)
    share = momentum ** (train_steps * updates_a_step)
    if share <= _MOST_INITIAL:
        return ""
    enough = math.ceil(math.log(_MOST_INITIAL) / math.log(momentum) / updates_a_step)
    fitting = min(0.9, _MOST_INITIAL ** (1 / (train_steps * updates_a_step)))
    return (
        "WARNING: evaluations will be worse than the model. They take the moving averages of batch "
        f"normalisation, of which {share:.0%} will be initial values after {train_steps} steps "
        f"with momentum {momentum:g}. Use --batch_norm_momentum {math.floor(100 * fitting) / 100:g}"
        f", or {enough} steps."
    )


def _is_initial(layer: keras.layers.BatchNormalization) -> bool:
    """Whether the averages are to be learnt and have not been."""
    mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
    is_learnt = layer.trainable and layer.momentum < 1
    return bool(is_learnt and (mean == 0).all() and (variance == 1).all())


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    layers = model._flatten_layers()
    return [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
