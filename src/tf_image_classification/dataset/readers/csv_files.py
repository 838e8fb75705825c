"""CSV files: a row an image, with its path and what is known of it."""

from __future__ import annotations

import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from tf_image_classification.dataset.readers import names
from tf_image_classification.dataset.readers.csv_text import (
    URI_COLUMN,
    CsvTable,
    parts_of,
    read_table,
)
from tf_image_classification.dataset.readers.listing import LeftOut, Listing, Places
from tf_image_classification.labels import Value
from tf_image_classification.system import files


def read_csvs(paths: Sequence[str], parts: Sequence[str] = ()) -> Listing:
    """The images that CSV files name, in order, with all columns as texts.

    Args:
        paths: the files.
        parts: by path the part of the data set that it holds, if the paths are such parts.

    Raises:
        DataError: a file is no CSV, or has no column of images; names file and line.
    """
    tables = [read_table(path) for path in paths]
    found = _Found(dict.fromkeys(name for table in tables for name in table.columns))
    for number, table in enumerate(tables):
        found.add_table(table, parts[number] if parts else "")
    return found.listing([table.path for table in tables])


def images_of_csv(path: str) -> Iterator[tuple[str, str, str]]:
    """Each row's line, the path of its image, and what is wrong with the row, or "".

    For those who take no labels: a missing image is not looked for.

    Raises:
        DataError: as ``read_csvs``.
    """
    table = read_table(path)
    folder = _folder_of(path)
    for line, row in table.rows:
        problem = _why_malformed(table, row)
        image = "" if problem else _image_path(folder, row[table.image])
        yield f"{path} line {line}", image, problem


def _folder_of(path: str) -> str:
    folder = path.rpartition("/")[0] if files.is_remote(path) else ""
    return folder or os.path.dirname(path)


class _Found:
    """The examples of several tables, gathered row by row."""

    def __init__(self, columns: dict[str, None]) -> None:
        self._uris: list[str] = []
        self._paths: list[str] = []
        self._sizes: list[int] = []
        self._lines: list[int] = []
        self._starts: list[int] = []  # first example of each table
        self._splits: list[str] = []
        self._left_out: list[LeftOut] = []
        self._columns: dict[str, list[Value]] = {name: [] for name in columns}

    def add_table(self, table: CsvTable, part: str) -> None:
        self._starts.append(len(self._uris))
        splits = self._splits_of(table)
        folder = _folder_of(table.path)
        there = _Remote()
        for number, (line, row) in enumerate(table.rows):
            where = f"{table.path} line {line}"
            problem = _why_malformed(table, row)
            if problem:
                self._left_out.append(LeftOut(where, problem, is_damaged=True))
                continue
            uri = row[table.image]
            path = _image_path(folder, uri)
            num_bytes, problem = there.look(path) if files.is_remote(path) else _look(path)
            if problem:
                advice = f"{problem} {uri!r}. {_ADVICE}"
                self._left_out.append(LeftOut(where, advice, is_damaged=True))
                continue
            self._uris.append(uri)
            self._paths.append(path)
            self._sizes.append(num_bytes)
            self._lines.append(line)
            self._splits.append(splits[number] if splits else part)
            for name, values in self._columns.items():
                place = table.columns.get(name)
                values.append("" if place is None else sys.intern(names.clean(row[place])))

    def _splits_of(self, table: CsvTable) -> list[str]:
        name, splits = _split_column(table)
        self._columns.pop(name, None)
        return splits

    def listing(self, tables: Sequence[str]) -> Listing:
        starts, lines, uris = np.array(self._starts), self._lines, self._uris

        def locate(i: int) -> str:
            table = tables[int(np.searchsorted(starts, i, "right")) - 1]
            uri = os.fsencode(uris[i]).decode("utf-8", "backslashreplace")
            return f"{table} line {lines[i]} ({uri})"

        columns = {name: _without_zeros(values) for name, values in self._columns.items()}
        return Listing(
            "csv",
            uris,
            Places("file", self._paths, np.array(self._sizes, np.int64)),
            columns,
            locate,
            self._splits if any(self._splits) else (),
            self._left_out,
            texts=frozenset(columns),
        )


def parts_in_table(path: str) -> list[str]:
    """The parts that a column of a CSV divides its rows into.

    Raises:
        DataError: as ``read_table``.
    """
    return list(dict.fromkeys(filter(None, _split_column(read_table(path))[1])))


def _split_column(table: CsvTable) -> tuple[str, list[str]]:
    """The column that names parts of the data set, and by row its part; "" and nothing without."""
    for name in table.columns:
        splits = parts_of(table, name)
        if splits is not None:
            return name, splits
    return "", []


_ADVICE = (
    "Correct the path (relative paths start at the CSV's own folder, or else at the working "
    f"directory), or remove the row; if this is a header, its image column must be called "
    f"{URI_COLUMN}."
)


def _why_malformed(table: CsvTable, row: list[str]) -> str:
    while len(row) > table.num_cells and not row[-1]:
        row.pop()
    shown = ",".join(row)[:100]
    if len(row) != table.num_cells:
        return (
            f"has {len(row)} cells, expected {table.num_cells}: {shown!r}. Complete or remove the "
            "row; a name with a comma needs double quotes around it."
        )
    return "" if row[table.image] else f"names no image: {shown!r}. Complete or remove the row."


def _image_path(folder: str, uri: str) -> str:
    """Where a CSV's image lies: relative paths start at the CSV's folder.

    Those of the framework's older CSVs start at the working directory; they are taken from there
    when the CSV's folder has no such file. So are names that were written on another system, with
    backslashes or with letters composed otherwise.
    """
    uri = os.path.expanduser(uri.removeprefix("file://"))
    path = files.join(folder, uri)
    if files.is_remote(path) or os.path.exists(path):
        return path
    spellings = [
        unicodedata.normalize(form, name)
        for name in (uri, uri.replace("\\", "/"))
        for form in ("NFC", "NFD")
    ]
    for other in (uri, *(files.join(folder, spelling) for spelling in spellings)):
        if os.path.exists(other):
            return other
    return path


def _look(path: str) -> tuple[int, str]:
    """The size of a local file, and what is wrong with it."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return 0, "there is no file"
    return found.st_size, "this is a folder, not an image:" if stat.S_ISDIR(found.st_mode) else ""


class _Remote:
    """Which remote files are there, with one listing for each folder."""

    def __init__(self) -> None:
        self._listed: dict[str, set[str]] = {}

    def look(self, path: str) -> tuple[int, str]:
        """0, since the size of a remote file is not known, and what is wrong with it."""
        folder, _, name = path.rpartition("/")
        if folder not in self._listed:
            names_there = files.list_folder(folder, with_hidden=True, missing_ok=True)
            self._listed[folder] = set(names_there)
        return 0, "" if name in self._listed[folder] else "there is no file"


def _without_zeros(values: list[Value]) -> list[Value]:
    """Whole numbers as such: pandas writes 1.0 where a column of 1 and 2 has an empty cell."""
    known = {str(value) for value in values} - {""}
    if not all(re.fullmatch(r"-?\d+(\.0+)?", text) for text in known):
        return values
    whole = {text: text.partition(".")[0] for text in known if "." in text}
    return [whole.get(str(value), value) for value in values] if whole else values
