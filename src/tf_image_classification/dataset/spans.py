"""Random access to parts of local files, from any thread.

reader = SpanReader(["a.tar"], file_numbers, offsets, lengths, str)
reader.read([17, 4])
"""

from __future__ import annotations

import collections
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence

import google_crc32c
import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import BadRecordError
from tf_image_classification.system import files

_MAX_OPEN_FILES = 128


class SpanReader:
    """Parts of files by number; opens files when needed."""

    def __init__(
        self,
        plain_paths: Sequence[str],
        file_numbers: npt.NDArray[np.int32] | npt.NDArray[np.int64],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        locate: Callable[[int], str],
        checksums: npt.NDArray[np.uint32] | None = None,
    ) -> None:
        """Store where the parts lie; nothing is opened.

        Args:
            plain_paths: local files that are not compressed.
            file_numbers: int [N], the file of each part.
            offsets: int64 [N], first byte of each part.
            lengths: int64 [N], bytes of each part.
            locate: gives the name of a part, for messages.
            checksums: uint32 [N], masked CRC-32C of each part, if it has one.
        """
        self._plain_paths = plain_paths
        self._file_numbers = file_numbers
        self._offsets = offsets
        self._lengths = lengths
        self._locate = locate
        self._checksums = checksums
        self._open: collections.OrderedDict[int, _Descriptor] = collections.OrderedDict()
        self._lock = threading.Lock()

    def read(self, numbers: Iterable[int]) -> list[bytes]:
        """The bytes of some parts, checked.

        Raises:
            BadRecordError: a part has changed since it was found.
        """
        return [self._read_one(int(number)) for number in numbers]

    def _read_one(self, number: int) -> bytes:
        file = int(self._file_numbers[number])
        length, offset = int(self._lengths[number]), int(self._offsets[number])
        descriptor = self._descriptor(file)  # held, so that no other thread closes it meanwhile
        data = os.pread(descriptor.number, length, offset)
        if len(data) < length:
            raise BadRecordError(
                f"{self._locate(number)}: the file is shorter than when it was indexed. Bring it "
                "back, or start again with another --cache_dir."
            )
        if self._checksums is not None and masked_crc(data) != self._checksums[number]:
            raise BadRecordError(
                f"{self._locate(number)}: the checksum of its data does not agree. Copy or write "
                "it again."
            )
        return data

    def _descriptor(self, file_number: int) -> _Descriptor:
        with self._lock:
            descriptor = self._open.get(file_number)
            if descriptor is None:
                descriptor = _Descriptor(self._plain_paths[file_number])
                self._open[file_number] = descriptor
            self._open.move_to_end(file_number)
            if len(self._open) > _MAX_OPEN_FILES:
                self._open.popitem(last=False)
            return descriptor


class _Descriptor:
    """An open file that closes with its last user, so that one thread cannot close another's."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


def masked_crc(data: bytes) -> int:
    """The masked CRC-32C of the TFRecord format (tensorflow/core/lib/hash/crc32c.h)."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def cache_key(path: str) -> str:
    """A name that changes with the file: its path, length, time and, of a GZIP file, its CRC."""
    length, modified = files.size_and_time(path)
    tail_bytes = min(length, 65536)
    with files.open_for_reading(path) as stream:
        head = stream.read(tail_bytes)
        stream.seek(length - tail_bytes)
        tail = stream.read(tail_bytes)
    where = os.fsencode(path if files.is_remote(path) else os.path.abspath(path))
    stamp = f"\0{length}\0{modified}\0".encode()
    digest = hashlib.sha256(where + stamp + head + tail).hexdigest()
    # Plain characters only: a file system counts the bytes of a name, not its characters.
    return f"{re.sub('[^A-Za-z0-9._-]', '_', os.path.basename(path))[:80]}-{digest[:24]}"
