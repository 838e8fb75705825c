"""Training losses for rare classes against plain numpy, and in trainings."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_runs
from tf_image_classification.config import TrainingSettings, make_settings
from tf_image_classification.errors import ConfigError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.optim.long_tail_losses import is_changed_by, training_losses
from tf_image_classification.optim.losses import label_losses

SCHEMA = LabelSchema(
    (
        Label("pet", depth=4),
        Label("tags", depth=3, kind="multilabel"),
        Label("age", depth=5, kind="ordinal"),
        Label("size", kind="regression"),
    )
)
LOSSES = ("focal", "asymmetric", "logit_adjusted")


def batch(seed, rows, scale=3.0):
    rng = np.random.default_rng(seed)
    labels = {
        "pet": rng.integers(0, 4, rows),
        "tags": rng.integers(0, 2, (rows, 3)).astype("f4"),
        "age": rng.integers(0, 5, rows),
        "size": rng.normal(size=rows).astype("f4"),
    }
    shapes = {label.name: (rows, *label.logits_shape) for label in SCHEMA}
    return labels, {n: rng.normal(0, scale, shape).astype("f4") for n, shape in shapes.items()}


def expected_of(options, labels, logits, log_prior):
    """The published formulas in float64, of pet and of tags."""
    smoothing = options.label_smoothing
    z, wanted = logits["pet"].astype("f8"), np.eye(4)[labels["pet"]] * (1 - smoothing)
    wanted += smoothing / 4
    if options.loss == "logit_adjusted":
        z = z + options.logit_adjustment_tau * log_prior
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    gamma = options.focal_gamma if options.loss == "focal" else 0.0
    pet = -(wanted * (1 - np.exp(log_p)) ** gamma * log_p).sum(1)
    y = labels["tags"].astype("f8") * (1 - smoothing) + smoothing / 2
    p = 1 / (1 + np.exp(-logits["tags"].astype("f8")))
    positive, negative, margin = {
        "focal": (options.focal_gamma, options.focal_gamma, 0.0),
        "asymmetric": (
            options.asymmetric_gamma_pos, options.asymmetric_gamma_neg, options.asymmetric_clip,
        ),
        "logit_adjusted": (0.0, 0.0, 0.0),
    }[options.loss]  # fmt: skip
    q = np.maximum(p - margin, 0)
    tags = -y * (1 - p) ** positive * np.log(p) - (1 - y) * q**negative * np.log(1 - q)
    return {"pet": pet, "tags": tags.mean(1)}


@settings(deadline=None, max_examples=30)
@given(
    st.builds(
        TrainingSettings,
        loss=st.sampled_from(LOSSES),
        label_smoothing=st.sampled_from([0.0, 0.2]),
        focal_gamma=st.sampled_from([0.0, 0.5, 2.0]),
        asymmetric_gamma_pos=st.sampled_from([0.0, 1.0]),
        asymmetric_gamma_neg=st.sampled_from([0.0, 0.5, 4.0]),
        asymmetric_clip=st.sampled_from([0.0, 0.05, 0.3]),
        logit_adjustment_tau=st.sampled_from([0.0, 1.0, 1.5]),
    ),
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
)
def test_losses_are_the_published_formulas(options, seed, rows):
    labels, logits = batch(seed, rows)
    log_prior = np.log([0.7, 0.2, 0.09, 0.01]).astype("f4")
    priors = {"pet": log_prior, "age": np.zeros(5, "f4")}
    found = training_losses(SCHEMA, options, labels, logits, priors)
    for name, expected in expected_of(options, labels, logits, log_prior).items():
        np.testing.assert_allclose(found[name], expected, rtol=2e-4, atol=1e-5)
    usual = label_losses(SCHEMA, options, labels, logits)
    for name in ("age", "size"):  # neither softmax nor multilabel
        np.testing.assert_array_equal(found[name], usual[name])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 50.0, 1e4])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 2.0])
def test_gradients_are_finite_at_any_logits(loss, scale, exponent):
    labels, logits = batch(3, 20, scale)
    options = TrainingSettings(
        loss=loss, focal_gamma=exponent, asymmetric_gamma_pos=exponent,
        asymmetric_gamma_neg=exponent, asymmetric_clip=0.0 if exponent else 0.05,
    )  # fmt: skip
    logits = {name: tf.constant(value) for name, value in logits.items()}
    priors = {"pet": tf.zeros(4), "age": tf.zeros(5)}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = training_losses(SCHEMA, options, labels, logits, priors)
        total = tf.add_n([tf.reduce_sum(losses[name]) for name in ("pet", "tags")])
    gradients = tape.gradient(total, [logits["pet"], logits["tags"]])
    assert all(np.isfinite(value).all() for value in [total, *gradients])


def test_only_softmax_and_multilabel_losses_are_replaced():
    fits = {loss: [is_changed_by(label, loss) for label in SCHEMA] for loss in LOSSES}
    assert fits == {
        "focal": [True, True, False, False],
        "asymmetric": [False, True, False, False],
        "logit_adjusted": [True, False, False, False],
    }
    ages = Label("age", depth=5, kind="ordinal", coding="expectation")
    assert is_changed_by(ages, "focal")
    assert not is_changed_by(ages, "cross_entropy")


def uneven(folder):
    """30 examples: 25 of class 0, some of 1 and 2."""
    return tiny_runs.write_records(
        folder, count=30, labels=lambda n, kind: {"kind": float(0 if n % 6 else 1 + n // 6 % 2)}
    )


ONE_STEP = {
    "train_steps": 1, "batch_size": 30, "optimizer": "sgd", "learning_rate": 1.0,
    "weight_decay": 0.0, "learning_rate_decay_type": "fixed",
}  # fmt: skip


@pytest.mark.slow
def test_logit_adjustment_takes_the_pull_of_the_frequent_class_away(tmp_path):
    records = uneven(tmp_path)
    plain, adjusted = (
        tiny_runs.run(tiny_runs.plain_spec(), tmp_path / loss, records, **ONE_STEP, loss=loss)
        for loss in ("cross_entropy", "logit_adjusted")
    )
    # At equal logits the adjusted probabilities are the class frequencies, so the mean gradient of
    # the biases is 0.
    assert plain.tensors["model/logits/bias"][0] > 0.3
    assert abs(adjusted.tensors["model/logits/bias"]).max() < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["focal", "logit_adjusted"])
@pytest.mark.parametrize("changes", [{"gradient_accumulation_steps": 3}, {"strategy": "mirrored"}])
def test_parts_and_devices_compute_the_same_loss(tmp_path, loss, changes):
    records, common = uneven(tmp_path), ONE_STEP | {"train_steps": 3, "loss": loss}
    whole = tiny_runs.run(tiny_runs.plain_spec(), tmp_path / "a", records, **common)
    parts = tiny_runs.run(tiny_runs.plain_spec(), tmp_path / "b", records, **common | changes)
    assert tiny_runs.largest_difference(parts, whole) < 2e-5


@pytest.mark.slow
def test_evaluations_keep_cross_entropy(tmp_path):
    records = uneven(tmp_path)
    common = {**ONE_STEP, "learning_rate": 0.0, "eval_every_steps": 1}
    found = {}
    for loss in ("cross_entropy", "focal"):
        folder = tmp_path / loss
        tiny_runs.run(tiny_runs.plain_spec(), folder, records, records, **common, loss=loss)
        found[loss] = tiny_runs.evaluations(folder)[0]
    assert found["focal"] == found["cross_entropy"]


def test_a_stream_whose_classes_are_not_counted_is_rejected(tmp_path):
    records = uneven(tmp_path)
    with pytest.raises(ConfigError, match="loss logit_adjusted needs to count the classes before"):
        tiny_runs.run(tiny_runs.plain_spec(), tmp_path / "m", records, train_steps=1,
                      loss="logit_adjusted", input_mode="streaming")  # fmt: skip


@pytest.mark.parametrize("other", [{"class_weights": "balanced"}, {"balanced_sampling": "kind"}])
def test_imbalance_is_compensated_once(other):
    with pytest.raises(ConfigError, match="compensate class imbalance twice"):
        make_settings({"loss": "logit_adjusted", **other})
