"""Indexes of TFRecord files, kept in a cache folder, for random access to the records.

    index = index_file(path, cache_dir)
    index.reader().read([17, 4])

Compressed and remote files are unpacked into the cache folder once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import struct
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.dataset.spans import SpanReader, cache_key
from tf_image_classification.dataset.tfrecord.framing import (
    FOOTER_BYTES,
    compression,
    open_plain,
    scan_records,
)
from tf_image_classification.errors import DataError
from tf_image_classification.system import files

_PAIR = struct.Struct("<QI")


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """The index of one TFRecord file: where its records lie.

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
        return int(self.offsets[-1] + self.lengths[-1]) + FOOTER_BYTES

    def reader(self) -> SpanReader:
        """Random access to the records by their number in the file; checks them."""
        path = self.path
        return SpanReader(
            [self.plain_path],
            np.zeros(len(self.offsets), np.int32),
            self.offsets,
            self.lengths,
            lambda number: f"{path} record {number}",
            self.checksums,
        )

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
    """The arrays of an index in the cache; {} if there is no index or it is damaged."""
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
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # no such file, or damaged
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
