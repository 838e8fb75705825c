"""What the workers do together after a step: evaluate, end, stop for a signal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_image_classification.distributed.workers import Workers


class Wishes(NamedTuple):
    """What one worker wants after a step, or what all of them do.

    Attributes:
        evaluate: an evaluation, because the time for it has come.
        finish: the end of the training, because a hook asked for it.
        interrupt: to save and stop, because a signal asked for it.
    """

    evaluate: bool = False
    finish: bool = False
    interrupt: bool = False


class Agreement:
    """Lets all workers do the same after the same step.

    A worker by itself does at once what it wishes. Several send their wishes along with each call
    of the step function, and do what any of them wished when the call after it has been sent: by
    then the answer is there, and nobody waits for a device.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._none = tf.constant(Wishes(), tf.float32)
        self._sent: tf.Tensor | None = None
        self._answer: tf.Tensor | None = None

    def votes(self, wishes: Wishes) -> tf.Tensor:
        """The wishes as they travel with a step, float32 [3]."""
        return tf.constant(wishes, tf.float32) if self._workers.count > 1 else self._none

    def decide(self, wishes: Wishes, votes: tf.Tensor) -> Wishes:
        """What to do now.

        Args:
            wishes: this worker's, at this moment.
            votes: what came back from the call that was just made.
        """
        if self._workers.count == 1:
            return wishes
        self._answer, self._sent = self._sent, votes
        if self._answer is None:
            return Wishes()
        return Wishes(*(bool(total > 0) for total in self._answer.numpy()))

    def is_any(self, wish: bool) -> bool:
        """Whether any worker wishes something; all wait until all have said it."""
        return bool(np.any(self._workers.exchange([wish])))
