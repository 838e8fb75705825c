"""Cheap pre-flight checks of the data: class counts, leakage, black 16-bit PNGs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import DataError
from tf_image_classification.inspection.frame_names import parse_name
from tf_image_classification.labels import LabelSchema
from tf_image_classification.workflows.setup.png16_range import check_png16
from tf_image_classification.workflows.setup.run_data import Data

MOST_LEAKED = 0.05
"""Fraction of the evaluation images in the training set above which the run is rejected."""

_SAME_SET = (
    "The evaluation set is the training set: its metrics do not measure generalization. Give other "
    "examples to --eval_metadata for that."
)
_MOST_COMPARED = 20_000  # images whose length another one has
_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class DataCheck:
    """The result of the pre-flight checks.

    Attributes:
        counts: by name, for the model folder.
        notes: sentences for the user.
    """

    counts: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def check_data(data: Data) -> DataCheck:
    """Count the classes, and look for evaluation images that are in the training set too.

    Only images in local files of their own are compared, byte for byte. The training set itself
    may be evaluated; that is a note, not an error. 16-bit PNGs are checked too.

    Raises:
        DataError: too many images of another set are duplicates; or 16-bit PNGs would be black.
    """
    sources = {"train": _table(data.train), "eval": _table(data.evaluation)}
    counts: dict[str, Any] = {
        name: {"num_examples": table.num_examples, "classes": _class_counts(data, table)}
        for name, table in sources.items()
        if table is not None
    }
    notes = _check_png16(data)
    train, evaluation = sources["train"], sources["eval"]
    if train is None or evaluation is None:
        return DataCheck(counts, notes)
    if train.fingerprint == evaluation.fingerprint:
        counts["leaked"] = evaluation.num_examples
        return DataCheck(counts, (*notes, _SAME_SET))
    notes += _videos_in_both(data.schema, train, evaluation)
    leaked = _leaked(train, evaluation)
    if leaked is None:
        return DataCheck(counts, notes)
    counts["leaked"] = len(leaked)
    if not leaked:
        return DataCheck(counts, notes)
    text = (
        f"{len(leaked)} of {evaluation.num_examples} evaluation images are in the training set "
        f"too, byte for byte, e.g. {evaluation.locate(leaked[0])}"
    )
    if len(leaked) > MOST_LEAKED * evaluation.num_examples:
        raise DataError(
            f"{text}. The metrics would be too good. Remove them from one of the sets (tfic "
            "inspect lists them), or add --noinspect to go on."
        )
    return DataCheck(counts, (*notes, f"{text}. Remove them from one of the sets."))


def _check_png16(data: Data) -> tuple[str, ...]:
    sources = {"train_metadata": data.train, "eval_metadata": data.evaluation}
    pipelines = {option: s.as_pipeline for option, s in sources.items() if s is not None}
    found = (check_png16(p, option) for option, p in pipelines.items() if p is not None)
    return tuple(note for notes in found for note in notes)


def _table(source: BatchSource | None) -> Table | None:
    return source.table if source is not None else None


def _class_counts(data: Data, table: Table) -> dict[str, dict[str, int]]:
    found = {}
    for label in data.schema.class_labels:
        column = table.columns[label.name]
        each = np.bincount(column.values[column.mask], minlength=label.depth)
        found[label.name] = dict(zip(label.named_classes(), each.tolist(), strict=True))
    return found


def _videos_in_both(schema: LabelSchema, train: Table, evaluation: Table) -> tuple[str, ...]:
    """A note where evaluation images have the name of a video or burst that training images have.

    By names alone, which costs nothing for any number of images; ``tfic inspect`` compares images.
    """
    known = set(_videos(schema, train))
    found = [i for i, video in enumerate(_videos(schema, evaluation)) if video and video in known]
    if not found:
        return ()
    return (
        f"{len(found)} of {evaluation.num_examples} evaluation images have the name of a video or "
        f"burst that training images have, too, e.g. {evaluation.locate(found[0])}. If they are "
        "frames of the same videos, the metrics are too good: tfic inspect compares the images.",
    )


def _videos(schema: LabelSchema, table: Table) -> list[str]:
    """By example the video or burst that its name holds, or ""."""
    label = next(iter(schema.class_labels), None)
    names = label.named_classes() if label is not None and label.has_softmax else ()
    numbers = table.columns[label.name].values.tolist() if label is not None and names else ()
    classes = [names[k] for k in numbers] or [""] * len(table.names)
    parsed = [parse_name(name, own) for name, own in zip(table.names, classes, strict=False)]
    return [each.video or each.burst for each in parsed]


def _leaked(train: Table, evaluation: Table) -> list[int] | None:
    """Indices of evaluation images that are byte-identical to a training image; None if unknown."""
    if not (len(train.sizes) and len(evaluation.sizes)):
        return None
    shared = np.intersect1d(train.sizes, evaluation.sizes)
    shared = shared[shared > 0]
    alike = [np.flatnonzero(np.isin(table.sizes, shared)) for table in (train, evaluation)]
    if sum(map(len, alike)) > _MOST_COMPARED:
        return None
    known = {digest for _, digest in _digests(train, alike[0])}
    return [number for number, digest in _digests(evaluation, alike[1]) if digest in known]


def _digests(table: Table, numbers: Any) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        content = table.fetch(tf.constant(some, tf.int64)).numpy()
        for number, data in zip(some.tolist(), content, strict=True):
            yield number, hashlib.sha256(data).digest()
