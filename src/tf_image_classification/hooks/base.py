"""What a hook is, what it may ask of the run, and when periodic things are due."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras

    from tf_image_classification.config import Settings
    from tf_image_classification.labels import LabelSchema


class Run(Protocol):
    """The running training, as hooks see it.

    Attributes:
        settings: all settings.
        schema: the labels with their vocabularies.
        model_dir: the model folder.
        step: steps done.
        train_steps: steps in all.
        batch_size: examples in a step.
        steps_per_epoch: batches in one pass over the training set.
        was_resumed: whether this process continued an earlier one.
        wait_secs: seconds spent waiting for input since the start of this process.
        step_secs: seconds spent in steps, waiting included, since the start of this process.
    """

    settings: Settings
    schema: LabelSchema
    model_dir: str
    step: int
    train_steps: int
    batch_size: int
    steps_per_epoch: float
    was_resumed: bool
    wait_secs: float
    step_secs: float

    @property
    def model(self) -> keras.Model:
        """The Keras model."""

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        """The Keras optimizer."""

    def loss(self) -> float:
        """The loss of the last step; waits for the device."""

    def gradient_norm(self) -> float:
        """The gradient's norm in the last step; waits for the device."""

    def learning_rate(self) -> float:
        """The learning rate of the next step."""

    def mean_loss(self) -> float:
        """The mean loss since this was last asked; part of the saved state."""

    def check(self) -> None:
        """Check that the loss was finite and the step count is right.

        Raises:
            NonFiniteLossError: the loss was not finite; names the step and its examples.
        """

    def begin_averages(self) -> None:
        """Let the moving averages begin anew, at weights that a hook has changed."""

    def save(self, folder: str = "", keep: int | None = None) -> str:
        """Write a checkpoint of the whole state; returns its path."""

    def request_stop(self, reason: str) -> None:
        """End the training after this step, as complete."""

    def sample_batch(self) -> Any:
        """A batch of training images with their labels, as it entered the last step."""


class Hook:
    """Something that happens during training; every method may be left out.

    Methods run in Python, between steps; of several workers on the first one, which writes.

    Attributes:
        on_every_worker: whether they run on all workers: for what changes the model, or comes to
            the same decision everywhere. Such a hook must not write.
    """

    on_every_worker = False

    def begin(self, run: Run) -> None:
        """Before the first step of this process, after the state is restored."""

    def after_step(self, run: Run) -> None:
        """After each call of the step function: ``run.step`` steps are done."""

    def after_evaluation(self, run: Run, evaluation: Any) -> None:
        """After each evaluation; ``evaluation.metrics`` holds numbers and arrays by name."""

    def on_stop(self, run: Run, reason: str) -> None:
        """When a signal stops the run before its end; the state has been saved."""

    def end(self, run: Run) -> None:
        """After the last step of a complete run."""

    def close(self) -> None:
        """Last of all, however the training ended: let go of what ``begin`` opened."""

    def rate_share(self, path: str) -> Callable[[Any], Any] | None:
        """How much of the learning rate a variable gets, as a function of the step, or None: all.

        The function is traced: it takes the number of steps done, an int64 scalar tensor, and
        gives a number from 0 to 1. Depending on nothing else, it is the same on every worker and
        after a restart.
        """
        return None

    def state(self) -> dict[str, Any]:
        """What the hook must remember over restarts, as values that JSON can hold."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state`` gave."""


@dataclasses.dataclass
class Every:
    """When something periodic is due: every so many steps, or seconds; both 0 means never.

    Attributes:
        steps: steps between two times.
        secs: seconds between two times.
        clock: gives the time in seconds; an argument so that tests need not wait.
    """

    steps: int = 0
    secs: float = 0.0
    clock: Callable[[], float] | None = None
    _last_step: int = 0
    _last_time: float = 0.0

    def start(self, step: int) -> None:
        """Begin to count at a step, now."""
        self._last_step, self._last_time = step, self._now()

    def is_due(self, step: int) -> bool:
        """Whether the time has come; counting begins anew when it has.

        With ``steps`` it comes at multiples of that number, also when calls skip over them.
        """
        if self.steps:
            due = step // self.steps > self._last_step // self.steps
        else:
            due = bool(self.secs) and self._now() - self._last_time >= self.secs
        if due:
            self.start(step)
        return due

    def _now(self) -> float:
        return (self.clock or time.monotonic)()
