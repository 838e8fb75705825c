"""A run for tests of hooks: what ``hooks.Run`` promises, without a training behind it."""

import os

import keras
import numpy as np

from tf_image_classification import make_settings
from tf_image_classification.labels import Label, LabelSchema


class FakeRun:
    """Moves when told to; remembers what it was asked for."""

    def __init__(self, model_dir="", *, step=0, train_steps=10, model=None, was_resumed=False):
        self.settings = make_settings({"model_dir": str(model_dir)} if model_dir else {})
        self.schema = LabelSchema((Label("kind", depth=2, class_names=("cat", "dog")),))
        self.model, self.model_dir = model, str(model_dir)
        self.optimizer = keras.optimizers.SGD()
        self.step, self.train_steps, self.was_resumed = step, train_steps, was_resumed
        self.batch_size, self.steps_per_epoch = 4, 2.5
        self.wait_secs = self.step_secs = 0.0
        self.saved, self.stopped, self.checked, self.averages_begun = [], [], [], []

    def loss(self):
        return 100.0 + self.step

    mean_loss = loss

    def gradient_norm(self):
        return 0.5

    def learning_rate(self):
        return 0.25

    def check(self):
        self.checked.append(self.step)

    def begin_averages(self):
        self.averages_begun.append(self.step)

    def save(self, folder="", keep=None):
        self.saved.append((self.step, folder, keep))
        if folder:
            os.makedirs(folder, exist_ok=True)
        return folder

    def request_stop(self, reason):
        self.stopped.append(reason)

    def sample_batch(self):
        raise AssertionError("no images here")


class FakeEvaluation:
    """Numbers by name."""

    def __init__(self, confusion=None, **metrics):
        self.metrics, self.confusion = metrics, confusion or {}

    def scalars(self):
        return {name: value for name, value in self.metrics.items() if np.ndim(value) == 0}


def walk(hook, run, *, to, stride=1):
    """Begin, and call the hook after each call of the step function."""
    hook.begin(run)
    go_on(hook, run, to=to, stride=stride)


def go_on(hook, run, *, to, stride=1):
    while run.step < to:
        run.step += stride
        run.step_secs += 1.0
        run.wait_secs += 0.25
        hook.after_step(run)
