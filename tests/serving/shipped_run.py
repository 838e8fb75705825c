"""A tiny trained run with feature maps, evaluated, for what is done with a model afterwards."""

import dataclasses
from pathlib import Path

import keras
import numpy as np

from tf_image_classification import evaluate, train
from tiny_runs import DEPTH, SIZE, TinySpec, tiny_settings, write_records

NAMES = ("cat", "dog", "emu")


class TinyMaps(TinySpec):
    """The tiny classifier with a convolution."""

    def __init__(self):
        super().__init__(noise=0.0, batch_norm=False, names=NAMES)

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            inputs = keras.Input(image_shape)
            x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
            x = keras.layers.Flatten()(x)
            return keras.Model(inputs, keras.layers.Dense(DEPTH, name="logits")(x))

        return model_fn

    @staticmethod
    def looking_at_corners():
        """A model of two classes, bright in the first or in the last corner."""
        inputs = keras.Input([SIZE, SIZE, 3])
        maps = keras.layers.AveragePooling2D(2)(inputs)
        weights = np.zeros([4 * 4 * 3, 2], np.float32)
        weights[:3, 0], weights[-3:, 1] = 1.0, 1.0
        dense = keras.layers.Dense(2, name="logits")
        model = keras.Model(inputs, dense(keras.layers.Flatten()(maps)))
        dense.set_weights([weights, np.zeros(2, np.float32)])
        return model


@dataclasses.dataclass(frozen=True)
class ShippedRun:
    """Where it lies and what it was evaluated on."""

    folder: Path
    model_dir: str
    evaluation: str
    images: list
    settings: object


def make(folder):
    """Train, export and evaluate."""
    write_records(folder, "train", count=60)
    write_records(folder, "eval", count=90, seed=1)
    settings = _settings(folder)
    train(TinyMaps(), settings)
    evaluate(None, settings)


def find(folder):
    """The run that ``make`` made in a folder, or a copy of it."""
    from export.test_saved_model import encoded_images

    settings = _settings(folder)
    [held_out] = settings.data.eval_metadata
    return ShippedRun(folder, str(folder / "model"), held_out, encoded_images(held_out), settings)


def _settings(folder):
    train_set, held_out = (str(folder / f"{name}-*") for name in ("train", "eval"))
    return tiny_settings(
        folder / "model", train_set, held_out, train_steps=8, export_saved_model=True
    )
