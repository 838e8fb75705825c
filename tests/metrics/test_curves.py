"""The areas keep their stated bound against scikit-learn's exact ones."""

import functools
import math

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_image_classification import metrics
from tf_image_classification.errors import SpecError
from tf_image_classification.metrics import curves, merging
from tf_image_classification.metrics.curves import bin_edges


def bound(metric, curve):
    """The docstring's bound, from the metric's histograms."""
    p, q = (metric.sums[key][0, ::-1].astype(float) for key in ("positive", "negative"))
    if curve == "ROC":
        return (p * q).sum() / (2 * p.sum() * q.sum())
    t, f = np.cumsum(p) - p, np.cumsum(q) - q
    used = p > 0
    p, q, t, f = p[used], q[used], t[used], f[used]
    least = np.divide(t, t + f + q, out=np.zeros_like(t), where=t + f + q > 0)
    return (p * ((t + p) / (t + p + f) - least)).sum() / p.sum()


EXACT = {"ROC": sk.roc_auc_score, "PR": sk.average_precision_score}
probabilities = st.one_of(
    st.floats(0, 1, width=32),
    st.floats(0.5, 0.5 + 2**-10, width=32),  # many in one bin
    st.floats(1 - 2**-17, 1, width=32),
)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("curve", EXACT)
@settings(deadline=None)
@given(rows=st.lists(st.tuples(st.booleans(), probabilities, st.sampled_from([0.5, 1.0, 3.0]))))
def test_the_error_is_within_the_stated_bound(curve, rows):
    rows = [(False, 0.5, 1.0), (True, 0.5, 1.0), *rows]
    labels, values, weights = (np.array(column) for column in zip(*rows, strict=True))
    for weight in (None, weights):
        metric = metrics.auc(labels, values, weight, curve=curve)
        exact = EXACT[curve](labels, values, sample_weight=weight)
        assert metric.result() == pytest.approx(exact, abs=1e-12)
        summed = metric.without_rows()
        assert abs(summed.result() - exact) <= bound(summed, curve) + 1e-12


@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0])
def test_unsure_and_confident_classifiers_are_resolved(scale):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 20_000)
    logits = scale * (labels * 1.5 + rng.normal(size=labels.size) - 0.75)
    values = (1 / (1 + np.exp(-logits))).astype(np.float32)
    roc = metrics.auc(labels, values).without_rows()
    assert roc.result() == pytest.approx(sk.roc_auc_score(labels, values), abs=2e-5)
    assert bound(roc, "ROC") < 0.005
    precision_recall = metrics.auc(labels, values, curve="PR").without_rows()
    expected = sk.average_precision_score(labels, values)
    assert precision_recall.result() == pytest.approx(expected, abs=5e-4)


def test_bins_are_as_narrow_as_stated():
    edges = bin_edges()
    assert (np.diff(edges) >= 0).all()
    assert np.diff([0.0, *edges, 1.0]).max() <= 1 / 2048
    inner = edges[(edges > 1e-7) & (edges < 1 - 1e-7)]
    odds = inner / (1 - inner)
    assert (odds[1:] / odds[:-1]).max() < 1.017


def test_a_model_that_cannot_tell_scores_one_half():
    assert metrics.auc([0, 1, 0, 1], [0.7] * 4).result() == 0.5


def test_the_ends_of_the_range_are_in_bins_of_their_own():
    assert metrics.auc([0, 1], [0.0, 1.0]).result() == 1.0
    assert metrics.auc([1, 0], [0.0, 1.0]).result() == 0.0
    assert metrics.auc([0, 1], [0.99999, 0.999999]).result() == 1.0


def test_without_both_classes_there_is_no_area():
    assert math.isnan(metrics.auc([1, 1], [0.2, 0.3]).result())
    assert math.isnan(metrics.auc([0, 0], [0.2, 0.3]).result())
    assert math.isnan(metrics.auc([0, 0], [0.2, 0.3], curve="PR").result())
    assert metrics.auc([1, 1], [0.2, 0.3], curve="PR").result() == 1.0


def test_a_probability_that_is_not_a_number_makes_the_area_nan():
    bad, good = metrics.auc([0, 1], [math.nan, 1.0]), metrics.auc([0, 1], [0.0, 1.0])
    assert math.isnan(good.merge(bad).result())


@pytest.mark.parametrize("curve", EXACT)
def test_areas_of_many_classes_for_many_weights_are_those_of_scikit_learn(curve):
    rng = np.random.default_rng(0)
    scores = np.round(rng.random([40, 5]), 1)
    scores[:, 3] = 0.5  # nothing but ties
    is_positive = rng.random([40, 5]) < [0.5, 0.1, 0.9, 0.4, 0.0]
    ranking = curves.Ranking(is_positive, scores)
    for _ in range(20):
        weights = rng.integers(0, 3, 40).astype(float)
        drawn = weights > 0
        for k, found in enumerate(ranking.areas(curve, weights)):
            has, of = is_positive[drawn, k], scores[drawn, k]
            if not has.any() or (curve == "ROC" and has.all()):
                assert math.isnan(found)
            else:
                expected = EXACT[curve](has, of, sample_weight=weights[drawn])
                assert found == pytest.approx(expected, abs=1e-12)


def test_beyond_what_is_kept_histograms_take_over_however_the_examples_were_split(monkeypatch):
    monkeypatch.setattr(merging, "MAX_STORED", 100)
    rng = np.random.default_rng(0)
    labels, values = rng.integers(0, 2, 60), rng.random(60)
    parts = [metrics.auc(labels[i : i + 7], values[i : i + 7]) for i in range(0, 60, 7)]
    found = functools.reduce(lambda a, b: a.merge(b), parts)
    assert not found.rows and found.result() == found.merge(metrics.auc([], [])).result()
    summed = metrics.auc(labels, values).without_rows()
    assert found.result() == summed.result() == parts[0].merge(
        functools.reduce(lambda a, b: b.merge(a), parts[1:])
    ).result()  # fmt: skip
    kept = metrics.auc(labels[:30], values[:30])
    assert kept.merge(metrics.auc([], [])).rows


def test_large_counts_do_not_overflow():
    metric = metrics.auc([0, 1, 1], [0.4, 0.3, 0.6]).without_rows()
    for _ in range(40):
        metric = metric.merge(metric)
    assert metric.result() == 0.5


def test_logits_and_more_than_two_classes_are_refused():
    with pytest.raises(SpecError, match="probability is 3"):
        metrics.auc([0, 1], [0.5, 3.0])
    with pytest.raises(SpecError, match="labels hold 2"):
        metrics.auc([0, 2], [0.5, 0.5])
    with pytest.raises(SpecError, match=r"\[2, 2\].*\[:, i\]"):
        metrics.auc([0, 1], [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(SpecError, match="expected ROC or PR"):
        metrics.auc([0, 1], [0.5, 0.5], curve="roc")
