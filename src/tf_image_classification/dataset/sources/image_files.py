"""Images in files of their own: those that a CSV names, and those in class folders."""

from __future__ import annotations

import collections
import csv
import hashlib
import io
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tf_image_classification import files
from tf_image_classification.dataset.sources.tables import RawTable
from tf_image_classification.errors import DataError, did_you_mean
from tf_image_classification.labels import LabelSchema

URI_COLUMN = "URIs"
LABEL_COLUMN = "labels"
LABEL = "label"  # what a source's only label is called when the source does not name it
_MOST_COMPARED = 20_000  # files of equal length that are read to find equal ones
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    *(".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".ppm", ".pgm"),
)
"""Names of files that are taken for images; hidden and system files never are."""


def read_image_files(kind: str, paths: Sequence[str], schema: LabelSchema) -> RawTable:
    """The images of CSV files (kind "csv") or of class folders ("folder"), in order.

    Raises:
        DataError: a file is missing or malformed; names file and line.
    """
    rows = _Rows(schema.names)
    for path in paths:
        if kind == "csv":
            _read_csv(path, schema, rows)
        else:
            _read_folder(path, schema, rows)
    return rows.to_table()


class _Rows:
    """Images in files of their own, with a text for each label, gathered row by row."""

    def __init__(self, names: Iterable[str]) -> None:
        self.paths: list[str] = []
        self.texts: dict[str, list[str]] = {name: [] for name in names}
        self.lines: list[int] = []
        self.tables: list[tuple[int, str]] = []  # first row and file of each CSV
        self.sizes: list[int] = []  # in bytes; 0 for remote files
        self.declared: dict[str, tuple[str, ...]] = {}
        self.notes: list[str] = []
        self._digest = hashlib.sha256()

    def begin(self, csv_path: str) -> None:
        self.tables.append((len(self.paths), csv_path))

    def add(self, path: str, texts: Mapping[str, str], *, name: str, line: int = 0) -> None:
        num_bytes = 0
        if not files.is_remote(path):
            try:
                num_bytes = os.stat(path).st_size
            except OSError as error:
                raise self._missing(path, line) from error
        self.paths.append(path)
        self.sizes.append(num_bytes)
        self.lines.append(line)
        for label, text in texts.items():
            self.texts[label].append(sys.intern(text))
        self._digest.update(repr((name, sorted(texts.items()), num_bytes)).encode())

    def check_remote(self, first: int) -> None:
        """See that the remote files from a row on are there, with one listing for each folder.

        Raises:
            DataError: one is not; names its line.
        """
        listed: dict[str, set[str]] = {}
        for path, line in zip(self.paths[first:], self.lines[first:], strict=True):
            if files.is_remote(path):
                folder, _, name = path.rpartition("/")
                if folder not in listed:
                    names = files.list_folder(folder, with_hidden=True, missing_ok=True)
                    listed[folder] = set(names)
                if name not in listed[folder]:
                    raise self._missing(path, line)

    def _missing(self, path: str, line: int) -> DataError:
        where = f"{self.tables[-1][1]} line {line}: " if self.tables else ""
        return DataError(
            f"{where}there is no file {path!r}. Correct the path (relative paths start at "
            "the CSV's own folder, or else at the working directory), or remove the row; "
            f"if this is a header, its image column must be called {URI_COLUMN}."
        )

    def _contradictions(self) -> list[str]:
        """A sentence about local images that are there twice, byte for byte, with other labels."""
        of_size = collections.defaultdict(list)
        for i, num_bytes in enumerate(self.sizes):
            if num_bytes:
                of_size[num_bytes].append(i)
        alike = [i for same in of_size.values() if len(same) > 1 for i in same]
        if len(alike) > _MOST_COMPARED:
            return []
        of_content = collections.defaultdict(list)
        for i in alike:
            of_content[hashlib.sha256(files.read_bytes(self.paths[i])).digest()].append(i)
        pairs = [
            (first, other)
            for first, *others in of_content.values()
            for other in others
            if any(texts[first] != texts[other] for texts in self.texts.values())
        ]
        if not pairs:
            return []
        shown = "; ".join(f"{self._labelled(a)} and {self._labelled(b)}" for a, b in pairs[:5])
        return [
            f"{len(pairs)} images are there twice with contradicting labels: {shown}. Correct or "
            "remove one of each."
        ]

    def _labelled(self, i: int) -> str:
        labels = ", ".join(texts[i] or "no label" for texts in self.texts.values())
        return f"{self.paths[i]} ({labels})"

    def to_table(self) -> RawTable:
        with tf.device("CPU:0"):
            paths = tf.constant([os.fsencode(path) for path in self.paths], tf.string)
        lines = np.array(self.lines, np.int32)
        starts = np.array([start for start, _ in self.tables], np.int64)
        tables = [path for _, path in self.tables]

        def fetch(numbers: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(tf.io.read_file, tf.gather(paths, numbers))

        def locate(i: int) -> str:
            path: str = paths[i].numpy().decode("utf-8", "backslashreplace")
            if not tables:
                return path
            return (
                f"{tables[int(np.searchsorted(starts, i, 'right')) - 1]} line {lines[i]} ({path})"
            )

        return RawTable(
            len(self.paths),
            self.texts,
            fetch,
            locate,
            self._digest.hexdigest(),
            (*self.notes, *self._contradictions()),
            self.declared,
            sizes=np.array(self.sizes, np.int64),
        )


def _read_csv(path: str, schema: LabelSchema, rows: _Rows) -> None:
    rows.begin(path)
    header, numbered = csv_rows(path)
    columns = _columns(header, schema, path)
    folder = os.path.dirname(path) if not files.is_remote(path) else path.rpartition("/")[0]
    before = len(rows.paths)
    for line, row in numbered:
        needed = max(columns.values()) + 1
        if len(row) < needed or not row[columns[URI_COLUMN]].strip():
            raise DataError(
                f"{path} line {line} has {len(row)} cells, expected at least {needed} with a path: "
                f"{','.join(row)[:100]!r}. {_advice(row)}"
            )
        if not header and len(row) > needed:
            raise DataError(
                f"{path} line {line} has {len(row)} cells, expected path,label: "
                f"{','.join(row)[:100]!r}. Put a name with a comma in double quotes, or write a "
                f"header with {URI_COLUMN}."
            )
        uri = row[columns[URI_COLUMN]].strip()
        texts = {name: row[columns[name]].strip() for name in schema.names}
        rows.add(_image_path(folder, uri), texts, name=uri, line=line)
    rows.check_remote(before)


def _advice(row: Sequence[str]) -> str:
    separator = next((mark for mark in (";", "\t", "|") if mark in row[0]), "")
    if len(row) == 1 and separator:
        return f"Its cells seem to be separated by {separator!r}; save it with commas."
    return "Complete or remove the row; a name with a comma needs double quotes around it."


def csv_rows(path: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The column names of a CSV, none if it has no header, and its rows as ``numbered_rows``.

    Raises:
        DataError: it is no CSV, has no rows, or names a column twice.
    """
    numbered = numbered_rows(files.read_text(path), path)
    first = next(numbered, None)
    if first is None:
        raise DataError(f"{path} is empty. Expected a row an image: path,label.")
    header = [cell.strip() for cell in first[1]]
    if URI_COLUMN not in header:
        return [], itertools.chain([first], numbered)
    repeated = next((name for name in header if name and header.count(name) > 1), "")
    if repeated:
        raise DataError(f"{path} names column {repeated!r} twice. Rename or remove one of them.")
    second = next(numbered, None)
    if second is None:
        raise DataError(f"{path} names no examples, only a header. Expected a row an image.")
    return header, itertools.chain([second], numbered)


def label_rows(path: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """As ``csv_rows``, for whom all columns but that of the paths may be labels.

    The column of the only label is called ``label`` in the result, whatever its header says.

    Raises:
        DataError: as ``csv_rows``; or two columns would be called so.
    """
    header, rows = csv_rows(path)
    if LABEL in header and LABEL_COLUMN in header:
        raise DataError(
            f"{path} has columns {LABEL_COLUMN!r} and {LABEL!r}, which are two names of one label. "
            "Rename or remove one of them."
        )
    header = header or [URI_COLUMN, LABEL]
    return [LABEL if name == LABEL_COLUMN else name for name in header], rows


def numbered_rows(text: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV that are not empty, each with the number of its first line.

    Raises:
        DataError: a row cannot be told; names file and line.
    """
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            f"{path} line {line} holds a NUL byte, which no text has. Save the file as UTF-8, or "
            "correct the line."
        )
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    first_line = 1
    try:
        for row in reader:
            if row:
                yield first_line, row
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}: the row that begins in line {first_line} cannot be read ({error}). "
            "Look for a double quote that is not closed."
        ) from error


