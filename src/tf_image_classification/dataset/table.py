"""A map-style source: every example of a listing by its number, with its labels as numbers.

    raw = read_table(["train.csv"], schema, options)
    table = raw.encode(schema.with_vocabularies({"pet": ["cat", "dog"]}))
    table.fetch(tf.constant([3], tf.int64)), table.columns["pet"].values[3]

``read_table`` finds and checks everything that can be known before decoding; ``encode`` turns
labels into numbers once the vocabulary is fixed.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.dataset.access import make_fetch
from tf_image_classification.dataset.label_columns import check_label_features, column_of
from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.dataset.readers.columns import typed
from tf_image_classification.dataset.readers.kinds import CSV, FOLDER
from tf_image_classification.dataset.readers.listing import LABEL, LeftOut, Listing
from tf_image_classification.dataset.source_notes import contradictions, skipped_notes
from tf_image_classification.errors import DataError, LabelError, did_you_mean
from tf_image_classification.labels import (
    Column,
    Label,
    LabelSchema,
    Value,
    collect_vocabulary,
    encode,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How a source is read; the fields are the settings of the same names.

    Attributes:
        option: the setting that names the source, for messages.
        cache_dir: folder for indexes and unpacked files.
        image_feature: as in the settings.
        label_features: label name to the feature or column that holds it.
        skips_damaged: whether rows that cannot be examples are skipped; else they are an error.
    """

    option: str
    cache_dir: str
    image_feature: str = ""
    label_features: Mapping[str, str] = dataclasses.field(default_factory=dict)
    skips_damaged: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """The examples of a source: access to their bytes, and their labels.

    Attributes:
        num_examples: exact number of examples.
        columns: by label name, the labels of all examples.
        fetch: in-graph, int64 [n] example numbers to string [n] encoded images.
        locate: gives an example's file and its record, line or name, for messages.
        fingerprint: hexadecimal digest of the records and the features that are read; of images in
            files of their own, their names, sizes in bytes and labels. It does not depend on where
            they lie.
        notes: skipped files and contradicting labels, in sentences for the user.
        fetches_in_parallel: whether parallel calls of ``fetch`` are faster.
        sizes: int64 [N], bytes of each image's file; 0 for a remote one; empty if images have no
            files of their own.
        attributes: by name, the columns that are no labels, "" if unknown.
        left_out: skipped rows that should have been examples.
        names: names of the examples in the source, e.g. ``image_uri`` of records; may be empty.
        paths: of each image's own file; empty if images have no files of their own.
    """

    num_examples: int
    columns: Mapping[str, Column]
    fetch: Callable[[tf.Tensor], tf.Tensor]
    locate: Callable[[int], str]
    fingerprint: str
    notes: tuple[str, ...] = ()
    fetches_in_parallel: bool = True
    sizes: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    attributes: Mapping[str, Sequence[Value]] = dataclasses.field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    names: Sequence[str] = ()
    paths: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class RawTable:
    """A table whose labels are the texts or numbers of the source, not yet encoded.

    Attributes:
        listing: the examples.
        raw: by label name, the value of each example.
        table: the examples without labels.
    """

    listing: Listing
    raw: Mapping[str, Sequence[Value]]
    table: Table

    @property
    def num_examples(self) -> int:
        """Exact number of examples."""
        return self.table.num_examples

    @property
    def fingerprint(self) -> str:
        """As in ``Table``."""
        return self.table.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        """As in ``Table``."""
        return self.table.notes

    @property
    def locate(self) -> Callable[[int], str]:
        """As in ``Table``."""
        return self.table.locate

    @property
    def fetch(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """As in ``Table``."""
        return self.table.fetch

    def vocabulary(self, label: Label) -> tuple[str, ...]:
        """The class names of a label in this source, in the order of their numbers.

        Raises:
            LabelError: as ``collect_vocabulary``.
        """
        declared = self.listing.declared.get(LABEL, ())
        return collect_vocabulary(label, [*self.raw[label.name], *declared])

    def encode(self, schema: LabelSchema) -> Table:
        """The table with its labels as numbers.

        Args:
            schema: the labels, class labels with their vocabularies.

        Raises:
            LabelError: a label is unknown or out of range; names file and line.
        """
        columns = {}
        for label in schema:
            columns[label.name] = encode(label, self.raw[label.name], self.locate)
            if not columns[label.name].mask.any():
                raise LabelError(
                    f"None of {self.num_examples} examples has label {label.name!r}. "
                    "Correct its name in class_dict, or its marker for missing labels."
                )
        return dataclasses.replace(self.table, columns=columns)


def read_table(patterns: Sequence[str], schema: LabelSchema, options: SourceOptions) -> RawTable:
    """Every example that patterns name, with all that can be checked before decoding.

    Args:
        patterns: as ``find_examples`` takes them.
        schema: the labels to read.
        options: how to read.

    Raises:
        DataError: a file is missing, empty or malformed, or a row cannot be an example; names
            file, line or record.
    """
    listing = find_examples(
        patterns,
        option=options.option,
        cache_dir=options.cache_dir,
        image_feature=options.image_feature,
    )
    return table_of(listing, schema, options)


def table_of(listing: Listing, schema: LabelSchema, options: SourceOptions) -> RawTable:
    """The table of a listing.

    Raises:
        DataError: a row cannot be an example and is not to be skipped, or a label has no column.
    """
    if listing.damaged and not options.skips_damaged:
        count = len(listing.damaged)
        more = f" {count - 1} more are like it." if count > 1 else ""
        raise DataError(
            f"{str(listing.damaged[0]).rstrip('.')}.{more} Start again with --on_bad_image skip to "
            "skip such rows."
        )
    columns = {name: _column_of(name, listing, schema, options) for name in schema.names}
    raw = {name: listing.columns[column] for name, column in columns.items()}
    has_files = listing.places.kind == "file"
    fetch = make_fetch(listing, options.cache_dir)
    table = Table(
        len(listing),
        {},
        fetch.images,
        listing.locate,
        _fingerprint(listing, raw, columns),
        (*skipped_notes(listing), *(contradictions(listing, raw) if has_files else ())),
        fetch.is_parallel,
        listing.places.lengths if has_files else np.zeros(0, np.int64),
        {name: values for name, values in listing.columns.items() if name not in columns.values()},
        tuple(listing.damaged),
        listing.names,
        listing.places.paths if has_files else (),
    )
    return RawTable(listing, raw, table)


def _column_of(name: str, listing: Listing, schema: LabelSchema, options: SourceOptions) -> str:
    """The column that holds a label.

    Raises:
        DataError: the source has no such column.
    """
    known = listing.columns
    given = options.label_features
    check_label_features(given, schema)
    is_only = len(schema.labels) == 1
    if listing.kind == FOLDER and name not in given:
        if not is_only or not schema.labels[0].is_class:
            raise DataError(
                f"{_source_name(listing)} is a folder of class folders, which gives one class "
                f"label; class_dict has {', '.join(schema.names)}. Use a CSV with a column for "
                "each label."
            )
        return LABEL
    column = column_of(name, known, is_only=is_only, given=given)
    if column:
        return column
    if name in given:
        raise DataError(
            f"--label_features: {_source_name(listing)} has no {given[name]!r}. "
            f"{did_you_mean(given[name], known)}"
        )
    if is_only and len(known) == 1:
        return next(iter(known))
    raise DataError(
        f"{_source_name(listing)} has no column or feature for label {name!r}. "
        f"{did_you_mean(name, known)} Correct the name in class_dict, or name the feature with "
        f"--label_features {name}=FEATURE."
    )


def _source_name(listing: Listing) -> str:
    """The source of a listing, by its first example."""
    where = listing.locate(0)
    return where.partition(" line ")[0] if listing.kind == CSV else where


def _fingerprint(
    listing: Listing, raw: Mapping[str, Sequence[Value]], columns: Mapping[str, str]
) -> str:
    """Hexadecimal digest of the examples; the same wherever they lie."""
    used = np.unique(listing.places.file_numbers).tolist()
    content = [listing.content[number] for number in used] if listing.content else []
    if listing.places.kind == "record":
        image = ",".join(sorted({listing.places.names[number] for number in used}))
        read = (image, sorted(columns.items()))
        return hashlib.sha256(repr((content, read)).encode()).hexdigest()
    digest = hashlib.sha256("".join(content).encode())
    names = listing.names or [""] * len(listing)
    lengths = listing.places.lengths.tolist()
    for i, (name, length) in enumerate(zip(names, lengths, strict=True)):
        texts = sorted((label, values[i]) for label, values in raw.items())
        digest.update(repr((name, texts, length)).encode())
    return digest.hexdigest()


def attribute_texts(table: Table) -> dict[str, list[str]]:
    """The columns that are no labels, as texts, "" if unknown."""
    return {
        name: [
            "" if isinstance(value, tuple) else str(value)
            for value in typed(values, are_cells=False)
        ]
        for name, values in table.attributes.items()
    }
