"""Finding the rows of files that hold many images each: tar, Parquet and TFRecord files.

rows, refused = read_tar("pictures.tar")
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from tf_image_classification import files
from tf_image_classification.conversion.columns import Cell, whole_number
from tf_image_classification.conversion.rows import (
    LABEL,
    Found,
    Place,
    Refused,
    Row,
    Value,
    unpacked_stream,
)
from tf_image_classification.dataset.sources import IMAGE_SUFFIXES
from tf_image_classification.errors import DataError
from tf_image_classification.labels import SEPARATOR


def read_tar(path: str) -> Found:
    """WebDataset's convention: members of one key are one example, their ending says what."""
    try:
        return _read_tar(path)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _damaged(path, "a tar file", error) from error


def _damaged(path: str, what: str, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read as {what} ({error}): it is cut short, damaged or something else. "
        "Copy or write it again."
    )


def _read_tar(path: str) -> Found:
    images: dict[str, tuple[str, Place]] = {}
    columns: dict[str, dict[str, Value]] = {}
    refused = []
    contents: dict[str, tarfile.TarInfo] = {}  # a hard link shares that of an earlier member
    with unpacked_stream(path) as stream, tarfile.open(fileobj=stream) as tar:
        for member in tar:
            if member.isdir():
                continue
            where = f"{path}: {member.name}"
            content = contents.get(member.linkname) if member.islnk() else member
            if content is None or not content.isfile():
                refused.append(Refused(where, "neither a file nor a hard link to one before it"))
                continue
            contents[member.name] = content
            folder, _, base = member.name.rpartition("/")
            stem, _, ending = base.partition(".")
            key, ending = f"{folder}/{stem}".lstrip("/"), ending.lower()
            if f".{ending}" not in IMAGE_SUFFIXES:
                if ending not in ("cls", "txt", "json"):
                    refused.append(Refused(where, "neither image, class nor JSON"))
                    continue
                data = tar.extractfile(content).read()  # type: ignore[union-attr]
                columns.setdefault(key, {}).update(_said_of_image(ending, data, where))
            elif key in images:
                refused.append(Refused(where, f"its key has an image already, {images[key][0]}"))
            else:
                place = Place("bytes", path, content.offset_data, content.size)
                images[key] = (member.name, place)
        stream.seek(tar.offset)
        if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):  # it ends where no member begins
            raise tarfile.ReadError(f"no member begins at byte {tar.offset}")
    rows = [
        Row(key, place, columns.get(key, {}), where=f"{path}: {name}")
        for key, (name, place) in images.items()
    ]
    without = sorted(set(columns) - set(images))
    refused += [Refused(f"{path}: {key}", "has no image") for key in without]
    return rows, refused


def _said_of_image(ending: str, data: bytes, where: str) -> dict[str, Value]:
    """What a member of a tar file says of the image of its key."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    if ending == "json":
        return _said_in_json(text, where)
    if ending == "txt":
        return {"text": Cell(text)}
    number = whole_number(text)
    return {LABEL: text if number is None else number}


def _said_in_json(text: str, where: str) -> dict[str, Value]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON ({error}). Correct or remove it.") from error
    if not isinstance(found, dict):
        raise DataError(
            f'{where} holds {text[:40]!r}, expected names with values, as {{"label": "cat"}}.'
        )
    return {name: value for name, value in found.items() if isinstance(value, (str, int, float))}


def read_parquet(path: str) -> Found:
    """A column of images, bytes or a struct with bytes, and those of texts and numbers."""
    import pyarrow as pa  # late: it takes half a second
    import pyarrow.parquet

    try:
        with files.open_for_reading(path) as stream:
            table = pa.parquet.read_table(io.BytesIO(stream.read()))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, "a Parquet file", error) from error
    image = next((f.name for f in table.schema if _holds_images(pa, f.type)), None)
    if image is None:
        raise DataError(f"{path} has no column of images: bytes, or a struct with bytes.")
    scalars = [f.name for f in table.schema if _holds_scalars(pa, f.type)]
    if LABEL in table.schema.names and LABEL not in scalars:
        raise DataError(
            f"{path}: its column {LABEL!r} is of type {table.schema.field(LABEL).type}, expected "
            "texts, numbers or booleans. Write it as one of these."
        )
    cells = table.select(scalars).to_pylist()
    name = os.path.basename(path)
    return [
        Row(
            f"{name}/{i:06d}",
            Place("cell", path, offset=i, name=image),
            {n: v for n, v in columns.items() if v is not None},
            where=f"{path} row {i}",
        )
        for i, columns in enumerate(cells)
    ], []


def _holds_images(pa: Any, kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_scalars(pa: Any, kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_scalars(pa, kind.value_type)
    tests = ("string", "large_string", "string_view", "integer", "floating", "boolean")
    return any(getattr(pa.types, f"is_{test}")(kind) for test in tests)


def read_records(path: str) -> Found:
    """``tf.train.Example`` records with an image; every other feature of one value is a column."""
    from tf_image_classification.dataset.examples import IMAGE_FEATURES, features_of

    rows, refused = [], []
    name = re.sub(r"\.tfrecord.*$", "", os.path.basename(path))
    for number, (offset, data) in enumerate(_scanned(path)):
        where = f"{path} record {number}"
        features = features_of(data, where)
        image = next((f for f in IMAGE_FEATURES if f in features), None)
        if image is None:
            refused.append(Refused(where, f"no image feature ({', '.join(IMAGE_FEATURES)})"))
            continue
        place = Place("record", path, offset, len(data), name=image)
        uri = features["image_uri"].bytes_list.value[:1] if "image_uri" in features else []
        key = uri[0].decode("utf-8", "backslashreplace") if uri else f"{name}/{number:06d}"
        columns = {n: _feature(f) for n, f in features.items() if n not in (image, "image_uri")}
        known = {n: v for n, v in columns.items() if v is not None}
        rows.append(Row(key, place, known, where=where))
    return rows, refused


def _scanned(path: str) -> Iterator[tuple[int, bytes]]:
    """Offset and data of each record, in the file once it is unpacked."""
    from tf_image_classification.dataset import tfrecord

    with tfrecord.open_plain(path, tfrecord.compression(path)) as stream:
        for offset, data, _ in tfrecord.scan_records(stream, path):
            yield offset, data


def _feature(feature: Any) -> Value | None:
    """A feature's value; several texts are the classes of one label."""
    if feature.bytes_list.value:
        texts = [text.decode("utf-8", "backslashreplace") for text in feature.bytes_list.value]
        return SEPARATOR.join(texts)
    values = [*feature.int64_list.value, *feature.float_list.value]
    if len(values) == 1:
        value = values[0]
        is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
        return int(value) if is_whole else value
    return tuple(map(float, values)) if values else None
