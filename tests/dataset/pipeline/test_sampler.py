"""The order of examples: a permutation of each epoch, as good as chance would make it."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tf_image_classification.dataset.pipeline.sampler import BalancedSampler, EpochSampler


def epochs(n, seed, count):
    numbers = EpochSampler(n, seed, shuffle=True).example_numbers(
        tf.range(n * count, dtype=tf.int64)
    )
    return numbers.numpy().reshape(count, n)


@given(n=st.integers(1, 300), seed=st.integers(0, 2**31 - 1))
def test_every_epoch_has_each_example_once(n, seed):
    for numbers in epochs(n, seed, 3):
        assert sorted(numbers.tolist()) == list(range(n))


@pytest.mark.parametrize("n", [100, 428, 5000])
def test_neighbours_in_the_files_come_apart(n):
    """Files are often sorted by class; a weak shuffle would keep classes together in batches."""
    orders = epochs(n, 0, 60)
    serial = [np.corrcoef(x[:-1], x[1:])[0, 1] for x in orders]
    place = [np.corrcoef(np.arange(n), x)[0, 1] for x in orders]
    for found in (serial, place):  # by chance: mean about 0, deviation 1 / sqrt(n)
        assert abs(np.mean(found)) < 4 / np.sqrt(60 * n)
        assert np.std(found) < 1.35 / np.sqrt(n)
    near = np.mean([np.mean(np.abs(np.diff(x)) <= n // 50) for x in orders])
    assert near == pytest.approx(2 / 50, abs=0.01)


def test_a_batch_of_a_sorted_set_holds_its_classes_in_proportion():
    classes = np.repeat(np.arange(6), 70)
    worst = [np.bincount(classes[x[:60]], minlength=6).max() for x in epochs(len(classes), 3, 100)]
    assert 13.2 < np.mean(worst) < 14.6  # 13.9 by chance


def test_epochs_and_seeds_differ_and_any_position_can_be_asked_alone():
    first, second = epochs(50, 0, 2)
    assert (first != second).any() and (first != epochs(50, 1, 1)[0]).any()
    alone = (
        EpochSampler(50, 0, shuffle=True).example_numbers(tf.constant([63, 7], tf.int64)).numpy()
    )
    assert alone.tolist() == [second[13], first[7]]
    in_order = EpochSampler(5, 9, shuffle=False).example_numbers(tf.range(7, dtype=tf.int64))
    assert in_order.numpy().tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_balanced_sampling_draws_every_class_equally_often():
    groups = np.array([0] * 50 + [1] * 7 + [-1] * 3 + [2] * 1)
    order = BalancedSampler(groups, seed=4, shuffle=True)
    numbers = order.example_numbers(tf.range(3 * 700, dtype=tf.int64)).numpy()
    drawn = groups[numbers]
    assert (np.sort(drawn.reshape(-1, 3), axis=1) == [0, 1, 2]).all()
    of_one = numbers[drawn == 1]
    assert (np.sort(of_one.reshape(-1, 7), axis=1) == np.arange(50, 57)).all()
    assert len({tuple(turn) for turn in of_one.reshape(-1, 7)}) > 90
    later = order.example_numbers(tf.range(500, 600, dtype=tf.int64)).numpy()
    assert (later == numbers[500:600]).all()
    other = BalancedSampler(groups, seed=5, shuffle=True).example_numbers(
        tf.range(300, dtype=tf.int64)
    )
    assert (other.numpy() != numbers[:300]).any()
