"""Parts of a set: they stay when images are added, and groups stay together."""

import math

import pytest

from tf_image_classification.conversion.rows import Place, Row
from tf_image_classification.conversion.splits import Split, divide
from tf_image_classification.errors import ConfigError


def rows_of(count, **columns):
    return [
        Row(f"{i}.png", Place("file", f"{i}.png"), {n: v(i) for n, v in columns.items()})
        for i in range(count)
    ]


def test_a_split_does_not_move_when_images_are_added():
    split = Split({"train": 0.7, "eval": 0.2, "test": 0.1})
    parts = divide(rows_of(2000), split)
    sizes = {name: len(part) / 2000 for name, part in parts.items()}
    assert sizes == pytest.approx({"train": 0.7, "eval": 0.2, "test": 0.1}, abs=0.03)
    more = divide(rows_of(4000), split)
    for name, part in parts.items():
        assert {row.key for row in part} <= {row.key for row in more[name]}
    other = divide(rows_of(2000), Split(split.shares, seed=1))
    assert {r.key for r in other["test"]} != {r.key for r in parts["test"]}


def test_a_group_stays_together_and_a_class_is_divided_evenly():
    rows = rows_of(600, person=lambda i: f"p{i // 6}", kind=lambda i: "rare" if i < 20 else "usual")
    shares = {"train": 0.8, "eval": 0.2}
    parts = divide(rows, Split(shares, group="person"))
    people = [{row.columns["person"] for row in part} for part in parts.values()]
    assert not people[0] & people[1] and all(people)
    parts = divide(rows, Split(shares, stratify="kind"))
    rare = [sum(row.columns["kind"] == "rare" for row in part) for part in parts.values()]
    assert rare == [16, 4] and len(parts["train"]) == 480
    with pytest.raises(ConfigError, match="No row has a column 'persn'"):
        divide(rows, Split(shares, group="persn"))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"a": math.nan}, "add up to nan"),
        ({"a": 0.5}, "add up to 0.5"),
        ({"a": 1.5, "b": -0.5}, "each above 0"),
    ],
)
def test_shares_that_are_no_whole_are_refused(split, message):
    with pytest.raises(ConfigError, match=message):
        Split(split)
