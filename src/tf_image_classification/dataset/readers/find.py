"""Finds the examples of any kind of source by its paths or patterns.

    listing = find_examples(["records/train-*"], option="train_metadata", cache_dir="cache")

A source may be divided into parts: by folders called ``train`` and ``val``, by names of files, or
by a column of a CSV. ``PATH:PART`` names one of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from tf_image_classification.dataset.readers import names
from tf_image_classification.dataset.readers.csv_files import parts_in_table
from tf_image_classification.dataset.readers.kinds import (
    CIFAR,
    CSV,
    EXPECTED,
    FOLDER,
    IDX,
    PARQUET,
    TAR,
    TFDS,
    TFRECORD,
    Reader,
    ReadOptions,
    Source,
)
from tf_image_classification.dataset.readers.listing import Listing
from tf_image_classification.dataset.readers.shard_checks import check_counts
from tf_image_classification.dataset.readers.sources import find_source
from tf_image_classification.errors import DataError, counted, did_you_mean
from tf_image_classification.system import files

_MODULES = {
    FOLDER: "folders",
    CSV: "csv_files",
    TFRECORD: "record_files",
    TAR: "tar_files",
    PARQUET: "parquet_files",
    IDX: "idx_files",
    CIFAR: "cifar_files",
    TFDS: "tfds",
}
"""By kind the module of its reader; imported when needed, since some need TensorFlow."""


def find_examples(
    patterns: Sequence[str], *, option: str, cache_dir: str = "", image_feature: str = ""
) -> Listing:
    """The examples of a source, with skipped files and rows.

    Args:
        patterns: folders of class folders; CSV files; TFRecord, tar or Parquet files; a folder of
            such files, of MNIST's idx files or CIFAR's binary files; patterns of these;
            ``tfds:NAME``; each with ``:PART`` after it to read one part only. Local or ``gs://``.
        option: the setting that names them, for messages.
        cache_dir: folder for indexes of records; "": none are kept.
        image_feature: name of the records' feature with the image; "" finds it.

    Raises:
        DataError: nothing is there, it is malformed, shards are missing, or it has no such part.
        ConfigError: it needs an extra that is not installed.
    """
    plain, wanted = _without_parts(patterns)
    source = find_source(plain, option)
    listing = _read(source, ReadOptions(cache_dir, image_feature))
    if source.kind == TFRECORD:
        check_counts(listing, option)
    if not len(listing):
        raise DataError(_why_nothing(plain, listing))
    return of_part(listing, wanted, ", ".join(plain)) if wanted else listing


def source_kind(patterns: Sequence[str], option: str) -> str:
    """The kind of source that patterns name.

    Raises:
        DataError: as ``find_source``.
    """
    return find_source(_without_parts(patterns)[0], option).kind


def of_part(listing: Listing, part: str, source: str) -> Listing:
    """The examples of one part of a listing.

    Args:
        listing: all examples.
        part: its name in the source, or its role: "train", "eval" or "test".
        source: its name, for messages.

    Raises:
        DataError: there is no such part, or two or more have the role.
    """
    parts = listing.parts
    chosen = [p for p in parts if p == part] or [p for p in parts if names.part_role(p) == part]
    if len(chosen) != 1:
        known = f"It has {', '.join(chosen)}: name one." if chosen else did_you_mean(part, parts)
        raise DataError(f"{source} has {len(chosen)} parts called {part!r}. {known}")
    return listing.select([i for i, p in enumerate(listing.splits) if p == chosen[0]])


def for_role(listing: Listing, role: str, source: str) -> Listing:
    """The examples for training or for evaluation; all of them if the source is not divided.

    An evaluation takes the validation part, or else the test part.

    Args:
        listing: all examples.
        role: "train" or "eval".
        source: its name, for messages.

    Raises:
        DataError: no part has the role, or two or more have it.
    """
    if len(listing.parts) < 2:
        return listing
    roles = [names.part_role(part) for part in listing.parts]
    if role == names.EVAL and role not in roles:
        role = names.TEST
    return of_part(listing, role, source)


def has_evaluation_part(patterns: Sequence[str], option: str) -> bool:
    """Whether a source that is named for training has a part for evaluation.

    Raises:
        DataError: as ``find_source``.
    """
    plain, wanted = _without_parts(patterns)
    if wanted:
        return False
    source = find_source(plain, option)
    parts = list(source.parts)
    if source.kind == CSV and not parts:
        parts = [part for path in source.paths for part in parts_in_table(path)]
    elif source.kind in (IDX, CIFAR, TFDS):
        parts = _read(source, ReadOptions()).parts
    return len({names.part_role(part) for part in parts} - {""}) > 1


def _without_parts(patterns: Sequence[str]) -> tuple[list[str], str]:
    """Patterns without ``:PART`` after them, and the part.

    Raises:
        DataError: different parts are named.
    """
    plain, wanted = [], set()
    for pattern in patterns:
        path, colon, part = pattern.rpartition(":")
        # "gs://" and "tfds:NAME" have a colon of their own, and so may a file's name.
        if colon and names.part_role(part) and path != "tfds" and not files.exists(pattern):
            plain.append(path)
            wanted.add(part.lower())
        else:
            plain.append(pattern)
            wanted.add("")
    if len(wanted) > 1:
        raise DataError(f"{', '.join(patterns)}: expected the same part after each path.")
    return plain, wanted.pop() if wanted else ""


def _read(source: Source, options: ReadOptions) -> Listing:
    read: Reader = importlib.import_module(f"{__package__}.{_MODULES[source.kind]}").read
    return read(source, options)


def _why_nothing(patterns: Sequence[str], listing: Listing) -> str:
    source = ", ".join(patterns)
    if not listing.left_out:
        return f"{source} holds no images."
    count = counted(len(listing.left_out), "file or row is", "files or rows are")
    first = str((listing.damaged or list(listing.left_out))[0]).rstrip(".")
    return f"{source} gives no images: {count} skipped, e.g. {first}. {EXPECTED[listing.kind]}"
