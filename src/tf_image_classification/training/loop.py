"""The loop around the step: count, evaluate, call hooks, save, stop.

The order after each call of the step function is fixed: evaluate first, then the hooks, which save.
A checkpoint says which evaluation was the last and whether one was left unfinished, so a resumed
run makes the same evaluations as one that was never stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from tf_image_classification.batches import Batch
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.config import Settings
from tf_image_classification.distributed.consensus import Agreement, Wishes
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import NonFiniteLossError, RunInterrupted, TficError
from tf_image_classification.hooks.base import Every, Hook
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import signals
from tf_image_classification.training.state import TrainState
from tf_image_classification.training.step import StepFunction, StepOutput


class Input(Protocol):
    """Where the loop's batches come from."""

    def start(self, position: int) -> Iterator[Any]:
        """Per-replica batches from a position on."""

    def explain_failure(self, position: int, error: Exception) -> None:
        """After a failed step: find the bad examples of the batch and leave them out.

        Raises:
            TficError: the bad example is named, or the error has another cause.
        """

    def name_examples(self, position: int) -> list[str]:
        """Files or records of the examples of the batch at a position."""


Evaluate = Callable[[], Any]


def length_asked(settings: Settings) -> dict[str, Any]:
    """The settings that say how long a run is, as its checkpoints keep them."""
    return {
        "train_steps": settings.training.train_steps,
        "epochs": settings.training.epochs,
        "early_stopping_patience": settings.training.early_stopping_patience,
    }


