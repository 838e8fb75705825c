"""The label schema: names, kinds and classes of the labels of every example.

>>> schema = LabelSchema.from_class_dict([{"name": "pet", "depth": 2, "one-hot": True}])
>>> schema.with_vocabularies({"pet": ["cat", "dog"]})["pet"].class_names
('cat', 'dog')
"""

from __future__ import annotations

import collections
import dataclasses
import math
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tf_image_classification.errors import SpecError, did_you_mean

_OLD_KEYS = {"name": "name", "depth": "depth", "one-hot": "one_hot", "one_hot": "one_hot"}

SINGLE_LABEL, ORDINAL, MULTILABEL, REGRESSION = KINDS = (
    "single-label",
    "ordinal",
    "multilabel",
    "regression",
)
"""Exactly one class; one of ordered classes; any number of classes; a real number."""

_KIND_ALIASES = {
    "single_label": SINGLE_LABEL,
    "class": SINGLE_LABEL,
    "several": MULTILABEL,
    "value": REGRESSION,
}

THRESHOLDS, EXPECTATION, DISTRIBUTION = CODINGS = ("thresholds", "expectation", "distribution")
"""Meanings of a model's outputs for an ordinal label; see ``Label.coding``."""

SEPARATOR = "|"
"""Separates the classes of a multilabel text: ``cat|dog``; alone: no class."""

RESERVED_NAMES = ("id", "uri", "error")
"""Columns of prediction files besides those of labels."""


def kind_named(name: str) -> str:
    """The kind with this name or earlier name; an unknown name is returned as it is.

    Example:
        >>> kind_named("several"), kind_named("ordinal"), kind_named("ordinl")
        ('multilabel', 'ordinal', 'ordinl')
    """
    return _KIND_ALIASES.get(name, name)


def with_kinds_named(entries: Iterable[str]) -> list[str]:
    """Entries ``name=kind`` of the setting ``label_kinds`` with the current names of the kinds.

    Example:
        >>> with_kinds_named(["tags=several", "age=ordinal"])
        ['tags=multilabel', 'age=ordinal']
    """
    parts = (entry.rpartition("=") for entry in entries)
    return [f"{name}{equals}{kind_named(kind)}" for name, equals, kind in parts]


