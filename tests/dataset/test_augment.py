"""Augmentation: shape, range, and that the seed alone decides, eagerly and inside a pipeline."""

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.dataset import augment

IMAGE = tf.cast(
    tf.constant(np.random.default_rng(0).integers(0, 256, [40, 60, 3]).repeat(2, 0).repeat(2, 1)),
    tf.float32,
)
SIZED = {
    "random_resized_crop": lambda image, seed: augment.random_resized_crop(image, 24, 32, seed),
    "central_crop": lambda image, seed: augment.central_crop(image, 24, 32),
}
SAME = {
    name: getattr(augment, name)
    for name in (
        "random_flip", "random_translate", "random_colour", "random_erasing", "trivial_augment",
        "rand_augment", "augmix",
    )
}  # fmt: skip


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("name", SIZED | SAME)
def test_the_seed_alone_decides(name):
    function = (SIZED | SAME)[name]
    seeds = tf.constant([[0, n] for n in range(24)], tf.int64)
    eager = [function(IMAGE, seed).numpy() for seed in seeds]
    dataset = tf.data.Dataset.from_tensor_slices(seeds).map(lambda seed: function(IMAGE, seed))
    for found, expected in zip(dataset.as_numpy_iterator(), eager, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)
    expected_shape = (24, 32, 3) if name in SIZED else IMAGE.shape
    assert dataset.element_spec.shape == expected_shape
    assert all(
        np.isfinite(image).all() and image.min() >= -1 and image.max() <= 256 for image in eager
    )
    different = len({image.tobytes() for image in eager})
    assert different == 1 if name == "central_crop" else different > 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", augment._CHANGES)
def test_every_change_of_trivial_augment_keeps_shape_and_range(name, channels):
    change = augment._CHANGES[name]
    image = IMAGE[..., :channels]
    largest = change.max_amount
    for amount in {largest, 0.3 * largest, -largest if change.has_sign else 0.0}:
        found = change.make(image, tf.constant(amount, tf.float32)).numpy()
        assert found.shape == image.shape and np.isfinite(found).all()
        assert found.min() >= 0 and found.max() <= 255.5


def test_augmix_is_a_mean_of_the_image_and_its_changes():
    seeds = [tf.constant([3, n], tf.int64) for n in range(40)]
    photo = tf.image.resize(IMAGE, [24, 24])
    distances = [abs(augment.augmix(photo, seed) - photo).numpy().mean() for seed in seeds]
    once = [abs(augment.augmix(photo, s, width=1, depth=1) - photo).numpy().mean() for s in seeds]
    assert np.mean(distances) > 2 and len({f"{value:.4f}" for value in distances}) == 40
    assert np.mean(once) < np.mean(distances)


def test_nothing_changes_at_strength_zero():
    for name, change in augment._CHANGES.items():
        if name not in ("autocontrast", "equalise", "sharpness"):
            found = change.make(IMAGE, tf.constant(0.0))
            np.testing.assert_allclose(found, IMAGE, atol=0.01, err_msg=name)


def test_an_image_turned_half_round_and_back_is_itself():
    turned = augment._affine(augment._affine(IMAGE, turn=np.pi), turn=np.pi)
    np.testing.assert_allclose(turned[2:-2, 2:-2], IMAGE[2:-2, 2:-2], atol=1)


def test_equalise_makes_values_as_frequent_as_each_other():
    dark = tf.cast(tf.constant(np.random.default_rng(0).integers(0, 40, [64, 64, 1])), tf.float32)
    found = augment._equalise(dark, tf.constant(0.0)).numpy()
    assert found.min() == 0 and found.max() == 255
    assert abs(np.median(found) - 127) < 15


def test_the_middle_of_an_image_is_not_distorted():
    marked = np.zeros([100, 200, 1], np.float32)
    marked[44:54, 94:104] = 255
    found = augment.central_crop(tf.constant(marked), 50, 50, share=1.0).numpy()[..., 0] > 127
    rows, columns = found.any(1).sum(), found.any(0).sum()
    assert rows == columns == 5 and found[24, 24]


def test_a_crop_keeps_to_its_share_of_the_area():
    height = tf.tile(tf.range(200, dtype=tf.float32)[:, None, None], [1, 200, 1])
    for number in range(20):
        found = augment.random_resized_crop(
            height, 20, 20, tf.constant([0, number], tf.int64), scale=(0.25, 0.25), ratio=(1, 1)
        ).numpy()
        assert found.max() - found.min() == pytest.approx(95, abs=4)


def test_batches_are_mirrored_and_coloured_as_their_images_are_one_by_one():
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, [9, 6, 8, 3]), tf.float32)
    seeds = [tf.constant([4, position], tf.int64) for position in range(9)]
    draws = tf.stack([augment.flip_parameter(seed) for seed in seeds])
    pairs = list(zip(images, seeds, strict=True))
    one_by_one = [augment.random_flip(image, seed) for image, seed in pairs]
    np.testing.assert_array_equal(augment.flipped(images, draws), one_by_one)
    assert 0 < sum(float(draw) < 0.5 for draw in draws) < 9
    factors = tf.stack([augment.colour_parameters(seed) for seed in seeds])
    one_by_one = [augment.random_colour(image, seed) for image, seed in pairs]
    np.testing.assert_allclose(augment.coloured(images, factors), one_by_one, rtol=1e-5)
