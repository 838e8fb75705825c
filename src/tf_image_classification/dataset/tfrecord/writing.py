"""Writes examples as TFRecord files in the form of the contract."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Mapping, Sequence

import tensorflow as tf

from tf_image_classification.errors import DataError
from tf_image_classification.system import files

LabelValue = float | Sequence[float] | str | None


def write_shards(
    folder: str,
    name: str,
    examples: Iterable[tuple[bytes, str, Mapping[str, LabelValue]]],
    *,
    num_shards: int = 1,
) -> list[str]:
    """Write examples as GZIP files ``name-00000-of-00001.tfrecord.gz``.

    No file gets its name before all are written.

    Args:
        folder: where to write; created when absent; local or remote.
        name: first part of the file names, e.g. "train".
        examples: encoded image, its origin, and its labels by name: a number (class number or real
            value) is written as one float, a sequence of 0 and 1 for each class as floats, a class
            name (or names, as ``cat|dog``) as bytes; None is missing and not written.
        num_shards: number of files; examples are dealt to them in turn.

    Returns:
        The paths of the files.

    Example:
        >>> write_shards("records", "train", [(b"encoded image", "cat.jpg", {"pet": 0})])
        ['records/train-00000-of-00001.tfrecord.gz']
    """
    files.make_folder(folder)
    paths = [
        files.join(folder, f"{name}-{i:05d}-of-{num_shards:05d}.tfrecord.gz")
        for i in range(num_shards)
    ]
    # Hidden names, so that no pattern, e.g. train*, finds the unfinished files of a killed process.
    temporary = [
        files.join(folder, f".{name}-{i:05d}.{uuid.uuid4().hex}") for i in range(num_shards)
    ]
    writers = [tf.io.TFRecordWriter(path, options="GZIP") for path in temporary]
    try:
        for number, (image, uri, labels) in enumerate(examples):
            writers[number % num_shards].write(make_example(image, uri, labels))
        for writer in writers:
            writer.close()
    except BaseException:
        for writer, path in zip(writers, temporary, strict=True):
            with contextlib.suppress(Exception):  # the first error is the one to report
                writer.close()
            files.remove(path)
        raise
    for path, final in zip(temporary, paths, strict=True):
        files.rename(path, final)
    return paths


def make_example(
    image: bytes, uri: str, labels: Mapping[str, LabelValue], *, keeps_integers: bool = False
) -> bytes:
    """One serialized ``tf.train.Example`` in the contract's form.

    With ``keeps_integers`` whole numbers are written as such, so that large ones stay exact.

    Raises:
        DataError: a label has the name of a feature that every example has.
    """
    features = {"image_bytes": _bytes_feature(image), "image_uri": _bytes_feature(uri.encode())}
    for name, value in labels.items():
        if name in features:
            raise DataError(f"A label cannot be called {name!r}: every example has that feature.")
        if isinstance(value, str):
            features[name] = _bytes_feature(value.encode())
        elif keeps_integers and isinstance(value, int):
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        elif value is not None:
            numbers = value if isinstance(value, Sequence) else [value]
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=numbers))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(example.SerializeToString(deterministic=True))


def _bytes_feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
