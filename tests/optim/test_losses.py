"""Losses against plain numpy, with labels missing and the batch in parts."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_image_classification.config import TrainingSettings
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.optim.losses import known_logits, label_losses, total_loss

SCHEMA = LabelSchema(
    (
        Label("species", depth=5, weight=0.7),
        Label("is_adult", depth=2),
        Label("age", one_hot=False, weight=2.5),
    )
)


def random_batch(seed, rows):
    """Labels, logits and masks as numpy arrays; about a third of the labels is missing."""
    rng = np.random.default_rng(seed)
    labels = {
        "species": rng.integers(0, 5, rows),
        "is_adult": rng.integers(0, 2, rows),
        "age": rng.normal(0, 3, rows).astype(np.float32),
    }
    logits = {
        "species": rng.normal(0, 3, (rows, 5)).astype(np.float32),
        "is_adult": rng.normal(0, 3, (rows, 2)).astype(np.float32),
        "age": rng.normal(0, 3, rows).astype(np.float32),
    }
    present = {name: rng.random(rows) < 0.67 for name in SCHEMA.names}
    return labels, logits, present


def all_present(rows):
    return {name: np.ones(rows, bool) for name in SCHEMA.names}


def losses_of(options, labels, logits, present, schema=SCHEMA):
    """Losses as the training step computes them."""
    return label_losses(schema, options, labels, known_logits(schema, logits, present))


def counts_of(present):
    return {name: tf.constant(mask.sum(), tf.float32) for name, mask in present.items()}


def numpy_cross_entropy(target, logits, smoothing):
    logits = logits.astype(np.float64)
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    depth = logits.shape[1]
    wanted = np.eye(depth)[target] * (1 - smoothing) + smoothing / depth
    return -(wanted * log_softmax).sum(1)


def numpy_regression(error, kind, delta):
    error = error.astype(np.float64)
    if kind == "mean_squared":
        return error**2
    size = np.abs(error)
    return np.where(size <= delta, 0.5 * error**2, delta * (size - 0.5 * delta))


options = st.builds(
    TrainingSettings,
    label_smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    regression_loss=st.sampled_from(["mean_squared", "huber"]),
    huber_delta=st.sampled_from([0.3, 1.0, 4.0]),
)


@settings(deadline=None)
@given(options, st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_losses_are_the_published_formulas(options, seed, rows):
    labels, logits, _ = random_batch(seed, rows)
    losses = label_losses(SCHEMA, options, labels, logits)
    for name in ("species", "is_adult"):
        expected = numpy_cross_entropy(labels[name], logits[name], options.label_smoothing)
        np.testing.assert_allclose(losses[name], expected, rtol=1e-4, atol=1e-5)
    error = logits["age"] - labels["age"]
    expected = numpy_regression(error, options.regression_loss, options.huber_delta)
    np.testing.assert_allclose(losses["age"], expected, rtol=1e-4, atol=1e-6)
    for name in SCHEMA.names:
        assert losses[name].shape == (rows,)
        assert losses[name].dtype == tf.float32


@settings(deadline=None)
@given(options, st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_leaving_labels_out_is_the_same_as_removing_their_rows(options, seed, rows):
    labels, logits, present = random_batch(seed, rows)
    whole = losses_of(options, labels, logits, present)
    total = total_loss(SCHEMA, whole, present, counts_of(present))
    expected = 0.0
    for label in SCHEMA:
        one, keep = LabelSchema((label,)), present[label.name]
        rest = label_losses(
            one,
            options,
            {label.name: labels[label.name][keep]},
            {label.name: logits[label.name][keep]},
        )[label.name].numpy()
        np.testing.assert_allclose(whole[label.name].numpy()[keep], rest, rtol=1e-6)
        expected += label.weight * rest.mean() if keep.any() else 0.0
    assert float(total) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 9), max_size=4))
def test_parts_with_the_batchs_counts_add_up_to_the_batch(seed, cuts):
    labels, logits, present = random_batch(seed, 9)
    options, counts = TrainingSettings(label_smoothing=0.1), counts_of(present)

    def loss_of(rows):
        part = [{k: v[rows] for k, v in values.items()} for values in (labels, logits, present)]
        return float(total_loss(SCHEMA, losses_of(options, *part), part[2], counts))

    edges = [0, *sorted(cuts), 9]  # parts may be empty
    parts = [loss_of(slice(start, stop)) for start, stop in itertools.pairwise(edges)]
    assert sum(parts) == pytest.approx(loss_of(slice(None)), rel=1e-5, abs=1e-6)


@pytest.mark.slow_after(6)
@pytest.mark.parametrize("regression_loss", ["mean_squared", "huber"])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("traced", [False, True])
def test_whatever_a_missing_row_holds_its_gradient_is_exactly_0(regression_loss, garbage, traced):
    labels, logits, present = random_batch(1, 6)
    for name in SCHEMA.names:
        present[name][:2] = False
        present[name][2:4] = True
        logits[name][0] = garbage
    labels["species"][:2] = [-1, 2**40]
    labels["is_adult"][:2] = [99, -7]
    labels["age"][:2] = [0.0, 1e30]
    options = TrainingSettings(regression_loss=regression_loss, label_smoothing=0.1)

    def loss_and_gradients(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            per_example = losses_of(options, labels, logits, present)
            loss = total_loss(SCHEMA, per_example, present, counts_of(present))
        return loss, tape.gradient(loss, logits)

    function = tf.function(loss_and_gradients) if traced else loss_and_gradients
    loss, gradients = function({k: tf.constant(v) for k, v in logits.items()})
    assert np.isfinite(loss)
    for name, mask in present.items():
        assert not gradients[name].numpy()[~mask].any()
        assert gradients[name].numpy()[mask].all()


def test_a_loss_that_is_not_finite_does_not_leak_from_a_missing_row_into_the_total():
    schema = LabelSchema((Label("age", one_hot=False),))
    loss = {"age": tf.constant([np.nan, 2.0, np.inf, 4.0])}
    present = {"age": tf.constant([False, True, False, True])}
    assert float(total_loss(schema, loss, present, {"age": tf.constant(2.0)})) == 3.0


def test_a_label_that_no_example_has_contributes_0():
    labels, logits, present = random_batch(2, 4)
    present["species"][:] = False
    losses = losses_of(TrainingSettings(), labels, logits, present)
    rest = LabelSchema(SCHEMA.labels[1:])
    counts = counts_of(present)
    whole = total_loss(SCHEMA, losses, present, counts)
    assert float(whole) == float(total_loss(rest, losses, present, counts))


def test_the_weight_of_a_label_multiplies_its_mean_loss():
    labels, logits, _ = random_batch(3, 8)
    present = all_present(8)
    losses = losses_of(TrainingSettings(), labels, logits, present)
    total = total_loss(SCHEMA, losses, present, counts_of(present))
    expected = sum(label.weight * losses[label.name].numpy().mean() for label in SCHEMA)
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_the_huber_loss_pulls_with_delta_at_most():
    schema = LabelSchema((Label("age", one_hot=False),))
    options = TrainingSettings(regression_loss="huber", huber_delta=2.0)
    errors = tf.constant([-1e30, -3.0, -2.0, -0.5, 0.0, 0.5, 2.0, 3.0, 1e30])
    with tf.GradientTape() as tape:
        tape.watch(errors)
        loss = label_losses(schema, options, {"age": tf.zeros(9)}, {"age": errors})["age"]
    expected = [-2.0, -2.0, -2.0, -0.5, 0.0, 0.5, 2.0, 2.0, 2.0]
    np.testing.assert_allclose(tape.gradient(loss, errors), expected)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def test_thresholds_are_asked_of_those_that_reach_them_only():
    label = Label("age", depth=4, kind="ordinal")
    rng = np.random.default_rng(0)
    target, logits = np.array([0, 1, 2, 3, 3]), rng.normal(0, 2, [5, 3]).astype(np.float32)
    expected = np.zeros(5)
    for i, of in enumerate(target):
        for k in range(3):
            if of >= k:
                p = sigmoid(logits[i, k])
                expected[i] -= np.log(p if of > k else 1 - p)
    losses = label_losses(
        LabelSchema((label,)), TrainingSettings(), {"age": tf.constant(target)}, {"age": logits}
    )
    np.testing.assert_allclose(losses["age"], expected, rtol=1e-5)
    # The loss is minus the logarithm of the label's probability, which predictions give too.
    predictions = predictions_from(LabelSchema((label,)), {"age": tf.constant(logits)})
    own = predictions["age_probabilities"].numpy()[np.arange(5), target]
    np.testing.assert_allclose(losses["age"], -np.log(own), rtol=1e-4)


def test_a_bell_curve_around_the_label_is_the_target_of_a_distribution():
    label = Label("age", depth=9, kind="ordinal", coding="distribution", spread=1.5)
    logits = -np.square((np.arange(9) - 4) / 1.5).astype(np.float32) / 2
    losses = label_losses(
        LabelSchema((label,)), TrainingSettings(),
        {"age": tf.constant([4, 6])}, {"age": np.stack([logits, logits])},
    )["age"].numpy()  # fmt: skip
    curve = np.exp(logits) / np.exp(logits).sum()
    assert losses[0] == pytest.approx(-(curve * np.log(curve)).sum(), rel=1e-5)
    assert losses[1] > losses[0]


def test_several_classes_have_the_mean_cross_entropy_of_each():
    label = Label("tags", depth=3, kind="several")
    logits = np.array([[2.0, -1.0, 0.5]], np.float32)
    target = np.array([[1.0, 0.0, 1.0]], np.float32)
    for smoothing in (0.0, 0.2):
        wanted = target * (1 - smoothing) + smoothing / 2
        p = sigmoid(logits)
        expected = -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p)).mean()
        found = label_losses(
            LabelSchema((label,)), TrainingSettings(label_smoothing=smoothing),
            {"tags": tf.constant(target)}, {"tags": logits},
        )["tags"]  # fmt: skip
        assert float(found[0]) == pytest.approx(expected, rel=1e-5)


def test_learned_weights_give_each_label_its_share_whatever_the_parts():
    labels, logits, present = random_batch(3, 8)
    counts = counts_of(present)
    s = {"species": 0.4, "is_adult": -0.3, "age": 1.1}
    each = losses_of(TrainingSettings(), labels, logits, present)
    whole = float(total_loss(SCHEMA, each, present, counts, s))
    means = {n: each[n].numpy()[present[n]].mean() for n in SCHEMA.names}
    expected = sum(
        label.weight * (np.exp(-s[label.name]) * means[label.name] + s[label.name] / 2)
        for label in SCHEMA
    )
    assert whole == pytest.approx(expected, rel=1e-5)
    parts = [
        total_loss(
            SCHEMA, {n: v[i : i + 4] for n, v in each.items()},
            {n: v[i : i + 4] for n, v in present.items()}, counts, s,
        )
        for i in (0, 4)
    ]  # fmt: skip
    assert float(sum(parts)) == pytest.approx(whole, rel=1e-5)
