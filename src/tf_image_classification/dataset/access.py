"""Random access to the encoded images of a listing, in-graph.

    fetch = make_fetch(listing, "cache")
    fetch.images(tf.constant([17, 4], tf.int64))        # string [2]

TensorFlow reads images in files of their own. Parts of files are read from local files that are not
compressed; other files are unpacked into the cache folder once.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset import tfrecord
from tf_image_classification.dataset.readers.listing import Listing, netpbm_bytes, unpacked_stream
from tf_image_classification.dataset.spans import SpanReader, cache_key
from tf_image_classification.system import files

_QUIET_SECS = 0.1
_LONGEST_CLOSING_SECS = 10.0


@dataclasses.dataclass(frozen=True)
class Fetch:
    """Access to the images of a listing.

    Attributes:
        images: in-graph, int64 [n] example numbers to string [n] encoded images.
        is_parallel: whether parallel calls are faster.
    """

    images: Callable[[tf.Tensor], tf.Tensor]
    is_parallel: bool


def make_fetch(listing: Listing, cache_dir: str) -> Fetch:
    """Access to the images of a listing; compressed and remote files are unpacked now.

    Args:
        listing: the examples.
        cache_dir: local folder for unpacked files.

    Raises:
        DataError: the cache folder cannot be written, or a file is damaged.
    """
    places = listing.places
    if places.kind == "file":
        with tf.device("CPU:0"):
            paths = tf.constant([os.fsencode(path) for path in places.paths], tf.string)
        return Fetch(lambda n: tf.map_fn(tf.io.read_file, tf.gather(paths, n)), is_parallel=True)
    if places.kind == "record":
        return _of_records(listing, cache_dir)
    if places.kind == "cell":
        return _of_cells(listing, cache_dir)
    plain = [_local_copy(path, cache_dir) for path in places.paths]
    reader = SpanReader(plain, places.file_numbers, places.offsets, places.lengths, listing.locate)
    if places.kind == "bytes":
        return _of_spans(reader.read)

    def read(numbers: Any) -> list[bytes]:
        shapes = [places.shapes[places.file_numbers[n]] for n in numbers]
        return [
            netpbm_bytes(_pixels(data, shape))
            for data, shape in zip(reader.read(numbers), shapes, strict=True)
        ]

    return _of_spans(read)


def _pixels(data: bytes, shape: tuple[int, ...]) -> Any:
    pixels = np.frombuffer(data, np.uint8).reshape(shape)
    return pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels


def _of_records(listing: Listing, cache_dir: str) -> Fetch:
    places = listing.places
    indexed = [tfrecord.index_file(path, cache_dir) for path in places.paths]
    checksums = np.zeros(len(places), np.uint32)
    for number, index in enumerate(indexed):
        mine = np.flatnonzero(places.file_numbers == number)
        checksums[mine] = index.checksums[np.searchsorted(index.offsets, places.offsets[mine])]
    reader = SpanReader(
        [index.plain_path for index in indexed],
        places.file_numbers,
        places.offsets,
        places.lengths,
        listing.locate,
        checksums,
    )
    serialized = _of_spans(reader.read).images
    image_names = sorted(set(places.names))
    of_file = tf.constant([image_names.index(name) for name in places.names], tf.int64)
    file_numbers = tf.constant(places.file_numbers)
    wanted = {name: tf.io.RaggedFeature(tf.string) for name in image_names}

    def images(numbers: tf.Tensor) -> tf.Tensor:
        parsed = tf.io.parse_example(serialized(numbers), wanted)
        if len(image_names) == 1:
            return parsed[image_names[0]].values
        which = tf.gather(of_file, tf.gather(file_numbers, numbers))
        columns = [
            parsed[name][:, :1].to_tensor(default_value="", shape=[None, 1]) for name in image_names
        ]
        return tf.gather(tf.concat(columns, axis=1), which, batch_dims=1)

    return Fetch(images, is_parallel=False)


def _of_cells(listing: Listing, cache_dir: str) -> Fetch:
    """Images of Parquet files, which are copied one after the other into the cache folder."""
    places = listing.places
    plain = []
    starts = np.zeros(len(places), np.int64)
    for number, path in enumerate(places.paths):
        mine = np.flatnonzero(places.file_numbers == number)
        name = f"{cache_key(path)}-{len(mine)}.images"
        plain.append(os.path.join(cache_dir, name))
        ends = np.cumsum(places.lengths[mine])
        starts[mine] = ends - places.lengths[mine]
        is_there = os.path.exists(plain[-1]) and os.path.getsize(plain[-1]) == int(ends[-1])
        if not is_there:
            files.make_folder(cache_dir)
            with files.atomic_write(plain[-1]) as copy:
                for i in mine.tolist():
                    copy.write(places[i].encoded())
    reader = SpanReader(plain, places.file_numbers, starts, places.lengths, listing.locate)
    return _of_spans(reader.read)


def _of_spans(read: Callable[[Any], list[bytes]]) -> Fetch:
    def read_some(numbers: Any) -> Any:
        with _EXIT_GATE:
            return np.array(read(numbers), dtype=object)

    def fetch(numbers: tf.Tensor) -> tf.Tensor:
        found = tf.numpy_function(read_some, [numbers], tf.string, stateful=False)
        return tf.ensure_shape(found, [None])

    return Fetch(fetch, is_parallel=False)


def _local_copy(path: str, cache_dir: str) -> str:
    """The file itself, or its unpacked copy if it is remote or compressed."""
    if not files.is_remote(path):
        with open(path, "rb") as stream:
            if stream.read(2) != b"\x1f\x8b":
                return path
    plain = os.path.join(cache_dir, f"{cache_key(path)}.unpacked")
    if not os.path.exists(plain):
        files.make_folder(cache_dir)
        with unpacked_stream(path) as source, files.atomic_write(plain) as copy:
            shutil.copyfileobj(source, copy)
    return plain


class _ExitGate:
    """Keeps reading threads from running into the end of the interpreter.

    A thread of TensorFlow that wants to run Python while the interpreter goes down is ended by it;
    the batch it was reading for never comes, and the destructor of the iterator, which waits for
    that batch, never returns. So before that, reading is closed and the threads run dry.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        self._running = 0
        self._last_call = 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._last_call = time.monotonic()
            if self._is_closed:
                raise StopIteration
            self._running += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._running -= 1

    def close(self) -> None:
        """Refuse further calls, and wait until no call is running or has come for a moment."""
        with self._lock:
            self._is_closed = True
            began = self._last_call = time.monotonic()
        while time.monotonic() - began < _LONGEST_CLOSING_SECS:
            time.sleep(_QUIET_SECS / 5)
            if not self._running and time.monotonic() - self._last_call > _QUIET_SECS:
                return


_EXIT_GATE = _ExitGate()
atexit.register(_EXIT_GATE.close)
