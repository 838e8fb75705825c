"""Exported models have their batch normalisation folded once, and predict the same."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from test_fused_batch_norm import MODELS, SIZE, with_statistics
from tf_image_classification import make_settings
from tf_image_classification.checkpoints.weight_files import read_weights
from tf_image_classification.estimator_specs import EstimatorSpec, schema_of
from tf_image_classification.export.folding import fold_batch_norm
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import Label
from tf_image_classification.workflows import export_saved_model

IMAGE = tf.TensorSpec([SIZE, SIZE, 3], tf.float32)
IMAGES = np.random.default_rng(1).normal(size=[6, SIZE, SIZE, 3]).astype("f4")


@keras.saving.register_keras_serializable(package="tests")
class Twice(keras.Model):
    """A convolution that is called twice, and one whose output is used twice."""

    def __init__(self):
        super().__init__()
        self.shared = keras.layers.Conv2D(3, 3, padding="same")
        self.norms = [keras.layers.BatchNormalization() for _ in range(3)]
        self.other = keras.layers.Conv2D(4, 1)

    def call(self, images, training=None):
        x = self.norms[0](self.shared(images), training=training)
        x = self.norms[1](self.shared(x), training=training)
        y = self.other(x)
        return tf.reduce_mean(self.norms[2](y, training=training) * y, [1, 2])


def made(name):
    keras.utils.set_random_seed(0)
    model = Twice() if name == "twice" else MODELS[name]()
    model(IMAGES)
    return with_statistics(model)


@pytest.mark.parametrize(
    ("name", "num_folded"),
    [
        ("functional", 2),
        ("frozen", 2),
        ("nested", 2),
        ("nested in inference mode", 2),
        ("nested in training mode", None),  # by the version of Keras
        ("sequential", 1),
        ("subclass", 1),
        ("another axis", 0),
        ("twice", 0),
    ],
)
def test_models_written_in_any_way_are_folded_where_it_is_possible(name, num_folded):
    model = made(name)
    folded = fold_batch_norm(model, IMAGE)
    assert num_folded is None or len(folded.calls) == 2 * num_folded
    expected = model(IMAGES, training=False)
    with folded.applied():
        found = model(IMAGES, training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model(IMAGES, training=False), expected)


class FoldedSpec(EstimatorSpec):
    class_dict = (Label("kind", depth=4),)

    def get_preproc_fn(self, is_training):
        return lambda image, width, height: tf.image.resize(image, [SIZE, SIZE]) / 255.0

    def get_model_fn(self, checkpoint_path):
        return lambda image_shape, params: made("functional")

    def metric_ops(self, labels, predictions):
        return None


@pytest.mark.slow
def test_an_export_stores_folded_weights_once_and_the_plain_ones_can_be_read_back(tmp_path):
    spec, path = FoldedSpec(), str(tmp_path / "saved_model")
    model, settings = made("functional"), make_settings({"image_size": SIZE})
    export_saved_model.export_untrained(path, spec, settings, schema_of(spec), model)
    exported = ExportedModel(path).load()
    np.testing.assert_allclose(
        exported.forward(tf.constant(IMAGES), False)["kind"],
        model(IMAGES, training=False),
        rtol=1e-4,
        atol=1e-5,
    )
    heat = exported.explain(tf.constant(IMAGES))["kind"]
    assert heat.shape[0] == len(IMAGES) and np.isfinite(heat).all()
    graph = exported.loaded.classify.concrete_functions[0].graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    operations = [node.op for node in nodes]
    assert operations.count("Rsqrt") == 1  # of the convolution whose output is used twice
    stored = tf.train.list_variables(os.path.join(path, "variables", "variables"))
    kernels = [shape for _, shape in stored if len(shape) == 4 and shape[0] > 1]
    assert sorted(kernels) == [[3, 3, 3, 8], [3, 3, 8, 2]]
    values = read_weights(path, model).values
    assert set(values) >= {variable.path for variable in model.variables}
    for variable in model.variables:
        np.testing.assert_allclose(values[variable.path], variable.numpy(), rtol=1e-5)
