"""Predictions of any program, as a CSV: names of images, and a class, value or probabilities each.

    table = read_prediction_table("cloud.csv")
    found = table.predictions(reference)      their rows and outputs for an evaluation's examples

The header may be missing; usual names of columns are known. Images are matched by path, by the
end of the path, or by base name where that is unambiguous.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.dataset.readers.csv_text import CsvTable, read_table
from tf_image_classification.errors import DataError, counted
from tf_image_classification.evaluation.image_names import ImageFinder, base_name
from tf_image_classification.evaluation.outside_outputs import LabelOutputs, predictions_of
from tf_image_classification.evaluation.predictions import LabelPredictions, Predictions
from tf_image_classification.labels import SEPARATOR, Label, LabelSchema
from tf_image_classification.labels.schema import MULTILABEL, REGRESSION
from tf_image_classification.system import files

Array = npt.NDArray[Any]

_PREDICTED = (
    *("predicted", "prediction", "predictions", "pred", "predict", "y_pred", "yhat", "y_hat"),
    *("predicted_class", "predicted_label", "class_predicted", "top1", "top_1", "output", "result"),
)
_CLASS = ("class", "class_name", "classname", "label", "labels", "category", "value")
_TRUTH = (
    *("truth", "true", "actual", "y_true", "target", "ground_truth", "groundtruth", "gt"),
    *("true_label", "true_class", "expected", "correct_label"),
)
_PREFIXES = ("prob", "probability", "probabilities", "p", "score", "conf", "confidence")
_ERROR = "error"
_PERCENT = 1.5  # values above are percentages


@dataclasses.dataclass(frozen=True)
class TablePredictions:
    """Predictions of a table for the examples of an evaluation.

    Attributes:
        predictions: of the matched examples.
        notes: on what was not matched, in sentences.
        is_without: names of labels with classes but without probabilities.
    """

    predictions: Predictions
    notes: Sequence[str]
    is_without: Sequence[str]


@dataclasses.dataclass(frozen=True)
class PredictionTable:
    """The rows of a file of predictions.

    Attributes:
        path: the file.
        names: of the images.
        columns: by name the texts of a row each.
        num_bad: rows of images that its program could not read.
    """

    path: str
    names: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    num_bad: int = 0

    def predictions(self, reference: Predictions) -> TablePredictions:
        """The predictions for the examples of an evaluation.

        Raises:
            DataError: no image is matched, or no column holds a label's predictions.
        """
        of_rows, notes = _matched(self, reference)
        rows = np.array(sorted(of_rows), np.int64)
        chosen = [of_rows[row] for row in rows.tolist()]
        outputs = {}
        for label in reference.schema:
            found = self._outputs(label, chosen, is_alone=len(reference.schema.labels) == 1)
            if found is not None:
                outputs[label.name] = found
        if not outputs:
            classes = ", ".join(reference.schema.labels[0].named_classes()[:5])
            raise DataError(
                f"{self.path} has the columns {', '.join(self.columns) or 'of images only'}; "
                "expected one with the predicted class, called e.g. predicted, or one per class "
                f"with its probability: {classes}."
            )
        lacking = [n for n, o in outputs.items() if o.classes and o.probabilities is None]
        found_all = predictions_of(reference, rows, outputs, self.path)
        return TablePredictions(found_all, notes, lacking)

    def truth(self) -> Predictions:
        """An evaluation with the true classes of a column, for files without a model folder.

        Raises:
            DataError: there is no such column.
        """
        column = self._column(_TRUTH)
        if column is None:
            raise DataError(
                f"{self.path} has no column with the true classes, called e.g. truth, and neither "
                "A nor B is a model folder that has them. Add the column, or name a model folder."
            )
        texts = self.columns[column]
        predicted = self._column(_PREDICTED) or self._column(_CLASS)
        seen = {*texts, *(self.columns[predicted] if predicted else ())} - {""}
        mask = np.array([text != "" for text in texts], bool)
        count = len(texts)
        if any(_number(text) is not None and not _is_whole(text) for text in seen):
            label = Label("label", kind=REGRESSION)
            values = np.array([_number(text) or 0.0 for text in texts])
            nothing = np.zeros([count, 0], np.float32)
            found = LabelPredictions(values, values, nothing, mask)
        else:
            classes = sorted(seen, key=lambda text: (_number(text) or 0.0, text))
            if len(classes) < 2:
                raise DataError(f"{self.path}: column {column!r} has one class only.")
            label = Label("label", depth=len(classes), class_names=tuple(classes))
            places = {name: k for k, name in enumerate(label.class_names)}
            numbers = np.array([places.get(text, 0) for text in texts], np.int64)
            found = LabelPredictions(
                numbers, numbers, np.eye(len(classes), dtype=np.float32)[numbers], mask
            )
        known = {column, predicted, _ERROR}
        slices = {name: list(one) for name, one in self.columns.items() if name not in known}
        return Predictions(
            LabelSchema((label,)),
            np.arange(count),
            list(self.names),
            {"label": found},
            0,
            "",
            slices,
        )

    def _outputs(self, label: Label, rows: Sequence[int], *, is_alone: bool) -> LabelOutputs | None:
        """The columns of a label; None without any."""
        if label.has_classes and (columns := self._of_classes(label)):
            numbers = [[self._numeric(column, row) for column in columns.values()] for row in rows]
            values = np.array(numbers, np.float64)
            if values.max(initial=0.0) > _PERCENT:
                values /= 100
            return LabelOutputs([*columns], values)
        names = (f"{label.name}_predicted", f"predicted_{label.name}", f"{label.name}_pred")
        column = self._column(names)
        if column is None and is_alone:
            column = self._column(_PREDICTED)
        if column is None:
            column = self._column((label.name, *(_CLASS if is_alone else ())))
        if column is None and is_alone:
            others = [n for n in self.columns if n not in (self._column(_TRUTH), _ERROR)]
            column = others[0] if len(others) == 1 else None
        if column is None:
            return None
        if not label.has_classes:
            return LabelOutputs((), None, [self._numeric(column, row) for row in rows])
        texts = [self.columns[column][row] for row in rows]
        is_multilabel = label.kind == MULTILABEL
        parts = [text.split(SEPARATOR) if is_multilabel else [text] for text in texts]
        seen = {name for each in parts for name in each if name or not is_multilabel}
        known = label.named_classes()
        if "" in seen:
            raise DataError(f"{self.path}: column {column!r} has empty cells, expected a class.")
        if not seen & {*known}:
            raise DataError(
                f"{self.path}: column {column!r} has the values {', '.join(sorted(seen)[:5])}, "
                f"expected classes of label {label.name!r}: {', '.join(known[:5])}."
                + _advice(seen, known)
            )
        return LabelOutputs(
            [*known, *sorted(seen - {*known})],
            None,
            texts,
        )

    def _of_classes(self, label: Label) -> dict[str, str]:
        """The columns with the probabilities of classes, by class; {} unless at least two are."""
        by_word = {_word(name): name for name in self.columns}
        found = {}
        for name in label.named_classes():
            forms = [name, *(f"{prefix}_{name}" for prefix in (*_PREFIXES, label.name))]
            forms += [f"{name}_{prefix}" for prefix in _PREFIXES]
            column = next((by_word[_word(one)] for one in forms if _word(one) in by_word), None)
            if column is not None and all(
                _number(text) is not None for text in self.columns[column]
            ):
                found[name] = column
        return found if len(found) >= min(2, label.depth) else {}

    def _column(self, names: Sequence[str]) -> str | None:
        by_word = {_word(name): name for name in self.columns}
        return next((by_word[_word(name)] for name in names if _word(name) in by_word), None)

    def _numeric(self, column: str, row: int) -> float:
        text = self.columns[column][row]
        number = _number(text)
        if number is None:
            raise DataError(
                f"{self.path}: {self.names[row]} has {text!r} in column {column!r}, expected a "
                "number."
            )
        return number


def read_prediction_table(path: str) -> PredictionTable:
    """The table in a CSV file, or in a .jsonl or .parquet file of ``tfic predict``.

    Raises:
        DataError: it cannot be read, or no column names images.
    """
    if path.lower().endswith((".jsonl", ".parquet")):
        return _without_bad(_of_predict(path))
    table = read_table(path)
    columns = {
        name: [row[place].strip() if place < len(row) else "" for _, row in table.rows]
        for name, place in table.columns.items()
    }
    return _without_bad(PredictionTable(path, _image_names(table), columns))


def _of_predict(path: str) -> PredictionTable:
    """The table in a file of ``tfic predict`` that is no CSV."""
    content = files.read_bytes(path)
    try:
        if path.lower().endswith(".jsonl"):
            rows = [json.loads(line) for line in content.decode().splitlines() if line.strip()]
        else:
            from pyarrow import parquet  # late: it takes half a second

            rows = parquet.read_table(io.BytesIO(content)).to_pylist()
        names = [str(row["uri"]) for row in rows]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(
            f"{path} is not a file of tfic predict: {' '.join(str(error).split())[:200]}"
        ) from error
    if not rows:
        raise DataError(f"{path} is empty.")
    columns = {
        name: ["" if row.get(name) is None else str(row[name]) for row in rows]
        for name in dict.fromkeys(key for row in rows for key in row)
        if name != "uri"
    }
    return PredictionTable(path, names, columns)


def _image_names(table: CsvTable) -> list[str]:
    return [row[table.image].strip() for _, row in table.rows]


def _without_bad(table: PredictionTable) -> PredictionTable:
    """Without the rows of images that could not be read, as ``tfic predict`` marks them."""
    errors = table.columns.get(_ERROR)
    if errors is None or not any(errors):
        return table
    good = [i for i, text in enumerate(errors) if not text]
    return PredictionTable(
        table.path,
        [table.names[i] for i in good],
        {name: [texts[i] for i in good] for name, texts in table.columns.items()},
        len(errors) - len(good),
    )


def _matched(table: PredictionTable, reference: Predictions) -> tuple[dict[int, int], list[str]]:
    """By row of the evaluation the row of the table, and notes."""
    finder = ImageFinder(reference.uris)
    bases = {base_name(name) for name in table.names}
    has_own_bases = len(bases) == len({*table.names})
    found: dict[int, list[int]] = collections.defaultdict(list)
    unknown: list[str] = []
    ambiguous: list[str] = []
    for number, name in enumerate(table.names):
        rows = finder.rows(name, by_base=has_own_bases)
        if len(rows) == 1:
            found[rows[0]].append(number)
        else:
            (ambiguous if rows else unknown).append(name)
    keep, num_twice, contradictory = {}, 0, 0
    for row, numbers in found.items():
        num_twice += len(numbers) - 1
        cells = {tuple(texts[i] for texts in table.columns.values()) for i in numbers}
        if len(cells) == 1:
            keep[row] = numbers[0]
        else:
            contradictory += 1
    if not keep:
        raise DataError(
            f"{table.path} names no image of the evaluation: e.g. {table.names[0]!r} is not "
            f"{reference.uris[0]!r}. Write the paths or base names of the same images."
        )
    missing = len(reference) - len(keep)
    notes = []
    if missing:
        text = counted(missing, "example of the evaluation is", "examples of the evaluation are")
        notes.append(f"{text} not in {table.path} and not compared.")
    for names, one, many in (
        (unknown, "row names no example", "rows name no example"),
        (ambiguous, "row names several examples", "rows name several examples"),
    ):
        if names:
            notes.append(f"{table.path}: {counted(len(names), one, many)}, e.g. {names[0]}.")
    if num_twice:
        text = counted(num_twice, "row repeats an image", "rows repeat images")
        left = f"; {contradictory} with different predictions left out" if contradictory else ""
        notes.append(f"{table.path}: {text}{left}.")
    if table.num_bad:
        text = counted(table.num_bad, "row has an error", "rows have errors")
        notes.append(f"{table.path}: {text} instead of a prediction.")
    return keep, notes


def _word(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name.strip().lower())


def _number(text: str) -> float | None:
    """A number, also with a decimal comma or as a percentage."""
    plain = text.strip().replace(",", ".")
    scale = 1.0
    if plain.endswith("%"):
        plain, scale = plain[:-1].strip(), 0.01
    try:
        return float(plain) * scale
    except ValueError:
        return None


def _advice(seen: set[str], known: Sequence[str]) -> str:
    """How to write the classes of a label, after a space, or ""."""
    if all(map(_is_whole, seen)):
        return " Write names, not numbers."
    if {name.casefold() for name in seen} & {name.casefold() for name in known}:
        return " They differ in upper and lower case: write them as the label does."
    return ""


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text.strip()) is not None
