"""The distances, their choice and the limit, by arithmetic and by simulation."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from tf_image_classification.evaluation import unknown
from tf_image_classification.evaluation.unknown import (
    MAHALANOBIS,
    NEIGHBOURS,
    auroc,
    auroc_with_interval,
    choose_distance,
    conformal_limit,
    fit_distances,
)
from tf_image_classification.evaluation.unknown_detector import Detector, UnknownResult


def clusters(random, classes, per_class, width=40, spread=1.0):
    """Features around a mean for each class, and the classes."""
    means = np.random.default_rng(0).normal(size=[classes, width])
    numbers = np.repeat(np.arange(classes), per_class)
    return means[numbers] + spread * random.normal(size=[len(numbers), width]), numbers


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_neighbours_are_the_nearest_training_examples_where_all_directions_are_kept():
    random = np.random.default_rng(0)
    features, classes = clusters(random, 4, 50)
    others = random.normal(size=[30, 40])
    found = fit_distances(features, classes)[NEIGHBOURS](others)
    apart = unit(others)[:, None] - unit(features)[None]
    np.testing.assert_allclose(found, np.linalg.norm(apart, axis=2).min(axis=1), rtol=1e-4)


def test_mahalanobis_is_the_distance_to_the_nearest_mean_by_the_shared_covariance():
    from sklearn.covariance import LedoitWolf

    random = np.random.default_rng(1)
    features, classes = clusters(random, 4, 50)
    exact = unit(features)
    means = np.stack([exact[classes == k].mean(axis=0) for k in range(4)])
    # In the principal directions, where the package shrinks it.
    _, _, rows = np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)
    covariance = LedoitWolf(assume_centered=True).fit((exact - means[classes]) @ rows.T).covariance_
    precision = np.linalg.inv(covariance * 200 / 196)
    others = unit(random.normal(size=[30, 40]))
    apart = (others[:, None] - means[None]) @ rows.T
    expected = np.sqrt(np.einsum("nkd,de,nke->nk", apart, precision, apart).min(axis=1))
    found = fit_distances(features, classes)[MAHALANOBIS](others)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("name", [NEIGHBOURS, MAHALANOBIS])
def test_what_lies_outside_the_kept_directions_counts(name):
    random = np.random.default_rng(2)
    features, classes = clusters(random, 3, 100, width=200)
    features[:, 100:] = 0
    beside = features[:20].copy()
    beside[:, 150] = 8
    distance = fit_distances(features, classes)[name]
    assert distance.basis.shape == (200, 64)
    assert distance(beside).min() > distance(features).max()


def test_more_examples_than_centres_are_clustered_and_the_distances_stay_alike():
    random = np.random.default_rng(3)
    features, classes = clusters(random, 5, 300)
    new, _ = clusters(random, 5, 40)
    distance = fit_distances(features, classes)[NEIGHBOURS]
    assert len(distance.centres) <= unknown.MAX_CENTRES
    exact = np.linalg.norm(unit(new)[:, None] - unit(features)[None], axis=2).min(axis=1)
    assert stats.spearmanr(distance(new), exact).statistic > 0.7


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("count", [19, 40, 400])
def test_known_pictures_are_refused_at_most_at_the_rate(rate, count):
    """The mean over many calibrations is below the rate; the interval holds 95 % of them."""
    random = np.random.default_rng(4)
    limits = [conformal_limit(random.normal(size=count), rate) for _ in range(2_000)]
    if count < 1 / rate - 1:
        assert not any(limit.exists for limit in limits)
        assert limits[
            0
        ].note == f"a rate of {rate:g} needs {math.ceil(1 / rate - 1)} examples, " + (
            f"there are {count}"
        )
        return
    refused = stats.norm.sf([limit.value for limit in limits])
    assert refused.mean() <= rate + 3 * refused.std() / np.sqrt(len(refused))
    inside = np.mean(
        [limit.low <= r <= limit.high for limit, r in zip(limits, refused, strict=True)]
    )
    assert 0.935 <= inside <= 0.965


def test_the_choice_between_two_distances_by_the_same_examples_keeps_the_rate():
    """As where unknown examples choose: half of the evaluation examples take part in it."""
    random = np.random.default_rng(5)
    refused = []
    for _ in range(1_000):
        known, away = random.normal(size=[60, 2]), random.normal(1, size=[20, 2])
        best = int(np.argmax([auroc(away[:, i], known[::2, i]) for i in range(2)]))
        refused.append(stats.norm.sf(conformal_limit(known[:, best], 0.05).value))
    assert np.mean(refused) <= 0.05 + 3 * np.std(refused) / np.sqrt(len(refused))


def test_equal_distances_are_not_refused():
    limit = conformal_limit(np.ones(100), 0.05)
    assert limit.value == 1.0 and not np.any(np.ones(100) > limit.value)


def test_a_rate_of_0_gives_no_limit():
    limit = conformal_limit(np.arange(100.0), 0.0)
    assert not limit.exists and limit.note == "unknown_rate is 0"


def test_the_distance_is_chosen_that_finds_left_out_classes():
    """Classes of one direction and very different lengths of their scatter: covariance counts."""
    random = np.random.default_rng(6)
    numbers = np.repeat(np.arange(6), 80)
    means = np.zeros([6, 30])
    means[:, :6] = 3 * np.eye(6)
    features = means[numbers]
    features[:, 6:9] += 6 * random.normal(size=[480, 3])  # large and the same for all classes
    features[:, :6] += 0.3 * random.normal(size=[480, 6])
    features[:, 9:] += 0.1 * random.normal(size=[480, 21])
    choice = choose_distance(features, numbers)
    assert choice.name == MAHALANOBIS
    assert choice.areas[MAHALANOBIS] > choice.areas[NEIGHBOURS] + 0.02
    assert choice.protocol == "classes left out of the training set"


@pytest.mark.parametrize(
    ("classes", "protocol"),
    [
        (None, "the only one that needs no classes"),
        (np.zeros(50, int), "with a single class no class can be left out"),
        (np.array([0, 1] + 48 * [2]), None),
    ],
)
def test_few_classes(classes, protocol):
    features = np.random.default_rng(7).normal(size=[50, 12])
    found = fit_distances(features, classes)
    assert all(np.isfinite(distance(features)).all() for distance in found.values())
    assert (MAHALANOBIS in found) == (classes is not None)
    choice = choose_distance(features, classes)
    assert choice.name in found
    assert protocol is None or choice.protocol == protocol


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_examples(count):
    features = np.random.default_rng(8).normal(size=[count, 6])
    found = fit_distances(features, np.arange(count) % 2)
    assert found.keys() >= {NEIGHBOURS}
    for distance in found.values():
        assert np.isfinite(distance(np.zeros([3, 6]))).all()
    assert fit_distances(features[:0], None) == {}


def test_the_interval_of_an_area_holds_the_true_one():
    random = np.random.default_rng(9)
    true = stats.norm.cdf(1 / np.sqrt(2))
    inside = 0
    for _ in range(400):
        found = auroc_with_interval(random.normal(1, size=40), random.normal(size=60))
        inside += found.low <= true <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def test_an_area_at_its_end_has_an_interval_too():
    found = auroc_with_interval(np.arange(10, 30), np.arange(10))
    assert found.value == 1 and 0.6 < found.low < 0.8 and found.high == 1
    assert np.isnan(auroc_with_interval(np.arange(3), np.arange(50)).low)


def test_a_detector_is_the_same_after_it_was_stored():
    random = np.random.default_rng(10)
    features, classes = clusters(random, 3, 40)
    distances = fit_distances(features, classes)
    choice = choose_distance(features, classes)
    known = distances[choice.name](clusters(random, 3, 10)[0])
    limit = conformal_limit(known, 0.05)
    result = UnknownResult(3, auroc_with_interval(known, known), None)
    detector = Detector(
        7,
        "abc",
        distances,
        choice,
        limit,
        limit.value,
        120,
        "t",
        np.arange(3, dtype=np.uint64),
        1.0,
        "d",
        np.arange(30),
        known,
        result,
    )
    again = Detector.from_files(detector.facts(), detector.arrays())
    assert again.facts() == detector.facts() and again.fingerprint() == detector.fingerprint()
    np.testing.assert_array_equal(again.scores(features), detector.scores(features))
    assert again.are_unknown(np.array([0.5, 1.5])).tolist() == [False, True]
    without = dataclasses.replace(detector, limit=conformal_limit(known, 0.0))
    again = Detector.from_files(without.facts(), without.arrays())
    assert not again.limit.exists and again.are_unknown(np.ones(2)) is None
    assert again.fingerprint() == without.fingerprint()
