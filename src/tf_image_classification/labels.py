"""What the labels of an example are: their kinds, their classes, and how raw values become numbers.

A class has one number everywhere: its line in the vocabulary, which is fixed once, at training.
Nothing here needs TensorFlow.

    schema = LabelSchema.from_class_dict([{"name": "digit", "depth": 10, "one-hot": True}])
    schema = schema.with_vocabularies({"digit": ["zero", "one", ...]})
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import LabelError, SpecError, did_you_mean

_LARGEST_VALUE = float(np.finfo(np.float32).max)
_OLD_KEYS = {"name": "name", "depth": "depth", "one-hot": "one_hot", "one_hot": "one_hot"}


@dataclasses.dataclass(frozen=True)
class Label:
    """One label of every example.

    Attributes:
        name: the feature's name in a record and the column's name in a CSV.
        depth: number of classes; not used for a real-valued label.
        one_hot: True for a class label, False for a real-valued one.
        weight: factor of this label's loss in the sum over labels.
        missing: raw value that says "not known", such as -1, "unknown" or NaN; such a label is left
            out of the loss and of the metrics. An empty CSV cell and an absent feature always mean
            that.
        class_names: a name for each class, or empty until the vocabulary is fixed.
        are_collected: whether the class names were collected from the texts of a training set, in
            sorted order, so that a class number from elsewhere says nothing.
    """

    name: str
    depth: int = 0
    one_hot: bool = True
    weight: float = 1.0
    missing: float | str | None = None
    class_names: tuple[str, ...] = ()
    are_collected: bool = dataclasses.field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise SpecError(f"class_dict: a label's name is {self.name!r}, expected a text.")
        if self.one_hot and (not isinstance(self.depth, int) or self.depth < 2):
            raise SpecError(
                f"class_dict: label {self.name!r} has depth {self.depth!r}; a class label needs at "
                "least 2 classes. For a real-valued label set one_hot to False."
            )
        if not self.weight >= 0:
            raise SpecError(
                f"class_dict: label {self.name!r} has weight {self.weight!r}, expected 0 or more."
            )
        if isinstance(self.missing, float) and math.isnan(self.missing):
            object.__setattr__(self, "missing", "nan")  # as a text it equals itself
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if not self.class_names:
            return
        if not self.one_hot:
            raise SpecError(f"class_dict: real-valued label {self.name!r} has class names.")
        if len(self.class_names) != self.depth:
            raise SpecError(
                f"Label {self.name!r} has depth {self.depth} but {len(self.class_names)} class "
                "names. Correct the depth in class_dict or the list of names."
            )
        repeated = _repeated(self.class_names)
        if repeated:
            raise SpecError(f"Label {self.name!r} names a class twice: {', '.join(repeated)}.")

    @property
    def is_class(self) -> bool:
        """Whether the label is a class rather than a real value."""
        return self.one_hot

    @property
    def missing_number(self) -> float | None:
        """The marker for missing as a number, NaN included; None when it is none."""
        try:
            return None if self.missing is None else float(self.missing)
        except ValueError:
            return None

    @property
    def missing_texts(self) -> frozenset[str]:
        """The texts that say missing: the empty one, and the marker's in its usual spellings."""
        number = self.missing_number
        return frozenset(
            {""}
            | (set() if self.missing is None else {str(self.missing)})
            | (set() if number is None else {f"{number:g}"})
        )

    def named_classes(self) -> tuple[str, ...]:
        """The class names, or the numbers while no vocabulary is fixed."""
        return self.class_names or tuple(str(i) for i in range(self.depth if self.one_hot else 0))


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
        """The schema of a spec's ``class_dict``: old dictionaries, ``Label`` objects or both.

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
        """The labels that are classes."""
        return tuple(label for label in self.labels if label.is_class)

    def with_vocabularies(
        self, vocabularies: Mapping[str, Sequence[str]], *, collected: Collection[str] = ()
    ) -> LabelSchema:
        """This schema with class names.

        Args:
            vocabularies: class names by label.
            collected: labels whose names were collected from the texts of a training set.

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
        """The schema as plain values, for the model folder."""
        return [dataclasses.asdict(label) for label in self.labels]

    @classmethod
    def from_json(cls, value: Iterable[Mapping[str, Any]]) -> LabelSchema:
        """The schema from what ``to_json`` gave."""
        return cls(tuple(Label(**entry) for entry in value))


