"""Find a learning rate with a range test: a few steps with a rate that grows exponentially.

found = find_learning_rate(context)
print(found.suggestion)
"""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import keras
import numpy as np

from tf_image_classification.errors import ConfigError, NonFiniteLossError
from tf_image_classification.system import files
from tf_image_classification.workflows.setup import build
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.model import start_from_checkpoint
from tf_image_classification.workflows.setup.validate import open_run

_SMOOTHING = 0.9  # of the losses, bias-corrected as in Adam
_DIVERGED = 4.0  # times the smallest loss


@dataclasses.dataclass(frozen=True)
class LearningRates:
    """The losses of a learning-rate range test.

    Attributes:
        rates: the rate of each step.
        losses: the loss of each step, smoothed.
        suggestion: a tenth of the rate with the minimum loss.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


def find_learning_rate(
    context: RunContext,
    *,
    lowest: float = 1e-7,
    highest: float = 1.0,
    num_steps: int = 100,
) -> LearningRates:
    """Train a few steps with an exponentially growing rate and find where the loss is minimal.

    The range test of Smith (arXiv 1506.01186), with fastai's suggestion ``minimum``: a tenth of
    the rate with the minimum smoothed loss. Nothing is written.

    Args:
        context: the training.
        lowest: first rate.
        highest: last rate, unless the loss leaves before.
        num_steps: steps from the first to the last.

    Raises:
        ConfigError: the loss was not finite from the beginning.
    """
    opened = open_run(context)
    schedule = keras.optimizers.schedules.ExponentialDecay(lowest, num_steps, highest / lowest)
    parts = build.assemble(opened.context, opened.data, [], schedule=schedule)
    if context.settings.model.checkpoint_path:
        start_from_checkpoint(opened.context.settings, parts.state.model, opened.data)
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    for step in range(num_steps):
        try:
            parts.run.stepper.time_steps(1)
        except NonFiniteLossError:
            break
        average = _SMOOTHING * average + (1 - _SMOOTHING) * parts.run.mean_loss()
        rates.append(float(schedule(step)))
        losses.append(average / (1 - _SMOOTHING ** (step + 1)))
        if losses[-1] > _DIVERGED * min(losses):
            break
    if len(losses) < 3:
        raise ConfigError(
            f"The loss is not finite after {len(losses)} steps at a rate of {lowest:g}. Look at "
            "the preprocessing and the loss, or give a smaller lowest rate."
        )
    best = rates[int(np.argmin(losses))]
    return LearningRates(tuple(rates), tuple(losses), float(f"{best / 10:.2g}"))


def draw_learning_rates(found: LearningRates, path: str) -> None:
    """Plot the loss over the learning rate as a PNG, with the suggestion marked."""
    # Late: matplotlib takes a second to load.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    FigureCanvasAgg(figure)
    axis: Any = figure.subplots()
    axis.semilogx(found.rates, found.losses)
    axis.axvline(found.suggestion, color="tab:red", linestyle="--")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss, smoothed")
    axis.set_title(f"suggested: {found.suggestion:g}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    files.write_bytes(path, buffer.getvalue())
