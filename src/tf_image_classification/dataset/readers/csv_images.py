"""Where the images lie that a CSV names, and whether they are there.

paths = ImagePaths("pets/train.csv")
paths.look("cats/1.jpg")            # Looked("pets/cats/1.jpg", 5120, "")
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from tf_image_classification.dataset.readers import names
from tf_image_classification.dataset.readers.csv_text import URI_COLUMN
from tf_image_classification.system import files

_ADVICE = (
    "Correct the path (relative paths start at the CSV's own folder, or else at the working "
    "directory), or remove the row; if this is a header, its image column must be called "
    f"{URI_COLUMN}."
)
_MOST_SHOWN = 3


class Looked(NamedTuple):
    """An image that a CSV names.

    Attributes:
        path: where it lies, or where it was expected.
        num_bytes: its size; 0 for a remote file, whose size is not looked up.
        problem: why there is no such file, with advice; "" if it is there.
    """

    path: str
    num_bytes: int
    problem: str


class ImagePaths:
    """Finds the images of one CSV; lists each remote folder once."""

    def __init__(self, table_path: str) -> None:
        folder = table_path.rpartition("/")[0] if files.is_remote(table_path) else ""
        self._folder = folder or os.path.dirname(table_path)
        self._remote_names: dict[str, frozenset[str]] = {}

    def path_of(self, uri: str) -> str:
        """The path that a cell names: relative paths start at the CSV's folder.

        Those of the framework's older CSVs start at the working directory; they are taken from
        there when the CSV's folder has no such file. Names that were written on another system are
        found too: with backslashes, or with letters in another form of Unicode.
        """
        uri = os.path.expanduser(uri.removeprefix("file://"))
        path = files.join(self._folder, uri)
        if files.is_remote(path) or os.path.exists(path):
            return path
        spellings = [
            unicodedata.normalize(form, name)
            for name in (uri, uri.replace("\\", "/"))
            for form in ("NFC", "NFD")
        ]
        for other in (uri, *(files.join(self._folder, spelling) for spelling in spellings)):
            if os.path.exists(other):
                return other
        return path

    def look(self, uri: str) -> Looked:
        """The image of a cell, at the path that the cell names."""
        path = self.path_of(uri)
        if path.startswith(("http://", "https://")):
            reason = f"{uri!r} is a web address. Download the images, and name the files instead."
            return Looked(path, 0, reason)
        if files.is_remote(path):
            problem, num_bytes = "" if self._is_remote_file(path) else "there is no file", 0
        else:
            problem, num_bytes = _look_at_local(path)
        return Looked(path, num_bytes, problem and f"{problem} {uri!r}. {_ADVICE}")

    def look_in_folders(self, uris: Sequence[str]) -> list[Looked]:
        """The images of cells, searched for in the CSV's folder and those directly below it.

        For tables that name images without their folder, or without an ending, as many of Kaggle
        do. A name must be that of one image only.
        """
        by_name: dict[str, list[str]] = {}
        for folder in self._folders():
            for name in files.list_folder(folder, missing_ok=True):
                if names.is_image_name(name):
                    for known in {name, name.rpartition(".")[0]}:
                        by_name.setdefault(known, []).append(files.join(folder, name))
        looked = []
        for uri in uris:
            found = by_name.get(uri, [])
            if len(found) == 1:
                size = 0 if files.is_remote(found[0]) else os.stat(found[0]).st_size
                looked.append(Looked(found[0], size, ""))
            elif found:
                shown = ", ".join(found[:_MOST_SHOWN])
                problem = f"{len(found)} images have the name {uri!r}: {shown}. Write its path."
                looked.append(Looked(found[0], 0, problem))
            else:
                looked.append(self.look(uri))
        return looked

    def _folders(self) -> list[str]:
        folder = self._folder or "."
        inside = [
            files.join(self._folder, name) if self._folder else name
            for name in files.list_folder(folder)
            if not names.is_image_name(name)
        ]
        return [folder, *filter(files.is_folder, inside)]

    def _is_remote_file(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if folder not in self._remote_names:
            there = files.list_folder(folder, with_hidden=True, missing_ok=True)
            self._remote_names[folder] = frozenset(there)
        return name in self._remote_names[folder]


def _look_at_local(path: str) -> tuple[str, int]:
    """The problem with a local file, or "", and its size in bytes."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return "there is no file", 0
    is_folder = stat.S_ISDIR(found.st_mode)
    return "this is a folder, not an image:" if is_folder else "", found.st_size
