"""Finding the rows of a source: folders, CSV, idx, CIFAR, tar, Parquet, records, TFDS.

    rows, refused = find_rows("pictures")

Nothing is decoded here. What is there and no image of the source is told, never dropped in silence.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator

import numpy as np

from tf_image_classification import files
from tf_image_classification.conversion.columns import Cell, with_types
from tf_image_classification.conversion.packed import read_parquet, read_records, read_tar
from tf_image_classification.conversion.rows import (
    LABEL,
    Found,
    Place,
    Refused,
    Row,
    Value,
    unpacked,
)
from tf_image_classification.dataset.sources import (
    IMAGE_SUFFIXES,
    URI_COLUMN,
    label_rows,
)
from tf_image_classification.errors import ConfigError, DataError

__all__ = ["LABEL", "find_rows", "write_refused"]


def find_rows(source: str, label: str = "") -> Found:
    """The images of a source, and what of it is none; each column is of one type.

    Args:
        source: a folder of class folders; a CSV with or without header; a folder with MNIST's idx
            files or CIFAR's binary files; tar files of WebDataset, Parquet files or TFRecord files,
            or a pattern of such; ``tfds:NAME``. Local or ``gs://``.
        label: column of the classes, which stay texts in a CSV; "": ``LABEL``.

    Raises:
        DataError: the source is missing, empty or malformed.
        ConfigError: it needs an extra that is not installed.
    """
    if source.startswith("tfds:"):
        return _read_tfds(source.removeprefix("tfds:"))
    paths = files.expand_patterns([source], option="SOURCE")
    rows: list[Row] = []
    refused: list[Refused] = []
    for path in paths:
        found, left_out = _reader_of(path)(path)
        rows += found
        refused += left_out
    if not rows:
        raise DataError(_why_nothing(source, refused))
    return with_types(rows, texts=(label or LABEL,)), refused


def _why_nothing(source: str, refused: list[Refused]) -> str:
    if not refused:
        return f"{source} holds no images."
    first = refused[0]
    return (
        f"{source} gives no images: {len(refused)} files or rows are left out, such as "
        f"{first.where} ({first.reason}). Expected a folder of images for each class, a CSV or "
        "records."
    )


def _reader_of(path: str) -> Callable[[str], Found]:
    lower = path.lower()
    if files.is_folder(path):
        names = files.list_folder(path)
        if any(re.search(r"-images[.-]idx3-ubyte", name) for name in names):
            return _read_idx
        if any(re.fullmatch(r"(data_batch_\d|test_batch|train|test)\.bin", n) for n in names):
            return _read_cifar
        records = [name for name in names if ".tfrecord" in name]
        others = (files.join(path, name) for name in names if ".tfrecord" not in name)
        if records and not any(map(files.is_folder, others)):  # labels.txt and the like
            return lambda folder: _each(folder, records, read_records)
        if any(name.endswith(".parquet") for name in names):
            chosen = [name for name in names if name.endswith(".parquet")]
            return lambda folder: _each(folder, chosen, read_parquet)
        return _read_folder
    if lower.endswith(".csv"):
        return _read_csv
    if lower.endswith((".tar", ".tar.gz", ".tgz")):
        return read_tar
    if lower.endswith(".parquet"):
        return read_parquet
    if ".tfrecord" in lower:
        return read_records
    raise DataError(
        f"{path} is no source that is known: expected a folder, .csv, .tar, .parquet or .tfrecord."
    )


def _each(folder: str, names: list[str], read: Callable[[str], Found]) -> Found:
    rows, refused = [], []
    for name in names:
        found, left_out = read(files.join(folder, name))
        rows += found
        refused += left_out
    return rows, refused


def _read_folder(path: str) -> Found:
    rows, refused = [], []
    for name in files.list_folder(path, with_hidden=True):
        inner = files.join(path, name)
        if not files.is_folder(inner):
            refused.append(Refused(inner, "lies beside the class folders"))
            continue
        if name.startswith("."):
            refused.append(Refused(inner, "hidden"))
            continue
        for file in _files_below(inner):
            key = file[len(path) :].lstrip("/")
            if os.path.basename(file).startswith("."):
                refused.append(Refused(file, "hidden"))
            elif not file.lower().endswith(IMAGE_SUFFIXES):
                refused.append(Refused(file, "not the name of an image"))
            else:
                rows.append(Row(key, Place("file", file), {LABEL: name}, where=file))
    return rows, refused


def _files_below(folder: str) -> Iterator[str]:
    """All files, and hidden folders as a whole."""
    for name in files.list_folder(folder, with_hidden=True):
        inner = files.join(folder, name)
        if files.is_folder(inner) and not name.startswith("."):
            yield from _files_below(inner)
        else:
            yield inner


def _read_csv(path: str) -> Found:
    rows: list[Row] = []
    refused: list[Refused] = []
    header, numbered = label_rows(path)
    folder = path.rpartition("/")[0] if files.is_remote(path) else os.path.dirname(path)
    for line, cells in numbered:
        where = f"{path} line {line}"
        if len(cells) != len(header):
            refused.append(Refused(where, f"{len(cells)} cells, expected {len(header)}"))
            continue
        row = {name: Cell(cell.strip()) for name, cell in zip(header, cells, strict=True)}
        uri = str(row.pop(URI_COLUMN))
        image = files.join(folder, uri)
        if not files.is_remote(image) and not os.path.exists(image) and os.path.exists(uri):
            image = uri
        rows.append(Row(uri, Place("file", image), row, where=f"{where} ({uri})"))
    return rows, refused


def _read_idx(folder: str) -> Found:
    """yann.lecun.com/exdb/mnist describes the format."""
    rows = []
    for name in files.list_folder(folder):
        match = re.fullmatch(r"(\w+)-images[.-]idx3-ubyte(\.gz)?", name)
        if match is None:
            continue
        path, prefix = files.join(folder, name), match[1]
        labels_name = name.replace("-images", "-labels").replace("idx3", "idx1")
        labels_path = files.join(folder, labels_name)
        if not files.exists(labels_path):
            raise DataError(f"{path} has no labels: expected {labels_name} beside it.")
        data, labels = unpacked(path), unpacked(labels_path)
        if (
            min(len(data) - 16, len(labels) - 8) < 0
            or bytes(data[:4]) != b"\0\0\x08\x03"
            or bytes(labels[:4]) != b"\0\0\x08\x01"
        ):
            raise DataError(f"{path} or its labels do not begin like an idx file of bytes.")
        count, height, width = np.frombuffer(data[4:16], ">i4").tolist()
        if len(labels) != 8 + count or len(data) != 16 + count * height * width:
            raise DataError(f"{path}: it or its labels are cut short; {count} images are declared.")
        for i in range(count):
            offset = 16 + i * height * width
            place = Place("pixels", path, offset, height * width, (height, width))
            part = {"train": "train", "t10k": "test"}.get(prefix, prefix)
            where = f"{path} image {i}"
            rows.append(Row(f"{prefix}/{i:06d}", place, {LABEL: int(labels[8 + i])}, part, where))
    return rows, []


def _read_cifar(folder: str) -> Found:
    """cs.toronto.edu/~kriz/cifar.html describes the format: label bytes, then planes of colours."""
    names = files.list_folder(folder)
    is_hundred = "train.bin" in names
    names_file = "fine_label_names.txt" if is_hundred else "batches.meta.txt"
    class_names = _cifar_names(folder, names_file)
    num_labels, pixels = (2 if is_hundred else 1), 3 * 32 * 32
    rows = []
    for name in names:
        if not re.fullmatch(r"(data_batch_\d|test_batch|train|test)\.bin", name):
            continue
        path = files.join(folder, name)
        data = unpacked(path)
        size = num_labels + pixels
        if len(data) % size:
            raise DataError(f"{path} has {len(data)} bytes, not a multiple of {size}.")
        for i in range(len(data) // size):
            number = data[i * size + num_labels - 1]
            if class_names and number >= len(class_names):
                raise DataError(
                    f"{path} image {i} is of class {number}, but {names_file} names only "
                    f"{len(class_names)} classes. Complete it, or look whether the file is damaged."
                )
            label: Value = class_names[number] if class_names else int(number)
            place = Place("pixels", path, i * size + num_labels, pixels, (3, 32, 32))
            split = "test" if name.startswith("test") else "train"
            key = f"{name.removesuffix('.bin')}/{i:05d}"
            rows.append(Row(key, place, {LABEL: label}, split, f"{path} image {i}"))
    return rows, []


def _cifar_names(folder: str, name: str) -> list[str]:
    path = files.join(folder, name)
    text = files.read_text(path) if files.exists(path) else ""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read_tfds(name: str) -> Found:
    """The records that TensorFlow Datasets has prepared, with its class names and splits."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ConfigError(
            f"tfds:{name} needs TensorFlow Datasets. Type: pip install tensorflow-datasets"
        ) from error
    builder = tfds.builder(name)
    builder.download_and_prepare()
    names = getattr(builder.info.features.get(LABEL), "names", None)
    rows: list[Row] = []
    refused: list[Refused] = []
    for split, info in builder.info.splits.items():
        for path in info.filepaths:
            found, left_out = read_records(str(path))
            refused += left_out
            for row in found:
                columns = dict(row.columns)
                if names and isinstance(columns.get(LABEL), int):
                    columns[LABEL] = names[int(columns[LABEL])]  # type: ignore[arg-type]
                rows.append(Row(f"{split}/{row.key}", row.place, columns, split, row.where))
    return rows, refused


def write_refused(path: str, refused: list[Refused]) -> None:
    """A CSV of the rows that were not converted, with reasons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "reason"])
    writer.writerows([each.where, each.reason] for each in refused)
    files.write_bytes(path, text.getvalue().encode())
