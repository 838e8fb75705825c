"""The framing of TFRecord files: records in sequence, compressed or not, with their checksums.

    with open_plain(path, compression(path)) as stream:
        for offset, data, checksum in scan_records(stream, path):
            ...

Needs no TensorFlow.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any

from tf_image_classification.dataset.spans import masked_crc
from tf_image_classification.errors import BadRecordError
from tf_image_classification.system import files

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
FOOTER_BYTES = _FOOTER.size
_CHUNK_BYTES = 1 << 20


def compression(path: str) -> str:
    """The compression of a TFRecord file, inferred from its first bytes: "", "GZIP" or "ZLIB".

    Raises:
        BadRecordError: the file is empty or is no TFRecord file.
    """
    with files.open_for_reading(path) as stream:
        head = stream.read(_HEADER.size)
    if len(head) == _HEADER.size and _is_header(head):
        return ""
    if head[:2] == b"\x1f\x8b":
        return "GZIP"
    if len(head) >= 2 and head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "ZLIB"
    if not head:
        raise BadRecordError(
            f"{path} is empty (0 bytes), expected TFRecords. Write it again or remove it."
        )
    raise BadRecordError(
        f"{path} is not a TFRecord file: its first bytes are {head!r}. "
        "Expected plain, GZIP or ZLIB TFRecords; a .csv file or a folder is taken for what it is."
    )


@contextlib.contextmanager
def open_plain(path: str, kind: str) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of a file whose compression is known.

    Raises:
        BadRecordError: while reading, when the compressed stream is cut or damaged.
    """
    with files.open_for_reading(path) as stream:
        yield io.BufferedReader(_Inflated(stream, path), _CHUNK_BYTES) if kind else stream


class _Inflated(io.RawIOBase):
    """GZIP or ZLIB bytes, unpacked as they are read; GZIP members in a row count as one stream."""

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self._stream = stream
        self._path = path
        self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._packed = b""
        self._is_between_members = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if not self._packed:
                self._packed = self._stream.read(_CHUNK_BYTES)
            if not self._packed:
                if self._is_between_members:
                    return 0
                raise BadRecordError(
                    f"{self._path} is cut: its compressed data ends in the middle. "
                    "Copy or write it again."
                )
            data = self._unpack(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _unpack(self, max_bytes: int) -> bytes:
        try:
            data = self._inflate.decompress(self._packed, max_bytes)
        except zlib.error as error:
            raise BadRecordError(
                f"{self._path} is damaged: its compressed data cannot be read ({error}). "
                "Copy or write it again."
            ) from error
        self._is_between_members = self._inflate.eof
        if self._inflate.eof:
            self._packed = self._inflate.unused_data
            self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        else:
            self._packed = self._inflate.unconsumed_tail
        return data


def scan_records(
    stream: IO[bytes], path: str, *, copy: IO[bytes] | None = None
) -> Iterator[tuple[int, bytes, int]]:
    """Every record in turn: offset of its data, the data, and the data's masked CRC-32C.

    Args:
        stream: uncompressed TFRecord bytes.
        path: the file's name, for messages.
        copy: where to write the same bytes, or None.

    Raises:
        BadRecordError: the file ends inside a record, or a checksum does not agree.
    """
    offset, number = 0, 0
    while header := _read_fully(stream, _HEADER.size):
        if len(header) < _HEADER.size:
            raise _cut(path, number, offset)
        if not _is_header(header):
            raise BadRecordError(
                f"{path} record {number} (byte {offset}): the checksum of its length does not "
                "agree, so the file is damaged from here on. Copy or write it again."
            )
        length = _HEADER.unpack(header)[0]
        data = _read_fully(stream, length)
        footer = _read_fully(stream, _FOOTER.size)
        if len(data) < length or len(footer) < _FOOTER.size:
            raise _cut(path, number, offset)
        checksum = _FOOTER.unpack(footer)[0]
        if masked_crc(data) != checksum:
            raise _damaged(path, number)
        if copy is not None:
            copy.write(header + data + footer)
        yield offset + _HEADER.size, data, checksum
        offset += _HEADER.size + length + _FOOTER.size
        number += 1


def _read_fully(stream: IO[bytes], num_bytes: int) -> bytes:
    data = stream.read(num_bytes)
    while len(data) < num_bytes:
        more = stream.read(num_bytes - len(data))
        if not more:
            break
        data += more
    return data


def framed(record: bytes) -> bytes:
    """A record as it stands in a TFRecord file: length, checksums and content."""
    length = _HEADER.pack(len(record), 0)[:8]
    return b"".join(
        (length, _FOOTER.pack(masked_crc(length)), record, _FOOTER.pack(masked_crc(record)))
    )


def _is_header(header: bytes) -> bool:
    return masked_crc(header[:8]) == int(_HEADER.unpack(header)[1])


def _cut(path: str, number: int, offset: int) -> BadRecordError:
    return BadRecordError(
        f"{path} is cut: it ends inside record {number} (byte {offset}). Copy or write it again."
    )


def _damaged(path: str, number: int) -> BadRecordError:
    return BadRecordError(
        f"{path} record {number}: the checksum of its data does not agree. Copy or write it again."
    )
