"""Metrics of labels with several classes, against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as reference

from tf_image_classification import metrics
from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.merging import merge_all


def made_up(n=200, num_classes=4):
    rng = np.random.default_rng(3)
    scores = rng.random([n, num_classes])
    labels = (rng.random([n, num_classes]) < scores * [0.9, 0.5, 0.2, 0.1]).astype(int)
    return labels, scores


def in_batches(metric, labels, predictions, **options):
    parts = [
        metric(labels[i : i + 37], predictions[i : i + 37], **options)
        for i in range(0, len(labels), 37)
    ]
    return merge_all([{"m": part} for part in parts])["m"].result()


def test_metrics_of_batches_are_those_of_scikit_learn():
    labels, scores = made_up()
    predicted = scores > 0.5
    assert in_batches(metrics.exact_match, labels, predicted) == pytest.approx(
        reference.accuracy_score(labels, predicted)
    )
    for average in ("macro", "micro"):
        assert in_batches(
            metrics.multilabel_f1, labels, predicted, average=average
        ) == pytest.approx(reference.f1_score(labels, predicted, average=average))
    assert in_batches(metrics.mean_average_precision, labels, scores) == pytest.approx(
        reference.average_precision_score(labels, scores), abs=1e-12
    )


def test_a_class_without_examples_is_left_out_of_the_means():
    labels, scores = made_up()
    labels[:, 3] = 0
    found = metrics.mean_average_precision(labels, scores).result()
    three = metrics.mean_average_precision(labels[:, :3], scores[:, :3]).result()
    assert found == pytest.approx(three)
    nothing = np.zeros([5, 2], int)
    assert np.isnan(metrics.multilabel_f1(nothing, nothing).result())
    assert np.isnan(metrics.mean_average_precision(nothing, nothing * 0.5).result())


def test_many_equal_probabilities_are_ties_and_small_ones_are_told_apart():
    labels, scores = made_up()
    small = (scores * 1e-9).astype(np.float32)  # all in one bin of a histogram
    rounded = np.round(scores, 1)
    for given in (small, rounded, np.full_like(scores, 0.5)):
        assert in_batches(metrics.mean_average_precision, labels, given) == pytest.approx(
            reference.average_precision_score(labels, given), abs=1e-12
        )


def test_within_counts_the_edge():
    assert metrics.within([30, 30, 30], [25, 35.1, 30], 5).result() == pytest.approx(2 / 3)
    with pytest.raises(SpecError, match="tolerance"):
        metrics.within([1], [1], -1)


def test_what_is_no_decision_is_refused():
    with pytest.raises(SpecError, match="not 0 or 1"):
        metrics.exact_match([[1, 0]], [[0.5, 0.2]])
    with pytest.raises(SpecError, match=r"\[2, 2\].*\[2, 3\]"):
        metrics.multilabel_f1(np.ones([2, 2]), np.ones([2, 3]))
    with pytest.raises(SpecError, match="average"):
        metrics.multilabel_f1([[1]], [[1]], average="weighted")
