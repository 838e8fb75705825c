"""Results that a notebook shows: predictions as a table, a report as a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from tf_image_classification.classifier import html
from tf_image_classification.classifier.frames import data_frame
from tf_image_classification.system import files

if TYPE_CHECKING:
    from tf_image_classification.serving.label_predictions import Prediction

_MAX_SHOWN = 20
_PAGE_HEIGHT = 700  # pixels


class Predictions(list["Prediction"]):
    """The prediction of each image, in order: a list that shows itself as a table."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> Predictions: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Prediction | Predictions:
        found = super().__getitem__(index)
        return Predictions(found) if isinstance(found, list) else found

    def to_pandas(self) -> Any:
        """A pandas DataFrame with the columns of ``tfic predict``, a row for each image.

        Raises:
            ConfigError: pandas is not installed.
        """
        from tf_image_classification.serving.prediction_rows import row_of

        return data_frame([row_of(one) for one in self])

    def __repr__(self) -> str:
        head, rows = self._cells()
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, *rows)
        ]
        return "\n".join([*lines, *self._rest()])

    def _repr_html_(self) -> str:
        return html.table(*self._cells()) + "".join(map(html.text, self._rest()))

    def _rest(self) -> list[str]:
        more = len(self) - _MAX_SHOWN
        return [f"... and {more} more"] if more > 0 else []

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """The head and the rows of the table."""
        shown = self[:_MAX_SHOWN]
        names = list(dict.fromkeys(name for one in shown for name in one.labels))
        head = ["image", *(part for name in names for part in (name, "probability", "next"))]
        rows = [self._row(one, names) for one in shown]
        if any(one.unknown_score is not None for one in shown):
            head.append("unknown_score")
            rows = [[*row, _score(one)] for row, one in zip(rows, shown, strict=True)]
        return head, rows

    @staticmethod
    def _row(one: Prediction, names: Sequence[str]) -> list[str]:
        if one.error:
            return [one.uri, *([f"error: {one.error}", "", ""] * len(names))[: 3 * len(names)]]
        cells = [one.uri]
        for name in names:
            of_label = one.labels[name]
            others = [f"{c} {p:.2f}" for c, p in of_label.top if c != of_label.name][:2]
            if of_label.probability is None:
                cells += [f"{of_label.value:.4g}", "", ""]
            else:
                cells += [of_label.name, f"{of_label.probability:.2f}", ", ".join(others)]
        return cells


def _score(one: Prediction) -> str:
    if one.unknown_score is None:
        return ""
    return f"{one.unknown_score:.2f}{' (unknown)' if one.is_unknown else ''}"


@dataclasses.dataclass(frozen=True)
class ReportPage:
    """A report of a model, which a notebook shows as a page.

    Attributes:
        path: the HTML file; also of ``os.fspath``.
        model_card: the Markdown file beside it.
    """

    path: str
    model_card: str

    def __fspath__(self) -> str:
        return self.path

    def _repr_html_(self) -> str:
        return html.page(files.read_text(self.path), _PAGE_HEIGHT)
