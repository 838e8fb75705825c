"""The forms in which people keep data sets, through every command, in folders and in a bucket."""

import json
import os
import re
import subprocess
import sys

import pytest
import tensorflow as tf

import tiny_runs
from dataset.source_forms import FORMS, REFUSED
from fake_gcs import FakeGcs
from tf_image_classification.dataset.image.decode import decode_image
from tf_image_classification.dataset.label_discovery import find_labels
from tf_image_classification.dataset.readers import find_examples, for_role, has_evaluation_part
from tf_image_classification.dataset.table import SourceOptions, read_table
from tf_image_classification.errors import TficError
from tf_image_classification.labels import LabelSchema
from tf_image_classification.serving.input_images import find_images
from tf_image_classification.workflows.convert import ConvertOptions, convert
from tf_image_classification.workflows.inspect import inspect


def number_of(encoded):
    """The number of a picture, which is its colour."""
    return int(decode_image(encoded, max_pixels=10**4)[0, 0, 0])


def table_of(path, cache, label_columns=()):
    """The table that a training reads, with inferred labels."""
    labels = find_labels(find_examples([path], option="train_metadata"), columns=label_columns)
    schema = LabelSchema(tuple(labels))
    options = SourceOptions(option="train_metadata", cache_dir=str(cache))
    raw = read_table([path], schema, options)
    named = {label.name: raw.vocabulary(label) for label in schema.labels_with_classes}
    return raw.encode(schema.with_vocabularies(named)), schema


def classes_of(column, label):
    """The class of each example by name; classes of a multilabel are joined."""
    if not label.value_shape:
        return [
            label.class_names[value] if given else ""
            for value, given in zip(column.values, column.mask, strict=True)
        ]
    return [
        "|".join(name for name, is_on in zip(label.class_names, row, strict=True) if is_on)
        for row in column.values
    ]


ONE_OF_A_KIND = [
    "class folders", "CSV of the contract", "records of TF-Slim", "WebDataset, folder of parts",
    "Parquet of Hugging Face", "MNIST", "CIFAR-10", "table of Kaggle: ids, images in a folder",
]  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_form_gives_its_examples_to_training_and_inference(tmp_path, name):
    form = FORMS[name]
    (tmp_path / "source").mkdir()
    path = os.path.normpath(tmp_path / "source" / form.write(tmp_path / "source"))
    pictures = [number for number, _ in form.examples]
    classes = [label for _, label in form.examples]
    listing = find_examples([path], option="SOURCE")
    # train, evaluate, preview and report read this table.
    table, _ = table_of(path, tmp_path / "cache", form.label_columns)
    fetched = table.fetch(tf.range(table.num_examples, dtype=tf.int64)).numpy()
    assert [number_of(encoded) for encoded in fetched] == pictures
    label = find_labels(listing, columns=form.label_columns)[0]
    assert classes_of(table.columns[label.name], label) == classes
    assert has_evaluation_part([path], "train_metadata") == (len(listing.parts) > 1)
    if len(listing.parts) > 1:
        sizes = [len(for_role(listing, role, path)) for role in ("train", "eval")]
        assert min(sizes) > 0 and sum(sizes) <= len(listing)
    contents = [found.content() for found in find_images([path])]
    encoded = [
        tf.io.read_file(found).numpy() if isinstance(found, str) else found for found in contents
    ]
    numbers = [number_of(found) if isinstance(found, bytes) else found.flat[0] for found in encoded]
    assert sorted(numbers) == sorted(pictures)


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_a_form_is_inspected_and_converted(tmp_path, name):
    form = FORMS[name]
    (tmp_path / "source").mkdir()
    path = os.path.normpath(tmp_path / "source" / form.write(tmp_path / "source"))
    pictures = [number for number, _ in form.examples]
    listing = find_examples([path], option="SOURCE")
    assert [image.where for image in inspect(path, num_processes=1).images] == [
        listing.locate(i) for i in range(len(listing))
    ]
    summary = convert(path, str(tmp_path / "out"), ConvertOptions(num_processes=1, shuffle=False))
    assert sum(summary.num_examples.values()) == len(pictures)
    records = find_examples(summary.paths, option="SOURCE")
    read = [number_of(records.places[i].encoded()) for i in range(len(records))]
    assert sorted(read) == sorted(pictures)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_a_form_is_trained_on_and_evaluated(tmp_path, name):
    (tmp_path / "source").mkdir()
    path = os.path.normpath(tmp_path / "source" / FORMS[name].write(tmp_path / "source"))
    tiny_runs.run(
        tiny_runs.plain_spec(depth=2), tmp_path / "model", path, path, batch_size=2, train_steps=2
    )
    (evaluation,) = tiny_runs.evaluations(tmp_path / "model")
    assert evaluation["step"] == 2


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_that_cannot_be_trained_on_is_refused_with_what_to_do(tmp_path, name):
    write, message = REFUSED[name]
    path = os.path.normpath(tmp_path / write(tmp_path))
    with pytest.raises(TficError) as caught:
        table_of(path, tmp_path / "cache")
    assert re.search(message, str(caught.value)), caught.value
    assert str(tmp_path) in str(caught.value)


IN_A_BUCKET = """
import json, sys
from dataset.test_source_forms import table_of
from tf_image_classification.serving.input_images import find_images
given = json.load(sys.stdin)
found = {}
for name, (path, label_columns) in given.items():
    table, _ = table_of(path, sys.argv[1], label_columns)
    images = [each.content() for each in find_images([path])]
    failed = [str(each) for each in images if isinstance(each, Exception)]
    found[name] = [table.num_examples, table.fingerprint, len(images), failed]
print(json.dumps(found))
"""


@pytest.mark.exhaustive
def test_forms_in_a_bucket_have_the_same_fingerprints(tmp_path):
    local, remote = {}, {}
    with FakeGcs("bucket") as gcs:
        for number, (name, form) in enumerate(FORMS.items()):
            folder = tmp_path / f"form{number}"
            folder.mkdir()
            pattern = form.write(folder)
            for path in folder.rglob("*"):
                if path.is_file():
                    place = path.relative_to(tmp_path).as_posix()
                    gcs.put("bucket", place, path.read_bytes())
            columns = list(form.label_columns)
            local[name] = (os.path.normpath(folder / pattern), columns)
            end = "" if pattern == "." else f"/{pattern}"
            remote[name] = (f"gs://bucket/{folder.name}{end}", columns)
        ended = subprocess.run(
            [sys.executable, "-c", IN_A_BUCKET, str(tmp_path / "cache")],
            input=json.dumps(remote), env=os.environ | gcs.environment(), capture_output=True,
            text=True, check=False, cwd=os.path.dirname(os.path.dirname(__file__)),
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    for name, (path, columns) in local.items():
        table, _ = table_of(path, tmp_path / "local_cache", columns)
        listing = find_examples([path], option="SOURCE")
        count, fingerprint, num_images, failed = found[name]
        assert not failed and num_images == count == table.num_examples, name
        if listing.places.kind != "file":  # sizes of remote files are not looked up
            assert fingerprint == table.fingerprint, name
