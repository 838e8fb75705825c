"""Intervals of means: they hold the truth as often as they say, and know of groups."""

import doctest

import numpy as np
import pytest

from tf_image_classification.evaluation import intervals
from tf_image_classification.evaluation.intervals import (
    DIFFERENCE_BOUNDS,
    FRACTION_BOUNDS,
    mean_with_interval,
)


def test_the_examples_of_the_docstrings_hold():
    failed, tried = doctest.testmod(intervals)
    assert failed == 0 and tried > 0


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    held = []
    for _ in range(120):
        found = mean_with_interval(random.random(80) < 0.7)
        held.append(found.low <= 0.7 <= found.high)
    assert 0.87 <= np.mean(held) <= 1.0


def test_examples_of_one_group_say_less():
    random = np.random.default_rng(1)
    of_person = random.normal(0, 1, 50)
    values, people = np.repeat(of_person, 20), np.repeat(np.arange(50), 20)
    alone, grouped = mean_with_interval(values), mean_with_interval(values, people)
    assert grouped.value == pytest.approx(alone.value)
    assert (grouped.high - grouped.low) > 3 * (alone.high - alone.low)


def test_all_right_still_has_a_width():
    found = mean_with_interval(np.ones(20), bounds=FRACTION_BOUNDS)
    assert found.value == found.high == 1.0 and 0.80 < found.low < 0.90
    grouped = mean_with_interval(np.ones(20), np.repeat([0, 1], 10), bounds=FRACTION_BOUNDS)
    assert grouped.low < 0.5
    none = mean_with_interval(np.zeros(20), bounds=FRACTION_BOUNDS)
    assert none.low == 0.0 and none.high == pytest.approx(1 - found.low)


def test_equal_numbers_that_are_no_shares_have_no_width():
    for value in (0.0, 1.0, 2.5):
        found = mean_with_interval(np.full(40, value))
        assert found.low == found.high == found.value == value


def test_a_difference_of_shares_without_a_change_may_go_either_way():
    found = mean_with_interval(np.zeros(20), bounds=DIFFERENCE_BOUNDS)
    assert found.low == -found.high and found.high == pytest.approx(0.161, abs=1e-3)
    worse = mean_with_interval(-np.ones(20), bounds=DIFFERENCE_BOUNDS)
    assert worse.low == -1.0 and worse.high == pytest.approx(-0.839, abs=1e-3)


def test_missing_values_are_left_out_and_nothing_gives_nothing():
    assert mean_with_interval([1.0, np.nan, 0.0]).count == 2
    assert np.isnan(mean_with_interval([]).value)
    one = mean_with_interval([3.0])
    assert one.value == 3.0 and np.isnan(one.low)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(2).normal(size=100)
    assert mean_with_interval(values) == mean_with_interval(values)
    assert mean_with_interval(values) != mean_with_interval(values, seed=1)