@dataclasses.dataclass(frozen=True)
class Label:
    """One label of every example.

    Attributes:
        name: the feature's name in a record and the column's name in a CSV; not one of
            ``RESERVED_NAMES``.
        depth: number of classes; not used for a real-valued label.
        one_hot: True for classes, False for regression; the older form of ``kind``.
        weight: factor of this label's loss in the sum over labels.
        missing: raw value of a missing label, e.g. -1, "unknown" or NaN; missing labels are left
            out of the loss and the metrics. An empty CSV cell and an absent feature are always
            missing.
        class_names: a name for each class, or empty until the vocabulary is fixed.
        are_collected: whether the class names were collected from the texts of a training set, in
            sorted order, so that class numbers from other sources have no meaning.
        kind: "single-label", "ordinal" (ordered classes, e.g. ages), "multilabel" (any number of
            the classes at once) or "regression" (a real number). The earlier names "class",
            "several" and "value" are accepted too.
        coding: meaning of the model's outputs for an ordinal label. "thresholds": depth - 1 logits
            of the conditional probabilities to exceed a class (CORN, Shi et al., arXiv 2111.08851).
            "expectation": a logit per class, trained with cross-entropy; the prediction is the
            expected value (DEX, Rothe et al., IJCV 2018). "distribution": the same, trained against
            a normal distribution around the label (Geng, arXiv 1408.6027).
        spread: standard deviation of that distribution, in classes; default depth / 50, min 0.5.
        one_hot_rows: whether ``metric_ops`` and ``losses`` get this class label as one-hot rows
            [n, depth] instead of class numbers [n]. A dictionary in ``class_dict`` without
            ``kind`` sets it, as programs of 2018 expect.
    """

    name: str
    depth: int = 0
    one_hot: bool = True
    weight: float = 1.0
    missing: float | str | None = None
    class_names: tuple[str, ...] = ()
    are_collected: bool = dataclasses.field(default=False, compare=False)
    kind: str = ""
    coding: str = ""
    spread: float = 0.0
    one_hot_rows: bool = dataclasses.field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise SpecError(f"class_dict: a label's name is {self.name!r}, expected a text.")
        if self.name in RESERVED_NAMES:
            raise SpecError(
                f"A label cannot be called {self.name!r}: files of predictions have a column of "
                f"that name. Rename it, with --label_features NEW={self.name} where records call "
                "it so, or leave a column of a CSV out with --label_columns."
            )
        self._settle_kind()
        fewest = 1 if self.kind == MULTILABEL else 2
        if self.has_classes and (not isinstance(self.depth, int) or self.depth < fewest):
            raise SpecError(
                f"class_dict: label {self.name!r} has depth {self.depth!r}; a class label needs at "
                f"least {fewest} classes. For regression set kind to {REGRESSION!r}."
            )
        if not self.weight >= 0:
            raise SpecError(
                f"class_dict: label {self.name!r} has weight {self.weight!r}, expected 0 or more."
            )
        if isinstance(self.missing, float) and math.isnan(self.missing):
            object.__setattr__(self, "missing", "nan")  # as a text it equals itself
        composed = tuple(unicodedata.normalize("NFC", name) for name in self.class_names)
        object.__setattr__(self, "class_names", composed)
        if not self.class_names:
            return
        if not self.has_classes:
            raise SpecError(f"class_dict: regression label {self.name!r} has class names.")
        if len(self.class_names) != self.depth:
            raise SpecError(
                f"Label {self.name!r} has depth {self.depth} but {len(self.class_names)} class "
                "names. Correct the depth in class_dict or the list of names."
            )
        joined = [name for name in self.class_names if SEPARATOR in name]
        if self.kind == MULTILABEL and joined:
            raise SpecError(
                f"Label {self.name!r} has a class called {joined[0]!r}, but {SEPARATOR!r} "
                "separates the classes of a multilabel text. Rename the class."
            )
        repeated = _repeated(self.class_names)
        if repeated:
            raise SpecError(f"Label {self.name!r} names a class twice: {', '.join(repeated)}.")

    def _settle_kind(self) -> None:
        """Complete ``kind``, ``one_hot``, ``coding`` and ``spread`` from one another."""
        kind = kind_named(self.kind) or (SINGLE_LABEL if self.one_hot else REGRESSION)
        coding = self.coding or (THRESHOLDS if kind == ORDINAL else "")
        where = f"class_dict: label {self.name!r} has"
        if kind not in KINDS:
            raise SpecError(f"{where} kind {kind!r}. {did_you_mean(kind, KINDS)}")
        if not self.one_hot and kind != REGRESSION:
            raise SpecError(f"{where} kind {kind!r} and one_hot False. Leave one_hot out.")
        if coding and kind != ORDINAL:
            raise SpecError(f"{where} a coding, which only ordinal labels have, not a {kind}.")
        if coding and coding not in CODINGS:
            raise SpecError(f"{where} coding {coding!r}. {did_you_mean(coding, CODINGS)}")
        if self.spread and coding != DISTRIBUTION:
            raise SpecError(f"{where} a spread, which only the coding {DISTRIBUTION!r} has.")
        if self.one_hot_rows and kind not in (SINGLE_LABEL, ORDINAL):
            raise SpecError(f"{where} one_hot_rows, which a {kind} label does not have.")
        spread = self.spread or (max(0.5, self.depth / 50) if coding == DISTRIBUTION else 0.0)
        if not 0 <= spread < math.inf:
            raise SpecError(f"{where} spread {self.spread!r}, expected more than 0.")
        settled = {"kind": kind, "one_hot": kind != REGRESSION, "coding": coding, "spread": spread}
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    @property
    def is_class(self) -> bool:
        """Whether an example's label is one class number."""
        return self.kind in (SINGLE_LABEL, ORDINAL)

    @property
    def has_classes(self) -> bool:
        """Whether the label has classes, that is, is no regression label."""
        return self.kind != REGRESSION

    @property
    def value_shape(self) -> tuple[int, ...]:
        """The shape of one example's label."""
        return (self.depth,) if self.kind == MULTILABEL else ()

    @property
    def logits_shape(self) -> tuple[int, ...]:
        """The shape of the model's logits for one example."""
        if not self.has_classes:
            return ()
        return (self.depth - 1,) if self.coding == THRESHOLDS else (self.depth,)

    @property
    def has_softmax(self) -> bool:
        """Whether the probabilities are the softmax of the logits."""
        return self.is_class and self.coding != THRESHOLDS

    @property
    def can_be_smoothed(self) -> bool:
        """Whether label smoothing changes the label's loss."""
        return self.kind in (SINGLE_LABEL, MULTILABEL) or self.coding == EXPECTATION

    def describe(self) -> str:
        """The kind in words.

        Example:
            >>> Label("tags", depth=3, kind="multilabel").describe()
            '3 classes, multilabel'
        """
        if not self.has_classes:
            return "regression"
        more = {ORDINAL: f", ordinal ({self.coding})", MULTILABEL: ", multilabel"}
        return f"{self.depth} classes{more.get(self.kind, '')}"

    @property
    def missing_number(self) -> float | None:
        """The marker for missing as a number, NaN included; None without a numeric marker."""
        try:
            return None if self.missing is None else float(self.missing)
        except ValueError:
            return None

    @property
    def missing_texts(self) -> frozenset[str]:
        """The texts of a missing label, i.e. the empty one and usual spellings of the marker.

        ``|`` alone is no class for multilabel, and missing for other kinds.
        """
        number = self.missing_number
        return frozenset(
            ({""} if self.kind == MULTILABEL else {"", SEPARATOR})
            | (set() if self.missing is None else {str(self.missing)})
            | (set() if number is None else {f"{number:g}"})
        )

    def named_classes(self) -> tuple[str, ...]:
        """The class names, or class numbers as texts before the vocabulary is fixed."""
        return self.class_names or tuple(map(str, range(self.depth if self.has_classes else 0)))