def _image_path(folder: str, uri: str) -> str:
    """Where a CSV's image lies: relative paths start at the CSV's folder.

    Those of the framework's older CSVs start at the working directory; they are taken from there
    when the CSV's folder has no such file.
    """
    uri = os.path.expanduser(uri)
    path = files.join(folder, uri)
    if not files.is_remote(path) and not os.path.exists(path) and os.path.exists(uri):
        return uri
    return path


def _columns(header: list[str], schema: LabelSchema, path: str) -> dict[str, int]:
    if not header:
        return _headerless_columns(schema, path)
    columns = {URI_COLUMN: header.index(URI_COLUMN)}
    for name in schema.names:
        column = name
        if name not in header and len(schema.labels) == 1 and LABEL_COLUMN in header:
            column = LABEL_COLUMN
        if column not in header:
            raise DataError(
                f"{path} has no column for label {name!r}. {did_you_mean(name, header)} "
                f"Expected a column {name!r}"
                + (f" or {LABEL_COLUMN!r}." if len(schema.labels) == 1 else ".")
            )
        columns[name] = header.index(column)
    return columns


def _headerless_columns(schema: LabelSchema, path: str) -> dict[str, int]:
    if len(schema.labels) > 1:
        raise DataError(
            f"{path} has no header with {URI_COLUMN}, which {len(schema.labels)} labels need. "
            f"Expected: {','.join([URI_COLUMN, *schema.names])}."
        )
    return {URI_COLUMN: 0, schema.names[0]: 1}


