"""The evaluation preprocessing without TensorFlow gives the same bits."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.image.test_decode import encoded, exif_bytes, picture
from tf_image_classification.dataset.augment import central_window as window_in_graph
from tf_image_classification.dataset.image.decode_and_crop import image_headers
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.errors import BadImageError, SpecError
from tf_image_classification.serving.light import resize as resizing
from tf_image_classification.serving.light.preprocess import (
    LightPreprocessing,
    central_window,
    preprocessing_of,
)
from tf_image_classification.serving.light.resize import resize


@tf.function(reduce_retracing=True)
def resized(image, size):
    return tf.image.resize(image, size, antialias=True)


@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    new_height=st.integers(1, 300),
    new_width=st.integers(1, 300),
    is_first=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_images_are_resized_alike(height, width, new_height, new_width, is_first):
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    expected = resized(tf.constant(image), tf.constant([new_height, new_width])).numpy()
    # The first images of a process are resized without SciPy.
    resizing._num_images = iter([0 if is_first else resizing._FEW_IMAGES])
    found = resize(image, new_height, new_width)
    resizing._num_images = iter(range(1000))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_photograph_is_resized_alike():
    image = np.random.default_rng(0).integers(0, 256, (1500, 2003, 3), np.uint8)
    expected = resized(tf.constant(image), tf.constant([224, 192])).numpy()
    for number in (0, resizing._FEW_IMAGES):  # without SciPy, and with it
        resizing._num_images = iter([number])
        np.testing.assert_array_equal(resize(image, 224, 192), expected)
    resizing._num_images = iter(range(1000))


# Sizes for which the crop's side is halfway between two integers, or next to it.
@pytest.mark.parametrize("image_size, share, stretch", [(224, 0.875, 1.0), (96, 0.875, 1.3)])
def test_the_crop_is_the_same_eagerly_traced_in_tf_data_and_without_tensorflow(
    image_size, share, stretch
):
    sizes = np.random.default_rng(0).integers(1, 3000, (200_000, 2))
    exact = sizes.min(axis=1) * share * stretch
    is_tie = np.abs(exact % 1 - 0.5) < 1e-3
    sizes = sizes[is_tie & (sizes.max(axis=1) * share > exact)][:60].astype(np.int32)
    assert len(sizes) == 60

    def window(size):
        found = window_in_graph(size, image_size, image_size, share=share, stretch=stretch)
        return tf.concat(found, axis=0)

    traced = tf.function(window, input_signature=[tf.TensorSpec([2], tf.int32)])
    in_data = tf.data.Dataset.from_tensor_slices(sizes).map(window).as_numpy_iterator()
    for size, found in zip(sizes, in_data, strict=True):
        there = central_window(tuple(size.tolist()), image_size, share=share, stretch=stretch)
        assert found.tolist() == list(there)
        assert traced(tf.constant(size)).numpy().tolist() == list(there)
        assert window(tf.constant(size)).numpy().tolist() == list(there)


@pytest.mark.slow_after(1)  # each is traced anew
@pytest.mark.parametrize("eval_crop, eval_stretch", [(0.9, 1.25), (1.0, 1.0), (0.875, 1.0)])
def test_encoded_images_are_prepared_as_the_evaluation_does(eval_crop, eval_stretch):
    there = Preprocessing(is_training=False, eval_crop=eval_crop, eval_stretch=eval_stretch)
    here = LightPreprocessing(image_size=32, eval_crop=eval_crop, eval_stretch=eval_stretch)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def evaluated(data):
        header = image_headers(data[tf.newaxis])[0]
        seed = tf.constant([1, 2], tf.int64)
        return there.from_bytes(data, 32, 32, seed, header=header, max_pixels=10**6)

    for width, height in [(45, 31), (32, 32), (30, 90), (1, 1), (301, 412)]:
        image = picture("RGB", width, height)
        for data in (
            encoded(image, "JPEG"),
            encoded(image, "JPEG", exif=exif_bytes(6)),
            encoded(image, "PNG"),
            encoded(image, "PPM"),
        ):
            expected = evaluated(tf.constant(data)).numpy()
            np.testing.assert_array_equal(here.prepare(data), expected)
        expected = there(tf.constant(np.asarray(image)), 32, 32).numpy()
        np.testing.assert_array_equal(here.prepare_pixels(np.asarray(image)), expected)
    assert here.shape == expected.shape


def test_pixels_of_another_kind_are_rejected():
    here = LightPreprocessing(image_size=8, max_pixels=100)
    grey = np.arange(100, dtype=np.uint8).reshape(10, 10)
    np.testing.assert_array_equal(
        here.prepare_pixels(grey), here.prepare_pixels(np.stack([grey] * 3, axis=-1))
    )
    for wrong in (grey.astype(np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros(3, np.uint8)):
        with pytest.raises(BadImageError, match=r"expected uint8 \[h, w, 3\] or \[h, w\]"):
            here.prepare_pixels(wrong)
    for size in ((0, 5), (11, 10)):
        with pytest.raises(BadImageError, match="none, or too many"):
            here.prepare_pixels(np.zeros(size, np.uint8))


_RUN = {
    "spec": "/home/me/tf_image_classification/backbone_spec.py:BackboneSpec",
    "settings": {
        "backbone": "mobilenet_v2",
        "image_size": 96,
        "eval_crop": 0.9,
        "eval_stretch": 1.25,
        "max_image_pixels": 1000,
        "png16_range": "0-4095",
    },
}


def test_the_preprocessing_of_a_run_has_its_settings():
    found = preprocessing_of(json.loads(json.dumps(_RUN)))
    expected = LightPreprocessing(
        image_size=96, eval_crop=0.9, eval_stretch=1.25, max_pixels=1000, png16_range=(0, 4095)
    )
    assert found == expected
    assert preprocessing_of(_RUN, max_pixels=7) == dataclasses.replace(expected, max_pixels=7)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": "/home/me/mine.py:BackboneSpec"},
        {"spec": "mine:Spec"},
        {"settings": {**_RUN["settings"], "backbone": ""}},
    ],
)
def test_a_spec_with_its_own_preprocessing_is_rejected(changes):
    with pytest.raises(SpecError, match="has its own preprocessing, which needs TensorFlow"):
        preprocessing_of({**_RUN, **changes})
