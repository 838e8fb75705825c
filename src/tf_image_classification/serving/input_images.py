"""The images that a command line names; sources of many images go through ``dataset.readers``.

for image in find_images(["pets/", "list.csv", "-"], sys.stdin):
image.content()
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tf_image_classification.dataset.readers import Place, find_examples, source_kind
from tf_image_classification.dataset.readers.csv_files import images_of_csv
from tf_image_classification.dataset.readers.kinds import (
    CSV,
    FOLDER,
    PARQUET,
    TAR,
    TFRECORD,
    kind_of_name,
)
from tf_image_classification.dataset.readers.names import is_image_name
from tf_image_classification.errors import DataError, TficError
from tf_image_classification.system import files

Content = str | bytes | npt.NDArray[np.uint8]
"""The path of an image, its encoded bytes or its pixels."""

_WILDCARDS = "*?["
_OPTION = "PATHS"


@dataclasses.dataclass(frozen=True)
class InputImage:
    """An image that a command line names, or an input that cannot be used.

    Attributes:
        name: its path, or the record, row or member that it comes from.
        read: reads its content; may raise like reading a file.
        place: the location of its bytes, unless it cannot be used.
    """

    name: str
    read: Callable[[], Content]
    place: Place | None = None

    def content(self) -> Content | Exception:
        """Its content, or the error of reading it."""
        try:
            return self.read()
        except (TficError, OSError, ValueError) as error:
            return error


def check_patterns(paths: Sequence[str]) -> None:
    """Check that every local pattern matches a file.

    Raises:
        DataError: one does not.
    """
    for path in map(os.path.expanduser, paths):
        if not files.is_remote(path) and not os.path.exists(path) and _is_pattern(path):
            files.expand_patterns([path], option=_OPTION)


def find_images(paths: Sequence[str], lines: Iterable[str] = ()) -> Iterator[InputImage]:
    """Every image that paths name, in order, as soon as it is found.

    An input that cannot be used, e.g. a damaged CSV, is one of the images; reading it raises the
    reason. So a single bad input does not end an inference.

    Args:
        paths: images; folders, including their subfolders; patterns; every other source that
            ``find_examples`` reads; "-" for the paths in ``lines``. Local or ``gs://``.
        lines: one path per line, of images only.
    """
    for given in paths:
        if given == "-":
            for line in lines:
                if line.strip():
                    yield _file(line)
            continue
        path = os.path.expanduser(given)
        try:
            # A path that does not exist becomes an image that cannot be read.
            exists = files.exists(path) or not _is_pattern(path)
            found = [path] if exists else files.expand_patterns([path], option=_OPTION)
        except (TficError, ValueError) as error:  # a bucket, or a name that no file can have
            yield _unusable(path, error)
            continue
        for each in found:
            yield from _below(each)


def _is_pattern(path: str) -> bool:
    return any(mark in path for mark in _WILDCARDS)


def _file(path: str) -> InputImage:
    def read() -> Content:
        other = path.replace("\\", "/")
        if other != path and not os.path.exists(path) and os.path.exists(other):
            raise DataError(f"there is no such file, but there is {other}: write / for \\")
        return path

    return InputImage(path, read, Place("file", path))


def _unusable(name: str, error: Exception) -> InputImage:
    def read() -> Content:
        raise error

    return InputImage(name, read)


def _below(path: str) -> Iterator[InputImage]:
    """The images of one path."""
    kind = kind_of_name(path.rpartition("/")[2])
    if _is_folder(path):
        is_empty = True
        for found in _in_folder(path, _real(path), set()):
            is_empty = False
            yield found
        if is_empty:
            yield from _in_packed_folder(path)
    elif kind == CSV:
        yield from _in_list(path)
    elif kind in (TAR, PARQUET, TFRECORD):
        yield from _in_packed(path)
    else:
        yield _file(path)  # an image, whatever its name, or an error when it is read


def _is_folder(path: str) -> bool:
    try:
        return files.is_folder(path)
    except (TficError, ValueError):
        return False  # the error comes up again, with its reason, when the file is read


def _real(path: str) -> str:
    """The folder's real path with a "/" at its end; "" of a remote folder."""
    return "" if files.is_remote(path) else f"{os.path.realpath(path)}/"


def _in_folder(path: str, root: str, seen: set[str]) -> Iterator[InputImage]:
    """The images of a folder and those below it; a link never leads into a folder twice.

    Args:
        path: the folder.
        root: the folder on the command line, as ``_real``.
        seen: targets of the links so far.
    """
    try:
        entries = files.scan_folder(path)
    except (TficError, OSError) as error:
        yield _unusable(path, error)
        return
    for entry in entries:
        if entry.name.startswith(".") or files.is_junk(entry.name):
            continue
        if is_image_name(entry.name):
            yield _file(entry.path)
        elif entry.is_folder:
            if entry.is_link:
                target = _real(entry.path)
                if target in seen or target.startswith(root) or root.startswith(target):
                    continue
                seen.add(target)
            yield from _in_folder(entry.path, root, seen)


def _in_list(path: str) -> Iterator[InputImage]:
    """The images of a CSV, row by row: a list may have millions."""
    try:
        for where, image, problem in images_of_csv(path):
            yield _unusable(where, DataError(problem)) if problem else _file(image)
    except (TficError, OSError, ValueError) as error:
        yield _unusable(path, error)


def _in_packed_folder(path: str) -> Iterator[InputImage]:
    """The images of a folder of packed files, e.g. TFRecords or MNIST's files."""
    try:
        is_packed = source_kind([path], _OPTION) != FOLDER
    except (TficError, OSError, ValueError) as error:
        yield _unusable(path, error)
        return
    if is_packed:
        yield from _in_packed(path)
    else:
        yield _unusable(path, DataError("this folder holds no images"))


def _in_packed(path: str) -> Iterator[InputImage]:
    """The images of any source of examples."""
    try:
        listing = find_examples([path], option=_OPTION)
    except (TficError, OSError, ValueError) as error:
        yield _unusable(path, error)
        return
    for number in range(len(listing)):
        place = listing.places[number]
        is_file = place.kind == "file"
        where = listing.locate(number)
        yield _file(place.path) if is_file else InputImage(where, place.read, place)
    for damaged in listing.damaged:
        yield _unusable(damaged.where, DataError(damaged.reason))
