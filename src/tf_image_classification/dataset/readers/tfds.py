"""Data sets that TensorFlow Datasets has prepared, with their class names and splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tf_image_classification.dataset.readers.listing import LABEL, Listing
from tf_image_classification.dataset.readers.record_files import read_records
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.labels import Value


def read_tfds(data_sets: Sequence[str]) -> Listing:
    """The examples of one data set.

    Raises:
        ConfigError: TensorFlow Datasets is not installed.
        DataError: several data sets are named.
    """
    if len(data_sets) != 1:
        raise DataError(f"Expected one data set, not {', '.join(data_sets)}.")
    name = data_sets[0]
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
    listing = read_records([path for path, _ in named], [split for _, split in named])
    class_names = getattr(builder.info.features.get(LABEL), "names", None)
    if not class_names or LABEL not in listing.columns:
        return dataclasses.replace(listing, kind="tfds")
    labels: list[Value] = [
        class_names[value] if isinstance(value, int) else value for value in listing.columns[LABEL]
    ]
    columns = {**listing.columns, LABEL: labels}
    return dataclasses.replace(listing, kind="tfds", columns=columns)
