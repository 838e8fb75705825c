"""Decoding only what is needed: the same pixels where that is promised, else nearly the same."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_image_classification.dataset import augment
from tf_image_classification.dataset.image.decode import decode_image
from tf_image_classification.dataset.image.decode_and_crop import (
    image_headers,
    read_part,
    resized_part,
)
from tf_image_classification.dataset.preprocessing import CHANGES, Preprocessing

MOST = 10_000_000
SEED = tf.constant([3, 7], tf.int64)


def photograph(height, width, *, kind="JPEG", orientation=0, quality=90, subsampling=2):
    """A smooth picture with edges and some grain."""
    rows, columns = np.mgrid[:height, :width]
    random = np.random.default_rng(0)
    red = 127 + 100 * np.sin(columns / 23) * np.cos(rows / 31)
    green = 255 * ((columns // 40 + rows // 50) % 2)
    blue = 255 * columns / width
    pixels = np.stack([red, green, blue], -1) + random.normal(0, 6, (height, width, 3))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    kind, image = ("PPM", image.convert("L")) if kind == "PGM" else (kind, image)
    options = {"quality": quality, "subsampling": subsampling} if kind == "JPEG" else {}
    if orientation:
        exif = Image.Exif()
        exif[274] = orientation
        options["exif"] = exif.tobytes()
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def header_of(data):
    return image_headers(tf.convert_to_tensor(data)[None])[0]


def from_bytes(preproc, data, side, seed):
    """What the input and then the device make of an encoded image."""
    image = preproc.from_bytes(data, side, side, seed, header=header_of(data), max_pixels=MOST)
    if not preproc.num_random_parameters:
        return image
    return preproc.on_device(image[None], preproc.random_parameters(seed)[None])[0]


def in_dataset(function, data):
    """What a function of bytes gives inside tf.data."""
    dataset = tf.data.Dataset.from_tensors(data).map(function)
    return next(iter(dataset)).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("size", [(375, 500), (97, 131)])
def test_the_exact_part_is_that_of_the_whole_image_bit_for_bit(size, subsampling):
    data = photograph(*size, subsampling=subsampling)
    image = decode_image(data, max_pixels=MOST)
    seeds = tf.stack([tf.zeros(12, tf.int64), tf.range(12, dtype=tf.int64)], axis=1)

    def both(seed):
        def window(size):
            return augment.random_window(size, 96, 80, seed)

        found = read_part(
            data, window, 96, 80, header=header_of(data), max_pixels=MOST, is_exact=True
        )
        return found, resized_part(image, *window(tf.shape(image)[:2]), 96, 80)

    for found, wanted in tf.data.Dataset.from_tensor_slices(seeds).map(both):
        np.testing.assert_array_equal(found, wanted)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("size", [(375, 500), (750, 1000), (1500, 2000)])
def test_the_fast_part_is_close_to_the_antialiased_one(size):
    """Of a hard picture: full of edges and grain, which each way of reducing treats differently."""
    data = photograph(*size)
    plain = Preprocessing(is_training=True)
    for number in range(3):
        seed = tf.constant([1, number], tf.int64)
        whole = plain(decode_image(data, max_pixels=MOST), 160, 160, seed).numpy()
        part = from_bytes(plain, data, 160, seed).numpy()
        assert part.dtype == np.uint8 and part.shape == (160, 160, 3)
        assert psnr(whole, part) > 24


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP", "PPM", "PGM"])
def test_other_formats_give_what_decoding_the_whole_gives(kind):
    data = photograph(90, 120, kind=kind)
    for is_training in (True, False):
        preproc = Preprocessing(is_training=is_training)
        whole = preproc(decode_image(data, max_pixels=MOST), 64, 64, SEED)
        part = from_bytes(preproc, data, 64, SEED)
        np.testing.assert_array_equal(whole, part)


@pytest.mark.slow_after(1)
@pytest.mark.exhaustive_after(3)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_stays_upright(orientation):
    data = photograph(120, 200, orientation=orientation)
    assert (header_of(data)[0] == -1) == (orientation == 1)
    preproc = Preprocessing(is_training=False, eval_crop=0.5)
    whole = preproc(decode_image(data, max_pixels=MOST), 48, 48)
    part = in_dataset(lambda d: from_bytes(preproc, d, 48, SEED), data)
    np.testing.assert_array_equal(whole, part)


def part_of(data, window, side, most, is_exact):
    header = header_of(data)
    return read_part(data, window, side, side, header=header, max_pixels=most, is_exact=is_exact)


@pytest.mark.parametrize("kind", ["JPEG", "PPM"])
def test_what_is_cut_or_too_large_fails_wherever_the_part_lies(kind):
    data = photograph(400, 400, kind=kind)
    top = lambda size: (tf.constant([0, 0]), tf.constant([20, 20]))  # noqa: E731
    for is_exact in (True, False):
        part_of(data, top, 16, MOST, is_exact)
        for broken, most in ((data[: len(data) // 2], MOST), (data, 1000)):
            with pytest.raises(tf.errors.InvalidArgumentError):
                part_of(broken, top, 16, most, is_exact)


@pytest.mark.parametrize("kind", ["JPEG", "PPM"])
def test_parts_at_the_edges_and_of_one_pixel_can_be_read(kind):
    data = photograph(37, 53, kind=kind)
    image = decode_image(data, max_pixels=MOST)
    for offset, crop in (([0, 0], [37, 53]), ([36, 52], [1, 1]), ([0, 50], [37, 3])):
        window = lambda size, o=offset, c=crop: (tf.constant(o), tf.constant(c))  # noqa: E731
        exact = part_of(data, window, 8, MOST, True)
        np.testing.assert_array_equal(exact, resized_part(image, offset, crop, 8, 8))
        part_of(data, window, 1, MOST, False)


@pytest.mark.slow_after(1)
@pytest.mark.exhaustive_after(4)
@pytest.mark.parametrize("augmentation", CHANGES)
def test_a_seed_decides_the_image(augmentation):
    data = photograph(120, 160)
    preproc = Preprocessing(is_training=True, augmentation=augmentation)
    eager = from_bytes(preproc, data, 32, SEED).numpy()
    traced = in_dataset(lambda d: from_bytes(preproc, d, 32, SEED), data)
    assert np.abs(eager.astype(int) - traced).max() <= 1
    other = from_bytes(preproc, data, 32, SEED + 1).numpy()
    again = from_bytes(preproc, data, 32, SEED).numpy()
    np.testing.assert_array_equal(eager, again)
    assert augmentation in ("none", "flip") or (eager != other).any()
