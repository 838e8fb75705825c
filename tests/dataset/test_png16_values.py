"""Values of 16-bit PNGs: scaled by a range, the same through every way of decoding."""

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.config import make_settings, range_of_values, read_pixel_range
from tf_image_classification.dataset.image.decode import decode_image, decoder
from tf_image_classification.dataset.image.decode_and_crop import image_headers
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.errors import ConfigError

LIMIT = 10_000


def deep_png(values):
    """A 16-bit PNG, grey or in colours."""
    return tf.io.encode_png(np.asarray(values, np.uint16)).numpy()


@pytest.mark.slow_after(4)
@pytest.mark.exhaustive_after(9)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("png16_range", [(0, 255), (0, 4095), (1000, 3000)])
def test_values_are_scaled_by_the_range_and_clipped(channels, png16_range):
    low, high = png16_range
    values = np.random.default_rng(0).integers(0, 5000, (9, 8, channels))
    found = decode_image(deep_png(values), max_pixels=LIMIT, png16_range=png16_range).numpy()
    exact = np.clip((values - low) * 255 / (high - low), 0, 255)
    colours = exact[..., :1].repeat(3, -1) if channels < 3 else exact[..., :3]
    assert found.shape == (9, 8, 3) and np.abs(found - colours).max() <= 0.501
    traced = decoder(LIMIT, png16_range)(tf.constant(deep_png(values))).numpy()
    np.testing.assert_array_equal(traced, found)


def test_eight_bits_in_sixteen_become_the_same_pixels_as_in_eight():
    values = np.arange(256).reshape(16, 16, 1)
    plain = tf.io.encode_png(values.astype(np.uint8)).numpy()
    options = {"max_pixels": LIMIT, "png16_range": (0, 255)}
    expected = decode_image(plain, **options).numpy()
    np.testing.assert_array_equal(decode_image(deep_png(values), **options), expected)
    assert (decode_image(deep_png(values), max_pixels=LIMIT).numpy() <= 1).all()  # what was silent


@pytest.mark.parametrize("is_training", [False, True])
def test_preprocessing_of_bytes_uses_the_range(is_training):
    values = np.random.default_rng(0).integers(0, 4096, (40, 40, 3))
    data, seed = tf.constant(deep_png(values)), tf.constant([3, 4], tf.int64)
    prepare = Preprocessing(is_training=is_training)
    image = decode_image(data, max_pixels=LIMIT, png16_range=(0, 4095))
    header = image_headers(data[tf.newaxis])[0]
    found = prepare.from_bytes(
        data, 16, 16, seed, header=header, max_pixels=LIMIT, png16_range=(0, 4095)
    )
    np.testing.assert_array_equal(found, prepare.from_pixels(image, 16, 16, seed))
    assert found.numpy().max() > 100


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 255), (0, 255)),
        ((3, 17), (0, 255)),
        ((0, 256), (0, 511)),
        ((12, 3987), (0, 4095)),
        ((900, 1000), (900, 1000)),
        ((30_000, 34_000), (30_000, 34_000)),
        ((5, 65_535), (0, 65_535)),
        ((700, 700), (0, 1023)),
    ],
)
def test_the_range_of_measured_values_is_that_of_their_bits(values, expected):
    assert range_of_values(*values) == expected


@pytest.mark.parametrize("text", ["", "4095", "0-", "9-9", "10-3", "0-65536", "0 - 255", "auto"])
def test_what_is_no_range_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"png16_range is .*e.g. 0-4095"):
        read_pixel_range(text)
    with pytest.raises(ConfigError, match="png16_range"):
        make_settings({"png16_range": text})


def test_a_stream_cannot_be_measured():
    with pytest.raises(ConfigError, match=r"measured, which needs input_mode indexed"):
        make_settings({"png16_range": "measured", "input_mode": "streaming"})
