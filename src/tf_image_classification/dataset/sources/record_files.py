"""Images in TFRecord files, read by number; their labels are read once and cached."""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification import files
from tf_image_classification.dataset import examples, tfrecord
from tf_image_classification.dataset.sources.tables import RawTable, SourceOptions
from tf_image_classification.errors import DataError
from tf_image_classification.labels import LabelSchema

_QUIET_SECS = 0.1
_LONGEST_CLOSING_SECS = 10.0


def read_records(paths: Sequence[str], schema: LabelSchema, options: SourceOptions) -> RawTable:
    """The examples of TFRecord files, in order.

    Raises:
        DataError: a file is missing, empty or damaged; names file and record.
    """
    indexed = [tfrecord.index_file(path, options.cache_dir) for path in paths]
    reader = tfrecord.RecordReader(indexed)
    if not reader.num_records:
        raise DataError(f"{options.option}: {', '.join(paths)} hold no records.")

    def locate(i: int) -> str:
        return "{} record {}".format(*reader.locate(i))

    def records() -> Iterator[bytes]:
        return (data for i in range(reader.num_records) for data in reader.read([i]))

    features = examples.find_features(
        records(),
        schema,
        path=paths[0],
        image_feature=options.image_feature,
        label_features=options.label_features,
    )
    fingerprint = features.fingerprint(f.fingerprint for f in indexed)
    raw = _cached_labels(
        fingerprint,
        features,
        options.cache_dir,
        lambda: examples.read_labels(records(), features, locate),
    )

    def read_some(numbers: Any) -> Any:
        with _EXIT_GATE:
            return np.array(reader.read(numbers), dtype=object)

    def fetch(numbers: tf.Tensor) -> tf.Tensor:
        serialized = tf.numpy_function(read_some, [numbers], tf.string, stateful=False)
        return features.parse(tf.ensure_shape(serialized, [None]))[0]

    return RawTable(reader.num_records, raw, fetch, locate, fingerprint, fetches_in_parallel=False)


class _ExitGate:
    """Lets no reading thread run into the end of the interpreter.

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
        """Refuse further calls, and wait until there are none for a moment."""
        with self._lock:
            self._is_closed = True
            began = self._last_call = time.monotonic()
        while time.monotonic() - began < _LONGEST_CLOSING_SECS:
            time.sleep(_QUIET_SECS / 5)
            if not self._running and time.monotonic() - self._last_call > _QUIET_SECS:
                return


_EXIT_GATE = _ExitGate()
atexit.register(_EXIT_GATE.close)


def _cached_labels(
    fingerprint: str,
    features: examples.Features,
    cache_dir: str,
    read: Callable[[], dict[str, examples.RawLabels]],
) -> dict[str, examples.RawLabels]:
    """The labels of records, read once for this content and these features."""
    kinds = sorted((name, kind.name) for name, kind in features.dtypes.items())
    key = repr((fingerprint, kinds))
    path = os.path.join(cache_dir, f"labels-{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz")
    if os.path.exists(path):
        with np.load(path, allow_pickle=False) as saved:
            return {
                name: examples.RawLabels(saved[f"values:{name}"], saved[f"given:{name}"])
                for name in features.labels
            }
    raw = read()
    buffer = io.BytesIO()
    arrays = {f"values:{name}": labels.values for name, labels in raw.items()}
    arrays |= {f"given:{name}": labels.given for name, labels in raw.items()}
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    files.write_bytes(path, buffer.getvalue())
    return raw
