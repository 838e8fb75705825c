"""Keras metrics, bound batch by batch, equal the Keras metric run over everything."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_image_classification import metrics
from tf_image_classification.errors import SpecError
from tf_image_classification.metrics.merging import merge_all

NUM_CLASSES = 3


def make_columns(n, seed):
    rng = np.random.default_rng(seed)
    odds = rng.random((n, NUM_CLASSES)).astype(np.float32) + 0.05
    classes = rng.integers(0, NUM_CLASSES, n)
    return {
        "classes": classes,
        "one_hot": np.eye(NUM_CLASSES, dtype=np.float32)[classes],
        "probabilities": odds / odds.sum(axis=1, keepdims=True),
        "predicted": rng.integers(0, NUM_CLASSES, n),
        "binary": rng.integers(0, 2, n),
        "share": rng.random(n).astype(np.float32),
        "values": rng.normal(size=n).astype(np.float32),
        "weights": rng.random(n).astype(np.float32),
    }


CASES = {
    "AUC": (keras.metrics.AUC, ("binary", "share")),
    "AUC multi-label": (
        lambda: keras.metrics.AUC(20, multi_label=True),
        ("one_hot", "probabilities"),
    ),
    "Precision": (keras.metrics.Precision, ("binary", "share")),
    "Recall": (lambda: keras.metrics.Recall(thresholds=[0.3, 0.7]), ("binary", "share")),
    "F1Score": (keras.metrics.F1Score, ("one_hot", "probabilities")),
    "F1Score macro": (
        lambda: keras.metrics.F1Score(average="macro", threshold=0.4),
        ("one_hot", "probabilities"),
    ),
    "MeanIoU": (lambda: keras.metrics.MeanIoU(NUM_CLASSES), ("classes", "predicted")),
    "CategoricalAccuracy": (keras.metrics.CategoricalAccuracy, ("one_hot", "probabilities")),
    "SparseCategoricalAccuracy": (
        keras.metrics.SparseCategoricalAccuracy,
        ("classes", "probabilities"),
    ),
    "Mean": (keras.metrics.Mean, ("values",)),
    "Sum": (keras.metrics.Sum, ("values",)),
    "RootMeanSquaredError": (keras.metrics.RootMeanSquaredError, ("values", "share")),
    "SensitivityAtSpecificity": (
        lambda: keras.metrics.SensitivityAtSpecificity(0.5),
        ("binary", "share"),
    ),
    "function": (
        lambda: keras.metrics.MeanMetricWrapper(lambda a, b: tf.abs(a - b)),
        ("values", "share"),
    ),
}


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("name", CASES)
@settings(deadline=None, max_examples=6)
@given(
    n=st.integers(1, 30),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    is_weighted=st.booleans(),
    is_one_object=st.booleans(),
)
def test_batches_equal_the_keras_metric_over_everything(name, n, cuts, is_weighted, is_one_object):
    make, keys = CASES[name]
    columns = make_columns(n, seed=n)
    if name == "MeanIoU":  # it counts in whole numbers, and warns of weights that are not
        columns["weights"] = np.arange(n) % 3
    whole = make()
    options = {"sample_weight": columns["weights"]} if is_weighted else {}
    whole.update_state(*(columns[key] for key in keys), **options)
    shared = make() if is_one_object else None
    parts = []
    edges = [0, *sorted(min(cut, n) for cut in cuts), n]
    for a, b in itertools.pairwise(edges):
        options = {"sample_weight": columns["weights"][a:b]} if is_weighted else {}
        batch = [tf.constant(columns[key][a:b]) for key in keys]
        parts.append({"m": metrics.bind(shared or make(), *batch, **options)})
    found = merge_all(parts[::-1])["m"].result()
    np.testing.assert_allclose(found, whole.result(), rtol=1e-5, atol=1e-6)


@pytest.mark.slow_after(4)
@pytest.mark.exhaustive_after(7)
@pytest.mark.parametrize("name", CASES)
def test_without_any_example_the_result_is_nan(name):
    make, keys = CASES[name]
    columns = make_columns(5, seed=0)
    empty = metrics.bind(make(), *(columns[key][:0] for key in keys))
    assert math.isnan(empty.merge(empty).result())
    full = metrics.bind(make(), *(columns[key] for key in keys))
    for merged in (empty.merge(full), full.merge(empty)):
        np.testing.assert_array_equal(merged.result(), full.result())


def test_the_metric_is_left_reset():
    metric = keras.metrics.Mean()
    metric.update_state([7.0])
    bound = metrics.bind(metric, [1.0, 2.0])
    assert metric.count.numpy() == 0
    assert bound.result() == 1.5
    assert metric.count.numpy() == 0
    assert bound.result() == 1.5


def test_counts_beyond_float32_are_kept():
    metric = metrics.bind(keras.metrics.Sum(), [1.0])
    for _ in range(30):
        metric = metric.merge(metric)
    one = metrics.bind(keras.metrics.Sum(), [1.0])
    assert metric.merge(one).sums["variable_0"] == 2.0**30 + 1


class Largest(keras.metrics.Metric):
    def __init__(self):
        super().__init__()
        self.value = self.add_weight(shape=(), initializer="zeros")

    def update_state(self, values):
        self.value.assign(tf.maximum(self.value, tf.reduce_max(values)))

    def result(self):
        return self.value


class PerBatchMean(keras.metrics.Mean):
    def update_state(self, values):
        super().update_state(tf.reduce_mean(values))


class Stateless(keras.metrics.Metric):
    def update_state(self, values):
        self.values = values

    def result(self):
        return self.values


class TwoResults(keras.metrics.Mean):
    def result(self):
        return {"mean": super().result(), "count": self.count}


@pytest.mark.parametrize("make", [Largest, PerBatchMean])
def test_a_metric_that_does_not_add_up_is_refused(make):
    with pytest.raises(SpecError, match=f"{make.__name__} cannot be merged"):
        metrics.bind(make(), [1.0, 2.0, 3.0])


def test_a_function_that_does_not_add_up_is_refused_after_one_that_does():
    wrap = keras.metrics.MeanMetricWrapper
    labels, predictions = [1.0, 2.0, 3.0], [1.0, 0.0, 3.5]
    metrics.bind(wrap(lambda a, b: tf.abs(a - b)), labels, predictions)
    with pytest.raises(SpecError, match="cannot be merged"):
        metrics.bind(wrap(lambda a, b: tf.reduce_max(a - b)), labels, predictions)


def test_a_batch_of_zeros_proves_nothing():
    metrics.bind(Largest(), [0.0, 0.0])
    with pytest.raises(SpecError, match="cannot be merged"):
        metrics.bind(Largest(), [1.0, 2.0])


def test_values_that_are_not_finite_are_passed_on():
    assert math.isnan(metrics.bind(keras.metrics.Mean(), [1.0, math.nan, 2.0]).result())
    assert metrics.bind(keras.metrics.Mean(), [1.0, math.inf, 2.0]).result() == math.inf


def test_a_metric_without_state_or_with_several_results_is_refused():
    with pytest.raises(SpecError, match="no variables"):
        metrics.bind(Stateless(), [1.0, 2.0])
    with pytest.raises(SpecError, match="a dictionary of results"):
        metrics.bind(TwoResults(), [1.0, 2.0]).result()


def test_what_is_no_metric_object_is_refused():
    with pytest.raises(SpecError, match="expected a Keras metric object"):
        metrics.bind(keras.metrics.Mean, [1.0])


def test_metrics_with_other_options_do_not_merge_and_other_names_do():
    values = ([0, 1], [0.2, 0.8])
    a = metrics.bind(keras.metrics.Precision(thresholds=0.5), *values)
    b = metrics.bind(keras.metrics.Precision(thresholds=0.9), *values)
    with pytest.raises(SpecError, match="Precision"):
        a.merge(b)
    metrics.bind(keras.metrics.Mean(name="x"), [1.0]).merge(
        metrics.bind(keras.metrics.Mean(name="y"), [1.0])
    )


def test_different_numbers_of_examples_are_refused():
    with pytest.raises(SpecError, match=r"\[\[3\], \[2\]\]"):
        metrics.bind(keras.metrics.Precision(), [0, 1, 1], [0.5, 0.5])


def test_symbolic_tensors_are_refused():
    @tf.function
    def traced(values):
        metrics.bind(keras.metrics.Mean(), values)
        return values

    with pytest.raises(SpecError, match="eagerly"):
        traced(tf.constant([1.0]))
    with pytest.raises(SpecError, match="eagerly"):
        metrics.bind(keras.metrics.Mean(), keras.Input((1,)))
