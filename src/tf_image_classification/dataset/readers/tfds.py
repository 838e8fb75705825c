"""Data sets that TensorFlow Datasets has prepared, with their class names and splits."""

from __future__ import annotations

import dataclasses

from tf_image_classification.dataset.readers import record_files
from tf_image_classification.dataset.readers.kinds import TFDS, TFRECORD, ReadOptions, Source
from tf_image_classification.dataset.readers.listing import LABEL, Listing
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.labels import Value


def read(source: Source, options: ReadOptions) -> Listing:
    """The examples of one data set.

    Raises:
        ConfigError: TensorFlow Datasets is not installed.
        DataError: two data sets are named.
    """
    if len(source.paths) != 1:
        raise DataError(f"Expected one data set, not {', '.join(source.paths)}.")
    name = source.paths[0]
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ConfigError(
            f"tfds:{name} needs TensorFlow Datasets. Type: pip install tensorflow-datasets"
        ) from error
    builder = tfds.builder(name)
    builder.download_and_prepare()
    named = [
        (str(path), split) for split, info in builder.info.splits.items() for path in info.filepaths
    ]
    listing = record_files.read(
        Source(TFRECORD, [path for path, _ in named], [split for _, split in named]), options
    )
    class_names = getattr(builder.info.features.get(LABEL), "names", None)
    listing = dataclasses.replace(listing, kind=TFDS)
    if not class_names or LABEL not in listing.columns:
        return listing
    labels: list[Value] = [
        class_names[value] if isinstance(value, int) else value for value in listing.columns[LABEL]
    ]
    columns = {**listing.columns, LABEL: labels}
    return dataclasses.replace(listing, columns=columns)
