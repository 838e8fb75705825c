"""TFRecord files: framing, exact index, random access and writing.

A file may be plain, GZIP or ZLIB, told from its bytes. Compressed and remote files are unpacked
once into a cache folder, so that any record can be read by its place.

    files = [index_file(path, cache_dir) for path in paths]
    RecordReader(files).read([17, 4])
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import os
import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.dataset.spans import SpanReader, cache_key, masked_crc
from tf_image_classification.errors import BadRecordError, DataError
from tf_image_classification.system import files

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_PAIR = struct.Struct("<QI")
_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """Where the records of one file lie.

    Attributes:
        path: the file as it was named.
        plain_path: local uncompressed file with the same records; ``path`` itself when it is one.
        offsets: int64 [n], first byte of each record's data in ``plain_path``.
        lengths: int64 [n], bytes of each record's data.
        checksums: uint32 [n], masked CRC-32C of each record's data.
    """

    path: str
    plain_path: str
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    checksums: npt.NDArray[np.uint32]

    @property
    def num_bytes(self) -> int:
        """Length of the uncompressed file."""
        if not len(self.offsets):
            return 0
        return int(self.offsets[-1] + self.lengths[-1]) + _FOOTER.size

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of the content, as ``ContentDigest`` makes it."""
        digest = ContentDigest()
        for length, checksum in zip(self.lengths.tolist(), self.checksums.tolist(), strict=True):
            digest.add(length, checksum)
        return digest.hexadecimal()


class ContentDigest:
    """Digest of a file's records: same records, same digest, wherever and however they lie."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, length: int, checksum: int) -> None:
        """Count one record: its length in bytes and its masked CRC-32C."""
        self._digest.update(_PAIR.pack(length, checksum))

    def hexadecimal(self) -> str:
        """The digest of all records so far."""
        return self._digest.hexdigest()


def compression(path: str) -> str:
    """How a TFRecord file is compressed, told from its first bytes: "", "GZIP" or "ZLIB".

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


def index_file(path: str, cache_dir: str) -> RecordFile:
    """The index of a file; built once, then read from the cache folder.

    Args:
        path: the TFRecord file, local or remote.
        cache_dir: local folder for indexes and unpacked files.

    Raises:
        BadRecordError: the file is cut, damaged or no TFRecord file; names the record.
        DataError: the cache folder cannot be written.
    """
    kind = compression(path)
    in_place = not kind and not files.is_remote(path)
    base = os.path.join(cache_dir, cache_key(path))
    index_path = base + ".index.npz"
    plain_path = path if in_place else base + ".records"
    if os.path.exists(plain_path) and (saved := _cached_arrays(index_path)):
        index = RecordFile(path, plain_path, *(saved[name] for name in _INDEX))
        if os.path.getsize(plain_path) == index.num_bytes:
            return index
    _make_cache(cache_dir)
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open_plain(path, kind))
        copy = None if in_place else stack.enter_context(files.atomic_write(plain_path))
        places = [
            (offset, len(data), checksum)
            for offset, data, checksum in scan_records(stream, path, copy=copy)
        ]
    offsets, lengths, checksums = np.array(places, np.int64).reshape(-1, 3).T
    index = RecordFile(path, plain_path, offsets, lengths, checksums.astype(np.uint32))
    buffer = io.BytesIO()
    np.savez(buffer, offsets=index.offsets, lengths=index.lengths, checksums=index.checksums)
    files.write_bytes(index_path, buffer.getvalue())
    return index


_INDEX = ("offsets", "lengths", "checksums")


