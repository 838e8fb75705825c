"""Writes one shard from its description; the bytes are the same on every runner.

path = "out/train-00000-of-00004.tfrecord"
result = write_shard(Shard(path, rows, options, "ours", {}, "out/.progress"))
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from tf_image_classification.conversion.images import ImageOptions, stored
from tf_image_classification.dataset.readers import LeftOut, Row, Value
from tf_image_classification.errors import DataError, TficError
from tf_image_classification.system import files

SCHEMAS = ("ours", "legacy")


@dataclasses.dataclass(frozen=True)
class Shard:
    """The description of a file to write.

    Attributes:
        path: its final name.
        rows: its images in their order.
        options: how they are stored.
        schema: "ours": class names as text; "legacy": every label as one float, class numbers by
            ``numbers``.
        numbers: by column the number of each class name, where the schema is "legacy".
        progress_dir: folder for the results of finished shards.
    """

    path: str
    rows: tuple[Row, ...]
    options: ImageOptions
    schema: str
    numbers: Mapping[str, Mapping[str, int]]
    progress_dir: str

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the description, with lengths and times of the source's files."""
        paths = dict.fromkeys(row.place.path for row in self.rows)
        made_of = (dataclasses.astuple(self), [_stamp(path) for path in paths])
        return hashlib.sha256(repr(made_of).encode()).hexdigest()


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        return files.size_and_time(path)
    except (OSError, ValueError, DataError):
        return None  # reading it gives the reason


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """The result of writing a shard.

    Attributes:
        path: its file, which does not exist if it has no images.
        num_examples: images in it.
        num_bytes: size of its uncompressed content.
        sha256: of its uncompressed content, hexadecimal.
        refused: rows that could not be stored, with reasons.
    """

    path: str
    num_examples: int
    num_bytes: int
    sha256: str
    refused: tuple[LeftOut, ...] = ()


def write_shard(shard: Shard) -> ShardResult:
    """Write a shard, unless it was finished by an earlier run with the same description.

    The file gets its name when it is complete; its result is stored after it. No file is written
    if all rows are refused.
    """
    done = finished(shard)
    if done is not None:
        return done
    made_of = shard.digest  # before anything is read
    refused: list[LeftOut] = []
    digest = hashlib.sha256()
    num_bytes = 0
    records = _records(shard, refused)
    first = next(records, None)
    if first is None:
        files.remove_file(shard.path)
    else:
        with files.atomic_write(shard.path) as raw:
            is_packed = shard.path.endswith(".gz")
            # Without a time and a name in its head the same records make the same bytes.
            stream: Any = gzip.GzipFile("", "wb", 6, raw, mtime=0) if is_packed else raw
            for data in itertools.chain([first], records):
                stream.write(data)
                digest.update(data)
                num_bytes += len(data)
            if is_packed:
                stream.close()
    result = ShardResult(
        shard.path,
        len(shard.rows) - len(refused),
        num_bytes,
        digest.hexdigest(),
        tuple(refused),
    )
    note = {"digest": made_of, "result": dataclasses.asdict(result)}
    files.write_json(_note_path(shard), note)
    return result


def _records(shard: Shard, refused: list[LeftOut]) -> Iterator[bytes]:
    """The records of a shard with their framing; adds to the refused rows."""
    from tf_image_classification.dataset.tfrecord import framed, make_example  # late: TensorFlow

    for row in shard.rows:
        try:
            image = stored(row.place.read(), shard.options)
            keeps = shard.schema == "ours"
            record = make_example(image, row.key, labels_of(row, shard), keeps_integers=keeps)
        except (TficError, OSError, ValueError) as error:
            refused.append(LeftOut(row.where or row.key, _reason(error), is_damaged=True))
            continue
        yield framed(record)


def finished(shard: Shard) -> ShardResult | None:
    """The result of a shard that an earlier run has written, or None."""
    path = _note_path(shard)
    if not files.exists(path):
        return None
    note = files.read_json(path)
    is_there = not note["result"]["num_examples"] or files.exists(shard.path)
    if not is_there or note["digest"] != shard.digest:
        return None
    result = dict(note["result"])
    result["refused"] = tuple(LeftOut(**each) for each in result["refused"])
    return ShardResult(**result)


def labels_of(row: Row, shard: Shard) -> dict[str, Any]:
    """The features of a record but for image and name."""
    if shard.schema == "ours":
        return {name: value for name, value in row.columns.items() if value != ""}
    labels: dict[str, Value] = {}
    for name, value in row.columns.items():
        if value == "":
            continue
        if name in shard.numbers:
            labels[name] = shard.numbers[name][str(value)]
        elif not isinstance(value, str):
            labels[name] = value
    return labels


def _note_path(shard: Shard) -> str:
    return files.join(shard.progress_dir, f"{shard.path.rpartition('/')[2]}.json")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, TficError) else f"cannot be read: {error}"
