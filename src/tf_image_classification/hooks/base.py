"""``Hook``, an action during training, and ``Run``, the training as hooks see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras

    from tf_image_classification.batches import Batch
    from tf_image_classification.config import Settings
    from tf_image_classification.labels import LabelSchema


class EvaluatedRun(Protocol):
    """A run at an evaluation: in the process that trains, or in the one that evaluates beside it.

    Attributes:
        settings: all settings.
        schema: the labels with their vocabularies.
        model_dir: the model folder.
        was_resumed: whether this process continued an earlier one.
    """

    settings: Settings
    schema: LabelSchema
    model_dir: str
    was_resumed: bool

    @property
    def step(self) -> int:
        """Steps done."""

    def save(self, folder: str = "", keep: int | None = None) -> str:
        """Write a checkpoint of the whole state; returns its path."""


class Run(EvaluatedRun, Protocol):
    """The running training, as hooks see it.

    Attributes:
        train_steps: steps in all.
        batch_size: examples in a step.
        steps_per_epoch: batches in one pass over the training set.
    """

    train_steps: int
    batch_size: int
    steps_per_epoch: float

    @property
    def wait_secs(self) -> float:
        """Seconds spent waiting for input since the start of this process."""

    @property
    def step_secs(self) -> float:
        """Seconds spent in steps, waiting included, since the start of this process."""

    @property
    def model(self) -> keras.Model:
        """The Keras model."""

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        """The Keras optimizer."""

    def loss(self) -> float:
        """The loss of the last step; waits for the device."""

    def gradient_norm(self) -> float:
        """The global gradient norm of the last step; waits for the device."""

    def learning_rate(self) -> float:
        """The learning rate of the next step."""

    def mean_loss(self) -> float:
        """The mean loss since the last call of this method; part of the saved state."""

    def check(self) -> None:
        """Check that the loss was finite and the step count is right.

        Raises:
            NonFiniteLossError: the loss was not finite; names the step and its examples.
        """

    def begin_averages(self) -> None:
        """Restart the moving averages at weights that a hook has changed."""

    def request_stop(self, reason: str) -> None:
        """End the training after this step, as complete."""

    def sample_batch(self) -> Batch:
        """A batch of training images with their labels, as it entered the last step."""


class Hook:
    """An action during training; every method may be left out.

    Methods run in Python, between steps; of several workers on the first one, which writes.

    Attributes:
        on_every_worker: whether they run on all workers: for a hook that changes the model, or
            comes to the same decision everywhere. Such a hook must not write.
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
        """Last of all, however the training ended: release what ``begin`` opened."""

    def rate_fraction(self, path: str) -> Callable[[Any], Any] | None:
        """The fraction of the learning rate for a variable, as a function of the step.

        The function is traced: it takes the number of steps done, an int64 scalar tensor, and
        returns a number from 0 to 1. Depending on nothing else, it is the same on every worker and
        after a restart. None: always the whole rate.
        """
        return self.rate_share(path)

    def rate_share(self, path: str) -> Callable[[Any], Any] | None:
        """The earlier name of ``rate_fraction``."""
        return None

    def state(self) -> dict[str, Any]:
        """The values to remember over restarts, as JSON can hold them."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the values that ``state`` returned."""


class EvaluationHook(Hook):
    """A hook that needs no training in progress, so that an evaluator task can call it too.

    An evaluator task calls ``begin``, ``after_evaluation``, ``state`` and ``close``.
    """

    def begin(self, run: EvaluatedRun) -> None:
        """Before the first step or evaluation of this process."""

    def after_evaluation(self, run: EvaluatedRun, evaluation: Any) -> None:
        """After each evaluation."""
