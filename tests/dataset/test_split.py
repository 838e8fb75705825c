"""Parts of a set: they stay when images are added, and groups stay together."""

import math

import pyarrow as pa
import pyarrow.parquet
import pytest

from conversion.test_file_kinds import texts, write_records, write_tar
from dataset.tiny_sources import png
from tf_image_classification.dataset.readers import Place, Row, find_examples
from tf_image_classification.dataset.split import Split, divide, hold_out
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
        ({"a": math.nan}, "sum to nan"),
        ({"a": 0.5}, "sum to 0.5"),
        ({"a": 1.5, "b": -0.5}, "each above 0"),
    ],
)
def test_shares_that_are_no_whole_are_refused(split, message):
    with pytest.raises(ConfigError, match=message):
        Split(split)


def test_the_first_example_of_a_class_is_for_training():
    shares = {"eval": 0.6, "train": 0.4}
    kinds = ["a"] * 10 + ["b"] * 10 + ["c"]
    rows = rows_of(21, kind=lambda i: kinds[i])
    parts = divide(rows, Split(shares, stratify="kind"))
    assert {row.columns["kind"] for row in parts["train"]} == {"a", "b", "c"}
    assert len(parts["train"]) == 9  # four of each, and the only c


def write_source(kind, folder, numbers, *, name="set", per_file=4):
    """Pictures by number in one kind of source; returns what names them."""
    folder.mkdir()
    groups = [numbers[i : i + per_file] for i in range(0, len(numbers), per_file)]
    if kind == "folder":
        for i in numbers:
            path = folder / name / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(i))
        return str(folder / name)
    if kind == "csv":
        for i in numbers:
            (folder / f"{i}.png").write_bytes(png(i))
        rows = "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in numbers)
        (folder / f"{name}.csv").write_text(rows)
        return str(folder / f"{name}.csv")
    for number, group in enumerate(groups):
        path = folder / f"{name}-{number:05d}.{kind}"
        if kind == "tar":
            write_tar(path, [(f"{i}.png", png(i)) for i in group])
        elif kind == "parquet":
            table = pa.table({"image": [png(i) for i in group], "size": group})
            pa.parquet.write_table(table, path)
        else:
            write_records(path, *({"image_bytes": texts(png(i))} for i in group))
    return str(folder / f"{name}-*")


@pytest.mark.parametrize("kind", ["folder", "csv", "tar", "parquet", "tfrecord"])
def test_a_split_stays_whatever_becomes_of_the_files(tmp_path, kind):
    def parts_of(source):
        listing = find_examples([source], option="SOURCE")
        found = divide(list(listing.rows()), Split({"train": 0.6, "eval": 0.4}))
        return {name: {row.place.encoded() for row in rows} for name, rows in found.items()}

    numbers = list(range(40))
    parts = parts_of(write_source(kind, tmp_path / "a", numbers))
    assert min(map(len, parts.values())) > 8
    for folder, changes in (
        ("renamed", {"name": "other"}),
        ("sharded", {"per_file": 7}),
        ("reordered", {"numbers": numbers[::-1]}),
        ("more", {"numbers": list(range(60))}),
    ):
        given = {"numbers": numbers} | changes
        now = parts_of(write_source(kind, tmp_path / folder, **given))
        known = parts["train"] | parts["eval"]
        assert {name: found & known for name, found in now.items()} == parts, folder


def held(ids, classes, fraction, **more):
    chosen = hold_out(ids, classes, fraction, **more)
    return {own for own, is_held in zip(ids, chosen, strict=True) if is_held}


def test_the_held_out_examples_depend_on_names_alone_and_divide_each_class():
    classes = {f"{i}.jpg": {"abc"[i % 3]} for i in range(90)} | {"rare.jpg": {"rare"}}
    classes |= {"two-1.jpg": {"two"}, "two-2.jpg": {"two"}}
    ids = list(classes)
    found = held(ids, list(classes.values()), 0.2)
    backwards = ids[::-1]
    assert held(backwards, [classes[own] for own in backwards], 0.2) == found
    counts = {name: sum(classes[own] == {name} for own in found) for name in ("a", "b", "c")}
    assert counts == {"a": 6, "b": 6, "c": 6}
    assert "rare.jpg" not in found and len(found & {"two-1.jpg", "two-2.jpg"}) == 1
    assert not held(ids, list(classes.values()), 0.0)


def test_examples_with_something_in_common_are_held_out_together():
    ids = [f"{i}.jpg" for i in range(60)]
    classes = [{"ab"[i % 2]} for i in range(60)]
    ties = [[f"content/{i // 2}", f"group/{i // 6}"] for i in range(60)]
    for stratify in (True, False):
        chosen = hold_out(ids, classes, 0.3, ties, stratify=stratify)
        groups = {tie[1]: {chosen[i] for i in range(60) if ties[i] == tie} for tie in ties}
        assert all(len(sides) == 1 for sides in groups.values())
        assert sum(chosen) == pytest.approx(18, abs=6)


def test_no_class_loses_its_last_training_example_whatever_hangs_together():
    for number in range(50):
        ids = [f"{number}/{i}" for i in range(8)]
        classes = [{"a"}, {"a"}, {"a"}, {"b"}, {"b"}, {"c"}, {"c", "b"}, set()]
        ties = [["x"], [], [], ["x"], [], [], [], []]
        chosen = hold_out(ids, classes, 0.9, ties)
        assert chosen[0] == chosen[3]
        training = set().union(*(classes[i] for i in range(8) if not chosen[i]))
        assert training == {"a", "b", "c"}


def test_a_group_is_in_one_part_also_when_classes_are_stratified():
    rows = [Row(f"{i}.jpg", Place("file", ""), {"kind": "ab"[i % 2]}) for i in range(200)]
    groups = [f"video {i // 8}" if i < 160 else "" for i in range(200)]
    classes = [row.columns["kind"] for row in rows]
    for stratify in ("", "kind"):
        split = Split({"train": 0.7, "eval": 0.3}, stratify=stratify)
        parts = divide(rows, split, groups, classes)
        of = {row.key: name for name, members in parts.items() for row in members}
        assert len(of) == 200
        for start in range(0, 160, 8):
            assert len({of[f"{i}.jpg"] for i in range(start, start + 8)}) == 1
        assert 20 < len(parts["eval"]) < 100


def test_a_class_whose_groups_all_fall_into_another_part_gets_one_for_training():
    rows = [Row(f"{i}.jpg", Place("file", ""), {}) for i in range(60)]
    groups = [f"{i // 3}" for i in range(60)]
    classes = [f"class {i // 6}" for i in range(60)]  # two groups each
    parts = divide(rows, Split({"train": 0.1, "eval": 0.9}), groups, classes)
    assert {classes[int(row.key[:-4])] for row in parts["train"]} == set(classes)
    assert len(parts["train"]) + len(parts["eval"]) == 60
