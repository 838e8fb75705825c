"""A small exported model without a training, for tests of files that other programs read."""

import keras
import numpy as np

from tf_image_classification import EstimatorSpec, make_settings
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.export.inference_module import ExportPlan
from tf_image_classification.export.pixel_scaling import pixel_scaling
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.workflows import export_saved_model

SIZE, NAMES = 32, ("cat", "dog", "emu")
SCHEMA = LabelSchema((Label("kind", depth=len(NAMES), class_names=NAMES),))
PREPROCESSING = {"image_size": SIZE, "eval_crop": 0.875, "eval_stretch": 1.25}


class SmallSpec(EstimatorSpec):
    """Two convolutions with batch normalisation, and the preprocessing of a backbone."""

    class_dict = SCHEMA.labels

    def get_preproc_fn(self, is_training):
        crop = {name: PREPROCESSING[name] for name in ("eval_crop", "eval_stretch")}
        return Preprocessing(is_training=is_training, **crop)

    def get_model_fn(self, checkpoint_path):
        return lambda image_shape, params: small_model()

    def metric_ops(self, labels, predictions):
        return None


def small_model():
    """A network whose predictions differ between images."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input([SIZE, SIZE, 3])
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for width in (8, 16):
        x = keras.layers.Conv2D(width, 3, strides=2, use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    head = keras.layers.Dense(len(NAMES))
    model = keras.Model(inputs, head(keras.layers.GlobalAveragePooling2D()(x)))
    logits = model(pictures(64).astype(np.float32), training=False).numpy()
    head.kernel.assign(head.kernel * 2 / logits.std(axis=0))
    head.bias.assign(-2 * logits.mean(axis=0) / logits.std(axis=0))
    return model


def make(path):
    """The exported model in a folder."""
    settings = make_settings({"image_size": SIZE})
    export_saved_model.export_untrained(path, SmallSpec(), settings, SCHEMA, small_model())
    return ExportedModel(path).load()


def plan_of(exported, **options):
    """The plan of a file of it."""
    description = {"preprocessing": PREPROCESSING}
    return ExportPlan(SCHEMA, {}, description, scaling=pixel_scaling(exported), **options)


def pictures(count=8):
    """Pixels of pictures with coarse structure, uint8 [32, 32, 3] each."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, [count, 4, 4, 3], np.uint8)
    return coarse.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)