def _read_folder(path: str, schema: LabelSchema, rows: _Rows) -> None:
    if len(schema.labels) != 1 or not schema.labels[0].is_class:
        raise DataError(
            f"{path} is a folder of class folders, which gives one class label; class_dict has "
            f"{', '.join(schema.names)}. Use a CSV with a column a label."
        )
    name = schema.names[0]
    names = files.list_folder(path)
    classes = [c for c in names if files.is_folder(files.join(path, c))]
    if not classes:
        raise DataError(f"{path} has no class folders. Expected a folder of images for each class.")
    rows.declared[name] = tuple(dict.fromkeys([*rows.declared.get(name, ()), *classes]))
    left_out: list[str] = []
    before = len(rows.paths)
    for class_name in classes:
        for inner in _walk(files.join(path, class_name)):
            if inner.lower().endswith(IMAGE_SUFFIXES):
                relative = inner[len(path) :].lstrip("/")
                rows.add(inner, {name: class_name}, name=relative)
            else:
                left_out.append(inner)
    if len(rows.paths) == before:
        raise DataError(
            f"{path} holds no images in its class folders. Expected files ending in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    if left_out:
        rows.notes.append(
            f"{path}: left out {len(left_out)} files whose names are not those of images, such as "
            f"{left_out[0]}."
        )
    if len(names) > len(classes):
        beside = next(other for other in names if other not in classes)
        rows.notes.append(
            f"{path}: left out {len(names) - len(classes)} files that lie beside the class folders "
            f"and so have no class, such as {beside}."
        )


def _walk(folder: str) -> Iterator[str]:
    for name in files.list_folder(folder):
        path = files.join(folder, name)
        if files.is_folder(path):
            yield from _walk(path)
        else:
            yield path
