"""Labels of parsed TFRecord examples as numbers, in-graph.

    values, mask = label_values(label, ragged)

The same numbers as ``labels.encode`` gives eagerly; an error here does not name the example.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import tensorflow as tf

from tf_image_classification.dataset.examples import is_marker
from tf_image_classification.dataset.image.byte_ops import asserted
from tf_image_classification.labels import SEPARATOR, Label


def label_values(label: Label, raw: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The numbers of a label, and a mask of the examples that have it.

    Args:
        label: with its class names.
        raw: ragged [n, None], strings or numbers; rows of a missing label are empty.

    Returns:
        values: as in ``Batch.labels``, 0 where missing.
        mask: bool [n].

    Raises:
        tf.errors.InvalidArgumentError: a value is no class or no finite number.
    """
    if label.value_shape:
        return _multilabel_values(label, raw)
    lengths = raw.row_lengths()
    with asserted(tf.reduce_all(lengths < 2), f"Label {label.name!r} has several values."):
        has_value = lengths > 0
    if raw.dtype == tf.string:
        texts, mask = _texts(label, raw, has_value)
        if not label.has_classes:
            numbers = tf.strings.to_number(tf.where(mask, texts, "0"), tf.float32)
            return _finite(label, numbers, mask)
        values = tf.where(mask, _class_numbers(label).lookup(tf.strings.strip(texts)), 0)
    else:
        numbers = raw[:, :1].to_tensor(default_value=0, shape=[None, 1])[:, 0]
        mask = has_value & ~is_marker(label, numbers)
        numbers = tf.where(mask, numbers, tf.zeros_like(numbers))
        if not label.has_classes:
            return _finite(label, tf.cast(numbers, tf.float32), mask)
        values = tf.cast(numbers, tf.int64)
        is_whole = tf.cast(values, tf.float64) == tf.cast(numbers, tf.float64)
        text = f"Label {label.name!r} is not a whole number."
        with asserted(tf.reduce_all(is_whole), text, numbers):
            values = tf.identity(values)
        if label.are_collected:  # class names are numbers as texts
            found = _class_numbers(label).lookup(tf.strings.as_string(values))
            values = tf.where(mask, found, 0)
    in_range = tf.reduce_all((values >= 0) & (values < label.depth))
    with asserted(
        in_range, f"Label {label.name!r} is not one of its {label.depth} classes.", values
    ):
        return tf.identity(values), mask


def _texts(label: Label, raw: Any, has_value: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The first text of each example, and a mask without the texts for a missing label."""
    texts = raw[:, :1].to_tensor(default_value="", shape=[None, 1])[:, 0]
    missing = tf.constant(sorted(label.missing_texts))
    return texts, has_value & tf.reduce_all(texts[:, None] != missing, axis=1)


def _class_numbers(label: Label) -> tf.lookup.StaticHashTable:
    """A table from class names to int64 class numbers; -1 for other texts."""
    numbers = {name: i for i, name in enumerate(label.named_classes())}
    # A graph cannot compose letters, so the decomposed form of a name is in the table too.
    numbers |= {unicodedata.normalize("NFD", name): i for name, i in numbers.items()}
    table = tf.lookup.KeyValueTensorInitializer(
        tf.constant(list(numbers)), tf.constant(list(numbers.values()), tf.int64)
    )
    return tf.lookup.StaticHashTable(table, default_value=-1)


def _multilabel_values(label: Label, raw: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Values [n, depth] of 0 and 1, and the mask [n]."""
    lengths = raw.row_lengths()
    mask = lengths > 0
    if raw.dtype == tf.string:
        texts, mask = _texts(label, raw, mask)
        names = tf.strings.split(tf.where(mask, texts, ""), SEPARATOR)
        names = tf.ragged.map_flat_values(tf.strings.strip, names)
        numbers = tf.ragged.boolean_mask(names, names != "")
        numbers = tf.ragged.map_flat_values(_class_numbers(label).lookup, numbers)
        is_valid = tf.reduce_all(numbers.flat_values >= 0)
        dense = numbers.to_tensor(default_value=-1)
        values = tf.reduce_sum(tf.one_hot(dense, label.depth), axis=1)
        values = tf.minimum(values, 1.0)  # a class named twice
    else:
        dense = raw.to_tensor(default_value=0, shape=[None, label.depth])
        values = tf.cast(dense, tf.float32)
        is_valid = tf.reduce_all((values == 0.0) | (values == 1.0))
        is_valid &= tf.reduce_all(~mask | (lengths == label.depth))
    text = f"Label {label.name!r} does not name some of its {label.depth} classes."
    with asserted(is_valid, text, raw.flat_values):
        return tf.identity(values), mask


def _finite(label: Label, values: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Real values, checked, and the mask without the marker for a missing label."""
    mask &= ~is_marker(label, values)
    values = tf.where(mask, values, tf.zeros_like(values))
    is_valid = tf.reduce_all(tf.math.is_finite(values))
    with asserted(is_valid, f"Label {label.name!r} is not a finite number.", values):
        return tf.identity(values), mask
