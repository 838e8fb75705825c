"""Votes of the workers on the next action after a step: evaluate, finish, or stop for a signal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_image_classification.distributed.workers import Workers


class Votes(NamedTuple):
    """The actions that one worker wants after a step, or that all of them take.

    Attributes:
        evaluate: evaluate, because it is time.
        finish: end the training, because a hook requested it.
        interrupt: save and stop, because of a signal.
    """

    evaluate: bool = False
    finish: bool = False
    interrupt: bool = False


class Consensus:
    """Makes all workers take the same action after the same step.

    A single process acts on its own votes at once. Several workers sum their votes within each call
    of the step function and act on a sum one call later: by then its value has arrived, and nobody
    waits for a device.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._last_sums: tf.Tensor | None = None

    def decide(self, votes: Votes, sums: tf.Tensor) -> Votes:
        """The actions to take now.

        Args:
            votes: those of this worker, at this moment.
            sums: the sums over the workers from the call that was just made, float32 [3].
        """
        if self._workers.count == 1:
            return votes
        arrived, self._last_sums = self._last_sums, sums
        if arrived is None:
            return Votes()
        return Votes(*(bool(total > 0) for total in arrived.numpy()))

    def is_any(self, vote: bool) -> bool:
        """Whether any worker votes for something; returns when all have voted."""
        return bool(np.any(self._workers.exchange([vote])))
