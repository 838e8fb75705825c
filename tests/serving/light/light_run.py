"""A model folder of the built-in preprocessing with every kind of label, not trained."""

import json
import types

import keras
import numpy as np
import tensorflow as tf

from tf_image_classification import Label
from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.config import make_settings
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import make_manifest
from tf_image_classification.workflows import export_saved_model, light_file

SIZE = 24
LABELS = (
    Label("kind", depth=3, class_names=("cat", "dog", "emu")),
    Label("tags", depth=4, class_names=("a", "b", "c", "d"), kind="multilabel"),
    Label("age", depth=4, class_names=("1", "2", "3", "4"), kind="ordinal", coding="thresholds"),
    Label("grade", depth=5, class_names=tuple("vwxyz"), kind="ordinal", coding="expectation"),
    Label("weight", kind="regression"),
)
SPEC = "tf_image_classification/backbone_spec.py:BackboneSpec"


def pictures(count=6):
    """Encoded images of several sizes."""
    random = np.random.default_rng(0)
    shapes = [(20 + 7 * i, 60 - 5 * i, 3) for i in range(count)]
    small = [random.integers(0, 256, (5, 5, 3), np.uint8) for _ in shapes]
    large = [
        tf.cast(tf.image.resize(one, shape[:2]), tf.uint8)
        for one, shape in zip(small, shapes, strict=True)
    ]
    encode = (tf.io.encode_jpeg, tf.io.encode_png)
    return [encode[i % 2](one).numpy() for i, one in enumerate(large)]


def model(*, has_linear_head=False):
    inputs = keras.Input([SIZE, SIZE, 3])
    x = keras.layers.Rescaling(1 / 64, offset=-2)(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    if not has_linear_head:
        x = keras.layers.Dense(16, activation="relu")(x)
    outputs = {
        label.name: keras.layers.Dense((*label.logits_shape, 1)[0], name=label.name)(x)
        for label in LABELS
    }
    return keras.Model(inputs, outputs)


def make(path, spec=SPEC, *, has_linear_head=False):
    """The folder: run manifest, exported model and calibration."""
    folder = ModelFolder(str(path))
    path.mkdir()
    schema = LabelSchema(LABELS)
    settings = make_settings(
        {"model_dir": folder.path, "backbone": "mobilenet_v2", "image_size": SIZE}
        | {"eval_stretch": 1.2}
    )
    manifest = make_manifest(
        spec=spec,
        spec_source="",
        schema=schema,
        train_data="x",
        num_train_examples=1,
        eval_data="",
        settings=settings,
    )
    folder.write_manifest(manifest)
    built_in = BackboneSpec(LABELS, settings.backbone_spec)
    network = model(has_linear_head=has_linear_head)
    export_saved_model.export_untrained(folder.saved_model, built_in, settings, schema, network)
    calibrations = {
        "kind": Calibration(1.7, (0.2, 0.4, 0.3), 0.31),
        "tags": Calibration(1.4, (0.5, 0.4, 0.6, 0.5), is_multilabel=True),
    }
    stored = {"step": 0, "labels": {n: one.to_json() for n, one in calibrations.items()}}
    (path / "calibration.json").write_text(json.dumps(stored))
    return folder


def write_light_file(folder, encoded):
    """As at the end of a training, verified on these images; returns the line on it."""
    table = types.SimpleNamespace(
        num_examples=len(encoded),
        fetch=lambda numbers: tf.constant([encoded[i] for i in numbers.numpy()]),
    )
    examples = types.SimpleNamespace(table=table)
    return light_file.write_light_file(folder, folder.known_manifest(), examples)