class TrainingRun:
    """A run in progress, as hooks see it (``hooks.Run``), and the only thing that moves it."""

    def __init__(
        self,
        *,
        settings: Settings,
        schema: LabelSchema,
        state: TrainState,
        step_function: StepFunction,
        workers: Workers,
        inputs: Input,
        hooks: Sequence[Hook],
        train_steps: int,
        steps_per_epoch: float,
        model_dir: str,
        jit_compile: bool,
        owed: Callable[[Sequence[int]], Collection[int]] | None = None,
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.schema = schema
        self.model_dir = model_dir
        self.train_steps = train_steps
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = settings.data.batch_size
        self.step = 0
        self.position = 0
        self.was_resumed = False
        self.wait_secs = 0.0
        self.step_secs = 0.0
        self._state = state
        self._workers = workers
        self._strategy = workers.strategy
        self._agreement = Agreement(workers)
        self._inputs = inputs
        self._evaluate: Evaluate | None = None
        self._hooks = hooks
        self._calls_everywhere = True
        self._store = CheckpointStore(
            ModelFolder(model_dir).checkpoints, settings.checkpoints.keep_checkpoint_max
        )
        self._owed = owed
        self._before_writing = before_writing
        self._iterator: Iterator[Any] | None = None
        self._output: StepOutput | None = None
        self._batch: Any = None
        self.evaluated_step = -1
        self._owes_evaluation = False
        self._stop_reason = ""
        self._wished_reason = ""
        self._wants_evaluation = False
        self._is_stopping = False
        self._as_seen = step_function.changed
        self._one_step, self._many_steps = _compiled(step_function, workers.strategy, jit_compile)

    @property
    def model(self) -> keras.Model:
        """The Keras model."""
        return self._state.model

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        """The Keras optimizer."""
        return self._state.optimizer

    def loss(self) -> float:
        """The loss of the last step, or NaN before the first one of this process."""
        return float("nan") if self._output is None else float(self._output.loss)

    def gradient_norm(self) -> float:
        """The gradient's norm in the last step."""
        return float("nan") if self._output is None else float(self._output.gradient_norm)

    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._state.optimizer.learning_rate)

    def mean_loss(self) -> float:
        """The mean loss since this was last asked."""
        count = int(self._state.loss_count.numpy())
        mean = float(self._state.loss_sum.numpy()) / count if count else float("nan")
        self._state.loss_sum.assign(0.0)
        self._state.loss_count.assign(0)
        return mean

    def begin_averages(self) -> None:
        """Let the moving averages begin anew, at the model's present weights."""
        self._state.begin_averages()

    def sample_batch(self) -> Batch:
        """The first replica's part of the last batch; read again when several went in together."""
        if self._batch is None:
            self._batch = next(self._inputs.start(self.position - self.batch_size))
        return self._as_seen(Batch(*(self._local(part) for part in self._batch)))

    def _local(self, value: Any) -> Any:
        return tf.nest.map_structure(
            lambda part: self._strategy.experimental_local_results(part)[0], value
        )

    def check(self) -> None:
        """Check the loss and the step count.

        Raises:
            NonFiniteLossError: the loss was NaN or infinite in some step.
            RuntimeError: the step function did not move the state by what was asked.
        """
        bad_step = int(self._state.bad_step.numpy())
        if bad_step >= 0:
            position = self.position - (self.step - bad_step) * self.batch_size
            names = "\n  ".join(self._inputs.name_examples(position))
            raise NonFiniteLossError(
                f"The loss or its gradient was not finite in step {bad_step + 1}. Look at its "
                f"examples, or lower learning_rate or clip gradients (--gradient_clip_norm), in a "
                "new model_dir or with --allow_changes; the newest checkpoint is from before that "
                f"step. Its examples:\n  {names}"
            )
        if int(self._state.step.numpy()) != self.step:
            raise RuntimeError(
                f"The state is at step {int(self._state.step.numpy())}, the loop at {self.step}."
            )

    def save(self, folder: str = "", keep: int | None = None) -> str:
        """Write a checkpoint of everything that is needed to continue; only the first worker does.

        Args:
            folder: another folder than that of the regular checkpoints.
            keep: how many remain there.
        """
        self.check()
        store = CheckpointStore(folder, keep if keep is not None else -1) if folder else self._store
        return self._write(store, self._notes())

    def _write(self, store: CheckpointStore, notes: Mapping[str, Any]) -> str:
        if not self._workers.is_writer:
            return store.prefix(self.step)
        tensors = {n: v.read_value() for n, v in self._state.variables().items()}
        is_regular = store is self._store
        if is_regular:
            self._before_writing()
        also_keep = self._owed(store.steps()) if self._owed and is_regular else ()
        return store.save(self.step, tensors, notes, also_keep=also_keep)

    def _notes(self) -> dict[str, Any]:
        """What a checkpoint holds besides tensors."""
        return {
            "step": self.step,
            "position": self.position,
            "hooks": {name: hook.state() for name, hook in self._named_hooks()},
            "asked": length_asked(self.settings),
            "stopped": self._stop_reason,
            "is_complete": self.is_complete,
            "evaluated_step": self.evaluated_step,
            "owes_evaluation": self._owes_evaluation,
        }

    def restore(self, tensors: Any, notes: Any) -> None:
        """Take the place of the run that saved these.

        Raises:
            CheckpointError: they are of another model.
        """
        self._state.restore(tensors)
        self.step, self.position = int(notes["step"]), int(notes["position"])
        self.was_resumed = True
        # Whoever asks for another length lets a run go on that was stopped before its last step.
        is_asked_the_same = notes["asked"] == length_asked(self.settings)
        self._stop_reason = str(notes["stopped"]) if is_asked_the_same else ""
        self.evaluated_step = int(notes["evaluated_step"])
        self._owes_evaluation = bool(notes["owes_evaluation"])
        for name, hook in self._named_hooks():
            if name in notes["hooks"]:
                hook.load_state(notes["hooks"][name])

    def _named_hooks(self) -> Iterator[tuple[str, Hook]]:
        seen: dict[str, int] = {}
        for hook in self._hooks:
            name = type(hook).__name__
            seen[name] = seen.get(name, 0) + 1
            yield f"{name}/{seen[name]}", hook

    def request_stop(self, reason: str) -> None:
        """End the training as complete after the current step.

        A hook that is called on one of several workers ends it two calls of the step function
        later, when the others know.
        """
        if self._calls_everywhere:
            self._stop_reason = reason
        else:
            self._wished_reason = reason

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to train."""
        return self.step >= self.train_steps or bool(self._stop_reason)

    @property
    def stop_reason(self) -> str:
        """Why the run is complete before its last step, or ""."""
        return self._stop_reason

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal has asked the process to stop."""
        return bool(signals.received())

    def train(self, evaluate: Evaluate | None, evaluate_when: Every) -> Any:
        """Train to the end.

        Args:
            evaluate: evaluates the model as it is, or gives None when the process is to stop.
            evaluate_when: when to evaluate besides the end.

        Returns:
            The last evaluation, or None without evaluation data.

        Raises:
            RunInterrupted: a signal asked to stop; the state is saved.
            NonFiniteLossError: the loss was not finite.
        """
        evaluation = None
        self._evaluate = evaluate
        with contextlib.ExitStack() as stack, signals.handled(), self._closing_hooks():
            defer_signals = functools.cache(lambda: stack.enter_context(_saving_first()))
            self._call_hooks(lambda hook: hook.begin(self))
            evaluate_when.start(self.step)
            if self._evaluate and self._owes_evaluation:
                evaluation = self._evaluated()
            while not self.is_complete and not self._is_stopping:
                self._advance(min(self.settings.training.steps_per_call, self._steps_to_go()))
                defer_signals()  # until now there was nothing to save, and tracing may take long
                if self._is_to_evaluate(evaluate_when):
                    evaluation = self._evaluated()
                    evaluate_when.start(self.step)
                self._call_hooks(lambda hook: hook.after_step(self))
                self._is_stopping |= self._workers.count == 1 and self.is_interrupted
            defer_signals()
            self.check()
            self._is_stopping = self._agreement.is_any(self._is_stopping or self.is_interrupted)
            if not self._is_stopping and self._evaluate and self.evaluated_step != self.step:
                evaluation = self._evaluated()
            if self._is_stopping:
                self._stop_early()
            self._call_hooks(lambda hook: hook.end(self))
            self._workers.wait_for_all()
        return evaluation

    def _is_to_evaluate(self, evaluate_when: Every) -> bool:
        """Whether all workers evaluate now; takes note of what else they decided."""
        is_due = self._evaluate is not None and evaluate_when.is_due(self.step)
        is_same_everywhere = evaluate_when.steps > 0
        self._wants_evaluation |= is_due and self._workers.is_writer and not is_same_everywhere
        assert self._output is not None
        decided = self._agreement.decide(self._wishes(), self._output.votes)
        if decided.finish and not self._stop_reason:
            self._stop_reason = self._wished_reason or "a hook of the first worker asked for it"
        self._is_stopping |= decided.interrupt
        if decided.evaluate:
            self._wants_evaluation = False
        return decided.evaluate or (is_due and is_same_everywhere)

    def _wishes(self) -> Wishes:
        return Wishes(self._wants_evaluation, bool(self._wished_reason), self.is_interrupted)

    def _call_hooks(self, call: Callable[[Hook], None]) -> None:
        """Call the hooks of this worker in their order."""
        for hook in self._hooks:
            self._calls_everywhere = hook.on_every_worker or self._workers.count == 1
            if self._workers.is_writer or hook.on_every_worker:
                call(hook)

    def time_steps(self, num_steps: int) -> float:
        """Seconds of some steps, until the device is done with them; moves the state."""
        began = time.monotonic()
        for _ in range(num_steps):
            self._advance(1)
        self.check()  # waits for the device
        return time.monotonic() - began

    def _steps_to_go(self) -> int:
        return self.train_steps - self.step

    def _advance(self, num_steps: int) -> None:
        """Run some steps, leaving out bad images that the input finds, if that is wanted."""
        began = time.monotonic()
        target = self.step + num_steps
        while self.step < target:
            if self._iterator is None:
                self._iterator = self._inputs.start(self.position)
            try:
                self._call(target - self.step)
            except tf.errors.OpError as error:
                self._workers.explain(error)
                self._move_to(int(self._state.step.numpy()))
                self._iterator = None
                self._inputs.explain_failure(self.position, error)
        self.step_secs += time.monotonic() - began

    def _call(self, num_steps: int) -> None:
        votes = self._agreement.votes(self._wishes())
        if num_steps == 1:
            began = time.monotonic()
            batch = next(self._iterator)  # type: ignore[arg-type]
            self.wait_secs += time.monotonic() - began
            self._output = self._one_step(batch, votes)
            self._batch = batch
        else:
            self._output = self._many_steps(self._iterator, tf.constant(num_steps), votes)
            self._batch = None
        if self._workers.count > 1:
            self._wants_evaluation = False  # it is on its way, and must not be asked for twice
        self._move_to(self.step + num_steps)

    def _move_to(self, step: int) -> None:
        self.position += (step - self.step) * self.batch_size
        self.step = step

    def _evaluated(self) -> Any:
        """Evaluate and tell the hooks; when that fails, the state is saved as it was before."""
        self.check()
        assert self._evaluate is not None
        before = self._notes() | {"owes_evaluation": True}
        try:
            with self._state.averaged():
                evaluation = self._evaluate()
            self._owes_evaluation = evaluation is None  # a signal came in the middle
            if evaluation is None:
                self._is_stopping = True
                return None
            self.evaluated_step = self.step
            if self._workers.is_writer:
                self._before_writing()
            self._call_hooks(lambda hook: hook.after_evaluation(self, evaluation))
        except TficError:
            self._write(self._store, before)
            raise
        return evaluation

    def _stop_early(self) -> None:
        reason = signals.received() or "a signal to another worker"
        path = self.save()
        self._call_hooks(lambda hook: hook.on_stop(self, reason))
        self._workers.wait_for_all()
        raise RunInterrupted(
            f"Stopped by {reason} at step {self.step} of {self.train_steps}; the state is saved in "
            f"{path}. Start the same command again to resume."
        )

    @contextlib.contextmanager
    def _closing_hooks(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._call_hooks(lambda hook: hook.close())


@contextlib.contextmanager
def _saving_first() -> Iterator[None]:
    """Inside the block a signal waits for the loop to save; a second Ctrl-C stops at once."""
    with (
        signals.deferred(),
        signals.stage(
            "a second time, before the state was saved",
            again="Start the same command again to resume from the newest checkpoint.",
            resumes=True,
        ),
    ):
        yield


def _compiled(
    step_function: StepFunction, strategy: tf.distribute.Strategy, jit_compile: bool
) -> tuple[Callable[..., StepOutput], Callable[..., StepOutput]]:
    """The traced functions for one step with a given batch, and for many from an iterator."""
    replica_step = tf.function(step_function, jit_compile=True) if jit_compile else step_function

    def first(value: Any) -> Any:
        return strategy.experimental_local_results(value)[0]

    def step(batch: Any, votes: tf.Tensor) -> StepOutput:
        return StepOutput(*(first(x) for x in strategy.run(replica_step, args=(batch, votes))))

    def steps(iterator: Any, num_steps: tf.Tensor, votes: tf.Tensor) -> StepOutput:
        def another(i: tf.Tensor, _: StepOutput) -> tuple[tf.Tensor, StepOutput]:
            return i + 1, step(next(iterator), votes)

        begun = (tf.constant(1), step(next(iterator), votes))
        output: StepOutput = tf.while_loop(lambda i, _: i < num_steps, another, begun)[1]
        return output

    return tf.function(step), tf.function(steps)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Length of a run.

    Attributes:
        train_steps: steps in all.
        steps_per_epoch: batches in one pass over the training set, not rounded.
    """

    train_steps: int
    steps_per_epoch: float


def plan_length(settings: Settings, num_examples: int) -> Plan:
    """The length of a run from its settings and the exact size of its training set."""
    per_epoch = num_examples / settings.data.batch_size
    if settings.training.train_steps is not None:
        return Plan(settings.training.train_steps, per_epoch)
    epochs = 10.0 if settings.training.epochs is None else settings.training.epochs
    # A little less than the product, whose rounding must not add a step.
    return Plan(max(1, math.ceil(epochs * per_epoch - 1e-6)), per_epoch)
