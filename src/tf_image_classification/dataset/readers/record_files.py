"""TFRecord files of ``tf.train.Example``: one image per record, every other feature a column."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tf_image_classification.dataset import tfrecord
from tf_image_classification.dataset.examples import IMAGE_FEATURES, features_of
from tf_image_classification.dataset.readers.kinds import TFRECORD, ReadOptions, Source
from tf_image_classification.dataset.readers.listing import LeftOut, Listing
from tf_image_classification.dataset.readers.packed import Packed
from tf_image_classification.errors import BadRecordError, DataError
from tf_image_classification.labels import SEPARATOR, Value
from tf_image_classification.system import files

URI_FEATURE = "image_uri"
_CACHE_VERSION = 1  # another number reads the records again


def read(source: Source, options: ReadOptions) -> Listing:
    """The examples of TFRecord files, in order; plain files, or compressed by GZIP or ZLIB.

    Raises:
        DataError: a file is damaged or holds something else; names file and record.
    """
    found = Packed()
    for path, part in source.paths_with_parts():
        scanned = _scan(path, options)
        found.begin(
            path, image=scanned.image, content=scanned.content, num_rows=scanned.num_records
        )
        for number, offset, length, name, columns in scanned.examples:
            found.add(offset, length, columns, where=f" record {number}", name=name, split=part)
        found.left_out += [
            LeftOut(f"{path} record {number}", reason, is_damaged=True)
            for number, reason in scanned.left_out
        ]
    return found.listing(TFRECORD, "record")


@dataclasses.dataclass(frozen=True)
class _Scanned:
    """The examples of a file.

    Attributes:
        image: name of the image's feature.
        content: digest of the file's records.
        num_records: records of the file.
        examples: number, offset, length, name and columns of each.
        left_out: number and reason of each skipped record.
    """

    image: str
    content: str
    num_records: int
    examples: Iterable[tuple[int, int, int, str, Mapping[str, Value]]]
    left_out: Sequence[tuple[int, str]]


def _scan(path: str, options: ReadOptions) -> _Scanned:
    cache_dir, image_feature = options.cache_dir, options.image_feature
    if cache_dir:
        index = tfrecord.index_file(path, cache_dir)
        content = index.fingerprint
        key = repr((_CACHE_VERSION, content, image_feature)).encode()
        kept = os.path.join(cache_dir, f"columns-{hashlib.sha256(key).hexdigest()[:24]}.json")
        if not os.path.exists(kept):
            reader = index.reader()
            records = (data for i in range(len(index.offsets)) for data in reader.read([i]))
            files.write_bytes(kept, json.dumps(_read(records, path, image_feature)).encode())
        read = files.read_json(kept)
        offsets, lengths = index.offsets.tolist(), index.lengths.tolist()
    else:
        offsets, lengths, digest = [], [], tfrecord.ContentDigest()

        def scanned() -> Iterator[bytes]:
            with tfrecord.open_plain(path, tfrecord.compression(path)) as stream:
                for offset, data, checksum in tfrecord.scan_records(stream, path):
                    offsets.append(offset)
                    lengths.append(len(data))
                    digest.add(len(data), checksum)
                    yield data

        read = _read(scanned(), path, image_feature)
        content = digest.hexadecimal()
    image: str = read["image"]
    return _Scanned(
        image,
        content,
        len(offsets),
        (
            (number, offsets[number], lengths[number], name, _columns(columns))
            for number, name, columns in read["examples"]
        ),
        read["left_out"],
    )


def _columns(columns: Mapping[str, Any]) -> dict[str, Value]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in columns.items()}


def _read(records: Iterable[bytes], path: str, image_feature: str) -> dict[str, Any]:
    """The examples of records without their images, as values for JSON.

    Raises:
        DataError: the image feature that is named is in no record; and as ``features_of``.
    """
    image, examples, left_out, seen = image_feature, [], [], set()
    for number, data in enumerate(records):
        features = features_of(data, f"{path} record {number}")
        seen |= set(features)
        image = image or next((f for f in IMAGE_FEATURES if f in features), "")
        images = features[image].bytes_list.value if image in features else []
        if len(images) != 1 or not images[0]:
            left_out.append((number, _why_no_image(image, len(images), image in features)))
            continue
        uri = features[URI_FEATURE].bytes_list.value[:1] if URI_FEATURE in features else []
        name = uri[0].decode("utf-8", "backslashreplace") if uri else ""
        examples.append((number, name, columns_of(features, image)))
    if image_feature and not examples and image_feature not in seen:
        raise DataError(
            f"{path} has no image feature {image_feature!r}. Its features: "
            f"{', '.join(sorted(seen))}. Name it with --image_feature."
        )
    return {"image": image, "examples": examples, "left_out": left_out}


def columns_of(features: Mapping[str, Any], image: str = "") -> dict[str, Value]:
    """The features of an example as columns, without its image and its name."""
    columns = {n: _value(f) for n, f in features.items() if n not in (image, URI_FEATURE)}
    return {name: value for name, value in columns.items() if value is not None}


def check_images(
    records: Sequence[Mapping[str, Any]], image: str, locate: Callable[[int], str]
) -> None:
    """Refuse records that do not hold one image each.

    Raises:
        BadRecordError: a record holds none or more than one; names it.
    """
    for i, features in enumerate(records):
        images = features[image].bytes_list.value if image in features else []
        if len(images) != 1:
            why = _why_no_image(image, len(images), image in features)
            raise BadRecordError(f"{locate(i)}: {why}")


def _why_no_image(image: str, count: int, is_there: bool) -> str:
    if count > 1:
        return (
            f"its feature {image!r} holds {count} images, expected one. Write one record per image."
        )
    if is_there:
        return f"its feature {image!r} holds no image. Write the record again or remove it."
    expected = image or ", ".join(IMAGE_FEATURES)
    return f"it has no image feature ({expected}). Name it with --image_feature, or remove it."


def _value(feature: Any) -> Value | None:
    """A feature's value; two texts or more are joined classes, two numbers or more a tuple."""
    if feature.bytes_list.value:
        texts = [text.decode("utf-8", "surrogateescape") for text in feature.bytes_list.value]
        # An empty text is no class of a multilabel; a single-label is then unknown.
        return SEPARATOR.join(texts) or SEPARATOR
    values = [*feature.int64_list.value, *feature.float_list.value]
    if len(values) == 1:
        value = values[0]
        is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
        return int(value) if is_whole else value
    return tuple(map(float, values)) if values else None
