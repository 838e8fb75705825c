"""CSV files: one row per image, with its path and its values in the other columns."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from tf_image_classification.dataset.readers import names
from tf_image_classification.dataset.readers.csv_images import ImagePaths, Looked
from tf_image_classification.dataset.readers.csv_text import CsvTable, parts_of, read_table
from tf_image_classification.dataset.readers.kinds import CSV, ReadOptions, Source
from tf_image_classification.dataset.readers.listing import LeftOut, Listing, Places
from tf_image_classification.labels import Value


def read(source: Source, options: ReadOptions) -> Listing:
    """The images that CSV files name, in order, with all columns as texts.

    Raises:
        DataError: a file is no CSV, or has no column of images; names file and line.
    """
    tables = [read_table(path) for path in source.paths]
    found = _Found(dict.fromkeys(name for table in tables for name in table.columns))
    for table, (_, part) in zip(tables, source.paths_with_parts(), strict=True):
        found.add_table(table, part)
    return found.listing(source.paths)


def images_of_csv(path: str) -> Iterator[tuple[str, str, str]]:
    """Each row's line, the path of its image, and the problem with the row, or "".

    For inference, which needs no labels. A missing image is no problem of the row: reading it is.

    Raises:
        DataError: as ``read``.
    """
    table = read_table(path)
    paths = ImagePaths(path)
    rows = [(line, row, _why_malformed(table, row)) for line, row in table.rows]
    uris = [row[table.image] for _, row, problem in rows if not problem]
    if any(not paths.look(uri).problem for uri in uris):
        found: Iterator[str] = map(paths.path_of, uris)
    else:
        found = (looked.path for looked in paths.look_in_folders(uris))
    for line, _, problem in rows:
        yield f"{path} line {line}", "" if problem else next(found), problem


class _Found:
    """Gathers the examples of tables row by row."""

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
        problems = [_why_malformed(table, row) for _, row in table.rows]
        looked = iter(_look_at_images(table, problems))
        for number, (line, row) in enumerate(table.rows):
            path, num_bytes, problem = (
                ("", 0, problems[number]) if problems[number] else next(looked)
            )
            if problem:
                self._left_out.append(
                    LeftOut(f"{table.path} line {line}", problem, is_damaged=True)
                )
                continue
            self._uris.append(row[table.image])
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
            CSV,
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
    """The column of the parts of the data set and the part of each row; "" and [] without one."""
    for name in table.columns:
        splits = parts_of(table, name)
        if splits is not None:
            return name, splits
    return "", []


def _look_at_images(table: CsvTable, problems: Sequence[str]) -> list[Looked]:
    """The images of the rows without a problem.

    Only if none of them lies where its cell names it, they are searched for by their names.
    """
    paths = ImagePaths(table.path)
    uris = [row[table.image] for (_, row), bad in zip(table.rows, problems, strict=True) if not bad]
    looked = [paths.look(uri) for uri in uris]
    return looked if any(not each.problem for each in looked) else paths.look_in_folders(uris)


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


def _without_zeros(values: list[Value]) -> list[Value]:
    """Whole numbers without ".0", which pandas writes if a column of 1 and 2 has an empty cell."""
    known = {str(value) for value in values} - {""}
    if not all(re.fullmatch(r"-?\d+(\.0+)?", text) for text in known):
        return values
    whole = {text: text.partition(".")[0] for text in known if "." in text}
    return [whole.get(str(value), value) for value in values] if whole else values
