"""Every example of a source side by side, before and after its labels became numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.dataset import examples
from tf_image_classification.errors import LabelError
from tf_image_classification.labels import (
    Column,
    Label,
    LabelSchema,
    collect_vocabulary,
    encode_texts,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How a source is read; the fields are the settings of the same names.

    Attributes:
        option: the setting the patterns came from, for messages.
        cache_dir: folder for indexes and unpacked records.
        image_feature: as in the settings.
        label_features: label name to feature name.
    """

    option: str
    cache_dir: str
    image_feature: str = ""
    label_features: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """Every example of a source: where its bytes lie and what its labels are.

    Attributes:
        num_examples: exact number of examples.
        columns: by label name, the labels of all examples.
        fetch: in-graph, int64 [n] example numbers to string [n] encoded images.
        locate: what to call an example in a message: its file and its record, line or name.
        fingerprint: hexadecimal digest of the records and of what is read in them; of images in
            files of their own their names, sizes in bytes and labels. It does not depend on where
            they lie.
        notes: what was left out, in sentences for the user.
        fetches_in_parallel: whether ``fetch`` gains from being called in parallel.
        sizes: int64 [N], bytes of each image's file; 0 for a remote one; empty for records.
    """

    num_examples: int
    columns: Mapping[str, Column]
    fetch: Callable[[tf.Tensor], tf.Tensor]
    locate: Callable[[int], str]
    fingerprint: str
    notes: tuple[str, ...] = ()
    fetches_in_parallel: bool = True
    sizes: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))


@dataclasses.dataclass(frozen=True)
class RawTable:
    """A table whose labels are still texts or numbers as they stand in the source.

    Attributes:
        num_examples: as in ``Table``, and so are fetch, locate, fingerprint, notes,
            fetches_in_parallel and sizes.
        raw: by label name, texts, or numbers with whether they are given.
        declared: by label name, classes that the source names without having examples of them.
    """

    num_examples: int
    raw: Mapping[str, Sequence[str] | examples.RawLabels]
    fetch: Callable[[tf.Tensor], tf.Tensor]
    locate: Callable[[int], str]
    fingerprint: str
    notes: tuple[str, ...] = ()
    declared: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    fetches_in_parallel: bool = True
    sizes: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    def vocabulary(self, label: Label) -> tuple[str, ...]:
        """The class names that this source gives a label, in numbering order.

        Raises:
            LabelError: as ``collect_vocabulary``.
        """
        raw = self.raw[label.name]
        if isinstance(raw, examples.RawLabels):
            texts = raw.texts() if raw.is_text else map(str, range(label.depth))
            return collect_vocabulary(label, texts)
        return collect_vocabulary(label, [*raw, *self.declared.get(label.name, ())])

    def encode(self, schema: LabelSchema) -> Table:
        """The table with its labels as numbers.

        Args:
            schema: the labels, class labels with their vocabularies.

        Raises:
            LabelError: a label is unknown or out of range; names file and line.
        """
        columns = {}
        for label in schema:
            raw = self.raw[label.name]
            if isinstance(raw, examples.RawLabels):
                columns[label.name] = examples.encode(label, raw, self.locate)
            else:
                columns[label.name] = encode_texts(label, raw, self.locate)
            if not columns[label.name].present.any():
                raise LabelError(
                    f"Not one of {self.num_examples} examples has label {label.name!r}. "
                    "Correct its name in class_dict, or its marker for missing labels."
                )
        return Table(
            self.num_examples,
            columns,
            self.fetch,
            self.locate,
            self.fingerprint,
            self.notes,
            self.fetches_in_parallel,
            self.sizes,
        )
