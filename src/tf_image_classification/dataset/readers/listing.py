"""The examples of a source: their names, the locations of their bytes, and their columns.

listing.columns["label"][3]         # "cat"
listing.row(3).place.read()         # encoded bytes, in any process
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import io
import mmap
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import DataError
from tf_image_classification.labels import Value
from tf_image_classification.system import files

LABEL = "label"
"""Name of the label of a source that does not name it."""

Pixels = npt.NDArray[np.uint8]
_GZIP = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True)
class Place:
    """The location of an image's bytes or pixels; small, and valid in every process.

    Attributes:
        kind: "file": a whole file; "bytes": a part of one; "record": the image feature of a
            ``tf.train.Example`` in a part of one; "pixels": raw pixels in a part of one; "cell": a
            cell of a Parquet file.
        path: the file, local or remote.
        offset: first byte of the part, in the file once it is unpacked; for a cell its row.
        length: bytes of the part, or of the whole file; 0 if unknown.
        shape: of raw pixels in the file: (H, W), or (3, H, W).
        name: of the image's feature or column.
    """

    kind: str
    path: str
    offset: int = 0
    length: int = 0
    shape: tuple[int, ...] = ()
    name: str = ""

    def read(self) -> bytes | Pixels:
        """Encoded bytes, or raw pixels uint8 [H, W] or [H, W, 3].

        Raises:
            OSError: it cannot be read.
            ValueError: no file can have this name.
            DataError: it is remote and cannot be read; a record or cell holds no image.
        """
        if self.kind == "file":
            return files.read_bytes(self.path)
        if self.kind == "cell":
            return _cell(self.path, self.offset, self.name)
        is_record = self.kind == "record"
        content = _records(self.path, _stamp(self.path)) if is_record else unpacked(self.path)
        part = content[self.offset : self.offset + self.length]
        if is_record:
            return image_of_record(bytes(part), self.name)
        if self.kind == "pixels":
            pixels = np.frombuffer(part, np.uint8).reshape(self.shape)
            return np.ascontiguousarray(pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels)
        return bytes(part)

    def encoded(self) -> bytes:
        """As ``read``, raw pixels as a Netpbm image."""
        found = self.read()
        return found if isinstance(found, bytes) else netpbm_bytes(found)


def netpbm_bytes(pixels: Pixels) -> bytes:
    """Pixels uint8 [H, W] or [H, W, 3] as a binary Netpbm image (PGM or PPM)."""
    height, width = pixels.shape[:2]
    return b"P%d\n%d %d\n255\n" % (5 if pixels.ndim == 2 else 6, width, height) + pixels.tobytes()


def image_of_record(record: bytes, feature: str) -> bytes:
    """The encoded image of a serialized ``tf.train.Example``.

    Raises:
        DataError: the feature holds no image.
    """
    import tensorflow as tf  # late: only records need it

    values = tf.train.Example.FromString(record).features.feature[feature].bytes_list.value
    if not values:
        raise DataError(f"its feature {feature!r} holds no image")
    return bytes(values[0])


@dataclasses.dataclass(frozen=True)
class Row:
    """One example of a listing, for those who take examples one by one.

    Attributes:
        key: its name, the same wherever the source lies; decides its part in a split.
        place: the location of its image.
        columns: its values by column; an absent or empty one is unknown.
        split: the part of the data set that the source assigns it to, or "".
        where: its file, with line, record or member, for messages.
    """

    key: str
    place: Place
    columns: Mapping[str, Value]
    split: str = ""
    where: str = ""


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A skipped file or row of a source, with the reason.

    Attributes:
        where: its file, line, record or member; bytes of a name that are not UTF-8 are escaped.
        reason: why it is skipped.
        is_damaged: whether it should have been an example, e.g. a row whose image is missing.
    """

    where: str
    reason: str
    is_damaged: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", self.where.encode("utf-8", "backslashreplace").decode())

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Places:
    """The locations of the images of a listing, by example number.

    Attributes:
        kind: as in ``Place``.
        paths: the files; for kind "file" one for each example, else each file once.
        file_numbers: int32 [N], which of the paths holds an example; empty for kind "file".
        offsets: int64 [N]; empty for kind "file".
        lengths: int64 [N].
        shapes: by file number the shape of raw pixels, as in ``Place``; else empty.
        names: by file number the name of the image's feature or column; else empty.
    """

    kind: str
    paths: Sequence[str]
    lengths: npt.NDArray[np.int64]
    file_numbers: npt.NDArray[np.int32] = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int32)
    )
    offsets: npt.NDArray[np.int64] = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int64)
    )
    shapes: Sequence[tuple[int, ...]] = ()
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Place:
        if self.kind == "file":
            return Place("file", self.paths[i], length=int(self.lengths[i]))
        file = int(self.file_numbers[i])
        return Place(
            self.kind,
            self.paths[file],
            int(self.offsets[i]),
            int(self.lengths[i]),
            self.shapes[file] if self.shapes else (),
            self.names[file] if self.names else "",
        )

    def select(self, numbers: npt.NDArray[Any]) -> Places:
        """The places of some examples."""
        if self.kind == "file":
            paths = [self.paths[i] for i in numbers.tolist()]
            return dataclasses.replace(self, paths=paths, lengths=self.lengths[numbers])
        return dataclasses.replace(
            self,
            lengths=self.lengths[numbers],
            file_numbers=self.file_numbers[numbers],
            offsets=self.offsets[numbers],
        )