def _repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, sorted."""
    return sorted(name for name, count in collections.Counter(names).items() if count > 1)


def _from_dict(entry: Mapping[str, Any]) -> Label:
    fields = {field.name for field in dataclasses.fields(Label)}
    values = {}
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
    return Label(**values)


@dataclasses.dataclass(frozen=True)
class Column:
    """One label's numbers for a whole table.

    Attributes:
        values: int64 [N] class numbers, or float32 [N]; 0 where the label is missing.
        present: bool [N], False where the label is missing.
    """

    values: npt.NDArray[Any]
    present: npt.NDArray[np.bool_]


def collect_vocabulary(label: Label, texts: Iterable[str]) -> tuple[str, ...]:
    """The class names that a training set's texts make, in the order that numbers them.

    Texts that are all whole numbers from 0 to depth - 1 are class numbers already. Others are
    sorted, numbers inside them by their value.

    Raises:
        LabelError: there are not as many different texts as the label has classes.

    Example:
        >>> collect_vocabulary(Label("pet", depth=2), ["dog", "cat", "dog"])
        ('cat', 'dog')
    """
    found = set(texts) - label.missing_texts
    if all(t.isdecimal() and str(int(t)) == t and int(t) < label.depth for t in found):
        return tuple(str(i) for i in range(label.depth))
    names = tuple(sorted(found, key=_natural_key))
    if len(names) != label.depth:
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise LabelError(
            f"Label {label.name!r} has depth {label.depth}, but the training set names "
            f"{len(names)} classes: {shown}. Correct the depth in class_dict, or give all class "
            "names, a line each, in a file with --labels."
        )
    return names


def _natural_key(text: str) -> tuple[Any, ...]:
    parts = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", text))
    return parts, text  # the text itself tells a1 and a01 apart, which the numbers do not


def encode_texts(label: Label, texts: Sequence[str], locate: Callable[[int], str]) -> Column:
    """Numbers for a column of texts; an empty text or the declared marker is missing.

    Args:
        label: the label; a class label has its vocabulary.
        texts: one text an example.
        locate: what to call example i in a message, such as "train.csv line 7".

    Raises:
        LabelError: a class is not in the vocabulary, or a text is not a number; names the place.
    """
    missing = label.missing_texts
    present = np.array([text not in missing for text in texts], dtype=bool)
    if not label.is_class:
        values = np.zeros(len(texts), np.float32)
        for i in np.flatnonzero(present).tolist():
            values[i] = _real_value(label, texts[i], locate, int(i))
        return _without_marker(label, Column(values, present))
    numbers = {name: i for i, name in enumerate(label.named_classes())}
    ids = np.zeros(len(texts), np.int64)
    for i in np.flatnonzero(present).tolist():
        number = numbers.get(texts[i])
        if number is None:
            raise LabelError(
                f"{locate(int(i))}: label {label.name!r} is {texts[i]!r}, which is not one of its "
                f"{label.depth} classes. {did_you_mean(texts[i], numbers)} Correct the label, or "
                "the file of class names (--labels)."
            )
        ids[i] = number
    return Column(ids, present)


def _real_value(label: Label, text: str, locate: Callable[[int], str], i: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST_VALUE:
        raise LabelError(
            f"{locate(i)}: label {label.name!r} is {text!r}, expected a finite float32 number. "
            "Leave the cell empty when the value is not known."
        )
    return value


def encode_numbers(
    label: Label,
    numbers: npt.NDArray[Any],
    given: npt.NDArray[np.bool_],
    locate: Callable[[int], str],
) -> Column:
    """Class numbers or real values for a column of numbers read from records.

    Args:
        label: the label.
        numbers: float or int [N].
        given: bool [N], False where the record has no such feature.
        locate: what to call example i in a message.

    Raises:
        LabelError: a class number is not whole, or outside 0..depth-1; names the place.
    """
    column = _without_marker(label, Column(numbers, given))
    present = column.present
    if label.are_collected and present.any():
        i = int(np.flatnonzero(present)[0])
        raise LabelError(
            f"{locate(i)}: label {label.name!r} is the number {numbers[i]:g}, but the classes are "
            f"known by the names found in the training set ({', '.join(label.class_names[:3])}, "
            "...), so nobody can tell which class has which number. Train with --labels FILE, "
            "which gives the names in the order of the numbers."
        )
    if not label.is_class:
        wrong = present & ~(np.abs(numbers) <= _LARGEST_VALUE)
        values = np.where(present & ~wrong, numbers, 0).astype(np.float32)
        expected = "a finite float32 number"
    else:
        # NaN and what int64 cannot hold become -1, which is no class.
        holds = np.abs(numbers) < 2.0**62
        values = np.where(present, np.where(holds, numbers, -1), 0).astype(np.int64)
        wrong = present & ((values != numbers) | (values < 0) | (values >= label.depth))
        expected = f"a whole number from 0 to {label.depth - 1}"
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise LabelError(
            f"{locate(i)}: label {label.name!r} is {numbers[i]:g}, expected {expected} "
            f"({int(wrong.sum())} such labels). Correct the records or the depth in class_dict; if "
            f"{numbers[i]:g} marks a label that is not known, declare it: "
            f"Label({label.name!r}, ..., missing={numbers[i]:g})."
        )
    return Column(values, present)


def _without_marker(label: Label, column: Column) -> Column:
    marker = label.missing_number
    if marker is None:
        return column
    # Records hold labels as float32, in which a marker such as -0.1 is another number.
    is_marker = (column.values == marker) | (column.values == float(np.float32(marker)))
    if math.isnan(marker):
        is_marker = np.isnan(column.values)
    present = column.present & ~is_marker
    return Column(np.where(present, column.values, 0).astype(column.values.dtype), present)


def read_class_names(text: str, path: str) -> tuple[str, ...]:
    """Class names from the text of a labels file: a line each, a class's number is its line.

    Raises:
        LabelError: the file is empty, has an empty line in the middle, or names a class twice.
    """
    names = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise LabelError(f"{path} holds no class names, expected one a line.")
    first_lines: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise LabelError(f"{path} line {number} is empty, expected a class name on every line.")
        if first_lines.setdefault(name, number) != number:
            raise LabelError(
                f"{path} line {number} names class {name!r} a second time "
                f"(first in line {first_lines[name]})."
            )
    return tuple(names)
