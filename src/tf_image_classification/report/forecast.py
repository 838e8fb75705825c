"""The forecast of more labels as one self-contained HTML file.

write_page("forecast.html", content)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tf_image_classification.evaluation.learning_curve import Expected, Forecast
from tf_image_classification.pages.charts import line_chart
from tf_image_classification.pages.render import render
from tf_image_classification.pages.tables import Cell, Number, Table, count_cell, interval_cell
from tf_image_classification.system import files


@dataclasses.dataclass(frozen=True)
class ForecastPage:
    """What the page shows.

    Attributes:
        title: name of the source.
        verdict: a sentence.
        points: numbers of labels and accuracies of the learning curve.
        rows: number of labels, accuracy and gain; the first row is now.
        classes: name, labels, further labels and forecast of each class.
    """

    title: str
    verdict: str
    points: Sequence[tuple[float, float]]
    rows: Sequence[tuple[int, Expected, Expected | None]]
    classes: Sequence[tuple[str, int, int, Forecast | None]]


def write_page(path: str, content: ForecastPage) -> None:
    """Write the page to a local or remote file."""
    files.write_bytes(path, page(content).encode())


def page(content: ForecastPage) -> str:
    """The whole file as text."""
    expected = [(float(count), one) for count, one, _ in content.rows]
    chart = line_chart(
        [
            ("measured", content.points),
            ("forecast", [(count, one.value) for count, one in expected]),
            ("90 % interval", [(count, one.low) for count, one in expected]),
            ("", [(count, one.high) for count, one in expected]),
        ],
        x="labels",
        y="accuracy",
    )
    lines = [dataclasses.replace(one, number=min(one.number, 2)) for one in chart.lines]
    return render(
        "forecast.html",
        title=content.title,
        verdict=content.verdict,
        chart=dataclasses.replace(chart, lines=lines),
        overall=Table("", ["labels", "accuracy", "gain"], [_row(*row) for row in content.rows]),
        classes=Table(
            "",
            ["class", "labels", "F1 now", "F1 then", "gain"],
            [_class_row(*row) for row in content.classes],
        ),
    )


def _row(count: int, one: Expected, gain: Expected | None) -> list[Cell]:
    return [f"{count:,}", _cell(one), _gain(gain)]


def _class_row(name: str, count: int, more: int, found: Forecast | None) -> list[Cell]:
    if found is None:
        none = Number(None, "", "too few labels")
        return [name, count_cell(count), none, none, none]
    labels = Number(count, f"{count:,} + {more:,}")
    return [name, labels, _cell(found.now), _cell(found.then), _gain(found.gain)]


def _cell(one: Expected) -> Number:
    return interval_cell(one.value, one.low, one.high)


def _gain(one: Expected | None) -> Number:
    if one is None or math.isnan(one.value):
        return Number(None, "")
    return Number(one.value, f"{one.value:+.3f}", f"[{one.low:+.3f}, {one.high:+.3f}]")