@dataclasses.dataclass(frozen=True)
class Listing:
    """The examples of a source, in its order.

    Attributes:
        kind: kind of the source, e.g. "folder" or "csv".
        names: names of the examples, the same wherever the source lies; empty if the source has
            none, and their content identifies them.
        places: the locations of their images.
        columns: by name, the value of each example, "" if unknown.
        locate: gives an example's file, with line, record or member, for messages.
        splits: by example, the part of the data set that the source assigns it to, or "".
        left_out: skipped files and rows, with reasons.
        declared: by label, classes that the source names, with or without examples.
        texts: columns whose numbers are stored as text, as all cells of a CSV are.
        num_rows: by file number, its rows including skipped ones, if they are counted.
        content: by file number, a hexadecimal digest of the file's content, "" if it was not read.
    """

    kind: str
    names: Sequence[str]
    places: Places
    columns: Mapping[str, Sequence[Value]]
    locate: Callable[[int], str]
    splits: Sequence[str] = ()
    left_out: Sequence[LeftOut] = ()
    declared: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    texts: frozenset[str] = frozenset()
    num_rows: Sequence[int] = ()
    content: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def damaged(self) -> list[LeftOut]:
        """Skipped files and rows that should have been examples."""
        return [each for each in self.left_out if each.is_damaged]

    @property
    def parts(self) -> list[str]:
        """The parts that the source is divided into, in order of appearance."""
        return list(dict.fromkeys(filter(None, self.splits)))

    def key(self, i: int) -> str:
        """The identifier of an example: its name in the source, or else a digest of its content.

        Raises:
            OSError: its content cannot be read; and ``DataError``.
        """
        if self.names and self.names[i]:
            return self.names[i].encode("utf-8", "backslashreplace").decode()
        return hashlib.sha256(self.places[i].encoded()).hexdigest()[:32]

    def row(self, i: int) -> Row:
        """One example; as ``key``, it may have to read the content."""
        columns = {name: values[i] for name, values in self.columns.items() if values[i] != ""}
        split = self.splits[i] if self.splits else ""
        return Row(self.key(i), self.places[i], columns, split, self.locate(i))

    def rows(self) -> Iterator[Row]:
        """All examples, one by one."""
        return map(self.row, range(len(self)))

    def select(self, numbers: Sequence[int]) -> Listing:
        """Some of the examples, with all skipped files and rows."""
        chosen = np.asarray(numbers, np.int64)
        locate, numbers = self.locate, chosen.tolist()
        return dataclasses.replace(
            self,
            names=[self.names[i] for i in numbers] if self.names else (),
            places=self.places.select(chosen),
            columns={n: [values[i] for i in numbers] for n, values in self.columns.items()},
            locate=lambda i: locate(int(chosen[i])),
            splits=[self.splits[i] for i in numbers] if self.splits else (),
        )


def unpacked(path: str) -> memoryview:
    """A file's content, unpacked if it is GZIP-compressed; the last ones are kept in memory.

    A local file that is not compressed is mapped, so that it may be larger than the memory.
    """
    return _unpacked(path, _stamp(path))


def _stamp(path: str) -> tuple[int, int]:
    """Changes with a local file, so that no content of an older version is used."""
    return (0, 0) if files.is_remote(path) else files.size_and_time(path)


@functools.lru_cache(maxsize=2)
def _unpacked(path: str, stamp: tuple[int, int]) -> memoryview:
    if not files.is_remote(path):
        with open(path, "rb") as stream:
            is_packed = stream.read(2) == _GZIP
            if not is_packed and os.fstat(stream.fileno()).st_size:
                return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    data = files.read_bytes(path)
    try:
        return memoryview(gzip.decompress(data) if data[:2] == _GZIP else data)
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"{path} is cut short or damaged: its compressed data cannot be read ({error}). Copy "
            "or write it again."
        ) from error


@functools.lru_cache(maxsize=2)
def _records(path: str, stamp: tuple[int, int]) -> memoryview:
    """As ``_unpacked``, for TFRecords, which may also be compressed by ZLIB."""
    from tf_image_classification.dataset import tfrecord  # late: TensorFlow

    kind = tfrecord.compression(path)
    if not kind:
        return unpacked(path)
    with tfrecord.open_plain(path, kind) as stream:
        return memoryview(stream.read())


def unpacked_stream(path: str) -> IO[bytes]:
    """A file's content as a stream, unpacked while it is read."""
    if files.is_remote(path):
        return io.BytesIO(unpacked(path))
    with open(path, "rb") as stream:
        is_packed = stream.read(2) == _GZIP
    return gzip.open(path, "rb") if is_packed else open(path, "rb")  # type: ignore[return-value]


@functools.lru_cache(maxsize=2)
def _images_of(path: str, name: str, stamp: tuple[int, int]) -> list[bytes | None]:
    import pyarrow.parquet  # late: it takes half a second

    with files.open_for_reading(path) as stream:
        column = pyarrow.parquet.read_table(io.BytesIO(stream.read()), columns=[name]).column(name)
    cells = column.to_pylist()
    return [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells]


def _cell(path: str, row: int, name: str) -> bytes:
    image = _images_of(path, name, _stamp(path))[row]
    if image is None:
        raise DataError(f"its cell of {name!r} holds no image")
    return image
