"""Small sources of images, and what a training reads of converted ones."""

import tensorflow as tf

from tf_image_classification.dataset.image.decode import decode_image
from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.dataset.table import SourceOptions, read_table
from tf_image_classification.labels import LabelSchema

ONE = {"num_processes": 1}


def records_of(paths):
    for path in paths:
        kind = "GZIP" if path.endswith(".gz") else ""
        for record in tf.data.TFRecordDataset(path, compression_type=kind):
            yield tf.train.Example.FromString(record.numpy()).features.feature


def read_back(pattern, labels, tmp_path, **vocabularies):
    """What the training would read: class numbers by label, and the first pixels."""
    schema = LabelSchema(tuple(labels))
    raw = read_table(
        [pattern], schema, SourceOptions(option="train_metadata", cache_dir=str(tmp_path / "cache"))
    )
    names = {
        label.name: vocabularies.get(label.name) or raw.vocabulary(label)
        for label in schema.labels_with_classes
    }
    table = raw.encode(schema.with_vocabularies(names))
    data = table.fetch(tf.range(table.num_examples, dtype=tf.int64))
    pixels = [int(decode_image(one, max_pixels=10**6)[0, 0, 0]) for one in data]
    return {name: column.values.tolist() for name, column in table.columns.items()}, pixels


def rows_of_source(source):
    """The examples of a source one by one, and what is left out."""
    listing = find_examples([source], option="SOURCE")
    return list(listing.rows()), list(listing.left_out)