def _cached_arrays(path: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an index in the cache; {} where there is none or it is damaged."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as saved:
            return {name: saved[name] for name in _INDEX}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return {}


def _make_cache(cache_dir: str) -> None:
    try:
        files.make_folder(cache_dir)
    except DataError as error:
        raise DataError(f"{error} --cache_dir names the folder for indexes.") from error


def count_records(path: str, cache_dir: str) -> tuple[int, str]:
    """Exact number of records of a file and its fingerprint, without unpacking it.

    Raises:
        BadRecordError: as ``index_file``.
    """
    count_path = os.path.join(cache_dir, cache_key(path) + ".count.json")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none, or damaged
        saved = files.read_json(count_path)
        return int(saved["count"]), str(saved["fingerprint"])
    _make_cache(cache_dir)
    digest, count = ContentDigest(), 0
    with open_plain(path, compression(path)) as stream:
        for _, data, checksum in scan_records(stream, path):
            digest.add(len(data), checksum)
            count += 1
    files.write_json(count_path, {"count": count, "fingerprint": digest.hexadecimal()})
    return count, digest.hexadecimal()


@contextlib.contextmanager
def open_plain(path: str, kind: str) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of a file whose compression is known.

    Raises:
        BadRecordError: while reading, when the compressed stream is cut or damaged.
    """
    with files.open_for_reading(path) as stream:
        yield io.BufferedReader(_Inflated(stream, path), _CHUNK_BYTES) if kind else stream


class _Inflated(io.RawIOBase):
    """GZIP or ZLIB bytes, unpacked as they are read; several GZIP members count as one stream."""

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


class RecordReader:
    """Records of several indexed files by their number in the whole; opens files when needed."""

    def __init__(self, record_files: Sequence[RecordFile]) -> None:
        self._files = record_files
        counts = [len(f.offsets) for f in record_files]
        self._starts = np.cumsum([0, *counts])
        self._spans = SpanReader(
            [f.plain_path for f in record_files],
            np.repeat(np.arange(len(counts)), counts),
            np.concatenate([np.zeros(0, np.int64), *(f.offsets for f in record_files)]),
            np.concatenate([np.zeros(0, np.int64), *(f.lengths for f in record_files)]),
            functools.partial(_called, record_files, self._starts),
            np.concatenate([np.zeros(0, np.uint32), *(f.checksums for f in record_files)]),
        )

    @property
    def num_records(self) -> int:
        """Records in all files together."""
        return int(self._starts[-1])

    def locate(self, record: int) -> tuple[str, int]:
        """The file of a record and the record's number in it, both as the user counts them."""
        file_number = int(np.searchsorted(self._starts, record, side="right")) - 1
        return self._files[file_number].path, record - int(self._starts[file_number])

    def read(self, records: Iterable[int]) -> list[bytes]:
        """The data of some records, checked.

        Raises:
            BadRecordError: a record has changed since it was indexed.
        """
        return self._spans.read(records)


def _called(record_files: Sequence[RecordFile], starts: npt.NDArray[Any], record: int) -> str:
    """What to call a record; without a reference to a reader, which would keep its files open."""
    file_number = int(np.searchsorted(starts, record, side="right")) - 1
    return f"{record_files[file_number].path} record {record - int(starts[file_number])}"


LabelValue = float | Sequence[float] | str | None


def write_shards(
    folder: str,
    name: str,
    examples: Iterable[tuple[bytes, str, Mapping[str, LabelValue]]],
    *,
    num_shards: int = 1,
) -> list[str]:
    """Write examples as GZIP files ``name-00000-of-00001.tfrecord.gz``.

    No file gets its name before all are written.

    Args:
        folder: where to write; created when absent; local or remote.
        name: first part of the file names, such as "train".
        examples: encoded image, its origin, and its labels by name: a number (class number or real
            value) is written as one float, 0 and 1 for each of several classes as floats, a class
            name (or several, as ``cat|dog``) as bytes, None is left out (missing).
        num_shards: number of files; examples are dealt to them in turn.

    Returns:
        The paths of the files.

    Example:
        >>> write_shards("records", "train", [(jpeg_bytes, "cat.jpg", {"pet": 0})])
        ['records/train-00000-of-00001.tfrecord.gz']
    """
    files.make_folder(folder)
    paths = [
        files.join(folder, f"{name}-{i:05d}-of-{num_shards:05d}.tfrecord.gz")
        for i in range(num_shards)
    ]
    # Hidden names, so that no pattern such as train* finds what a killed process left behind.
    temporary = [
        files.join(folder, f".{name}-{i:05d}.{uuid.uuid4().hex}") for i in range(num_shards)
    ]
    writers = [tf.io.TFRecordWriter(path, options="GZIP") for path in temporary]
    try:
        for number, (image, uri, labels) in enumerate(examples):
            writers[number % num_shards].write(make_example(image, uri, labels))
        for writer in writers:
            writer.close()
    except BaseException:
        for writer, path in zip(writers, temporary, strict=True):
            with contextlib.suppress(Exception):  # the first error is the one to report
                writer.close()
            files.remove(path)
        raise
    for path, final in zip(temporary, paths, strict=True):
        files.rename(path, final)
    return paths


def make_example(
    image: bytes, uri: str, labels: Mapping[str, LabelValue], *, keeps_integers: bool = False
) -> bytes:
    """One serialized ``tf.train.Example`` in the contract's form.

    With ``keeps_integers`` whole numbers are written as such, so that large ones stay exact.

    Raises:
        DataError: a label has the name of a feature that every example has.
    """
    features = {"image_bytes": _bytes_feature(image), "image_uri": _bytes_feature(uri.encode())}
    for name, value in labels.items():
        if name in features:
            raise DataError(f"A label cannot be called {name!r}: every example has that feature.")
        if isinstance(value, str):
            features[name] = _bytes_feature(value.encode())
        elif keeps_integers and isinstance(value, int):
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        elif value is not None:
            numbers = value if isinstance(value, Sequence) else [value]
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=numbers))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return bytes(example.SerializeToString(deterministic=True))


def _bytes_feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