@dataclasses.dataclass(frozen=True)
class LabelSchema:
    """The labels of every example, in the order of ``class_dict``."""

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        if not self.labels:
            raise SpecError("class_dict is empty; describe at least one label.")
        repeated = _repeated(label.name for label in self.labels)
        if repeated:
            raise SpecError(f"class_dict names a label twice: {', '.join(repeated)}.")

    @classmethod
    def from_class_dict(cls, class_dict: Iterable[Mapping[str, Any] | Label]) -> LabelSchema:
        """The schema of a spec's ``class_dict``: dictionaries, ``Label`` objects or both.

        A class label from a dictionary without ``kind`` has ``one_hot_rows``.

        Raises:
            SpecError: an entry has unknown keys, or is inconsistent.

        Example:
            >>> LabelSchema.from_class_dict([{"name": "pet", "depth": 2}]).labels[0].depth
            2
        """
        if isinstance(class_dict, (Mapping, Label, str)) or not isinstance(class_dict, Iterable):
            raise SpecError(f"class_dict is {class_dict!r}, expected a list with an entry a label.")
        return cls(tuple(e if isinstance(e, Label) else _from_dict(e) for e in class_dict))

    def __iter__(self) -> Any:
        return iter(self.labels)

    def __getitem__(self, name: str) -> Label:
        for label in self.labels:
            if label.name == name:
                return label
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels' names."""
        return tuple(label.name for label in self.labels)

    @property
    def class_labels(self) -> tuple[Label, ...]:
        """The single-label and ordinal labels."""
        return tuple(label for label in self.labels if label.is_class)

    @property
    def labels_with_classes(self) -> tuple[Label, ...]:
        """The labels with classes, that is, all but regression."""
        return tuple(label for label in self.labels if label.has_classes)

    def with_vocabularies(
        self, vocabularies: Mapping[str, Sequence[str]], *, collected: Collection[str] = ()
    ) -> LabelSchema:
        """This schema with class names.

        Args:
            vocabularies: class names by label.
            collected: labels whose names were collected from a training set's texts.

        Raises:
            SpecError: a vocabulary's length is not the label's depth, or it names a class twice.
        """
        for name in vocabularies:
            if name not in self.names:
                raise SpecError(
                    f"No label {name!r} in class_dict. {did_you_mean(name, self.names)}"
                )
        return LabelSchema(
            tuple(
                dataclasses.replace(
                    label,
                    class_names=tuple(vocabularies[label.name]),
                    are_collected=label.name in collected,
                )
                if label.name in vocabularies
                else label
                for label in self.labels
            )
        )

    def to_json(self) -> list[dict[str, Any]]:
        """The schema as plain values, for JSON."""
        return [dataclasses.asdict(label) for label in self.labels]

    @classmethod
    def from_json(cls, value: Iterable[Mapping[str, Any]]) -> LabelSchema:
        """The schema from ``to_json``, also with the earlier names of kinds."""
        return cls(tuple(Label(**entry) for entry in value))


def _repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, sorted."""
    return sorted(name for name, count in collections.Counter(names).items() if count > 1)


def _from_dict(entry: Mapping[str, Any]) -> Label:
    fields = {field.name for field in dataclasses.fields(Label)}
    values = {}
    if not isinstance(entry, Mapping) or not all(isinstance(key, str) for key in entry):
        raise SpecError(
            f"class_dict has the entry {entry!r}, expected a dictionary of a label's properties, "
            'e.g. {"name": "colour", "depth": 2, "class_names": ["red", "blue"]}.'
        )
    for key, value in entry.items():
        key = _OLD_KEYS.get(key, key)
        if key not in fields:
            raise SpecError(
                f"class_dict: unknown key {key!r} in {dict(entry)!r}. "
                f"{did_you_mean(key, sorted(fields | set(_OLD_KEYS)))}"
            )
        values[key] = value
    if "name" not in values:
        raise SpecError(f"class_dict: an entry has no name: {dict(entry)!r}.")
    if "kind" not in values and values.get("one_hot", True):
        values.setdefault("one_hot_rows", True)
    return Label(**values)
