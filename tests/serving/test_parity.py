"""Differences of an exported file in units that mean something, for every kind of label."""

import numpy as np
import pytest

from tf_image_classification.errors import ParityError
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.runs.shipping import Wish, refuse_others
from tf_image_classification.serving.parity import Kept, compare

RANDOM = np.random.default_rng(0)
ALL_KNOWN = np.ones(40, bool)
MARKS = Label("marks", depth=3, kind="several", class_names=("a", "b", "c"))
PRICE = Label("price", kind="value")


def compared(label, kept, outputs):
    batches = [np.zeros([40, 2, 2, 3], np.float32)]
    schema = LabelSchema((label,))
    parity = compare(lambda images: outputs, batches, {label.name: kept}, schema, __file__)
    return parity, schema


def of_prices(change):
    before = 400_000 + 100_000 * RANDOM.normal(size=40)
    kept = Kept(before, before, before, ALL_KNOWN)
    return compared(PRICE, kept, {"price": (before + change).astype(np.float32)})


def of_marks(num_wrong):
    truth = RANDOM.integers(0, 2, [40, 3])
    before = np.where(truth > 0, 0.9, 0.1).astype(np.float32)
    after = before.copy()
    after[:num_wrong] = 1 - after[:num_wrong]
    return compared(
        MARKS,
        Kept(before, (before >= 0.5).astype(int), truth, ALL_KNOWN),
        {"marks_probabilities": after},
    )


def test_large_values_are_alike_when_float32_rounds_them():
    parity, schema = of_prices(change=0.0)
    assert parity.largest < 1e-6
    refuse_others(parity, Wish("onnx"), schema)
    parity, schema = of_prices(change=500.0)
    with pytest.raises(ParityError, match="value of label 'price', relative"):
        refuse_others(parity, Wish("onnx"), schema)
    constant = np.full(40, 4e5)
    after = {"price": np.nextafter(constant.astype(np.float32), np.float32(np.inf))}
    parity, schema = compared(PRICE, Kept(constant, constant, constant, ALL_KNOWN), after)
    refuse_others(parity, Wish("onnx"), schema)


@pytest.mark.parametrize(
    ("made", "little", "much", "message"),
    [
        (of_prices, 500.0, 5_000.0, "standard deviations to the mean absolute error.*'price'"),
        (of_marks, 0, 4, "loses 0.1000 of the accuracy of label 'marks'"),
    ],
)
def test_a_quantised_file_without_a_class_label_is_checked_too(made, little, much, message):
    parity, schema = made(little)
    refuse_others(parity, Wish("litert", "int8"), schema)
    parity, schema = made(much)
    with pytest.raises(ParityError, match=message):
        refuse_others(parity, Wish("litert", "int8"), schema)


def test_labels_that_no_example_has_say_nothing_and_the_farthest_is_named():
    truth = RANDOM.integers(0, 2, [40, 3])
    given = np.where(truth > 0, 0.9, 0.1).astype(np.float32)
    kept = {
        "marks": Kept(given, (given >= 0.5).astype(int), truth, ~ALL_KNOWN),
        "price": Kept(np.arange(40.0), np.arange(40.0), np.arange(40.0), ALL_KNOWN),
    }
    outputs = {"marks_probabilities": given + 0.05, "price": np.arange(40.0)}
    schema = LabelSchema((MARKS, PRICE))
    parity = compare(lambda images: outputs, [np.zeros([40, 1])], kept, schema, __file__)
    assert parity.label == "marks" and parity.largest == pytest.approx(0.05)
    assert parity.lost == {"price": 0.0} and np.isnan(parity.accuracy_drop)
