"""``FeatureStore``: features on the disk, by the content of the image.

    store = FeatureStore(cache_dir, identity, {"network": "mobilenet_v2"})
    store.get(key)               # float32 [D], or None
    store.add(key, features)
    store.flush()

A store is a folder of parts. Each part is written under a temporary name and renamed, so that a
killed process loses only what it has not written yet, and several processes may add to a store at
the same time. A damaged part is removed with a warning, and its features are computed again.
"""

from __future__ import annotations

import collections
import contextlib
import io
import logging
import os
import time
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import DataError
from tf_image_classification.system import files

Features = npt.NDArray[np.float32]

MAX_BYTES = 10 * 2**30
"""Of all stores of a cache folder; the ones that were not used for longest are removed first."""

KEY_BYTES = 16

log = logging.getLogger("tf_image_classification")
_FOLDER = "features"
_PART = ".npz"
_ABOUT = "about.json"
_ROWS_OF_PART = 8192
_SECS_OF_PART = 15.0
_PARTS_IN_MEMORY = 8
_DAMAGE = (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError)


class FeatureStore:
    """The features that one network gives for images, by key.

    Attributes:
        path: the folder of the parts.
        problem: why nothing more is written, or "".
    """

    def __init__(self, cache_dir: str, identity: str, about: Mapping[str, str]) -> None:
        """Store the arguments; nothing is read.

        Args:
            cache_dir: local folder; each store has one of its own below it.
            identity: hexadecimal digest of everything but the image that decides the features.
            about: what the store is of, for people who look into the folder.
        """
        self.path = os.path.join(cache_dir, _FOLDER, identity)
        self.problem = ""
        self._about = dict(about)
        self._index: dict[bytes, tuple[str, int]] | None = None
        self._parts: collections.OrderedDict[str, Features] = collections.OrderedDict()
        self._waiting: list[tuple[bytes, Features]] = []
        self._since = time.monotonic()

    def get(self, key: bytes) -> Features | None:
        """The features of an image, float32 [D]; None if the store does not have them."""
        while (found := self._known.get(key)) is not None:
            part, row = found
            if (rows := self._rows(part)) is not None:
                features: Features = rows[row]
                return features
        return None

    def add(self, key: bytes, features: Features) -> None:
        """Keep the features of an image; they are written with others, see ``flush``."""
        if not self.problem:
            self._waiting.append((key, features))
        is_late = time.monotonic() - self._since > _SECS_OF_PART
        if self._waiting and (len(self._waiting) >= _ROWS_OF_PART or is_late):
            self.flush()

    def flush(self) -> None:
        """Write all features that are not written yet; a full disk is a warning, once."""
        self._since = time.monotonic()
        if not self._waiting or self.problem:
            return
        try:
            files.make_folder(self.path)
            _make_room(os.path.dirname(self.path), keep=self.path)
            about = os.path.join(self.path, _ABOUT)
            if not os.path.exists(about):
                files.write_json(about, self._about)
            self._write()
        except DataError as error:
            self.problem = str(error)
            log.warning("Features are computed but not cached: %s", error)
        self._waiting.clear()

    def num_bytes(self) -> int:
        """The size of the store on the disk."""
        return sum(size for _, size, _ in _files_of(self.path))

    def _write(self) -> None:
        keys = np.frombuffer(b"".join(key for key, _ in self._waiting), np.uint8)
        features = np.stack([features for _, features in self._waiting])
        buffer = io.BytesIO()  # a part is small, and a zip file of NumPy's has checksums
        np.savez(buffer, keys=keys.reshape(-1, KEY_BYTES), features=features)
        files.write_bytes(os.path.join(self.path, os.urandom(8).hex() + _PART), buffer.getvalue())

    @property
    def _known(self) -> dict[bytes, tuple[str, int]]:
        """Part and row of each key; the parts are listed at the first call."""
        if self._index is None:
            self._index = {}
            for path, _, _ in _files_of(self.path):
                if path.endswith(_PART):
                    for row, key in enumerate(self._keys(path)):
                        self._index[key] = path, row
            with contextlib.suppress(OSError):
                os.utime(self.path)  # used now
        return self._index

    def _keys(self, path: str) -> Iterator[bytes]:
        keys = self._read(path, "keys")
        if keys is None:
            return iter(())
        return (key.tobytes() for key in keys)

    def _rows(self, path: str) -> Features | None:
        """The features of a part [n, D]; None, and its keys are forgotten, where it is damaged."""
        if path not in self._parts:
            rows = self._read(path, "features")
            if rows is None:
                assert self._index is not None
                self._index = {k: place for k, place in self._index.items() if place[0] != path}
                return None
            self._parts[path] = rows
            if len(self._parts) > _PARTS_IN_MEMORY:
                self._parts.popitem(last=False)
        return self._parts[path]

    def _read(self, path: str, name: str) -> npt.NDArray[np.float32] | None:
        """An array of a part; None where the part is gone or damaged."""
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as part:
                found: npt.NDArray[np.float32] = part[name]
                return found
        except FileNotFoundError:  # another process made room
            return None
        except _DAMAGE as error:
            log.warning(
                "%s is damaged (%s). It is removed, and its features are computed again.",
                *(path, error),
            )
            with contextlib.suppress(OSError):
                os.remove(path)
            return None


def _make_room(folder: str, keep: str) -> None:
    """Remove the stores that were not used for longest while all have more than ``MAX_BYTES``.

    Raises:
        DataError: the store to keep has more by itself.
    """
    sizes = {e.path: sum(s for _, s, _ in _files_of(e.path)) for e in _scan(folder) if e.is_dir()}
    total = sum(sizes.values())
    for path in sorted(sizes, key=_last_use):
        if total > MAX_BYTES and path != keep:
            total -= sizes[path]
            files.remove(path)
    if total > MAX_BYTES:
        raise DataError(
            f"{keep} has {total / 2**30:.1f} GiB, and the cache of features is limited to "
            f"{MAX_BYTES / 2**30:.0f} GiB."
        )


def _last_use(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _files_of(folder: str) -> list[tuple[str, int, float]]:
    """Path, size and time of each file of a folder, by name; leftovers of killed processes too."""
    found = []
    for entry in _scan(folder):
        with contextlib.suppress(OSError):
            found.append((entry.path, entry.stat().st_size, entry.stat().st_mtime))
    return sorted(found)


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
