"""One image of a source that is to be converted, and how to get at its bytes from any process.

row = Row("cats/1.jpg", Place("file", "/data/cats/1.jpg"), {"label": "cat"})
data = row.place.read()
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import io
import mmap
import os
import zlib
from collections.abc import Mapping
from typing import IO

import numpy as np
import numpy.typing as npt

from tf_image_classification import files
from tf_image_classification.errors import DataError

LABEL = "label"
"""What the class of an image is called where the source has no name for it."""

Value = str | int | float | tuple[float, ...]
"""What a column holds for one image."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an image's bytes, or its pixels, lie; small, and understood by every process.

    Attributes:
        kind: "file": a whole file; "bytes": a part of one; "record": the image feature of a
            ``tf.train.Example`` in a part of one; "pixels": raw pixels in a part of one; "cell": a
            cell of a Parquet file.
        path: the file, local or remote.
        offset: first byte of the part, in the file once it is unpacked; for a cell its row.
        length: bytes of the part.
        shape: of raw pixels, as they lie there: [H, W], or [3, H, W].
        name: of the image's feature or column.
    """

    kind: str
    path: str
    offset: int = 0
    length: int = 0
    shape: tuple[int, ...] = ()
    name: str = ""

    def read(self) -> bytes | npt.NDArray[np.uint8]:
        """Encoded bytes, or raw pixels uint8 [H, W] or [H, W, 3].

        Raises:
            OSError: it cannot be read.
            ValueError: its name is none that a file can have.
            DataError: it is remote and cannot be read; a record or cell holds no image.
        """
        if self.kind == "file":
            return files.read_bytes(self.path)
        if self.kind == "cell":
            return _cell(self.path, self.offset, self.name)
        content = _records(self.path) if self.kind == "record" else _unpacked(self.path)
        part = content[self.offset : self.offset + self.length]
        if self.kind == "record":
            import tensorflow as tf  # late: only records need it

            feature = tf.train.Example.FromString(part).features.feature[self.name]
            values = feature.bytes_list.value
            if not values:
                raise DataError(f"its feature {self.name!r} holds no image")
            return bytes(values[0])
        if self.kind == "pixels":
            pixels = np.frombuffer(part, np.uint8).reshape(self.shape)
            return np.ascontiguousarray(pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels)
        return bytes(part)


@dataclasses.dataclass(frozen=True)
class Row:
    """An image that is to be converted.

    Attributes:
        key: what it is called, the same wherever the source lies; decides split and order.
        place: where its bytes are.
        columns: what is known of it, by name; an empty text is not known.
        split: the part that the source itself puts it into, or "".
        where: what to call it in a message.
    """

    key: str
    place: Place
    columns: Mapping[str, Value]
    split: str = ""
    where: str = ""


@dataclasses.dataclass(frozen=True)
class Refused:
    """A row of the source that was not converted.

    Attributes:
        where: its file, line, record or member; of a name that is not UTF-8 some
            bytes are written as their codes.
        reason: why.
    """

    where: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", self.where.encode("utf-8", "backslashreplace").decode())


Found = tuple[list[Row], list[Refused]]
"""What a reader finds in a source: its images, and what of it is none."""

_GZIP = b"\x1f\x8b"


@functools.lru_cache(maxsize=2)
def _unpacked(path: str) -> memoryview:
    """A file's content, unpacked if it is compressed; a few are kept, since rows come in order.

    A local file that is not compressed is mapped, so that it may be larger than the memory.
    """
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
def _records(path: str) -> memoryview:
    """The same for TFRecords, which may also be compressed by ZLIB."""
    from tf_image_classification.dataset import tfrecord  # late: TensorFlow

    kind = tfrecord.compression(path)
    if not kind:
        return _unpacked(path)
    with tfrecord.open_plain(path, kind) as stream:
        return memoryview(stream.read())


def unpacked(path: str) -> memoryview:
    """A file's content, unpacked if it is GZIP-compressed."""
    return _unpacked(path)


def unpacked_stream(path: str) -> IO[bytes]:
    """The same as a stream, read bit by bit."""
    if files.is_remote(path):
        return io.BytesIO(_unpacked(path))
    with open(path, "rb") as stream:
        is_packed = stream.read(2) == _GZIP
    return gzip.open(path, "rb") if is_packed else open(path, "rb")  # type: ignore[return-value]


@functools.lru_cache(maxsize=2)
def _images_of(path: str, name: str) -> list[bytes | None]:
    import pyarrow.parquet  # late: it takes half a second

    with files.open_for_reading(path) as stream:
        column = pyarrow.parquet.read_table(io.BytesIO(stream.read()), columns=[name]).column(name)
    cells = column.to_pylist()
    return [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells]


def _cell(path: str, row: int, name: str) -> bytes:
    image = _images_of(path, name)[row]
    if image is None:
        raise DataError(f"its cell of {name!r} holds no image")
    return image
