"""What the metrics of classes do at the edges; the formulas are in test_streaming_metrics."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
import tensorflow as tf

from tf_image_classification import metrics
from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.class_metrics import MIN_PROBABILITY


def test_of_equal_scores_the_lower_class_comes_first_so_that_top_1_is_the_accuracy():
    scores = np.array([[0.5, 0.5, 0.5, 0.1], [0.9, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]])
    expected = {1: [[0], [0], [0]], 2: [[0, 1], [0, 1], [0, 1]], 3: [[0, 1, 2]] * 3}
    for k, of_rows in expected.items():
        for label in range(4):
            hits = [label in row for row in of_rows]
            found = metrics.top_k([label] * 3, scores, k).result()
            assert found == pytest.approx(np.mean(hits))
    nothing_known = np.zeros([4, 4])
    assert metrics.top_k(range(4), nothing_known, 1).result() == 0.25
    assert metrics.accuracy(range(4), nothing_known.argmax(axis=1)).result() == 0.25


def test_an_example_with_a_score_that_is_not_finite_is_no_hit():
    scores = [[math.nan, 0.1, 0.2, 0.3], [0.0, math.inf, 0.2, 0.3], [1.0, 2.0, 3.0, 4.0]]
    assert metrics.top_k([3, 1, 3], scores, 4).result() == pytest.approx(1 / 3)


def test_k_below_one_is_refused():
    with pytest.raises(SpecError, match="k is 0"):
        metrics.top_k([0], [[1.0, 0.0]], k=0)


def test_probabilities_in_place_of_classes_are_refused():
    with pytest.raises(SpecError, match=r"predictions hold 0\.3"):
        metrics.accuracy([0, 1], [0.3, 0.9])
    with pytest.raises(SpecError, match="predictions hold nan"):
        metrics.accuracy([0, 1], [0, math.nan])


def test_a_class_out_of_range_is_named():
    with pytest.raises(SpecError, match="labels hold 3, expected class numbers from 0 to 2"):
        metrics.confusion_matrix([0, 3], [0, 1], 3)
    with pytest.raises(SpecError, match="predictions hold -1"):
        metrics.mean_per_class_accuracy([0, 1], [0, -1], 3)
    with pytest.raises(SpecError, match="labels hold 4"):
        metrics.log_loss([4], [[0.5, 0.5]])
    with pytest.raises(SpecError, match="labels hold 2"):
        metrics.precision([0, 2], [0, 1])


def test_class_names_are_refused():
    with pytest.raises(SpecError, match="Class names are class numbers"):
        metrics.accuracy(["cat"], ["dog"])
    with pytest.raises(SpecError, match="Class names are class numbers"):
        metrics.accuracy(tf.constant(["cat"]), tf.constant(["dog"]))


def test_an_example_of_weight_zero_may_hold_anything():
    labels, predictions, weights = [0, -1, 1], [0, 1, 0], [1, 0, 1]
    assert metrics.accuracy(labels, predictions, weights).result() == 0.5
    assert metrics.f1(labels, predictions, weights).result() == 0.0
    probabilities = [[0.5, 0.5], [math.nan, 7.0], [0.5, 0.5]]
    found = metrics.log_loss(labels, probabilities, weights).result()
    assert found == pytest.approx(math.log(2))


def test_a_certain_and_wrong_prediction_costs_a_finite_loss():
    found = metrics.log_loss([0], [[0.0, 1.0]]).result()
    assert found == pytest.approx(-math.log(MIN_PROBABILITY))
    assert metrics.log_loss([1], [[0.0, 1.0]]).result() == 0.0


def test_logits_in_place_of_probabilities_are_refused():
    for row in ([2.0, -1.0], [3.0, 4.0], [0.2, 0.2], [math.inf, 0.0]):
        with pytest.raises(SpecError, match="softmax"):
            metrics.log_loss([0], [row])


def test_a_probability_that_is_not_a_number_makes_the_loss_nan():
    assert math.isnan(metrics.log_loss([0, 0], [[math.nan, 0.5], [0.5, 0.5]]).result())


def test_softmax_in_bfloat16_is_accepted():
    logits = np.random.default_rng(0).normal(size=(50, 1000))
    probabilities = tf.nn.softmax(tf.constant(logits, tf.bfloat16))
    assert metrics.log_loss(np.zeros(50, int), probabilities).result() > 0


def test_a_class_that_occurs_nowhere_is_nan_and_not_averaged():
    labels, predictions = [0, 0, 1], [0, 1, 1]
    options = {"num_classes": 4}
    each = metrics.f1(labels, predictions, average=None, **options).result()
    np.testing.assert_allclose(each, [2 / 3, 2 / 3, math.nan, math.nan])
    macro = metrics.f1(labels, predictions, average="macro", **options).result()
    assert macro == pytest.approx(sk.f1_score(labels, predictions, average="macro"))
    assert math.isnan(metrics.precision([0, 0], [0, 0]).result())


@pytest.mark.parametrize("function", [metrics.precision, metrics.recall, metrics.f1])
def test_options_that_do_not_fit_each_other_are_refused(function):
    for options in (
        {"num_classes": 3},
        {"positive_class": 2},
        {"average": "macro"},
        {"average": None},
        {"average": "macro", "num_classes": 3, "positive_class": 0},
        {"average": "macros", "num_classes": 3},
        {"average": "macro", "num_classes": 1},
    ):
        with pytest.raises(SpecError, match=function.__name__):
            function([0], [0], **options)
    assert function([1], [1], num_classes=2).result() == 1.0
