"""Hooks that call a Keras callback, or a function before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tf_image_classification.errors import ConfigError
from tf_image_classification.hooks.base import Hook, Run

# Callbacks that a setting replaces; they need an optimizer inside the model.
_REPLACED = {
    keras.callbacks.BackupAndRestore: "save_checkpoints_steps or --save_checkpoints_secs",
    keras.callbacks.LearningRateScheduler: "learning_rate_decay_type",
    keras.callbacks.ReduceLROnPlateau: "learning_rate_decay_type",
    keras.callbacks.SwapEMAWeights: "moving_average_decay",
}


class KerasCallbackHook(Hook):
    """Calls a Keras callback when Keras would.

    Batches are steps; an epoch is a pass over the training set and ends when its last batch does,
    the last one with the run, after its last evaluation. The ``logs`` of batches hold the loss,
    those of epochs also the last evaluation, with ``val_`` before its names. The callback's own
    state is not saved: it begins anew when a run resumes. ``train`` wraps the callbacks in its list
    of hooks in this class. Of several workers the first one calls it, so it must not change the
    weights there.

    Attributes:
        callback: the callback; its ``model`` is set when the training begins.
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        """Store the callback.

        Raises:
            ConfigError: it would change the learning rate or save the run, as settings do.
        """
        for kind, setting in _REPLACED.items():
            if isinstance(callback, kind):
                raise ConfigError(
                    f"{type(callback).__name__} cannot be used here: the run itself does that, so "
                    f"that it can be resumed exactly. Use --{setting}."
                )
        self.callback = callback
        self._epoch = 0
        self._has_begun_epoch = False
        self._evaluation: dict[str, float] = {}

    def begin(self, run: Run) -> None:
        """``on_train_begin`` and ``on_epoch_begin``."""
        self._epoch = int(run.step / run.steps_per_epoch)
        self.callback.set_model(run.model)
        self.callback.set_params(
            {"steps": int(run.steps_per_epoch), "epochs": self._epochs(run), "verbose": 0}
        )
        run.model.stop_training = False
        # Keras's own setter would make the optimizer a part of the exported model.
        object.__setattr__(run.model, "optimizer", run.optimizer)
        self.callback.on_train_begin()

    def after_step(self, run: Run) -> None:
        """``on_train_batch_end``, and the end of an epoch when one has passed."""
        if not self._has_begun_epoch:
            self.callback.on_epoch_begin(self._epoch)
            self._has_begun_epoch = True
        self.callback.on_train_batch_begin(run.step - 1)
        self.callback.on_train_batch_end(run.step - 1, {"loss": run.loss()})
        if int(run.step / run.steps_per_epoch) > self._epoch and run.step < run.train_steps:
            self._end_epoch(run)
        if run.model.stop_training:
            run.request_stop(f"{type(self.callback).__name__} asked for it")

    def _end_epoch(self, run: Run) -> None:
        self.callback.on_epoch_end(self._epoch, {"loss": run.loss(), **self._evaluation})
        self._epoch = int(run.step / run.steps_per_epoch)
        self._has_begun_epoch = False

    def after_evaluation(self, run: Run, evaluation: Any) -> None:
        """``on_test_begin`` and ``on_test_end``."""
        self._evaluation = {f"val_{name}": v for name, v in evaluation.scalars().items()}
        self.callback.on_test_begin()
        self.callback.on_test_end(evaluation.scalars())

    def on_stop(self, run: Run, reason: str) -> None:
        """``on_train_end``."""
        self.callback.on_train_end()

    def end(self, run: Run) -> None:
        """``on_epoch_end`` of the last epoch, whole or not, and ``on_train_end``."""
        if self._has_begun_epoch:
            self._end_epoch(run)
        self.callback.on_train_end()

    @staticmethod
    def _epochs(run: Run) -> int:
        return max(1, round(run.train_steps / run.steps_per_epoch))


class IteratorInitializerHook(Hook):
    """Calls a function once before the first step, e.g. to prepare an own ``input_fn``.

    Attributes:
        iterator_initializer_func: the function, called with the run; may be set later. None, as in
            the programs of 2018 whose input is the framework's: nothing needs preparation.
    """

    on_every_worker = True

    def __init__(self, iterator_initializer_func: Callable[[Run], None] | None = None) -> None:
        self.iterator_initializer_func = iterator_initializer_func

    def begin(self, run: Run) -> None:
        """Call the function."""
        if self.iterator_initializer_func is not None:
            self.iterator_initializer_func(run)
