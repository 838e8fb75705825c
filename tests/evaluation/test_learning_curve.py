"""Learning curves and forecasts, against truths that are known."""

import numpy as np
import pytest

from evaluation.test_selection import clusters
from tf_image_classification.evaluation.learning_curve import (
    LearningCurve,
    class_curve,
    forecast,
    learning_curve,
)
from tf_image_classification.evaluation.probe import fit_probe, probe_space


def drawn_curve(seed, error, count=400):
    """A curve whose examples are judged by coins that the true error weights."""
    sizes = 320 / 2.0 ** (np.arange(6)[::-1] / 2)
    chance = np.random.default_rng(seed).random(count)
    hits = (chance > error(sizes)[:, None]).astype(float)
    return LearningCurve(sizes, hits, np.ones(hits.shape))


@pytest.mark.parametrize(
    "error",
    [
        lambda n: 0.1 + 2.0 * n**-0.5,
        lambda n: 0.02 + 1.2 * n**-0.3,
        lambda n: 0.2 + 0 * n,
        lambda n: 8.0 * n**-0.8,
    ],
)
def test_the_interval_holds_the_truth_of_a_power_law(error):
    held = held_gain = 0
    for seed in range(40):
        found = forecast(drawn_curve(seed, error), now=400, then=1600)
        low, high = 1 - error(np.array([400.0, 1600.0]))
        held += found.then.low <= high <= found.then.high
        held_gain += found.gain.low <= high - low <= found.gain.high
    assert held >= 32 and held_gain >= 32


def test_intervals_grow_with_the_distance_and_shrink_with_the_examples():
    curve = drawn_curve(0, lambda n: 0.1 + 2.0 * n**-0.5)
    widths = [found.high - found.low for then in (500, 800, 1600)
              for found in [forecast(curve, now=400, then=then).then]]  # fmt: skip
    assert widths == sorted(widths)
    many = drawn_curve(0, lambda n: 0.1 + 2.0 * n**-0.5, count=8000)
    one = forecast(many, now=400, then=800).now
    assert one.high - one.low < widths[0]


def test_a_curve_has_every_example_judged_out_of_fold_and_is_the_same_twice():
    features, classes = clusters(distance=1.5)
    space = probe_space(features)
    curve = learning_curve(space, classes, num_classes=5)
    assert (curve.denominators == 4).all() and curve.sizes[-1] == 120
    assert np.array_equal(
        curve.numerators, learning_curve(space, classes, num_classes=5).numerators
    )
    assert 0 < curve.scores[0] <= curve.scores[-1] <= 1
    inside = (fit_probe(space, classes, 5).predicted(space) == classes).mean()
    assert curve.scores[-1] < inside


def test_labels_without_information_stay_at_chance():
    features, classes = clusters(num_classes=2, of_each=60)
    shuffled = np.random.default_rng(0).permutation(classes)
    curve = learning_curve(probe_space(features), shuffled, num_classes=2)
    found = forecast(curve, now=120, then=480)
    assert found.then.low < 0.5 < found.then.high


def test_the_curve_of_a_class_is_its_f1_and_rises_with_its_labels():
    features, classes = clusters(distance=1.5, of_each=40)
    curve = class_curve(probe_space(features), classes, 3, num_classes=5)
    assert curve.sizes[-1] == 32 and curve.sizes[0] == pytest.approx(11)
    assert curve.scores[0] < curve.scores[-1]
    called = curve.denominators - 2 * (classes == 3)
    precision = curve.numerators.sum(axis=1) / 2 / called.sum(axis=1)
    recall = curve.numerators.sum(axis=1) / 4 / (classes == 3).sum()
    assert curve.scores == pytest.approx(2 * precision * recall / (precision + recall))
