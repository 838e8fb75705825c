"""Reading records: by number and in sequence, compressed and plain, and making the index.

    python benchmarks/records.py [--records 4000] [--record_bytes 40000] [--repeats 5]

The bytes are random and compress by 1 %, as those of photographs do. Every figure is the median of
several passes over files that the operating system has in memory, as in a second epoch.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset import tfrecord

CHUNK = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=4_000)
    parser.add_argument("--record_bytes", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain = _write(os.path.join(folder, "plain.tfrecord"), given, "")
        packed = _write(os.path.join(folder, "packed.tfrecord.gz"), given, "GZIP")
        actions = {
            "the file, by itself": lambda: _read_file(plain),
            "index, no cache": lambda: _index(plain),
            "TFRecordDataset": lambda: _in_sequence(plain, ""),
            "TFRecordDataset, GZIP": lambda: _in_sequence(packed, "GZIP"),
        }
        order = np.random.default_rng(0).permutation(given.records)
        for name, path in (("ours by number", plain), ("ours by number, GZIP", packed)):
            reader = tfrecord.RecordReader([tfrecord.index_file(path, folder)])
            actions[f"{name}, in order"] = functools.partial(_by_number, reader, np.sort(order))
            actions[f"{name}, shuffled"] = functools.partial(_by_number, reader, order)
        secs = {
            name: statistics.median(_seconds(action) for _ in range(given.repeats))
            for name, action in actions.items()
        }
        megabytes = os.path.getsize(plain) / 1e6
    base = secs["TFRecordDataset"]
    print(f"{'way':<32} {'MB/s':>8} {'ratio to TFRecordDataset':>26}")
    for name, value in secs.items():
        print(f"{name:<32} {megabytes / value:8.0f} {base / value:26.2f}")


def _write(path, given, compression):
    random = np.random.default_rng(1)
    with tf.io.TFRecordWriter(path, compression) as writer:
        for _ in range(given.records):
            writer.write(random.integers(0, 240, given.record_bytes, np.uint8).tobytes())
    return path


def _seconds(action):
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _read_file(path):
    with open(path, "rb") as stream:
        while stream.read(1 << 20):
            pass


def _index(path):
    with tempfile.TemporaryDirectory() as cache:
        tfrecord.index_file(path, cache)


def _in_sequence(path, compression):
    for _ in tf.data.TFRecordDataset(path, compression).batch(CHUNK):
        pass


def _by_number(reader, order):
    for start in range(0, len(order), CHUNK):
        reader.read(order[start : start + CHUNK])


if __name__ == "__main__":
    main()
