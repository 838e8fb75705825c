"""``tf.train.Example`` records: which features hold the image and the labels, and reading them.

Two forms are known by themselves: ``image_bytes`` with a float feature per label, and
``image/encoded`` with ``image/class/label``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.errors import BadRecordError, DataError, did_you_mean
from tf_image_classification.labels import (
    SEPARATOR,
    Column,
    Label,
    LabelSchema,
    encode_numbers,
    encode_texts,
)

IMAGE_FEATURES = ("image_bytes", "image/encoded", "image")
COMMON_LABEL_FEATURE = "image/class/label"
_DTYPES = {"float_list": tf.float32, "int64_list": tf.int64, "bytes_list": tf.string}
_PARSE_AT_ONCE = 512


@dataclasses.dataclass(frozen=True)
class Features:
    """Where the parts of an example lie in a record.

    Attributes:
        image: name of the feature with the encoded image.
        labels: label name to the name of its feature.
        dtypes: label name to tf.float32, tf.int64 or tf.string.
        widths: label name to the number of values that a record holds of it, where it is not one:
            one a class for a label with several classes.
    """

    image: str
    labels: Mapping[str, str]
    dtypes: Mapping[str, tf.DType]
    widths: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def fingerprint(self, content: Iterable[str]) -> str:
        """Hexadecimal digest of files, from their own, and of what is read in them."""
        read = (self.image, sorted(self.labels.items()))
        return hashlib.sha256(repr((list(content), read)).encode()).hexdigest()

    def parse(self, serialized: tf.Tensor) -> tuple[tf.Tensor, dict[str, Any]]:
        """The parts of records, in-graph.

        Args:
            serialized: string [n].

        Returns:
            images: string [n]; "" where the feature is absent.
            labels: by label name, a ragged tensor [n, None] with 0, 1 or ``widths`` values a row;
                texts of several classes are joined.
        """
        wanted: dict[str, Any] = {self.image: tf.io.RaggedFeature(tf.string)}
        wanted |= {f: tf.io.RaggedFeature(self.dtypes[n]) for n, f in self.labels.items()}
        parsed = tf.io.parse_example(serialized, wanted)
        given = parsed[self.image]
        images = tf.cond(
            tf.reduce_all(given.row_lengths() == 1),
            lambda: given.values,  # as they are, where the other way copies them three times
            lambda: given[:, :1].to_tensor(default_value="", shape=[None, 1])[:, 0],
        )
        return images, {name: self._joined(name, parsed[f]) for name, f in self.labels.items()}

    def _joined(self, name: str, values: Any) -> Any:
        if name not in self.widths or values.dtype != tf.string:
            return values
        is_given = values.row_lengths() > 0
        joined = tf.strings.reduce_join(values, axis=1, separator=SEPARATOR)
        # An empty text among the values stands for none of the classes.
        joined = tf.where(is_given & (joined == ""), SEPARATOR, joined)
        return tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(joined, is_given), tf.cast(is_given, tf.int64)
        )


def find_features(
    records: Iterable[bytes],
    schema: LabelSchema,
    *,
    path: str,
    image_feature: str = "",
    label_features: Mapping[str, str] | None = None,
) -> Features:
    """The features that hold the image and the labels, told from the first records.

    Args:
        records: serialized examples; only as many are read as it takes to see every label once.
        schema: the labels that are looked for.
        path: the file, for messages.
        image_feature: name of the image's feature, or "" to find it.
        label_features: label name to feature name where they differ.

    Raises:
        DataError: a feature is nowhere, or has no usable type.
        BadRecordError: the first record is no ``tf.train.Example``.
    """
    wanted = dict(label_features or {})
    for name in wanted:
        if name not in schema.names:
            raise DataError(
                f"--label_features names label {name!r}. {did_you_mean(name, schema.names)}"
            )
    image, labels, dtypes, seen = image_feature, {}, {}, set()
    for number, record in enumerate(records):
        kinds = _feature_kinds(record, f"{path} record {number}")
        seen |= set(kinds)
        if number == 0:
            image = image or next((f for f in IMAGE_FEATURES if f in kinds), "")
            if image not in kinds:
                raise DataError(
                    f"{path} record 0 has no image feature ({image or ', '.join(IMAGE_FEATURES)}). "
                    f"Its features: {', '.join(sorted(kinds))}. Name it with --image_feature."
                )
        for name in schema.names:
            feature = wanted.get(name, name)
            if feature not in kinds and name not in wanted and len(schema.labels) == 1:
                feature = COMMON_LABEL_FEATURE
            if name not in labels and feature in kinds:
                labels[name], dtypes[name] = feature, _DTYPES[kinds[feature]]
        if len(labels) == len(schema.labels):
            widths = {label.name: label.depth for label in schema if label.value_shape}
            return Features(image, labels, dtypes, widths)
    absent = next(name for name in schema.names if name not in labels)
    raise DataError(
        f"{path}: no record has a feature for label {absent!r}. Features found: "
        f"{', '.join(sorted(seen))}. Name it with --label_features {absent}=FEATURE."
    )


def features_of(record: bytes, where: str) -> Mapping[str, Any]:
    """The features of a serialized example by name, as protobuf holds them.

    Args:
        record: the serialized example.
        where: what to call it in a message.

    Raises:
        BadRecordError: it is no ``tf.train.Example``.
    """
    try:
        features: Mapping[str, Any] = tf.train.Example.FromString(record).features.feature
    except Exception as error:  # protobuf's DecodeError, whose module differs between versions
        raise BadRecordError(
            f"{where} is not a tf.train.Example ({error}). "
            "Expected records with an encoded image and its labels."
        ) from error
    return features


def _feature_kinds(record: bytes, where: str) -> dict[str, str]:
    kinds = {name: f.WhichOneof("kind") for name, f in features_of(record, where).items()}
    return {name: kind for name, kind in kinds.items() if kind is not None}


@dataclasses.dataclass(frozen=True)
class RawLabels:
    """One label as it stands in the records of a file.

    Attributes:
        values: float64 [n] or [n, width], or bytes [n]; 0 or b"" where absent.
        given: bool [n], whether the record has the feature.
    """

    values: npt.NDArray[Any]
    given: npt.NDArray[np.bool_]

    def texts(self) -> list[str]:
        """The values as texts, each different text held once; what is no UTF-8 is escaped."""
        return [
            sys.intern(value.decode("utf-8", "backslashreplace")) for value in self.values.tolist()
        ]

    @property
    def is_text(self) -> bool:
        """Whether the records hold this label as text."""
        return self.values.dtype.kind == "S"


def encode(label: Label, raw: RawLabels, locate: Callable[[int], str]) -> Column:
    """The numbers of a label as records hold it.

    Raises:
        LabelError: as ``encode_texts`` and ``encode_numbers``.
    """
    if raw.is_text:
        return encode_texts(label, raw.texts(), locate)
    return encode_numbers(label, raw.values, raw.given, locate)


def is_marker(label: Label, numbers: tf.Tensor) -> tf.Tensor:
    """Where numbers are the label's marker for missing, compared as float32 like records hold it.

    Args:
        label: the label.
        numbers: any numeric dtype [n]; in-graph.

    Returns:
        bool [n].
    """
    marker = label.missing_number
    if marker is None:
        return tf.zeros_like(numbers, tf.bool)
    numbers = tf.cast(numbers, tf.float32)
    return tf.math.is_nan(numbers) if math.isnan(marker) else tf.equal(numbers, marker)


def read_labels(
    records: Iterable[bytes], features: Features, locate: Callable[[int], str]
) -> dict[str, RawLabels]:
    """The labels of all records, and the proof that each record has an image.

    Args:
        records: serialized examples in order.
        features: where the parts lie.
        locate: what to call record i in a message.

    Raises:
        BadRecordError: a record is no example, has no image, or not the right number of values for
            a label.
    """
    columns: dict[str, list[RawLabels]] = {name: [] for name in features.labels}
    start = 0
    for group in _groups(records, _PARSE_AT_ONCE):
        for name, raw in _read_group(group, features, locate, start).items():
            columns[name].append(raw)
        start += len(group)
    return {
        name: RawLabels(
            np.concatenate([part.values for part in parts]) if parts else np.zeros(0),
            np.concatenate([part.given for part in parts]) if parts else np.zeros(0, bool),
        )
        for name, parts in columns.items()
    }


def _groups(records: Iterable[bytes], count: int) -> Iterable[list[bytes]]:
    group: list[bytes] = []
    for record in records:
        group.append(record)
        if len(group) == count:
            yield group
            group = []
    if group:
        yield group


def _read_group(
    group: Sequence[bytes], features: Features, locate: Callable[[int], str], start: int
) -> dict[str, RawLabels]:
    try:
        images, labels = features.parse(tf.constant(list(group), tf.string))
    except tf.errors.InvalidArgumentError as error:
        raise _unreadable(group, features, locate, start) from error
    empty = np.flatnonzero(tf.strings.length(images).numpy() == 0)
    if len(empty):
        raise BadRecordError(
            f"{locate(start + int(empty[0]))} has no image: its feature {features.image!r} is "
            "absent or empty. Write the record again or remove it."
        )
    return {
        name: _texts(name, ragged, locate, start)
        if features.dtypes[name] == tf.string
        else _numbers(name, ragged, locate, start, features.widths.get(name, 0))
        for name, ragged in labels.items()
    }


def _given(
    name: str, ragged: Any, locate: Callable[[int], str], start: int, width: int
) -> npt.NDArray[np.bool_]:
    """Which records have the label; each has as many values as the width, or none."""
    lengths = ragged.row_lengths().numpy()
    wrong = np.flatnonzero((lengths != 0) & (lengths != width))
    if len(wrong):
        expected = "one" if width == 1 else f"{width}, one a class"
        raise BadRecordError(
            f"{locate(start + int(wrong[0]))}: label {name!r} has {lengths[wrong[0]]} values, "
            f"expected {expected}."
        )
    given: npt.NDArray[np.bool_] = lengths > 0
    return given


def _texts(name: str, ragged: Any, locate: Callable[[int], str], start: int) -> RawLabels:
    given = _given(name, ragged, locate, start, 1)
    texts = np.full(len(given), b"", dtype=object)
    texts[given] = ragged.values.numpy()
    return RawLabels(texts.astype(np.bytes_), given)


def _numbers(
    name: str, ragged: Any, locate: Callable[[int], str], start: int, width: int
) -> RawLabels:
    given = _given(name, ragged, locate, start, width or 1)
    numbers = np.zeros([len(given), width] if width else len(given), np.float64)
    numbers[given] = ragged.values.numpy().reshape([-1, width] if width else -1)
    return RawLabels(numbers, given)


def _unreadable(
    group: Sequence[bytes], features: Features, locate: Callable[[int], str], start: int
) -> BadRecordError:
    """The error for the first record of a group that cannot be parsed."""
    for i, record in enumerate(group):
        try:
            features.parse(tf.constant([record], tf.string))
        except tf.errors.InvalidArgumentError as error:
            kinds = ", ".join(
                f"{f} ({features.dtypes[n].name})" for n, f in features.labels.items()
            )
            return BadRecordError(
                f"{locate(start + i)} cannot be read as an example with {features.image} and "
                f"{kinds}, the form of the first record: {error.message.splitlines()[0]}"
            )
    return BadRecordError(f"{locate(start)} and the following records cannot be read together.")
