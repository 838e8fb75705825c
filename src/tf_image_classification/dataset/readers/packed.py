"""Gathers the examples of files that hold many images each, for their readers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tf_image_classification.dataset.readers.kinds import Source
from tf_image_classification.dataset.readers.listing import (
    LABEL,
    LeftOut,
    Listing,
    Places,
)
from tf_image_classification.dataset.readers.names import clean
from tf_image_classification.errors import DataError
from tf_image_classification.labels import Value


class Packed:
    """Builds the listing of examples that are parts of files.

    Attributes:
        left_out: skipped parts of the files; readers add to it.
    """

    def __init__(self) -> None:
        self.left_out: list[LeftOut] = []
        self._files: list[str] = []
        self._shapes: list[tuple[int, ...]] = []
        self._images: list[str] = []
        self._content: list[str] = []
        self._num_rows: list[int] = []
        self._names: list[str] = []
        self._wheres: list[str] = []
        self._numbers: list[int] = []
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self._splits: list[str] = []
        self._columns: dict[str, list[Value]] = {}

    def begin(
        self,
        path: str,
        *,
        shape: tuple[int, ...] = (),
        image: str = "",
        content: str = "",
        num_rows: int = 0,
    ) -> None:
        """Begin the file that the following examples lie in.

        Args:
            path: the file.
            shape: of raw pixels, as in ``Place``.
            image: name of the image's feature or column.
            content: hexadecimal digest of the file's content, if it was read.
            num_rows: rows of the file including skipped ones, if they are counted.
        """
        self._files.append(path)
        self._shapes.append(shape)
        self._images.append(image)
        self._content.append(content)
        self._num_rows.append(num_rows)

    def add(
        self,
        offset: int,
        length: int,
        columns: Mapping[str, Any],
        *,
        where: str,
        name: str = "",
        split: str = "",
    ) -> None:
        """Add one example of the file that was begun last.

        Args:
            offset: first byte of its part of the file, or its row.
            length: bytes of the part.
            columns: its values by column; None is unknown.
            where: its location in the file, for messages: " record 3".
            name: its name, the same wherever the file lies, or "".
            split: the part of the data set that it belongs to, or "".
        """
        count = len(self._numbers)
        for key, value in columns.items():
            if value is not None and value != "":
                values = self._columns.setdefault(key, [])
                values += [""] * (count - len(values))
                values.append(_plain(value))
        self._numbers.append(len(self._files) - 1)
        self._offsets.append(offset)
        self._lengths.append(length)
        self._names.append(name)
        self._splits.append(split)
        self._wheres.append(where)

    def listing(self, kind: str, place_kind: str, *, texts: Collection[str] = ()) -> Listing:
        """The listing of all examples that were added.

        Args:
            kind: of the source.
            place_kind: of the examples' places.
            texts: as in ``Listing``.

        Raises:
            DataError: two columns have one name once "labels" is called "label".
        """
        count = len(self._numbers)
        for values in self._columns.values():
            values += [""] * (count - len(values))
        paths, numbers, wheres = self._files, self._numbers, self._wheres
        places = Places(
            place_kind,
            paths,
            np.array(self._lengths, np.int64),
            np.array(numbers, np.int32),
            np.array(self._offsets, np.int64),
            self._shapes if any(self._shapes) else (),
            self._images if any(self._images) else (),
        )
        return Listing(
            kind,
            self._names if any(self._names) else (),
            places,
            columns_with_label(self._columns, paths),
            lambda i: f"{paths[numbers[i]]}{wheres[i]}",
            self._splits if any(self._splits) else (),
            self.left_out,
            texts=frozenset(texts),
            num_rows=self._num_rows,
            content=self._content,
        )


def columns_with_label(
    columns: Mapping[str, Sequence[Value]], paths: Sequence[str]
) -> dict[str, Sequence[Value]]:
    """The columns, with the one that is called "labels" called "label".

    Raises:
        DataError: both exist.
    """
    if LABEL in columns and "labels" in columns:
        raise DataError(
            f"{paths[0]} has 'labels' and 'label', which are two names of one label. Rename or "
            "remove one of them."
        )
    return {LABEL if name == "labels" else name: values for name, values in columns.items()}


def _plain(value: Any) -> Value:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return clean(value)
    result: Value = value
    return result


def only_folder(source: Source) -> str:
    """The folder of a source that is one folder.

    Raises:
        DataError: it has two or more.
    """
    if len(source.paths) > 1:
        raise DataError(f"Expected one folder of {source.kind} files, not {len(source.paths)}.")
    return source.paths[0]


def damaged(path: str, what: str, error: Exception) -> DataError:
    """The error for a file that cannot be read as the kind that its name announces."""
    return DataError(
        f"{path} cannot be read as {what} ({error}): it is cut short, damaged or something else. "
        "Copy or write it again."
    )
