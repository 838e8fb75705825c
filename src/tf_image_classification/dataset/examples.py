"""``tf.train.Example`` records: finds the features of the image and the labels, and parses them.

Found without settings: ``image_bytes`` with a feature of each label's name, and ``image/encoded``
with ``image/class/label``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from tf_image_classification.dataset.label_columns import check_label_features, column_of
from tf_image_classification.errors import BadRecordError, DataError
from tf_image_classification.labels import SEPARATOR, Label, LabelSchema

IMAGE_FEATURES = ("image_bytes", "image/encoded", "image")
_DTYPES = {"float_list": tf.float32, "int64_list": tf.int64, "bytes_list": tf.string}


@dataclasses.dataclass(frozen=True)
class Features:
    """Where the parts of an example lie in a record.

    Attributes:
        image: name of the feature with the encoded image.
        labels: label name to the name of its feature.
        dtypes: label name to tf.float32, tf.int64 or tf.string.
        widths: label name to the number of values in a record if it is not one: one per class of a
            multilabel.
    """

    image: str
    labels: Mapping[str, str]
    dtypes: Mapping[str, tf.DType]
    widths: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def fingerprint(self, content: Iterable[str]) -> str:
        """Hexadecimal digest of the files' own digests and of the features that are read."""
        read = (self.image, sorted(self.labels.items()))
        return hashlib.sha256(repr((list(content), read)).encode()).hexdigest()

    def parse(self, serialized: tf.Tensor) -> tuple[tf.Tensor, dict[str, Any]]:
        """The parts of records, in-graph.

        Args:
            serialized: string [n].

        Returns:
            images: string [n]; "" where the feature is absent.
            labels: by label name, a ragged tensor [n, None] with 0, 1 or ``widths`` values a row;
                class names of a multilabel are joined.
        """
        wanted: dict[str, Any] = {self.image: tf.io.RaggedFeature(tf.string)}
        wanted |= {f: tf.io.RaggedFeature(self.dtypes[n]) for n, f in self.labels.items()}
        parsed = tf.io.parse_example(serialized, wanted)
        given = parsed[self.image]
        counts = given.row_lengths()
        one_image = tf.debugging.assert_less(
            counts, tf.constant(2, counts.dtype), "A record holds more than one image."
        )
        with tf.control_dependencies([one_image]):
            has_images = tf.reduce_all(counts == 1)
        images = tf.cond(
            has_images,
            lambda: given.values,  # as they are, where the other way copies them three times
            lambda: given[:, :1].to_tensor(default_value="", shape=[None, 1])[:, 0],
        )
        return images, {name: self._joined(name, parsed[f]) for name, f in self.labels.items()}

    def _joined(self, name: str, values: Any) -> Any:
        if name not in self.widths or values.dtype != tf.string:
            return values
        is_given = values.row_lengths() > 0
        joined = tf.strings.reduce_join(values, axis=1, separator=SEPARATOR)
        # An empty text among the values is no class.
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
    """The features of the image and the labels, inferred from the first records.

    Args:
        records: serialized examples; only as many are read as it takes to see every label once.
        schema: the labels that are looked for.
        path: the file, for messages.
        image_feature: name of the image's feature, or "" to find it.
        label_features: label name to feature name if they differ.

    Raises:
        DataError: a feature is nowhere, or has no usable type.
        BadRecordError: the first record is no ``tf.train.Example``.
    """
    wanted = dict(label_features or {})
    check_label_features(wanted, schema)
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
            feature = column_of(name, kinds, is_only=len(schema.labels) == 1, given=wanted)
            if name not in labels and feature:
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
        where: its location, for messages.

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
