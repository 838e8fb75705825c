"""Comparing two models: better, worse, or nobody can tell."""

import dataclasses
import json

import numpy as np
import pytest

from evaluation.test_analysis import KIND, of_class, predictions, stored
from tf_image_classification.cli import compare as compare_verb
from tf_image_classification.errors import DataError
from tf_image_classification.evaluation.compare import compare
from tf_image_classification.evaluation.predictions import Predictions, write_predictions
from tf_image_classification.labels import Label, LabelSchema


def changed(found, rows, right):
    """The same with some rows predicted right or wrong."""
    predicted = found.predicted.copy()
    predicted[rows] = found.truth[rows] if right else (found.truth[rows] + 1) % 6
    return stored(found.truth, found.mask, predicted, found.probabilities)


def test_better_worse_and_cannot_tell():
    found = of_class(400)
    wrong = np.flatnonzero(~found.is_right)
    better = changed(found, wrong[:40], right=True)
    comparison = compare(predictions(found), predictions(better))["kind"]
    assert comparison.verdict == "B is better" and len(comparison.gained) == 40
    assert comparison.lost == [] and comparison.p_value < 1e-6
    assert comparison.difference.value == pytest.approx(0.1)
    assert compare(predictions(better), predictions(found))["kind"].verdict == "B is worse"
    one_more = changed(found, wrong[:1], right=True)
    assert compare(predictions(found), predictions(one_more))["kind"].verdict == "cannot tell"
    same = compare(predictions(found), predictions(found))["kind"]
    assert (same.verdict, same.p_value) == ("cannot tell", 1.0)
    assert same.difference.low == -same.difference.high < 0


def test_of_real_values_less_error_is_better():
    label = Label("size", kind="value")
    truth = np.arange(100.0)
    nothing = np.zeros([100, 0], np.float32)
    near, far = (stored(truth, np.ones(100, bool), truth + d, nothing) for d in (0.1, 1.0))
    comparison = compare(predictions(far, label=label), predictions(near, label=label))["size"]
    assert comparison.verdict == "B is better" and len(comparison.gained) == 100
    assert comparison.a.low == comparison.a.high == comparison.a.value  # all errors are 1


def test_groups_make_it_harder_to_tell():
    found = of_class(400)
    person = [str(i // 40) for i in range(400)]
    better = changed(found, np.flatnonzero(~found.is_right)[:40], right=True)
    first = predictions(found, {"person": person})
    alone = compare(first, predictions(better))["kind"].difference
    grouped = compare(first, predictions(better), "person")["kind"].difference
    assert grouped.high - grouped.low > alone.high - alone.low


def test_only_common_examples_count_and_truths_must_agree():
    found = of_class(50)
    all_of_them = predictions(found)
    part = Predictions(
        LabelSchema((KIND,)),
        np.arange(20),
        all_of_them.uris[10:30],
        {"kind": found.rows(np.arange(10, 30))},
        1,
        "other",
    )
    assert compare(all_of_them, part)["kind"].difference.count == 20
    others = Predictions(part.schema, part.ids, ["x"] * 20, part.labels, 1, "")
    with pytest.raises(DataError, match="in common"):
        compare(all_of_them, others)
    moved = stored((found.truth + 1) % 6, found.mask, found.predicted, found.probabilities)
    with pytest.raises(DataError, match="different truths"):
        compare(all_of_them, predictions(moved))


def test_the_same_set_is_joined_by_number_whatever_its_files_are_called_now():
    found = of_class(60)
    first = predictions(found)
    moved = dataclasses.replace(
        first, ids=first.ids[::-1], uris=["twice.jpg"] * 60,
        labels={"kind": found.rows(np.arange(60)[::-1])},
    )  # fmt: skip
    comparison = compare(first, moved)["kind"]
    assert comparison.difference.count == 60 and comparison.gained == comparison.lost == []


def test_too_few_examples_cannot_tell_and_say_so(tmp_path, capsys):
    found = of_class(6)
    wrong = changed(found, np.arange(6), right=False)
    right = changed(wrong, np.arange(3), right=True)
    for name, one in (("a", wrong), ("b", right)):
        write_predictions(str(tmp_path / f"{name}.parquet"), predictions(one))
    assert compare_verb.main([str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]) == 0
    printed = capsys.readouterr().out
    assert "kind: cannot tell, on 6 examples" in printed
    assert "0.500 (too few examples)" in printed


def test_the_verb(tmp_path, capsys):
    found = of_class(100)
    (tmp_path / "b").mkdir()
    write_predictions(str(tmp_path / "a.parquet"), predictions(found))
    better = changed(found, np.flatnonzero(~found.is_right), right=True)
    write_predictions(str(tmp_path / "b" / "predictions.parquet"), predictions(better))
    out = str(tmp_path / "c.json")
    paths = [str(tmp_path / "a.parquet"), str(tmp_path / "b")]
    assert compare_verb.main([*paths, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert compare_verb.main([*paths, "--json", out]) == 0
    text = capsys.readouterr().out
    assert "kind: B is better" in text and "better in B: " in text
    with open(out, encoding="utf-8") as stream:
        assert json.load(stream)["kind"]["verdict"] == "B is better"
