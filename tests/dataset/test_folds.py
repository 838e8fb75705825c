"""Folds: each example is held out once, and every training has each class."""

import collections

import numpy as np
import pytest

from tf_image_classification.dataset.folds import NEVER, divide_into_folds, folds_of_groups
from tf_image_classification.errors import ConfigError


def names(count):
    return [f"{i}.jpg" for i in range(count)]


def test_each_class_is_divided_evenly_whatever_the_sequence():
    ids, classes = names(103), [{"rare" if i < 13 else "usual"} for i in range(103)]
    folds = divide_into_folds(ids, classes, 5)
    for kind, most in (("rare", 3), ("usual", 18)):
        counts = collections.Counter(
            fold for fold, own in zip(folds, classes, strict=True) if kind in own
        )
        assert (set(counts) == {1, 2, 3, 4, 5} and set(counts.values()) == {most - 1, most}) or (
            set(counts.values()) == {most}
        )
    assert max(collections.Counter(folds).values()) - min(collections.Counter(folds).values()) <= 1
    turned = divide_into_folds(ids[::-1], classes[::-1], 5)
    assert turned[::-1] == folds
    assert divide_into_folds(ids, classes, 5, seed=1) != folds


def test_a_class_of_one_is_always_trained_and_one_of_two_is_on_both_sides():
    classes = [{"one"}, {"two"}, {"two"}, *[{"many"}] * 20]
    folds = divide_into_folds(names(23), classes, 5)
    assert folds[0] == NEVER and folds[1] != folds[2] and NEVER not in folds[1:]


def test_too_many_folds_are_rejected_with_the_number_that_fits():
    with pytest.raises(ConfigError, match="only 4 examples. Give --folds 4 or fewer"):
        divide_into_folds(names(4), [{"a"}] * 4, 5)
    with pytest.raises(ConfigError, match="only 2 groups of examples that stay together"):
        divide_into_folds(names(4), [{"a"}] * 4, 3, [["x"], ["x"], ["y"], ["y"]])


def test_units_stay_together_and_no_fold_holds_out_a_whole_class():
    random = np.random.default_rng(0)
    for _ in range(60):
        count, num_folds = int(random.integers(8, 60)), int(random.integers(2, 5))
        classes = [set(random.choice(list("abcd"), random.integers(3))) for _ in range(count)]
        ties = [[str(random.integers(12))] for _ in range(count)]
        check_folds(names(count), classes, ties, num_folds)


def check_folds(ids, classes, ties, num_folds):
    examples = [(own, tie) for own, (tie,) in zip(classes, ties, strict=True)]
    try:
        folds = divide_into_folds(ids, classes, num_folds, ties)
    except ConfigError:
        assert len({tie for _, tie in examples}) < num_folds
        return
    homes = collections.defaultdict(set)
    for fold, (_, tie) in zip(folds, examples, strict=True):
        homes[tie].add(fold)
    assert all(len(found) == 1 for found in homes.values())
    of_class = collections.defaultdict(set)
    for fold, own in zip(folds, classes, strict=True):
        for name in own:
            of_class[name].add(fold)
    assert all(NEVER in found or len(found) > 1 for found in of_class.values())


def test_each_group_is_a_fold_except_what_only_it_has():
    groups = ["10", "9", "9", "10", "", "9"]
    classes = [{"a"}, {"a"}, {"b"}, {"b"}, {"a"}, {"only"}]
    assert folds_of_groups(groups, classes) == ([2, 1, 1, 2, NEVER, NEVER], ["9", "10"])
    with pytest.raises(ConfigError, match="1 group has a name"):
        folds_of_groups(["x", "x"], [{"a"}, {"b"}])
