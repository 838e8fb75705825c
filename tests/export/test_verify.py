"""Differences of an exported file in units that mean something, for every kind of label."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.errors import ParityError
from tf_image_classification.estimator_specs import predicted_classes, predictions_from
from tf_image_classification.export.names import UNKNOWN_SCORE
from tf_image_classification.export.request import ExportRequest, check_verification
from tf_image_classification.export.verify import Reference, _relative, verify_file
from tf_image_classification.labels import Label, LabelSchema

RANDOM = np.random.default_rng(0)
ALL_KNOWN = np.ones(40, bool)
KIND = Label("kind", depth=3, class_names=("cat", "dog", "emu"))
MARKS = Label("marks", depth=3, kind="several", class_names=("a", "b", "c"))
PRICE = Label("price", kind="value")


def compared(label, kept, outputs):
    batches = [np.zeros([40, 2, 2, 3], np.float32)]
    schema = LabelSchema((label,))
    found = verify_file(lambda images: outputs, batches, {label.name: kept}, schema, __file__)
    return found, schema


def of_prices(change):
    before = 400_000 + 100_000 * RANDOM.normal(size=40)
    kept = Reference(before, before, before, ALL_KNOWN)
    return compared(PRICE, kept, {"price": (before + change).astype(np.float32)})


def of_marks(num_wrong):
    truth = RANDOM.integers(0, 2, [40, 3])
    before = np.where(truth > 0, 0.9, 0.1).astype(np.float32)
    after = before.copy()
    after[:num_wrong] = 1 - after[:num_wrong]
    return compared(
        MARKS,
        Reference(before, (before >= 0.5).astype(int), truth, ALL_KNOWN),
        {"marks_probabilities": after},
    )


def test_large_values_are_alike_when_float32_rounds_them():
    found, schema = of_prices(change=0.0)
    assert found.max_difference < 1e-6
    check_verification(found, ExportRequest("onnx"), schema)
    found, schema = of_prices(change=500.0)
    with pytest.raises(ParityError, match="value of label 'price', relative"):
        check_verification(found, ExportRequest("onnx"), schema)
    constant = np.full(40, 4e5)
    after = {"price": np.nextafter(constant.astype(np.float32), np.float32(np.inf))}
    found, schema = compared(PRICE, Reference(constant, constant, constant, ALL_KNOWN), after)
    check_verification(found, ExportRequest("onnx"), schema)


@pytest.mark.parametrize(
    ("made", "little", "much", "message"),
    [
        (of_prices, 500.0, 5_000.0, "standard deviations to the mean absolute error.*'price'"),
        (of_marks, 0, 4, "loses 0.1000 of the accuracy of label 'marks'"),
    ],
)
def test_a_quantised_file_without_a_class_label_is_checked_too(made, little, much, message):
    found, schema = made(little)
    check_verification(found, ExportRequest("litert", "int8"), schema)
    found, schema = made(much)
    with pytest.raises(ParityError, match=message):
        check_verification(found, ExportRequest("litert", "int8"), schema)


def test_labels_that_no_example_has_say_nothing_and_the_farthest_is_named():
    truth = RANDOM.integers(0, 2, [40, 3])
    given = np.where(truth > 0, 0.9, 0.1).astype(np.float32)
    kept = {
        "marks": Reference(given, (given >= 0.5).astype(int), truth, ~ALL_KNOWN),
        "price": Reference(np.arange(40.0), np.arange(40.0), np.arange(40.0), ALL_KNOWN),
    }
    outputs = {"marks_probabilities": given + 0.05, "price": np.arange(40.0)}
    schema = LabelSchema((MARKS, PRICE))
    found = verify_file(lambda images: outputs, [np.zeros([40, 1])], kept, schema, __file__)
    assert found.label == "marks" and found.max_difference == pytest.approx(0.05)
    assert found.losses == {"price": 0.0} and np.isnan(found.accuracy_drop)


def of_kinds(**changes):
    """Right outputs of a class label, and what is changed in them; None takes one away."""
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(3), 40)
    predicted = probabilities.argmax(axis=1)
    calibrated = np.sqrt(probabilities) / np.sqrt(probabilities).sum(axis=1, keepdims=True)
    outputs = {
        "kind_probabilities": probabilities,
        "kind_calibrated": calibrated,
        "kind_class_name": np.array([KIND.class_names[k].encode() for k in predicted], object),
    }
    outputs = {k: v for k, v in (outputs | changes).items() if v is not None}
    kept = Reference(probabilities, predicted, predicted, ALL_KNOWN, calibrated)
    return compared(KIND, kept, outputs)


def test_every_output_is_compared():
    found, schema = of_kinds()
    assert found.num_changed == found.num_contradictions == 0 and found.max_difference == 0
    check_verification(found, ExportRequest("saved_model"), schema)
    names = np.array([b"cat"] * 40, object)
    assert of_kinds(kind_class_name=names)[0].num_changed > 10
    with pytest.raises(ParityError, match="expected kind_calibrated, kind_probabilities"):
        of_kinds(kind_calibrated=None)
    with pytest.raises(ParityError, match="gives the outputs .*kind_logits"):
        of_kinds(kind_logits=np.zeros([40, 3]))


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_calibrated_probabilities_that_name_another_class_are_refused(quantization):
    rounded = np.full([40, 3], 1 / 3)  # as int8 gives them: the first class wins
    found, schema = of_kinds(kind_calibrated=rounded)
    assert found.num_contradictions > 10
    request = ExportRequest("litert", quantization, tolerance=2.0, max_accuracy_drop=1.0)
    with pytest.raises(ParityError, match=r"name another class .* in \d+ of 40 examples"):
        check_verification(found, request, schema)


def test_numbers_that_are_not_finite_are_refused_however_far_a_file_may_differ():
    found, schema = of_kinds(kind_calibrated=np.full([40, 3], np.nan))
    with pytest.raises(ParityError, match="not finite"):
        check_verification(found, ExportRequest("litert", "int8", max_accuracy_drop=1.0), schema)


def test_a_model_in_half_precision_may_round_in_other_runtimes():
    found, schema = of_kinds()
    near = dataclasses.replace(found, max_difference=0.02)
    check_verification(near, ExportRequest("onnx"), schema, "bfloat16")
    for half, request in (
        ("", ExportRequest("onnx")),
        ("bfloat16", ExportRequest("onnx", tolerance=0.01)),
    ):
        with pytest.raises(ParityError, match="more than the tolerance"):
            check_verification(near, request, schema, half)


@pytest.mark.parametrize("coding", ["thresholds", "expectation", "distribution"])
def test_an_ordinal_label_is_decided_as_in_the_evaluation(coding):
    label = Label("age", depth=4, kind="ordinal", coding=coding)
    logits = RANDOM.normal(0, 2, [200, *label.logits_shape]).astype(np.float32)
    predictions = predictions_from(LabelSchema((label,)), {"age": tf.constant(logits)})
    found = predicted_classes(label, predictions["age_probabilities"])
    np.testing.assert_array_equal(found, predictions["age"])


def test_scores_near_zero_are_compared_by_their_squares():
    expected = np.array([0.0, 0.001, 0.9], np.float32)
    rounded = np.array([0.0007, 0.0003, 0.9], np.float32)  # roots of rounded squares
    assert _relative(UNKNOWN_SCORE, rounded, expected) < 1e-5
    assert _relative(UNKNOWN_SCORE, expected + np.float32(0.01), expected) > 2e-3
    assert _relative("features", rounded, expected) > 5e-4
