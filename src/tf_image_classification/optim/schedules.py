"""Learning-rate schedules from ``ScheduleSettings``.

    schedule = make_schedule(settings.schedule, train_steps=10_000, steps_per_epoch=500.0)
    optimizer = make_optimizer(settings.optimizer, schedule)
    rates = schedule(tf.range(10_000))  # for a plot

Steps are counted from 0, the first update. A rate that decays over the run would reach its end at
step ``train_steps``, which is not taken: the last update still changes the weights.
"""

from __future__ import annotations

from typing import Any

import keras
from keras.optimizers.schedules import CosineDecay, ExponentialDecay, PolynomialDecay

from tf_image_classification.config import ScheduleSettings
from tf_image_classification.errors import ConfigError

ONE_CYCLE_START = 1 / 25
"""Start of the one-cycle schedule as a fraction of ``learning_rate``."""

_FALLS_TO_END = ("polynomial", "cosine", "one_cycle")


def make_schedule(settings: ScheduleSettings, *, train_steps: int, steps_per_epoch: float) -> Any:
    """The learning rate as a function of the step.

    * fixed: ``learning_rate`` throughout.
    * exponential: step decay, times ``learning_rate_decay_factor`` every ``num_epochs_per_decay``
      epochs, as in TF-Slim's train_image_classifier.py.
    * polynomial: to ``end_learning_rate`` by ``(1 - progress) ** polynomial_power``.
    * cosine: cosine annealing to ``end_learning_rate`` (Loshchilov & Hutter, arXiv 1608.03983).
    * one_cycle: linear warm-up from ``learning_rate / 25`` during the first ``one_cycle_warmup``
      of the run, then cosine annealing to ``end_learning_rate`` (after Smith & Topin, arXiv
      1708.07120, who anneal linearly and vary the momentum too).

    With ``warmup_steps`` the rate of the first steps is ``learning_rate * (step + 1) /
    (warmup_steps + 1)``: linear from 0 one step before the run to ``learning_rate`` at step
    ``warmup_steps``, so that no warm-up step has rate 0 or the peak rate. The schedule then covers
    the remaining steps.

    Args:
        settings: the schedule and its hyperparameters.
        train_steps: steps of the whole run, over all restarts; min 1.
        steps_per_epoch: batches in one pass over the training set, a fraction included.

    Returns:
        A ``keras.optimizers.schedules.LearningRateSchedule`` of an integer, an integer tensor or
        a vector of steps, eager or traced; rates are float32 of the same shape.

    Raises:
        ConfigError: the warm-up is as long as the run, or the end rate is above the peak rate.

    Example:
        >>> settings = ScheduleSettings(learning_rate=0.1, learning_rate_decay_type="cosine")
        >>> schedule = make_schedule(settings, train_steps=100, steps_per_epoch=10.0)
        >>> round(float(schedule(50)), 6)
        0.05
    """
    _check(settings, train_steps)
    peak, end = settings.learning_rate, settings.end_learning_rate
    if settings.learning_rate_decay_type == "one_cycle":
        rise_steps = int(settings.one_cycle_warmup * train_steps)
        rise = _line(peak * ONE_CYCLE_START, peak, max(rise_steps, 1))
        return InTurn(rise, rise_steps, _cosine(peak, end, train_steps - rise_steps))
    warmup_steps = settings.warmup_steps
    body = _body(settings, train_steps - warmup_steps, steps_per_epoch)
    if not warmup_steps:
        return body
    return InTurn(_line(peak / (warmup_steps + 1), peak, warmup_steps), warmup_steps, body)


@keras.saving.register_keras_serializable(package="tf_image_classification")
class InTurn(keras.optimizers.schedules.LearningRateSchedule):
    """One schedule for the first steps, then another, which counts its steps from 0 again."""

    def __init__(self, first: Any, first_steps: int, then: Any) -> None:
        self.first = first
        self.first_steps = first_steps
        self.then = then

    def __call__(self, step: Any) -> Any:
        """The rate, float32 of the shape of ``step``."""
        step = keras.ops.convert_to_tensor(step)
        return keras.ops.where(
            step < self.first_steps, self.first(step), self.then(step - self.first_steps)
        )

    def get_config(self) -> dict[str, Any]:
        """Both schedules and the length of the first, as plain values."""
        serialize = keras.optimizers.schedules.serialize
        return {
            "first": serialize(self.first),
            "first_steps": self.first_steps,
            "then": serialize(self.then),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> InTurn:
        """The schedule from ``get_config``."""
        deserialize = keras.optimizers.schedules.deserialize
        return cls(deserialize(config["first"]), config["first_steps"], deserialize(config["then"]))


def _body(settings: ScheduleSettings, steps: int, steps_per_epoch: float) -> Any:
    """The schedule without warm-up, over ``steps`` steps."""
    peak, end = settings.learning_rate, settings.end_learning_rate
    kind = settings.learning_rate_decay_type
    if kind == "fixed":
        return _line(peak, peak, steps)
    if kind == "cosine":
        return _cosine(peak, end, steps)
    if kind == "polynomial":
        return PolynomialDecay(peak, steps, end, power=settings.polynomial_power)
    decay_steps = max(1, int(steps_per_epoch * settings.num_epochs_per_decay))
    return ExponentialDecay(peak, decay_steps, settings.learning_rate_decay_factor, staircase=True)


def _line(start: float, end: float, steps: int) -> Any:
    """A linear schedule: the polynomial of power 1."""
    return PolynomialDecay(start, steps, end, power=1.0)


def _cosine(peak: float, end: float, steps: int) -> Any:
    """Cosine annealing; Keras takes the end as a fraction of the peak rate."""
    return CosineDecay(peak, steps, alpha=end / peak if peak else 0.0)


def _check(settings: ScheduleSettings, train_steps: int) -> None:
    if settings.warmup_steps >= train_steps:
        raise ConfigError(
            f"warmup_steps is {settings.warmup_steps} but train_steps is only {train_steps}: the "
            "run would end before the rate reaches learning_rate. Set fewer warmup_steps or more "
            "train_steps."
        )
    kind = settings.learning_rate_decay_type
    if kind in _FALLS_TO_END and settings.end_learning_rate > settings.learning_rate:
        raise ConfigError(
            f"end_learning_rate is {settings.end_learning_rate:g}, above learning_rate "
            f"{settings.learning_rate:g}, so that the schedule {kind} would increase. Set "
            "end_learning_rate to learning_rate or less."
        )
