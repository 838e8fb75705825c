"""``TrainingRun``: a training in progress, as hooks see it and as checkpoints hold it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras

from tf_image_classification.batches import Batch
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.config import Settings
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.hooks.base import Hook
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.training.hook_calls import HookCalls
from tf_image_classification.training.length import Plan, requested_length
from tf_image_classification.training.state import TrainState
from tf_image_classification.training.stepper import Stepper


class TrainingRun:
    """A run in progress, as hooks see it (``hooks.Run``); ``training.loop.train`` moves it.

    Attributes:
        state: the variables.
        stepper: runs the steps.
        hooks: the hooks.
        workers: the processes that train together.
        stop_reason: why the run is complete before its last step, or "".
        requested_stop: the reason of a hook that only this worker called, until all workers know.
        evaluated_step: the step of the last evaluation, or -1.
        owes_evaluation: whether the last evaluation was left unfinished.
        before_writing: called before a regular checkpoint or an evaluation is written.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        schema: LabelSchema,
        plan: Plan,
        state: TrainState,
        stepper: Stepper,
        workers: Workers,
        hooks: Sequence[Hook],
        owed: Callable[[Sequence[int]], Collection[int]] | None = None,
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.schema = schema
        self.model_dir = settings.run.model_dir
        self.train_steps = plan.train_steps
        self.steps_per_epoch = plan.steps_per_epoch
        self.batch_size = settings.data.batch_size
        self.was_resumed = False
        self.state = state
        self.stepper = stepper
        self.workers = workers
        self.hooks = HookCalls(hooks, workers)
        self.stop_reason = ""
        self.requested_stop = ""
        self.evaluated_step = -1
        self.owes_evaluation = False
        self.before_writing = before_writing
        self._owed = owed
        self._store = CheckpointStore(
            ModelFolder(self.model_dir).checkpoints, settings.checkpoints.keep_checkpoint_max
        )

    @property
    def step(self) -> int:
        """Steps done."""
        return self.stepper.step

    @property
    def wait_secs(self) -> float:
        """Seconds spent waiting for input since the start of this process."""
        return self.stepper.wait_secs

    @property
    def step_secs(self) -> float:
        """Seconds spent in steps, waiting included, since the start of this process."""
        return self.stepper.step_secs

    @property
    def model(self) -> keras.Model:
        """The Keras model."""
        return self.state.model

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        """The Keras optimizer."""
        return self.state.optimizer

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to train."""
        return self.step >= self.train_steps or bool(self.stop_reason)

    def loss(self) -> float:
        """The loss of the last step, or NaN before the first one of this process."""
        output = self.stepper.output
        return float("nan") if output is None else float(output.loss)

    def gradient_norm(self) -> float:
        """The global gradient norm of the last step, before clipping; NaN as ``loss``."""
        output = self.stepper.output
        return float("nan") if output is None else float(output.gradient_norm)

    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.state.optimizer.learning_rate)

    def mean_loss(self) -> float:
        """The mean loss since the last call of this method."""
        return self.state.take_mean_loss()

    def begin_averages(self) -> None:
        """Restart the moving averages at the model's current weights."""
        self.state.begin_averages()

    def sample_batch(self) -> Batch:
        """The first replica's part of the last batch."""
        return self.stepper.sample_batch()

    def check(self) -> None:
        """Check the loss and the step count; waits for the device.

        Raises:
            NonFiniteLossError: the loss was NaN or infinite in some step; names its examples.
        """
        self.stepper.check()

    def request_stop(self, reason: str) -> None:
        """End the training as complete after the current step.

        A hook that is called on one of several workers ends it two calls of the step function
        later, when the others know.
        """
        if self.hooks.is_everywhere:
            self.stop_reason = reason
        else:
            self.requested_stop = reason

    def save(self, folder: str = "", keep: int | None = None) -> str:
        """Write a checkpoint of everything that is needed to continue; only the first worker does.

        Args:
            folder: another folder than that of the regular checkpoints.
            keep: number of checkpoints to keep there; None: all.

        Returns:
            The path of the checkpoint.
        """
        self.check()
        store = CheckpointStore(folder, -1 if keep is None else keep) if folder else self._store
        return self.write(self.notes(), store)

    def write(self, notes: Mapping[str, Any], store: CheckpointStore | None = None) -> str:
        """Write the variables with these notes, by default as a regular checkpoint."""
        store = store or self._store
        if not self.workers.is_writer:
            return store.prefix(self.step)
        tensors = {n: v.read_value() for n, v in self.state.variables().items()}
        is_regular = store is self._store
        if is_regular:
            self.before_writing()
        also_keep = self._owed(store.steps()) if is_regular and self._owed else ()
        return store.save(self.step, tensors, notes, also_keep=also_keep)

    def notes(self) -> dict[str, Any]:
        """The content of a checkpoint besides its tensors."""
        return {
            "step": self.step,
            "position": self.stepper.next_example,
            "hooks": self.hooks.states(),
            "asked": requested_length(self.settings),
            "stopped": self.stop_reason,
            "is_complete": self.is_complete,
            "evaluated_step": self.evaluated_step,
            "owes_evaluation": self.owes_evaluation,
        }

    def restore(self, tensors: Any, notes: Any) -> None:
        """Continue the run that saved these.

        Raises:
            CheckpointError: they are of another model.
        """
        self.state.restore(tensors)
        self.stepper.step, self.stepper.next_example = int(notes["step"]), int(notes["position"])
        self.was_resumed = True
        # A run that stopped early continues when another length is requested.
        is_same_length = notes["asked"] == requested_length(self.settings)
        self.stop_reason = str(notes["stopped"]) if is_same_length else ""
        self.evaluated_step = int(notes["evaluated_step"])
        self.owes_evaluation = bool(notes["owes_evaluation"])
        self.hooks.load_states(notes["hooks"])
