"""What labels records have, for those who write no spec."""

import pytest

from dataset.test_data_path import png, write
from dataset.tiny_sources import example
from tf_image_classification.dataset.label_discovery import find_labels
from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.dataset.table import SourceOptions, read_table
from tf_image_classification.errors import DataError
from tf_image_classification.labels import LabelSchema


def labels_of(folder, **columns):
    count = len(next(iter(columns.values())))
    records = [
        example(i, image_bytes=png(i), **{name: values[i] for name, values in columns.items()})
        for i in range(count)
    ]
    paths = write(folder / "set.tfrecord", records)
    return [(one.name, one.kind, one.depth) for one in found_in(paths)]


def found_in(paths):
    return find_labels(find_examples(paths, option="train_metadata"))


def test_a_text_called_label_gives_its_classes(tmp_path):
    found = labels_of(tmp_path, label=[b"cat", b"dog", b"cat"], size=[1.5, 2.0, 3.0])
    assert found == [("label", "single-label", 2)]


@pytest.mark.parametrize(
    ("texts", "kind", "depth"),
    [
        ([b"cat|dog", b"cow", b"dog"], "multilabel", 3),
        ([b"1.10", b"1.1", b"2"], "regression", 0),
        ([1.5, 0.0, 2.0], "regression", 0),
    ],
)
def test_texts_say_of_which_kind_the_label_is(tmp_path, texts, kind, depth):
    [(name, found, found_depth)] = labels_of(tmp_path, label=texts)
    assert (name, found) == ("label", kind) and (kind == "regression" or found_depth == depth)


def test_one_number_is_a_class_whatever_its_name(tmp_path):
    assert labels_of(tmp_path, kind=[0, 2, 1]) == [("kind", "single-label", 3)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "a finite float32 number"),
        (float("inf"), "a finite float32 number"),
        (-1.0, "a class number"),
        ("gr\xfcn".encode("latin-1"), "not UTF-8 text"),
    ],
)
def test_a_record_whose_label_cannot_be_learned_is_named(tmp_path, value, expected):
    values = [0 if isinstance(value, float) else b"cat", value]
    records = [example(i, image_bytes=png(i), label=values[i]) for i in range(2)]
    paths = write(tmp_path / "set.tfrecord", records)
    with pytest.raises(DataError, match=rf"set.tfrecord record 1: label 'label' is .*{expected}"):
        schema = LabelSchema(tuple(found_in(paths)))
        options = SourceOptions(option="train_metadata", cache_dir=str(tmp_path / "cache"))
        read_table(paths, schema, options).encode(schema)


def test_a_record_that_is_no_example_is_named(tmp_path):
    paths = write(tmp_path / "set.tfrecord", [example(0, label=1), b"junk"])
    with pytest.raises(DataError, match=r"set.tfrecord record 1 is not a tf.train.Example"):
        found_in(paths)


def csv_labels(folder, content):
    path = folder / "set.csv"
    for name in ("a", "1", "2"):
        (folder / f"{name}.png").write_bytes(b"x")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return found_in([str(path)])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a.png,gr\xfcn\n".encode("latin-1"), "set.csv is not UTF-8"),
        ("", "set.csv is empty. Expected one row per image"),
        ("URIs,labels\n", "set.csv names no examples, only a header"),
        ("URIs\na.png\n", r"set.csv line 2 .* no column for a label"),
        ("URIs,a,b, a\n1.png,x,y,z\n2.png,y,y,y\n", "set.csv names column 'a' twice"),
        ("URIs,labels,label\n1.png,x,y\n2.png,y,x\n", "columns 'labels' and 'label'"),
    ],
)
def test_a_csv_without_usable_labels_is_refused(tmp_path, content, expected):
    with pytest.raises(DataError, match=expected):
        csv_labels(tmp_path, content)


def test_several_numbers_need_a_class_of_their_own(tmp_path):
    with pytest.raises(DataError, match="class_dict"):
        labels_of(tmp_path, kind=[0, 1], size=[1.0, 2.0])
    with pytest.raises(DataError, match="same for all"):
        labels_of(tmp_path, label=[b"cat", b"cat"])
