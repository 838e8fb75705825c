"""Where examples come from: TFRecord files, CSV files and class folders, as one table.

``read_source`` finds and checks everything that can be known before decoding; ``encode`` turns the
labels into numbers once the vocabulary is fixed.

    raw = read_source(["train.csv"], schema, options)
    table = raw.encode(schema.with_vocabularies({"pet": ["cat", "dog"]}))
"""

from __future__ import annotations

from collections.abc import Sequence

from tf_image_classification import files
from tf_image_classification.dataset.sources.image_files import (
    IMAGE_SUFFIXES,
    LABEL,
    LABEL_COLUMN,
    URI_COLUMN,
    label_rows,
    read_image_files,
)
from tf_image_classification.dataset.sources.record_files import read_records
from tf_image_classification.dataset.sources.tables import RawTable, SourceOptions, Table
from tf_image_classification.errors import DataError
from tf_image_classification.labels import LabelSchema

__all__ = [
    "IMAGE_SUFFIXES",
    "LABEL",
    "LABEL_COLUMN",
    "URI_COLUMN",
    "RawTable",
    "SourceOptions",
    "Table",
    "label_rows",
    "read_source",
    "source_kind",
]


def source_kind(patterns: Sequence[str], option: str) -> tuple[str, list[str]]:
    """What patterns name: "folder", "csv" or "tfrecord", with the files or folders.

    Raises:
        DataError: nothing is named, or things of different kinds.
    """
    if not patterns:
        raise DataError(
            f"No examples are named. Give {option}: TFRecord files, a .csv or a folder."
        )
    paths = files.expand_patterns(patterns, option=option)
    expanded = [inner for path in paths for inner in _records_of_folder(path)]
    kinds = {_kind(path) for path in expanded}
    if len(kinds) > 1:
        raise DataError(f"{option} mixes {' and '.join(sorted(kinds))}. Give one kind of source.")
    return kinds.pop(), expanded


def _records_of_folder(path: str) -> list[str]:
    """The TFRecord files of a folder that holds nothing else, else the path itself."""
    if not files.is_folder(path):
        return [path]
    names = files.list_folder(path)
    if names and all(".tfrecord" in name for name in names):
        return [files.join(path, name) for name in names]
    return [path]


def _kind(path: str) -> str:
    if files.is_folder(path):
        return "folder"
    return "csv" if path.lower().endswith(".csv") else "tfrecord"


def read_source(patterns: Sequence[str], schema: LabelSchema, options: SourceOptions) -> RawTable:
    """Every example that patterns name, with all that can be checked before decoding.

    Args:
        patterns: paths or patterns of TFRecord files, CSV files or class folders.
        schema: the labels to read.
        options: how to read.

    Raises:
        DataError: a file is missing, empty or malformed; names file, line or record.
    """
    kind, paths = source_kind(patterns, options.option)
    if kind == "tfrecord":
        return read_records(paths, schema, options)
    return read_image_files(kind, paths, schema)
