"""Parquet files: a column of images, bytes or structs with bytes, and columns of other values."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tf_image_classification.dataset.readers.kinds import (
    EXPECTED,
    PARQUET,
    ReadOptions,
    Source,
)
from tf_image_classification.dataset.readers.listing import LABEL, LeftOut, Listing
from tf_image_classification.dataset.readers.packed import Packed, damaged
from tf_image_classification.errors import DataError
from tf_image_classification.system import files


def read(source: Source, options: ReadOptions) -> Listing:
    """The images of Parquet files; class numbers become the names that Hugging Face's schema gives.

    Raises:
        DataError: a file is no Parquet file, or has no column of images.
    """
    found = Packed()
    for path, part in source.paths_with_parts():
        _read_parquet(path, part, found)
    return found.listing(PARQUET, "cell")


def _read_parquet(path: str, part: str, found: Packed) -> None:
    import pyarrow as pa  # late: it takes half a second
    import pyarrow.compute
    import pyarrow.parquet

    try:
        with files.open_for_reading(path) as stream:
            data = stream.read()
        table = pa.parquet.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "a Parquet file", error) from error
    image = next((f.name for f in table.schema if _holds_images(pa, f.type)), None)
    if image is None:
        columns = ", ".join(table.schema.names[:9])
        raise DataError(f"{path} has no column of images, only {columns}. {EXPECTED[PARQUET]}")
    scalars = [f.name for f in table.schema if _holds_scalars(pa, f.type)]
    for name in (LABEL, "labels"):
        if name in table.schema.names and name not in scalars:
            raise DataError(
                f"{path}: its column {name!r} is of type {table.schema.field(name).type}, expected "
                "texts, numbers or booleans. Write it as one of these."
            )
    class_names = _class_names(table.schema.metadata or {})
    cells = table.select(scalars).to_pylist()
    column = table.column(image).combine_chunks()
    if pa.types.is_struct(column.type):
        column = pa.compute.struct_field(column, "bytes")
    lengths = pa.compute.binary_length(column).to_pylist()
    found.begin(path, image=image, content=hashlib.sha256(data).hexdigest())
    for i, (columns, length) in enumerate(zip(cells, lengths, strict=True)):
        if not length:
            reason = f"its cell of {image!r} holds no image"
            found.left_out.append(LeftOut(f"{path} row {i}", reason, is_damaged=True))
            continue
        named = {name: _named(value, class_names.get(name)) for name, value in columns.items()}
        found.add(i, length, named, where=f" row {i}", split=part)


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """By column, the class names that Hugging Face's datasets library has stored."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            name: list(feature["names"])
            for name, feature in features.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _named(value: Any, class_names: Sequence[str] | None) -> Any:
    if class_names and isinstance(value, int):
        return class_names[value] if 0 <= value < len(class_names) else None  # -1: no label
    return value


def _holds_images(pa: Any, kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_scalars(pa: Any, kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_scalars(pa, kind.value_type)
    tests = ("string", "large_string", "string_view", "integer", "floating", "boolean")
    return any(getattr(pa.types, f"is_{test}")(kind) for test in tests)
