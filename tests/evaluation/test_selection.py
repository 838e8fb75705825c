"""Rules that choose what to label next, on clusters whose classes are known."""

import numpy as np
import pytest

from tf_image_classification.evaluation.probe import fit_probe, probe_space
from tf_image_classification.evaluation.selection import (
    AUTO,
    DIVERSE,
    MARGIN,
    RANDOM,
    RULES,
    TYPICAL,
    UNLABELLED,
    choose,
    rule_for,
)


def clusters(num_classes=5, of_each=30, seed=0, distance=6.0):
    random = np.random.default_rng(seed)
    centres = random.normal(0, distance / np.sqrt(20), [num_classes, 20])
    classes = np.repeat(np.arange(num_classes), of_each)
    return centres[classes] + random.normal(0, 0.3, [len(classes), 20]), classes


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("num_known", [0, 1, 40])
def test_every_rule_chooses_distinct_images_without_a_label_and_twice_the_same(rule, num_known):
    features, classes = clusters()
    labels = np.full(len(classes), UNLABELLED)
    known = np.random.default_rng(1).permutation(len(classes))[:num_known]
    labels[known] = classes[known]
    space = probe_space(features)
    first, second = (choose(rule, space, labels, num_classes=5, count=12, seed=3) for _ in "ab")
    assert first == second
    assert len(set(first.numbers)) == 12 and set(first.numbers).isdisjoint(known.tolist())
    assert len(first.scores) == len(first.reasons) == 12
    assert first.rule != AUTO


@pytest.mark.parametrize("rule", RULES)
def test_more_than_there_are_gives_all(rule):
    features, classes = clusters(of_each=4)
    labels = np.where(np.arange(len(classes)) % 2, classes, UNLABELLED)
    chosen = choose(rule, probe_space(features), labels, num_classes=5, count=99)
    assert sorted(chosen.numbers) == np.flatnonzero(labels == UNLABELLED).tolist()


def test_typical_images_reach_every_class_at_the_first_try():
    features, classes = clusters()
    labels = np.full(len(classes), UNLABELLED)
    chosen = choose(TYPICAL, probe_space(features), labels, num_classes=0, count=5)
    assert set(classes[chosen.numbers]) == set(range(5))


def test_typical_images_avoid_the_clusters_that_have_labels():
    features, classes = clusters()
    labels = np.where((classes == 2) & (np.arange(len(classes)) % 5 == 0), 0, UNLABELLED)
    chosen = choose(TYPICAL, probe_space(features), labels, num_classes=1, count=4)
    assert 2 not in classes[chosen.numbers[:4]]


def test_margin_asks_first_what_lies_between_two_classes():
    features, classes = clusters(num_classes=2, of_each=20)
    middle = features.reshape(2, 20, -1).mean(axis=(0, 1))
    features = np.concatenate([features, [middle]])
    labels = np.concatenate([np.where(np.arange(40) % 4, UNLABELLED, classes), [UNLABELLED]])
    chosen = choose(MARGIN, probe_space(features), labels, num_classes=2, count=1)
    assert chosen.numbers == [40]
    assert "{0}" in chosen.reasons[0] and "{1}" in chosen.reasons[0]


def test_diverse_does_not_ask_the_same_image_twice_as_margin_does():
    features, classes = clusters(num_classes=2, of_each=20)
    middle = features.reshape(2, 20, -1).mean(axis=(0, 1))
    copies = middle + np.random.default_rng(5).normal(0, 1e-3, [6, 20])
    labels = np.concatenate([np.where(np.arange(40) % 4, UNLABELLED, classes), [UNLABELLED] * 6])
    space = probe_space(np.concatenate([features, copies]))
    first = {
        rule: choose(rule, space, labels, num_classes=2, count=4).numbers
        for rule in (MARGIN, DIVERSE)
    }
    of_copies = {rule: sum(i >= 40 for i in numbers) for rule, numbers in first.items()}
    assert of_copies[MARGIN] == 4 and of_copies[DIVERSE] < 4


def test_auto_is_typical_below_five_labels_per_class_and_diverse_from_there_on():
    assert rule_for(0, 0) == rule_for(100, 1) == rule_for(49, 10) == TYPICAL
    assert rule_for(50, 10) == DIVERSE


def test_typical_images_beat_random_ones_with_five_labels_and_random_is_the_baseline():
    gains = []
    for seed in range(8):
        features, classes = clusters(seed=seed, distance=3.0)
        space = probe_space(features)
        right = {}
        for rule in (TYPICAL, RANDOM):
            labels = np.full(len(classes), UNLABELLED)
            chosen = choose(rule, space, labels, num_classes=0, count=5, seed=seed).numbers
            probe = fit_probe(space[chosen], classes[chosen], 5)
            right[rule] = (probe.predicted(space) == classes).mean()
        gains.append(right[TYPICAL] - right[RANDOM])
    assert np.mean(gains) > 0.1


def test_a_probe_of_one_class_predicts_it_and_absent_classes_get_no_probability():
    space = probe_space(clusters()[0])
    probe = fit_probe(space[:4], np.full(4, 2), 5)
    assert (probe.predicted(space) == 2).all()
    assert probe.probabilities(space)[:, [0, 1, 3, 4]].max() == 0
