"""``StreamingMetric`` and ``merge_all`` by themselves."""

import dataclasses
import pickle

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import metrics
from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.merging import StreamingMetric, merge_all


def share(hits, count):
    return StreamingMetric({"hits": hits, "count": count}, lambda s: s["hits"] / s["count"])


def test_a_metric_of_ones_own_merges_its_sums():
    merged = share(1, 4).merge(share(tf.constant(2), np.int32(4)))
    assert merged.result() == 0.375
    assert merged.sums["hits"].dtype == np.int64
    assert share(np.float32(0.5), 1).sums["hits"].dtype == np.float64
    assert share(np.int8(1), True).sums["hits"].dtype == np.int64


def test_merging_leaves_both_parts_as_they_were():
    a, b = metrics.confusion_matrix([0], [1], 2), metrics.confusion_matrix([1], [1], 2)
    a.merge(b)
    assert a.result().sum() == b.result().sum() == 1


def test_sums_do_not_change_with_the_array_they_were_given():
    for dtype in (np.float64, np.int64):
        given = np.array([1, 2], dtype)
        metric = StreamingMetric({"total": given}, lambda s: s["total"])
        given += 1
        np.testing.assert_array_equal(metric.result(), [1, 2])


def test_saved_sums_continue_where_they_were():
    labels, predictions = [0, 1, 1, 0, 1], [0, 1, 0, 0, 1]
    saved = pickle.loads(pickle.dumps(metrics.f1(labels[:2], predictions[:2]).sums))
    rest = metrics.f1(labels[2:], predictions[2:])
    resumed = dataclasses.replace(rest, sums=saved).merge(rest)
    assert resumed.result() == metrics.f1(labels, predictions).result()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (metrics.mean([1.0]), ["accuracy", "mean"]),
        (metrics.top_k([0], [[1.0, 0.0]], k=1), ["accuracy", "top_k(k=1)"]),
    ],
)
def test_different_metrics_do_not_merge_and_both_are_named(other, words):
    with pytest.raises(SpecError) as caught:
        metrics.accuracy([0], [0]).merge(other)
    assert all(word in str(caught.value) for word in words)


def test_the_same_metric_with_other_options_does_not_merge():
    pairs = [
        (metrics.top_k([0], [[1.0, 0.0]], k=1), metrics.top_k([0], [[1.0, 0.0]], k=2)),
        (metrics.f1([0], [0]), metrics.f1([0], [0], positive_class=0)),
        (metrics.f1([0], [0]), metrics.recall([0], [0])),
        (metrics.confusion_matrix([0], [0], 2), metrics.confusion_matrix([0], [0], 3)),
        (metrics.auc([0], [0.5]), metrics.auc([0], [0.5], curve="PR")),
        (share(1, 2), share([1, 2], 2)),
        (share(1, 2), StreamingMetric({"hits": 1}, lambda s: s["hits"])),
    ]
    for a, b in pairs:
        with pytest.raises(SpecError, match="differ"):
            a.merge(b)


def test_a_sum_that_is_no_number_is_refused():
    with pytest.raises(SpecError, match="'hits'"):
        share("many", 2)


def test_all_batches_merge_by_name():
    batches = ({"a": share(i, 10), "b": share(1, 10)} for i in range(5))
    merged = merge_all(batches)
    assert merged["a"].result() == pytest.approx(10 / 50)
    assert merged["b"].result() == pytest.approx(5 / 50)
    assert merge_all([]) == {}


def test_other_names_in_a_later_batch_are_refused():
    with pytest.raises(SpecError, match="one has accuracy, another accuracy, auc"):
        merge_all([{"accuracy": share(1, 2)}, {"accuracy": share(1, 2), "auc": share(1, 2)}])


def test_a_conflict_names_the_metric():
    with pytest.raises(SpecError, match="Metric 'quality'"):
        merge_all([{"quality": share(1, 2)}, {"quality": metrics.mean([1.0])}])


def test_a_value_in_place_of_a_metric_is_refused():
    for value in (0.5, (0.5, None), tf.constant(0.5)):
        with pytest.raises(SpecError, match=r"'accuracy'.*metrics\.bind"):
            merge_all([{"accuracy": value}])
