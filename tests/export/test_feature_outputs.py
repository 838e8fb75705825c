"""The features beside the logits, of networks written in any way."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.errors import SpecError
from tf_image_classification.export.features import logits_and_features


def both(model, *, forward=None):
    """Logits and features of two images, traced."""
    forward = forward or (lambda images, training: {"kind": model(images, training=training)})
    run = logits_and_features(model, forward)
    images = tf.random.stateless_normal([2, 8, 8, 3], [1, 2])
    return (*tf.function(run)(images), images)


def body():
    inputs = keras.Input([8, 8, 3])
    maps = keras.layers.Conv2D(5, 3, activation="relu")(inputs)
    return inputs, maps, keras.layers.GlobalAveragePooling2D()(maps)


def test_the_values_that_a_dense_layer_takes_whatever_its_name_and_what_follows():
    inputs, _, pooled = body()
    outputs = keras.layers.Activation("linear")(keras.layers.Dense(3, name="any")(pooled))
    logits, features, images = both(keras.Model(inputs, outputs))
    np.testing.assert_allclose(features, keras.Model(inputs, pooled)(images), rtol=1e-5)
    assert logits["kind"].shape == (2, 3)


def test_maps_that_a_convolution_takes_are_averaged():
    inputs, maps, _ = body()
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 1)(maps))
    _, features, images = both(keras.Model(inputs, outputs))
    expected = keras.Model(inputs, maps)(images).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(features, expected, rtol=1e-5)


def test_tokens_of_a_transformer_are_averaged():
    inputs, maps, _ = body()
    tokens = keras.layers.Reshape([36, 5])(maps)
    outputs = keras.layers.GlobalAveragePooling1D()(keras.layers.Dense(3)(tokens))
    _, features, _ = both(keras.Model(inputs, outputs))
    assert features.shape == (2, 5)


def test_labels_share_their_features():
    inputs, _, pooled = body()
    outputs = {name: keras.layers.Dense(2, name=name)(pooled) for name in ("one", "other")}
    model = keras.Model(inputs, outputs)
    _, features, images = both(model, forward=lambda x, training: model(x, training=training))
    np.testing.assert_allclose(features, keras.Model(inputs, pooled)(images), rtol=1e-5)


def test_the_features_of_several_views_are_averaged():
    inputs, _, pooled = body()
    model = keras.Model(inputs, keras.layers.Dense(3)(pooled))

    def forward(images, training):
        views = [model(one, training=training) for one in (images, images[:, :, ::-1])]
        return {"kind": tf.add_n(views) / 2}

    _, features, images = both(model, forward=forward)
    of_views = [keras.Model(inputs, pooled)(one) for one in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(features, sum(map(np.asarray, of_views)) / 2, rtol=1e-5)


def several_layers():
    inputs, _, pooled = body()
    return keras.Model(
        inputs,
        keras.layers.Add()([keras.layers.Dense(3)(pooled), keras.layers.Dense(3)(pooled)]),
    )


def no_kernel():
    inputs = keras.Input([8, 8, 3])
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))


@pytest.mark.parametrize(
    ("make", "reason"),
    [(several_layers, "made of several layers"), (no_kernel, "no layer with a kernel")],
)
def test_where_there_are_none_the_reason_is_given(make, reason):
    with pytest.raises(SpecError, match=reason):
        both(make())


def test_labels_with_features_of_their_own_have_none():
    inputs, _, pooled = body()
    hidden = keras.layers.Dense(4)(pooled)
    outputs = {"one": keras.layers.Dense(2)(pooled), "other": keras.layers.Dense(2)(hidden)}
    model = keras.Model(inputs, outputs)
    with pytest.raises(SpecError, match="its labels take different values"):
        both(model, forward=lambda x, training: model(x, training=training))
