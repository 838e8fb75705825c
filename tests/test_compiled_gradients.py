"""Compiled gradients of activations are Keras's up to rounding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.compiled_gradients import compiled_gradients

ACTIVATIONS = ("silu", "swish", "gelu", "hard_silu", "mish")


def model_of(activation, dtype="float32"):
    inputs = keras.Input([8, 8, 3])
    x = keras.layers.Conv2D(4, 3, activation=activation, dtype=dtype)(inputs)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    x = keras.layers.Activation(activation, dtype=dtype)(x)
    return keras.Model(inputs, keras.layers.Dense(2, activation=activation, dtype=dtype)(x))


def outputs_and_gradients(model, images):
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
    return outputs, tape.gradient(loss, [v.value for v in model.trainable_variables])


@pytest.mark.parametrize(
    ("activation", "dtype", "tolerance"),
    [
        *((name, "float32", 1e-5) for name in ACTIVATIONS),
        ("silu", "mixed_bfloat16", 0.05),
        ("gelu", "mixed_float16", 0.01),
    ],
)
def test_values_are_the_same_and_gradients_close(activation, dtype, tolerance):
    keras.utils.set_random_seed(0)
    model = model_of(activation, dtype)
    images = tf.random.stateless_normal([4, 8, 8, 3], [0, 1], stddev=3.0)
    names = [layer.activation for layer in model.layers if hasattr(layer, "activation")]
    with compiled_gradients(model):
        used = [layer.activation for layer in model.layers if hasattr(layer, "activation")]
        compiled = tf.function(outputs_and_gradients)(model, images)
        eager = outputs_and_gradients(model, images)
    assert all(now is not before for now, before in zip(used, names, strict=True))
    assert [layer.activation for layer in model.layers if hasattr(layer, "activation")] == names
    expected = outputs_and_gradients(model, images)
    for found in (compiled, eager):
        np.testing.assert_allclose(found[0], expected[0], rtol=tolerance, atol=tolerance)
        for mine, theirs in zip(found[1], expected[1], strict=True):
            scale = float(tf.reduce_max(tf.abs(theirs))) + 1e-6
            np.testing.assert_allclose(mine / scale, theirs / scale, atol=tolerance)


def test_outputs_alone_are_bit_identical():
    images = tf.random.stateless_normal([4, 6, 6, 3], [0, 1], stddev=3.0)
    for name in ACTIVATIONS:
        model = keras.Sequential([keras.Input([6, 6, 3]), keras.layers.Activation(name)])
        with compiled_gradients(model):
            found = model(images, training=True)
        np.testing.assert_array_equal(found, model(images, training=True))


def test_other_activations_and_models_that_are_not_keras_stay_as_they_are():
    model = model_of("relu")
    with compiled_gradients(model), compiled_gradients(len):
        assert model.layers[1].activation is keras.activations.relu


def test_a_graph_of_two_replicas_has_compiled_gradients():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = model_of("gelu")
    images = tf.random.stateless_normal([2, 8, 8, 3], [0, 1])

    def step():
        with compiled_gradients(model):
            return outputs_and_gradients(model, images)[1]

    run = tf.function(lambda: strategy.run(step))
    found = [strategy.experimental_local_results(each)[1] for each in run()]
    expected = outputs_and_gradients(model, images)[1]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)
