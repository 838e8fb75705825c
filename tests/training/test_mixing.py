"""Mixed images and weighted classes: arithmetic, and that replicas and parts change nothing."""

import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from tf_image_classification.batches import PADDING_ID
from tf_image_classification.dataset import mixup
from tf_image_classification.errors import ConfigError


def pairs(count=64, **alphas):
    alphas = {"mixup_alpha": 0.0, "cutmix_alpha": 0.0} | alphas
    return mixup.random_parameters(count, tf.constant([1, 2], tf.int64), **alphas)


def test_weights_follow_the_beta_distribution():
    weights = pairs(4000, mixup_alpha=0.2).weight.numpy()
    assert weights.mean() == pytest.approx(0.5, abs=0.02)
    assert weights.var() == pytest.approx(0.25 / 1.4, abs=0.01)  # 1 / (4 (2 alpha + 1))
    assert weights.min() >= 0 and weights.max() <= 1


def test_mixup_is_a_weighted_mean_of_neighbours():
    images = np.random.default_rng(0).uniform(0, 255, [8, 4, 6, 3]).astype(np.float32)
    parameters = pairs(4, mixup_alpha=1.0)
    mixed, weight = mixup.mix(tf.constant(images), tf.range(8, dtype=tf.int64), parameters)
    expected = np.repeat(parameters.weight.numpy(), 2)
    np.testing.assert_allclose(weight, expected, rtol=1e-5)
    neighbours = images.reshape(4, 2, 4, 6, 3)[:, ::-1].reshape(images.shape)
    weight = expected[:, None, None, None]
    np.testing.assert_allclose(mixed, weight * images + (1 - weight) * neighbours, rtol=1e-4)


def test_cutmix_exchanges_as_many_pixels_as_its_weight():
    images = np.zeros([64, 16, 16, 1], np.float32)
    images[1::2] = 1
    parameters = pairs(32, cutmix_alpha=1.0)
    assert parameters.is_cut.numpy().all()
    mixed, weight = mixup.mix(tf.constant(images), tf.range(64, dtype=tf.int64), parameters)
    assert set(np.unique(mixed)) <= {0.0, 1.0}
    np.testing.assert_allclose(1 - mixed.numpy()[::2].mean((1, 2, 3)), weight[::2], atol=1e-6)
    np.testing.assert_allclose(mixed.numpy()[1::2].mean((1, 2, 3)), weight[1::2], atol=1e-6)
    assert 0.1 < weight.numpy().mean() < 0.9


def test_both_are_drawn_by_chance():
    cut = pairs(400, mixup_alpha=0.2, cutmix_alpha=1.0).is_cut.numpy()
    assert 150 < cut.sum() < 250


def test_a_pair_with_padding_stays_as_it_is():
    images = np.random.default_rng(0).uniform(0, 255, [4, 4, 4, 3]).astype(np.float32)
    ids = tf.constant([5, PADDING_ID, 7, 8], tf.int64)
    mixed, weight = mixup.mix(tf.constant(images), ids, pairs(2, mixup_alpha=1.0))
    np.testing.assert_array_equal(mixed[:2], images[:2])
    assert weight.numpy()[:2].tolist() == [1, 1] and (weight.numpy()[2:] < 1).all()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tiny_runs.write_records(tmp_path_factory.mktemp("records"))


MIXING = {"mixup_alpha": 0.5, "cutmix_alpha": 1.0, "batch_size": 8, "train_steps": 4}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"gradient_accumulation_steps": 4}, {"strategy": "mirrored"}])
def test_parts_and_devices_mix_alike(records, tmp_path, changes):
    whole = tiny_runs.run(tiny_runs.plain_spec(), tmp_path / "a", records, **MIXING)
    split = tiny_runs.run(tiny_runs.plain_spec(), tmp_path / "b", records, **MIXING | changes)
    assert tiny_runs.largest_difference(whole, split) < 2e-5


@pytest.mark.slow
def test_a_mixed_run_that_goes_on_ends_with_the_same_bits(records, tmp_path):
    fixed = MIXING | {"learning_rate_decay_type": "fixed"}
    straight = tiny_runs.run(tiny_runs.TinySpec(), tmp_path / "a", records, **fixed)
    tiny_runs.run(tiny_runs.TinySpec(), tmp_path / "b", records, **fixed | {"train_steps": 2})
    parts = tiny_runs.run(tiny_runs.TinySpec(), tmp_path / "b", records, **fixed)
    tiny_runs.assert_same_bits(parts, straight)


def test_an_odd_number_of_images_cannot_be_mixed(records, tmp_path):
    with pytest.raises(ConfigError, match="in pairs, but batch_size 9 gives each device 9"):
        tiny_runs.run(tiny_runs.plain_spec(), tmp_path, records, mixup_alpha=0.2, batch_size=9,
                      train_steps=1)  # fmt: skip


@pytest.mark.slow
def test_balanced_classes_weigh_alike(tmp_path):
    few = tiny_runs.write_records(
        tmp_path, count=30, labels=lambda n, kind: {"kind": float(0 if n % 6 else 1 + n // 6 % 2)}
    )
    ends = {}
    for weights in ("none", "balanced"):
        ends[weights] = tiny_runs.run(
            tiny_runs.plain_spec(), tmp_path / weights, few, train_steps=1, batch_size=30,
            optimizer="sgd", learning_rate=1.0, weight_decay=0.0, class_weights=weights,
            learning_rate_decay_type="fixed",
        ).tensors["model/logits/bias"]  # fmt: skip
    # The bias's gradient is the mean over examples of weight * (probability - target). With equal
    # weights the many examples of class 0 pull it up; balanced, no class is favoured by much.
    assert ends["none"][0] > 0.3
    assert abs(ends["balanced"]).max() < ends["none"][0] / 2
