"""Batch normalisation of a run: frozen or not, its momentum, and whether its averages converge.

print(set_up(model, settings, train_steps=80, has_warm_start=True))
print(warning(model, train_steps=80))
"""

from __future__ import annotations

import math

import keras
import numpy as np

from tf_image_classification.config import Settings
from tf_image_classification.errors import ConfigError

_MOST_INITIAL = 0.05
"""Fraction of the values at the start in moving averages that does not matter yet."""

_LONGEST = 0.9
"""Largest momentum that is chosen here: averages over about ten steps."""


def set_up(
    model: keras.Model, settings: Settings, *, train_steps: int, has_warm_start: bool
) -> str:
    """Apply the settings to the model's batch normalisation; returns a note on the chosen momentum.

    Averages that come with weights belong to other images and other weights. Where the run is too
    short for a layer's momentum to replace them, evaluations would normalise by them to a good
    part, and training, which takes each batch's own statistics, would not show it. The momentum is
    lowered there, unless one was given.

    Args:
        model: as it is built; its weights may be loaded already.
        settings: all settings.
        train_steps: of the whole run.
        has_warm_start: whether weights will be loaded.

    Raises:
        ConfigError: the model has none, and a setting that was given is about it.
    """
    values, layers = settings.values(), _layers(model)
    momentum = settings.model.batch_norm_momentum
    for option in ("sync_batch_norm", "freeze_batch_norm", "batch_norm_momentum"):
        is_asked = values[option] is not None and values[option] is not False
        if is_asked and not layers and settings.is_chosen(option):
            raise ConfigError(
                f"{option} has no effect: the model has no keras.layers.BatchNormalization. "
                "Remove it."
            )
    updates = train_steps * settings.training.gradient_accumulation_steps
    lowered: list[float] = []
    for layer in layers:
        is_loaded = has_warm_start or not _has_initial_averages(layer)
        if settings.model.sync_batch_norm:
            layer.synchronized = True
        if settings.model.freeze_batch_norm:
            layer.trainable = False
        if momentum is not None:
            layer.momentum = momentum
        elif is_loaded and _learns(layer) and layer.momentum**updates > _MOST_INITIAL:
            lowered.append(layer.momentum)
            layer.momentum = _fitting_momentum(updates)
    if not lowered:
        return ""
    return (
        f"batch normalisation: momentum {max(lowered):g} of {len(lowered)} layers lowered to "
        f"{_fitting_momentum(updates):g}, because {max(lowered) ** updates:.0%} of the loaded "
        f"statistics would remain after {train_steps} steps (--batch_norm_momentum overrides it)"
    )


def _fitting_momentum(updates: int) -> float:
    """The momentum with which little of the values at the start remains after so many updates."""
    fitting = min(_LONGEST, _MOST_INITIAL ** (1 / updates))
    return float(math.floor(100 * fitting) / 100)


def warning(model: keras.Model, train_steps: int, updates_a_step: int = 1) -> str:
    """A warning that the moving averages will still be dominated by initial values, or "".

    Training uses each batch's own mean and variance, evaluations their moving averages, which begin
    as 0 and 1 and keep the fraction ``momentum`` of that at each update: a model that is right in
    training can be no better than chance in evaluations.

    Args:
        model: before its first step.
        train_steps: of the whole run.
        updates_a_step: parts that a batch is computed in.
    """
    momentum = max((each.momentum for each in _layers(model) if _is_initial(each)), default=0.0)
    fraction = momentum ** (train_steps * updates_a_step)
    if fraction <= _MOST_INITIAL:
        return ""
    enough = math.ceil(math.log(_MOST_INITIAL) / math.log(momentum) / updates_a_step)
    return (
        "WARNING: evaluations will be worse than the model. They take the moving averages of batch "
        f"normalisation, of which {fraction:.0%} will be initial values after {train_steps} steps "
        f"with momentum {momentum:g}. Use --batch_norm_momentum "
        f"{_fitting_momentum(train_steps * updates_a_step):g}, or {enough} steps."
    )


def _is_initial(layer: keras.layers.BatchNormalization) -> bool:
    """Whether the averages are to be learnt and have not been."""
    return _learns(layer) and _has_initial_averages(layer)


def _learns(layer: keras.layers.BatchNormalization) -> bool:
    return bool(layer.trainable and layer.momentum < 1)


def _has_initial_averages(layer: keras.layers.BatchNormalization) -> bool:
    mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
    return bool((mean == 0).all() and (variance == 1).all())


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    layers = model._flatten_layers()
    return [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
