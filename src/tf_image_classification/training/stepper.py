"""Calls of the compiled step: batches go in, and steps, examples and seconds are counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import tensorflow as tf

from tf_image_classification.batches import Batch
from tf_image_classification.distributed.consensus import Votes
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import NonFiniteLossError
from tf_image_classification.system.autograph import unconverted
from tf_image_classification.training.state import TrainState
from tf_image_classification.training.step import StepFunction, StepOutput

NO_VOTES = Votes()


class Input(Protocol):
    """The source of the per-replica batches."""

    def start(self, example_index: int) -> Iterator[Any]:
        """Per-replica batches from a global example index on."""

    def explain_failure(self, example_index: int, error: Exception) -> None:
        """After a failed step: find the bad examples of the batch and leave them out.

        Raises:
            TficError: the bad example is named, or the error has another cause.
        """

    def name_examples(self, example_index: int) -> list[str]:
        """Files or records of the examples of the batch that begins at an index."""


class Stepper:
    """Runs training steps on every replica.

    Attributes:
        batch_size: examples in a step, over all replicas and workers.
        step: steps done.
        next_example: global index of the first example of the next batch.
        output: the output of the last call; None before the first one of this process.
        wait_secs: seconds spent waiting for input since the start of this process.
        step_secs: seconds spent in steps, waiting included, since the start of this process.
    """

    def __init__(
        self,
        state: TrainState,
        step_function: StepFunction,
        workers: Workers,
        inputs: Input,
        *,
        batch_size: int,
        jit_compile: bool,
    ) -> None:
        self.batch_size = batch_size
        self.step = 0
        self.next_example = 0
        self.output: StepOutput | None = None
        self.wait_secs = 0.0
        self.step_secs = 0.0
        self._state = state
        self._workers = workers
        self._inputs = inputs
        self._iterator: Iterator[Any] | None = None
        self._batch: Any = None
        self._as_seen = step_function.changed
        self._one_step, self._many_steps = _compiled(step_function, workers.strategy, jit_compile)

    def advance(self, num_steps: int, votes: Votes = NO_VOTES) -> None:
        """Run some steps; bad images that the input finds are left out, if that is wanted.

        Args:
            num_steps: how many; more than one run in a single call of the graph.
            votes: those of this worker; ``output.votes`` has their sum over the workers.
        """
        began = time.monotonic()
        target = self.step + num_steps
        while self.step < target:
            if self._iterator is None:
                self._iterator = self._inputs.start(self.next_example)
            try:
                self._call(self._iterator, target - self.step, tf.constant(votes, tf.float32))
            except tf.errors.OpError as error:
                self._workers.explain(error)
                self._move_to(int(self._state.step.numpy()))
                self._iterator = None
                self._inputs.explain_failure(self.next_example, error)
        self.step_secs += time.monotonic() - began

    def _call(self, iterator: Iterator[Any], num_steps: int, votes: tf.Tensor) -> None:
        if num_steps == 1:
            began = time.monotonic()
            batch = next(iterator)
            self.wait_secs += time.monotonic() - began
            self.output = self._one_step(batch, votes)
            self._batch = batch
        else:
            self.output = self._many_steps(iterator, tf.constant(num_steps), votes)
            self._batch = None
        self._move_to(self.step + num_steps)

    def _move_to(self, step: int) -> None:
        self.next_example += (step - self.step) * self.batch_size
        self.step = step

    def time_steps(self, num_steps: int) -> float:
        """Seconds of some steps, until the device is done with them."""
        began = time.monotonic()
        for _ in range(num_steps):
            self.advance(1)
        self.check()  # waits for the device
        return time.monotonic() - began

    def check(self) -> None:
        """Check the loss and the step count; waits for the device.

        Raises:
            NonFiniteLossError: the loss was NaN or infinite in some step.
            RuntimeError: the state is at another step.
        """
        bad_step = int(self._state.bad_step.numpy())
        if bad_step >= 0:
            first = self.next_example - (self.step - bad_step) * self.batch_size
            names = "\n  ".join(self._inputs.name_examples(first))
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

    def sample_batch(self) -> Batch:
        """The first replica's part of the last batch; read again after a call of several steps."""
        if self._batch is None:
            self._batch = next(self._inputs.start(self.next_example - self.batch_size))
        strategy = self._workers.strategy
        first = (tf.nest.map_structure(lambda t: _first(strategy, t), part) for part in self._batch)
        return self._as_seen(Batch(*first))


def _first(strategy: tf.distribute.Strategy, value: Any) -> Any:
    """The first replica's part of a distributed value."""
    return strategy.experimental_local_results(value)[0]


def _compiled(
    step_function: StepFunction, strategy: tf.distribute.Strategy, jit_compile: bool
) -> tuple[Callable[..., StepOutput], Callable[..., StepOutput]]:
    """The traced functions for one step with a given batch, and for many from an iterator."""
    replica_step = tf.function(step_function, jit_compile=True) if jit_compile else step_function

    def step(batch: Any, votes: tf.Tensor) -> StepOutput:
        outputs = strategy.run(replica_step, args=(batch, votes))
        return StepOutput(*(_first(strategy, value) for value in outputs))

    def steps(iterator: Any, num_steps: tf.Tensor, votes: tf.Tensor) -> StepOutput:
        def another(i: tf.Tensor, _: StepOutput) -> tuple[tf.Tensor, StepOutput]:
            return i + 1, step(next(iterator), votes)

        begun = (tf.constant(1), step(next(iterator), votes))
        output: StepOutput = tf.while_loop(lambda i, _: i < num_steps, another, begun)[1]
        return output

    return tf.function(unconverted(step)), tf.function(unconverted(steps))
