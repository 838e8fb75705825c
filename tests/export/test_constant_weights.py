"""Functions with their weights as constants predict the same, or are left as they are."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import small_export
from tf_image_classification.errors import DataError
from tf_image_classification.export import frozen_graph, weight_size
from tf_image_classification.export.frozen_graph import constant_weights
from tf_image_classification.export.weight_size import has_small_weights
from tf_image_classification.serving import tensorflow_engine
from tf_image_classification.serving.app import ServerOptions
from tf_image_classification.serving.tensorflow_engine import TensorFlowEngine
from tf_image_classification.workflows import serve

IMAGES = tf.random.stateless_uniform([3, 8, 8, 3], (0, 0), 0, 255)
SPEC = tf.TensorSpec([None, 8, 8, 3], tf.float32)


def concrete(function):
    return tf.function(function, input_signature=[SPEC]).get_concrete_function()


def model_with(layer, dtype="float32"):
    images = keras.Input([8, 8, 3], dtype="float32")
    outputs = [keras.layers.Dense(2, dtype=dtype)(layer(images)) for _ in range(2)]
    return keras.Model(images, dict(zip("ba", outputs, strict=True)))


def recurrent():
    def layer(images):
        return keras.layers.GRU(4)(keras.layers.Reshape([8, 24])(images))

    return model_with(layer)


def half():
    return model_with(keras.layers.Flatten(), "mixed_bfloat16")


@pytest.mark.parametrize("make", [recurrent, half])
def test_outputs_keep_their_names_and_values(make):
    model = make()
    function = concrete(lambda images: model(images, training=False))
    constant = constant_weights(function)
    found, expected = constant(IMAGES), function(IMAGES)
    assert set(found) == {"a", "b"}
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_allclose(
            tf.cast(found[name], tf.float32), tf.cast(expected[name], tf.float32), rtol=1e-6
        )
    for variable in model.variables:
        variable.assign(variable * 0)
    assert np.abs(constant(IMAGES)["a"]).max() > 0


def test_what_changes_variables_or_reads_a_table_or_is_large_stays(monkeypatch):
    counter, kernel = tf.Variable(0.0), tf.Variable(tf.ones([3]))
    keys = tf.lookup.KeyValueTensorInitializer([0], [1.0])
    table = tf.lookup.StaticHashTable(keys, 0.0)

    def weighted(images):
        return {"kind": images * kernel}

    def counting(images):
        return {"kind": images * counter.assign_add(1.0)}

    def looked_up(images):
        return {"kind": table.lookup(tf.cast(images, tf.int32)) * kernel}

    assert constant_weights(concrete(counting)) is None
    assert constant_weights(concrete(looked_up)) is None
    function = concrete(weighted)
    assert constant_weights(function) is not None
    monkeypatch.setattr(frozen_graph, "MAX_CONSTANT_BYTES", 8)
    assert constant_weights(function) is None


@pytest.mark.parametrize("limit", [weight_size.MAX_CONSTANT_BYTES, 1000])
def test_the_server_turns_onednn_on_where_all_weights_become_constants(
    tmp_path, monkeypatch, limit
):
    small_export.make(str(tmp_path / "saved_model"))
    assert not has_small_weights(str(tmp_path / "missing"))
    asked = []

    def load_model(model_dir, *, before_tensorflow, **options):
        before_tensorflow()
        raise DataError("enough")

    monkeypatch.setattr(weight_size, "MAX_CONSTANT_BYTES", limit)
    monkeypatch.setattr(serve.predictor, "load_model", load_model)
    with pytest.raises(DataError, match="enough"):
        serve.serve_folders(
            {"small": str(tmp_path)},
            ServerOptions(),
            "127.0.0.1",
            0,
            max_pixels=10**6,
            before_tensorflow=asked.append,
        )
    assert asked == [limit > 1000]


@pytest.mark.parametrize("count", [1, 16, 17])
def test_the_engine_predicts_as_the_exported_model_and_explains(tmp_path, monkeypatch, count):
    exported = small_export.make(str(tmp_path / "saved_model"))
    images = tf.constant(small_export.pictures(count), tf.float32)
    expected = tf.nn.softmax(exported.forward(images, False)["kind"])
    engine = TensorFlowEngine(exported, small_export.SCHEMA, max_pixels=10**6)
    if count <= 16:
        monkeypatch.setattr(exported, "forward", None)  # of variables
    else:
        monkeypatch.setattr(tensorflow_engine, "constant_weights", None)
    found = engine.predictions(list(images))["kind_probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert engine.explain(list(images))["kind"].shape[0] == count
