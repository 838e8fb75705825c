"""A random tester of sources: odd names, labels, tables and damage, through every door.

What must hold whatever a source looks like: each row is an example or is named as left out; the
class of an example is the one that it was given; training, conversion, inspection and prediction
see the same examples; an error is one of ours and names what it is about.
"""

import contextlib
import csv
import io
import os
import tarfile
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.tiny_sources import png
from tf_image_classification.dataset.label_discovery import find_labels
from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.dataset.readers.names import clean
from tf_image_classification.dataset.table import SourceOptions, read_table
from tf_image_classification.errors import TficError
from tf_image_classification.labels import LabelSchema
from tf_image_classification.serving.input_images import find_images
from tf_image_classification.workflows.convert import ConvertOptions, convert
from tf_image_classification.workflows.inspect import inspect

PICTURES = [png(i) for i in range(8)]
ODD = [
    "a",
    "b c",
    "ünï",
    "u\u0308",
    "日本",
    "x,y",
    'q"r',
    "s't",
    "(1)",
    "[1]*",
    "#",
    "%20",
    ";",
    "&",
]
LABELS = ["ant", "bee", " bee ", "Ant", "0", "1", "01", "1.0", "2.5", "-1", "4011", "nan", "None",
          "e\u0301", "\u00e9", "a,b", 'q"r', "class (1)", "x" * 200, ""]  # fmt: skip

names = st.lists(st.sampled_from(ODD), min_size=1, max_size=2).map("".join)
texts = st.sampled_from(LABELS)
rows = st.lists(st.tuples(names, texts), min_size=1, max_size=8)


class Source:
    """A source in a folder, and what must be found in it.

    Attributes:
        path: what a user would name.
        expected: by example in order, the class that it was given.
        num_rows: rows or files that must be accounted for.
        may_be_refused: whether an error that names it is right, although it has examples.
    """

    def __init__(self, path, expected, num_rows, *, may_be_refused=False):
        self.path, self.expected, self.num_rows = path, expected, num_rows
        self.may_be_refused = may_be_refused


def write_folder(folder, given, draw):
    """Class folders; some with files that are no images, or of the system."""
    root = os.path.join(folder, "set")
    expected, count = [], 0
    for i, (name, label) in enumerate(given):
        class_folder = os.path.join(root, label.strip().replace("/", "_") or "none")
        os.makedirs(class_folder, exist_ok=True)
        other = draw(st.sampled_from(["", "", "", ".txt", ".heic", "hidden"]))
        file = f"{i:02d}{name}.png" if other in ("", "hidden") else f"{i:02d}{name}{other}"
        file = f".{file}" if other == "hidden" else file
        with open(os.path.join(class_folder, file), "wb") as stream:
            stream.write(PICTURES[i])
        count += 1
        if not other:
            expected.append((os.path.basename(class_folder), i))
    # In the order of the folders' names, and of the files' in each.
    order = sorted(expected, key=lambda each: (each[0], each[1]))
    return Source(root, [label for label, _ in order], count)


def write_csv(folder, given, draw):
    """A table in one of the dialects, with some rows that are no examples."""
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    header = draw(st.sampled_from([["URIs", "labels"], ["path", "label"], ["file", "class"], []]))
    has_index = bool(header) and draw(st.booleans())
    lines, expected = [], []
    for i, (name, label) in enumerate(given):
        file = f"{i}{name}.png"
        damage = draw(st.sampled_from(["", "", "", "missing", "folder", "short", "long"]))
        if damage == "folder":
            os.makedirs(os.path.join(folder, file), exist_ok=True)
        elif damage != "missing":
            with open(os.path.join(folder, file), "wb") as stream:
                stream.write(PICTURES[i])
        row = {"short": [file], "long": [file, label, "more", "x"]}.get(damage, [file, label])
        lines.append(row)
        if not damage:
            expected.append(label)
    if not header and all(len(line) == 1 for line in lines):  # a list of images without labels
        expected = [""] * len(lines)
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    for number, row in enumerate([header, *lines] if header else lines):
        index = [""] if number == 0 else [str(number - 1)]
        writer.writerow([*index, *row] if has_index else row)
    path = os.path.join(folder, "set.csv")
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(stream.getvalue())
    widths = [len(line) for line in lines]
    is_unclear = not header and widths.count(4) > widths.count(2)
    return Source(path, expected, len(given), may_be_refused=is_unclear)


def write_records(folder, given, draw):
    """TFRecords; some without an image, or with two."""
    path = os.path.join(folder, "set.tfrecord")
    as_numbers = all(label.strip().isdecimal() for _, label in given)
    expected = []
    kind = draw(st.sampled_from(["", "GZIP"]))
    with tf.io.TFRecordWriter(path, options=kind) as writer:
        for i, (name, label) in enumerate(given):
            count = draw(st.sampled_from([1, 1, 1, 0, 2]))
            images = tf.train.BytesList(value=PICTURES[i : i + 1] * count)
            features = {"image_bytes": tf.train.Feature(bytes_list=images)}
            if draw(st.booleans()):
                uri = tf.train.BytesList(value=[f"{i}{name}".encode()])
                features["image_uri"] = tf.train.Feature(bytes_list=uri)
            if label and as_numbers:
                number = tf.train.FloatList(value=[float(label)])
                features["label"] = tf.train.Feature(float_list=number)
            elif label:
                text = tf.train.BytesList(value=[label.encode()])
                features["label"] = tf.train.Feature(bytes_list=text)
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
            if count == 1:
                expected.append(str(int(label)) if label and as_numbers else label)
    return Source(path, expected, len(given))


