"""Vocabularies, markers for missing labels, and numbers for classes."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_image_classification.errors import LabelError, SpecError
from tf_image_classification.labels import (
    Label,
    LabelSchema,
    collect_vocabulary,
    encode,
    read_class_names,
)


def line(i):
    return f"t.csv line {i + 1}"


def numbers(label, values, given=None):
    known = [True] * len(values) if given is None else given
    values = [tuple(value) if isinstance(value, list) else value for value in values]
    return encode(label, [v if k else "" for v, k in zip(values, known, strict=True)], line)


# Vocabularies


def test_whole_numbers_below_the_depth_are_class_numbers_already():
    assert collect_vocabulary(Label("a", depth=4), ["3", "0", "3"]) == ("0", "1", "2", "3")


def test_numbers_with_leading_zeros_or_beyond_the_depth_are_names():
    assert collect_vocabulary(Label("a", depth=2), ["01", "00"]) == ("00", "01")
    assert collect_vocabulary(Label("a", depth=2), ["7", "2"]) == ("2", "7")


def test_words_are_sorted_with_the_numbers_inside_by_value():
    found = collect_vocabulary(Label("a", depth=4), ["img10", "img9", "dog", "img1b"])
    assert found == ("dog", "img1b", "img9", "img10")


def test_names_that_differ_in_leading_zeros_have_one_order():
    names = ["a" + "0" * i + "1" for i in range(12)]
    assert collect_vocabulary(Label("a", depth=12), reversed(names)) == tuple(sorted(names))


@given(st.sets(st.text(st.sampled_from("ab019 é"), min_size=1), min_size=2, max_size=8))
def test_a_vocabulary_does_not_depend_on_the_order_of_examples(names):
    label = Label("a", depth=len(names))
    found = [collect_vocabulary(label, order) for order in (sorted(names), sorted(names)[::-1])]
    assert found[0] == found[1] and len(found[0]) == len(names)


@pytest.mark.parametrize("name", ["None", "nan", "-1"])
def test_a_word_is_a_class_unless_it_is_the_declared_marker(name):
    assert name in collect_vocabulary(Label("a", depth=2), [name, "x"])
    with pytest.raises(LabelError, match="names 1 classes: x"):
        collect_vocabulary(Label("a", depth=2, missing=name), [name, "x", ""])


def test_another_number_of_names_than_the_depth_is_an_error_that_lists_them():
    with pytest.raises(LabelError, match="depth 3, but the training set names 2 classes: cat, dog"):
        collect_vocabulary(Label("pet", depth=3), ["dog", "cat"])


def test_a_labels_file_has_one_class_a_line():
    text = "zero\none \r\ntwo\u2028three\n\n"
    assert read_class_names(text, "l.txt") == ("zero", "one", "two\u2028three")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "l.txt has no class names"),
        ("\n\n", "l.txt has no class names"),
        ("a\n\nb\n", "l.txt line 2 is empty"),
        ("a\nb\nc\nb\n", "l.txt line 4 names class 'b' a second time .first in line 2."),
    ],
)
def test_a_bad_labels_file_is_named_with_its_line(text, message):
    with pytest.raises(LabelError, match=message):
        read_class_names(text, "l.txt")


# Texts


def test_texts_become_the_numbers_of_their_lines():
    label = Label("pet", depth=3, class_names=("emu", "cat", "dog"))
    column = encode(label, ["dog", "", "emu"], line)
    assert column.values.tolist() == [2, 0, 0] and column.values.dtype == np.int64
    assert column.mask.tolist() == [True, False, True]


def test_an_unknown_class_names_its_line_and_the_nearest_class():
    label = Label("pet", depth=2, class_names=("cat", "dog"))
    with pytest.raises(LabelError, match=r"t.csv line 2: label 'pet' is 'dgo'.*Did you mean dog"):
        encode(label, ["cat", "dgo"], line)


def test_minus_one_is_no_class_unless_it_is_declared_as_the_marker():
    with pytest.raises(LabelError, match=r"line 1: label 'a' is '-1'"):
        encode(Label("a", depth=2), ["-1"], line)
    for marker in (-1, -1.0, "-1"):
        column = encode(Label("a", depth=2, missing=marker), ["-1", "1"], line)
        assert column.mask.tolist() == [False, True] and column.values.tolist() == [0, 1]


def test_real_values_are_read_and_a_wrong_one_names_its_line():
    label = Label("age", one_hot=False, missing=-1)
    column = encode(label, ["1.5", "", "-1", "-1.00", "2e3"], line)
    assert column.values.tolist() == [1.5, 0, 0, 0, 2000] and column.values.dtype == np.float32
    assert column.mask.tolist() == [True, False, False, False, True]
    for wrong in ("old", "nan", "inf", "1e39"):
        with pytest.raises(LabelError, match=f"line 2: label 'age' is '{wrong}'"):
            encode(label, ["3", wrong], line)


# Numbers


def test_class_numbers_of_records_keep_their_value():
    column = numbers(Label("a", depth=3), [2.0, 0.0, 7.0], [True, True, False])
    assert column.values.tolist() == [2, 0, 0] and column.values.dtype == np.int64
    assert column.mask.tolist() == [True, True, False]


@pytest.mark.parametrize("wrong", [-1.0, 3.0, 0.5, math.nan, math.inf, 1e300])
def test_a_number_that_is_no_class_names_its_place_and_how_to_declare_a_marker(wrong):
    shown = re.escape(f"{wrong:g}")
    with pytest.raises(LabelError, match=rf"line 2: label 'a' is {shown}, .*missing={shown}"):
        numbers(Label("a", depth=3), [1.0, wrong])


@pytest.mark.parametrize("wrong", [math.nan, -math.inf, 1e39])
def test_a_real_value_must_be_finite(wrong):
    with pytest.raises(LabelError, match=r"line 1: label 'a' is .* expected a finite float32"):
        numbers(Label("a", one_hot=False), [wrong])


@pytest.mark.parametrize("marker", [-1, "-1", -0.1, math.nan, "nan", "NaN"])
@pytest.mark.parametrize("is_class", [True, False])
def test_a_declared_marker_is_missing_as_records_hold_it(marker, is_class):
    label = Label("a", depth=3, one_hot=is_class, missing=marker)
    held = float(np.float32(float(marker)))  # records hold float32
    column = numbers(label, [held, 2.0])
    assert column.mask.tolist() == [False, True] and column.values.tolist() == [0, 2]


def test_a_marker_that_is_a_word_says_nothing_of_numbers():
    column = numbers(Label("a", depth=3, missing="unknown"), [0.0, 2.0])
    assert column.mask.all()


# Schemas


def test_a_schema_survives_its_json_even_with_nan_as_the_marker():
    schema = LabelSchema.from_class_dict(
        [
            {"name": "pet", "depth": 2, "one-hot": True, "missing": math.nan},
            Label("age", one_hot=False, weight=0.5, missing=-1),
        ]
    ).with_vocabularies({"pet": ["cat", "dog"]})
    again = LabelSchema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema and math.isnan(again["pet"].missing_number)


@pytest.mark.parametrize(
    ("class_dict", "message"),
    [
        ([], "class_dict is empty"),
        ("kind", "expected a list"),
        ([{"name": "a", "depth": 1}], "at least 2 classes"),
        ([{"name": "a"}], "at least 2 classes"),
        ([{"name": "", "depth": 2}], "name is ''"),
        ([{"depth": 2}], "has no name"),
        ([{"name": "id", "depth": 2}], "cannot be called 'id'.*Rename it"),
        ([{"name": "uri", "depth": 2}], "cannot be called 'uri'"),
        ([{"name": "error", "depth": 2}], "cannot be called 'error'"),
        ([{"name": "a", "deph": 2}], "unknown key 'deph'.*depth"),
        ([{0: "red", 1: "blue"}], "entry {0: 'red', 1: 'blue'}, expected a dictionary of a label"),
        ([["red", "blue"]], r"entry \['red', 'blue'\], expected a dictionary of a label"),
        ([{"name": "a", "depth": 2, "weight": -1}], "weight -1"),
        ([{"name": "a", "depth": 2, "weight": math.nan}], "weight nan"),
        ([{"name": "a", "depth": 2}] * 2, "twice: a"),
        ([{"name": "a", "depth": 2, "class_names": ["x", "x"]}], "a class twice: x"),
        ([{"name": "a", "depth": 2, "class_names": ["x"]}], "depth 2 but 1 class names"),
        ([{"name": "a", "one-hot": False, "class_names": ["x"]}], "regression label.*class names"),
    ],
)
def test_an_inconsistent_class_dict_is_refused(class_dict, message):
    with pytest.raises(SpecError, match=message):
        LabelSchema.from_class_dict(class_dict)


def test_a_vocabulary_for_no_label_is_refused_with_the_near_name():
    with pytest.raises(SpecError, match="No label 'kin' .*Did you mean kind"):
        LabelSchema((Label("kind", depth=2),)).with_vocabularies({"kin": ("a", "b")})


# The order of classes

ORDERS = {
    "decimals": ["1.0", "1.25", "1.5", "1.75", "2.0"],
    "ranges": ["<10", "10-19", "20-39", "40-59", "60+"],
    "decimal ranges": ["0-0.25", "0.25-0.5", "0.5-1", "> 1"],
    "dashes": ["0\u20132", "3\u20139", "10\u201319"],
    "signs": ["-10", "-1.5", "0", "+2"],
    "shared words": ["grade 1", "grade 2", "grade 10"],
    "units": ["1 year", "2 years", "11 years"],
    "a word after each": ["1 - poor", "2 - fair", "10 - good"],
    "words for ends": ["under 18", "18 to 30", "31 and over"],
}


@pytest.mark.parametrize("case", ORDERS)
def test_ordinal_classes_are_in_the_order_of_their_values(case):
    names = ORDERS[case]
    label = Label("a", depth=len(names), kind="ordinal")
    assert collect_vocabulary(label, names[::-1]) == tuple(names)


@pytest.mark.parametrize(
    "names", [["low", "high"], ["I", "II", "IX"], ["10-20", "15-30"], ["1", "1.0"], ["a1", "b2"]]
)
def test_an_order_that_is_not_certain_is_asked_for(names):
    with pytest.raises(LabelError, match="cannot be inferred.*--labels a=FILE"):
        collect_vocabulary(Label("a", depth=len(names), kind="ordinal"), names)


def test_a_class_of_several_cannot_hold_the_mark_that_joins_them():
    with pytest.raises(SpecError, match=r"'a\|b'.*Rename the class"):
        Label("tags", depth=2, kind="several", class_names=("a|b", "c"))
    assert Label("kind", depth=2, class_names=("a|b", "c")).depth == 2
