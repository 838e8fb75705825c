"""Losses against plain numpy, with labels missing and the batch in parts."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_image_classification.config import TrainingSettings
from tf_image_classification.errors import SpecError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.optim.losses import label_losses, total_loss

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
        "age": rng.normal(0, 3, (rows, 1)).astype(np.float32),
    }
    present = {name: rng.random(rows) < 0.67 for name in SCHEMA.names}
    return labels, logits, present


def all_present(rows):
    return {name: np.ones(rows, bool) for name in SCHEMA.names}


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


@settings(max_examples=30, deadline=None)
@given(options, st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_losses_are_the_published_formulas(options, seed, rows):
    labels, logits, _ = random_batch(seed, rows)
    losses = label_losses(SCHEMA, options, labels, logits, all_present(rows))
    for name in ("species", "is_adult"):
        expected = numpy_cross_entropy(labels[name], logits[name], options.label_smoothing)
        np.testing.assert_allclose(losses[name], expected, rtol=1e-4, atol=1e-5)
    error = logits["age"][:, 0] - labels["age"]
    expected = numpy_regression(error, options.regression_loss, options.huber_delta)
    np.testing.assert_allclose(losses["age"], expected, rtol=1e-4, atol=1e-6)
    for name in SCHEMA.names:
        assert losses[name].shape == (rows,)
        assert losses[name].dtype == tf.float32


@settings(max_examples=30, deadline=None)
@given(options, st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_leaving_labels_out_is_the_same_as_removing_their_rows(options, seed, rows):
    labels, logits, present = random_batch(seed, rows)
    whole = label_losses(SCHEMA, options, labels, logits, present)
    total = total_loss(SCHEMA, whole, present, counts_of(present))
    expected = 0.0
    for label in SCHEMA:
        one, keep = LabelSchema((label,)), present[label.name]
        rest = label_losses(
            one,
            options,
            {label.name: labels[label.name][keep]},
            {label.name: logits[label.name][keep]},
            {label.name: keep[keep]},
        )[label.name].numpy()
        np.testing.assert_allclose(whole[label.name].numpy()[keep], rest, rtol=1e-6)
        assert not whole[label.name].numpy()[~keep].any()
        expected += label.weight * rest.mean() if keep.any() else 0.0
    assert float(total) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 9), max_size=4))
def test_parts_with_the_batchs_counts_add_up_to_the_batch(seed, cuts):
    labels, logits, present = random_batch(seed, 9)
    options, counts = TrainingSettings(label_smoothing=0.1), counts_of(present)

    def loss_of(rows):
        part = [{k: v[rows] for k, v in values.items()} for values in (labels, logits, present)]
        return float(total_loss(SCHEMA, label_losses(SCHEMA, options, *part), part[2], counts))

    edges = [0, *sorted(cuts), 9]  # parts may be empty
    parts = [loss_of(slice(start, stop)) for start, stop in itertools.pairwise(edges)]
    assert sum(parts) == pytest.approx(loss_of(slice(None)), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("regression_loss", ["mean_squared", "huber"])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("traced", [False, True])
def test_whatever_a_missing_row_holds_its_loss_and_gradient_are_exactly_0(
    regression_loss, garbage, traced
):
    labels, logits, present = random_batch(1, 6)
    for name in SCHEMA.names:
        present[name][:2] = False
        present[name][2:4] = True
        logits[name][0] = garbage
    labels["species"][:2] = [-1, 2**40]
    labels["is_adult"][:2] = [99, -7]
    labels["age"][:2] = [0.0, garbage]
    options = TrainingSettings(regression_loss=regression_loss, label_smoothing=0.1)

    def loss_and_gradients(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            per_example = label_losses(SCHEMA, options, labels, logits, present)
            loss = total_loss(SCHEMA, per_example, present, counts_of(present))
        return per_example, loss, tape.gradient(loss, logits)

    function = tf.function(loss_and_gradients) if traced else loss_and_gradients
    per_example, loss, gradients = function({k: tf.constant(v) for k, v in logits.items()})
    assert np.isfinite(loss)
    for name, mask in present.items():
        assert not per_example[name].numpy()[~mask].any()
        assert not gradients[name].numpy()[~mask].any()
        assert gradients[name].numpy()[mask].all()


def test_without_masks_a_missing_labels_garbage_number_still_stays_out_of_total_and_gradient():
    labels, logits, present = random_batch(8, 6)
    clean = label_losses(SCHEMA, TrainingSettings(), labels, logits, present)
    for name in SCHEMA.names:
        labels[name] = np.where(present[name], labels[name], -1)
    tensors = {name: tf.constant(values) for name, values in logits.items()}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        rough = label_losses(SCHEMA, TrainingSettings(), labels, tensors)
        loss = total_loss(SCHEMA, rough, present, counts_of(present))
    assert float(loss) == float(total_loss(SCHEMA, clean, present, counts_of(present)))
    for name, gradient in tape.gradient(loss, tensors).items():
        assert not gradient.numpy()[~present[name]].any()


def test_a_loss_that_is_not_finite_does_not_leak_from_a_missing_row_into_the_total():
    schema = LabelSchema((Label("age", one_hot=False),))
    loss = {"age": tf.constant([np.nan, 2.0, np.inf, 4.0])}
    present = {"age": tf.constant([False, True, False, True])}
    assert float(total_loss(schema, loss, present, {"age": tf.constant(2.0)})) == 3.0


def test_a_label_that_no_example_has_contributes_0():
    labels, logits, present = random_batch(2, 4)
    present["species"][:] = False
    losses = label_losses(SCHEMA, TrainingSettings(), labels, logits, present)
    rest = LabelSchema(SCHEMA.labels[1:])
    counts = counts_of(present)
    whole = total_loss(SCHEMA, losses, present, counts)
    assert float(whole) == float(total_loss(rest, losses, present, counts))


def test_the_weight_of_a_label_multiplies_its_mean_loss():
    labels, logits, _ = random_batch(3, 8)
    present = all_present(8)
    losses = label_losses(SCHEMA, TrainingSettings(), labels, logits, present)
    total = total_loss(SCHEMA, losses, present, counts_of(present))
    expected = sum(label.weight * losses[label.name].numpy().mean() for label in SCHEMA)
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_the_huber_loss_pulls_with_delta_at_most():
    schema = LabelSchema((Label("age", one_hot=False),))
    options = TrainingSettings(regression_loss="huber", huber_delta=2.0)
    errors = tf.constant([-1e30, -3.0, -2.0, -0.5, 0.0, 0.5, 2.0, 3.0, 1e30])
    with tf.GradientTape() as tape:
        tape.watch(errors)
        loss = label_losses(
            schema, options, {"age": tf.zeros(9)}, {"age": errors}, {"age": tf.ones(9, tf.bool)}
        )["age"]
    expected = [-2.0, -2.0, -2.0, -0.5, 0.0, 0.5, 2.0, 2.0, 2.0]
    np.testing.assert_allclose(tape.gradient(loss, errors), expected)


def test_half_precision_logits_are_computed_in_float32():
    labels, logits, _ = random_batch(4, 8)
    for dtype in (tf.float16, tf.bfloat16):
        rounded = {name: tf.cast(values, dtype) for name, values in logits.items()}
        exact = {name: tf.cast(values, tf.float32) for name, values in rounded.items()}
        got = label_losses(SCHEMA, TrainingSettings(), labels, rounded, all_present(8))
        want = label_losses(SCHEMA, TrainingSettings(), labels, exact, all_present(8))
        for name in SCHEMA.names:
            np.testing.assert_array_equal(got[name], want[name])


def test_a_real_labels_logits_may_have_one_or_two_dimensions():
    labels, logits, present = random_batch(5, 6)
    flat = {**logits, "age": logits["age"][:, 0]}
    one = label_losses(SCHEMA, TrainingSettings(), labels, flat, present)
    two = label_losses(SCHEMA, TrainingSettings(), labels, logits, present)
    np.testing.assert_array_equal(one["age"], two["age"])


def test_a_label_that_the_model_or_the_batch_lacks_is_named():
    labels, logits, present = random_batch(6, 4)
    misspelt = {"specis" if name == "species" else name: v for name, v in logits.items()}
    with pytest.raises(SpecError, match=r"The model has nothing for label 'species'.*specis"):
        label_losses(SCHEMA, TrainingSettings(), labels, misspelt, present)
    del labels["age"]
    with pytest.raises(SpecError, match=r"The batch has nothing for label 'age'"):
        label_losses(SCHEMA, TrainingSettings(), labels, logits, present)


@pytest.mark.parametrize(
    ("what", "name", "shape", "message"),
    [
        ("logits", "species", (4, 6), r"logits of shape \(4, 6\) for label 'species'.*\[B, 5\]"),
        ("logits", "is_adult", (4, 1), r"logits of shape \(4, 1\) for label 'is_adult'.*\[B, 2\]"),
        ("logits", "age", (4, 2), r"logits of shape \(4, 2\) for label 'age'.*\[B\] or \[B, 1\]"),
        ("labels", "age", (4, 1), r"label 'age' with shape \(4, 1\), expected \[B\]"),
        ("labels", "species", (4, 5), r"label 'species' with shape \(4, 5\).*class numbers"),
    ],
)
def test_a_shape_that_would_broadcast_to_another_loss_is_refused(what, name, shape, message):
    labels, logits, present = random_batch(7, 4)
    values = {"labels": labels, "logits": logits}[what]
    values[name] = np.zeros(shape, values[name].dtype)
    with pytest.raises(SpecError, match=message):
        label_losses(SCHEMA, TrainingSettings(), labels, logits, present)