def write_tar(folder, given, draw):
    """A tar file of WebDataset, some members without a partner."""
    path = os.path.join(folder, "set.tar")
    expected, count = [], 0
    with tarfile.open(path, "w") as tar:

        def add(name, data):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))

        for i, (name, label) in enumerate(given):
            key = f"{i}{name}".replace(".", "")
            has_image = draw(st.sampled_from([True, True, True, False]))
            if has_image:
                add(f"{key}.png", PICTURES[i])
                expected.append(label)
            if label or not has_image:
                add(f"{key}.cls", label.encode())
            count += 1
    return Source(path, expected, count)


def write_parquet(folder, given, draw):
    """A Parquet file, some of whose cells hold no image."""
    import pyarrow as pa
    import pyarrow.parquet

    images, expected = [], []
    for i, (_, label) in enumerate(given):
        has_image = draw(st.sampled_from([True, True, True, False]))
        images.append(PICTURES[i] if has_image else None)
        if has_image:
            expected.append(label)
    labels = [label or None for _, label in given]
    table = pa.table(
        {"image": pa.array(images, pa.binary()), "label": pa.array(labels, pa.string())}
    )
    path = os.path.join(folder, "set.parquet")
    pyarrow.parquet.write_table(table, path)
    return Source(path, expected, len(given))


WRITERS = {
    "folder": write_folder, "csv": write_csv, "records": write_records, "tar": write_tar,
    "parquet": write_parquet,
}  # fmt: skip


def is_same_class(found, given):
    """Whether a class is the one that was given, numbers by value."""
    given = clean(given)
    with contextlib.suppress(ValueError):
        return found == given or float(found) == float(given)
    return found == given


def look(kind, given, draw):
    with tempfile.TemporaryDirectory() as folder:
        source = WRITERS[kind](folder, given, draw)
        through_every_door(source, folder)


def through_every_door(source, folder):
    try:
        listing = find_examples([source.path], option="train_metadata")
    except TficError as error:
        assert os.path.basename(source.path) in str(error)
        assert source.may_be_refused or not source.expected, (
            f"{error}\nfound nothing of {source.expected}"
        )
        return
    # Each row is an example, or is named as left out.
    assert len(listing) + len(listing.left_out) == source.num_rows
    assert len(listing) == len(source.expected)
    for each in listing.left_out:
        assert each.where and each.reason
    # Its class is the one that it was given.
    column = next(iter(listing.columns.values()), [""] * len(listing))
    for found, label in zip(column, source.expected, strict=True):
        assert is_same_class(str(found), label)
    encoded = [listing.places[i].encoded() for i in range(len(listing))]
    trained = examples_of_a_training(listing, source.path, folder)
    if trained is not None:
        images, labels = trained
        assert images == encoded
        for found, label in zip(labels, source.expected, strict=True):
            assert found is None or is_same_class(found, label)
    summary = convert(
        source.path, os.path.join(folder, "out"), ConvertOptions(num_processes=1, shuffle=False)
    )
    assert summary.num_examples == {"train": len(listing)}
    assert len(summary.refused) == len(listing.left_out)
    records = find_examples([os.path.join(folder, "out")], option="SOURCE")
    assert [records.places[i].encoded() for i in range(len(records))] == encoded
    if listing.columns:
        again = next(iter(records.columns.values()), [""] * len(records))
        for found, label in zip(again, source.expected, strict=True):
            assert is_same_class(str(found), label)
    inspected = inspect(source.path, num_processes=1)
    assert [image.where for image in inspected.images] == [
        listing.locate(i) for i in range(len(listing))
    ]
    assert len(inspected.left_out) == len(listing.left_out)
    if not listing.damaged and listing.kind != "folder":
        named = list(find_images([source.path]))
        assert len(named) == len(listing)


def examples_of_a_training(listing, path, folder):
    """Encoded images and class names that a training reads, or None where it says what is wrong."""
    try:
        labels = find_labels(listing)
        schema = LabelSchema(tuple(labels))
        options = SourceOptions(
            option="train_metadata", cache_dir=os.path.join(folder, "cache"), skips_damaged=True
        )
        raw = read_table([path], schema, options)
        vocabularies = {
            label.name: label.class_names or raw.vocabulary(label)
            for label in schema.labels_with_classes
        }
        collected = [label.name for label in labels if label.are_collected]
        schema = schema.with_vocabularies(vocabularies, collected=collected)
        table = raw.encode(schema)
    except TficError as error:
        assert str(error)
        return None
    images = table.fetch(tf.range(table.num_examples, dtype=tf.int64)).numpy().tolist()
    (label,) = schema.labels
    column = table.columns[label.name]
    if not label.is_class:
        return images, [None] * len(images)
    names = np.array([*label.class_names, ""])
    numbers = np.where(column.mask, column.values, -1)
    return images, names[numbers].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
@given(given_rows=rows, data=st.data())
@settings(deadline=None, max_examples=3)
def test_any_source_gives_the_same_examples_through_every_door(kind, given_rows, data):
    look(kind, given_rows, data.draw)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", WRITERS)
@given(given_rows=rows, data=st.data())
@settings(deadline=None, max_examples=400)
def test_many_sources_give_the_same_examples_through_every_door(kind, given_rows, data):
    look(kind, given_rows, data.draw)
