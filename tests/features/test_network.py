"""What identifies a frozen network and its preprocessing, and what does not."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_image_classification.dataset.pipeline.image_preprocessor import ImagePreprocessor
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.features.network import (
    behaviour_of,
    identity_of,
    preparation,
    structure_of,
)


def model(width=3, activation="relu", seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(inputs, keras.layers.Dense(width, activation=activation)(x))


def identity(network, preprocessing="crop", precision="float32"):
    return identity_of(
        network=structure_of(network),
        weights=network.weights,
        preprocessing=preprocessing,
        precision=precision,
    )


def test_everything_that_decides_features_changes_the_identity():
    first = identity(model())
    assert identity(model()) == first  # though Keras counts the names of its layers
    others = [
        identity(model(seed=1)),
        identity(model(activation="tanh")),
        identity(model(width=4)),
        identity(model(), preprocessing="stretch"),
        identity(model(), precision="mixed_bfloat16"),
    ]
    assert len({first, *others}) == 6


def test_what_has_no_lasting_text_has_no_identity():
    assert identity(model(), preprocessing=object()) == ""


def preprocessor(preproc, size=8, **changes):
    return ImagePreprocessor(preproc=preproc, image_size=size, max_image_pixels=10**6, **changes)


def png(seed=0, depth=8):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 2**depth, [20, 30, 3]).astype(f"uint{depth}")
    return tf.io.encode_png(pixels).numpy()


def resized(image, width, height):
    return tf.image.resize(image, [height, width])


def seeded(image, width, height, seed):
    return resized(image, width, height) + tf.random.stateless_uniform([height, width, 3], seed)


def test_a_preprocessing_with_a_seed_has_rows_by_example():
    _, key_of = preparation(preprocessor(seeded))
    assert key_of(png(), 1) != key_of(png(), 2)
    for plain in (resized, Preprocessing(is_training=False)):
        _, key_of = preparation(preprocessor(plain))
        assert key_of(png(), 1) == key_of(png(), 2) != key_of(png(1), 1)


def test_the_range_of_16_bits_counts_for_images_of_16_bits_only():
    keys = [
        preparation(preprocessor(resized, png16_range=values))[1]
        for values in ((0, 65535), (0, 4095))
    ]
    assert keys[0](png(), 0) == keys[1](png(), 0)
    assert keys[0](png(depth=16), 0) != keys[1](png(depth=16), 0)


@pytest.mark.parametrize("preproc", [resized, seeded, Preprocessing(is_training=False)])
def test_bytes_and_pixels_are_prepared_alike(preproc):
    prepare, _ = preparation(preprocessor(preproc))
    pixels = np.asarray(Image.open(io.BytesIO(png())))
    both = prepare([png(), pixels], [7, 7])
    np.testing.assert_array_equal(both[0], both[1])
    np.testing.assert_array_equal(prepare([png()], [7])[0], both[0])


def test_changed_code_of_a_user_is_seen_in_what_it_computes():
    def behaviour(preproc, factor=1.0):
        prepare, _ = preparation(preprocessor(preproc))
        return behaviour_of(prepare, lambda images: factor * tf.reduce_mean(images, [1, 2]) ** 2)

    def inverted(image, width, height):
        return 255 - resized(image, width, height)

    assert behaviour(resized) == behaviour(resized) != behaviour(inverted)
