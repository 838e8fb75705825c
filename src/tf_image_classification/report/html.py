"""The report of a model as one HTML file that needs nothing else, and its model card."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_image_classification.evaluation.analysis import (
    MIN_TO_CALIBRATE,
    Calibrated,
    LabelAnalysis,
)
from tf_image_classification.evaluation.calibration import Bin
from tf_image_classification.evaluation.intervals import Interval
from tf_image_classification.report.charts import line_chart

_MOST_CURVES = 8


def report_html(content: Mapping[str, Any]) -> str:
    """The page with its content, which must be plain values."""
    files = importlib.resources.files(__package__)
    template = (files / "report.html").read_text(encoding="utf-8")
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return template.replace("__DATA__", text.replace("<", "\\u003c"))


def curves(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Charts of every number of the training's evaluations that has two or more, over the steps."""
    left_out = ("step", "num_examples", "time")
    names = [
        name
        for name, value in (evaluations[-1] if evaluations else {}).items()
        if isinstance(value, (int, float)) and name not in left_out
    ]
    charts = []
    for name in names[:_MOST_CURVES]:
        points = [(e["step"], e[name]) for e in evaluations if e.get(name) is not None]
        if len(points) > 1:
            charts.append(line_chart([("", points)], x="step", y=name.replace("_", " ")))
    return charts


def interval_json(interval: Interval) -> dict[str, float | int | str | None]:
    """An interval with null for what is not known, and why it is not."""
    values = {"value": interval.value, "low": interval.low, "high": interval.high}
    known = {name: value if value == value else None for name, value in values.items()}
    return {**known, "count": interval.count, "note": interval.note}


def calibration_json(found: LabelAnalysis) -> dict[str, Any] | None:
    """Text and charts of calibration, rejection and sets; None where nothing was fitted."""
    if found.calibrated is None:
        return None
    one = found.calibrated
    charts = [
        line_chart(
            [("own", _points(one.bins_before)), ("calibrated", _points(one.bins_after))],
            x="confidence",
            y="fraction that is right",
            x_range=(0.0, 1.0),
            y_range=(0.0, 1.0),
            is_diagonal_shown=True,
        )
    ]
    if found.risk_curve:
        charts.append(
            line_chart(
                [("", found.risk_curve)],
                x="fraction answered, the surest first",
                y="fraction of them that is wrong",
                x_range=(0.0, 1.0),
            )
        )
    return {"text": f"Expected calibration {calibration_text(one)}", "charts": charts}


def _points(bins: Sequence[Bin]) -> list[tuple[float, float]]:
    return [(each.confidence, each.accuracy) for each in bins if each.count]


def calibration_text(one: Calibrated | None) -> str:
    """What calibration does, in a sentence or two; None: of too few examples."""
    if one is None:
        return f"too few examples (at least {MIN_TO_CALIBRATE} in two halves)."
    fitted = one.calibration
    if fitted.temperature == 1:
        text = (
            f"error {one.before:.3f}, log loss {one.log_loss_before:.3f}, as the model is; "
            f"temperature {fitted.note or 'is 1'}."
        )
    else:
        text = (
            f"error {one.before:.3f}, and {one.after:.3f} at temperature {fitted.temperature:.2f}; "
            f"log loss {one.log_loss_before:.3f} and {one.log_loss_after:.3f}."
        )
        text += f" Temperature {fitted.note}." if fitted.note else ""
    text += f" Fitted to {fitted.count} examples and measured on {one.count} others."
    if one.set_coverage is not None and one.set_size is not None:
        text += (
            f" Conformal sets for {fitted.coverage:.0%} hold the true class in "
            f"{one.set_coverage} and have {one.set_size:.2f} classes on average."
        )
    return text


def model_card(content: Mapping[str, Any]) -> str:
    """A model card in Markdown, from what the page shows."""
    lines = [f"# {content['title']}", "", content["lead"], "", "## Model", ""]
    lines += [f"- {key}: {value}" for key, value in content["summary"]]
    for label in content["labels"]:
        lines += [
            "",
            f"## {label['name']}",
            "",
            "| measure | value, with 95 % interval |",
            "|---|---|",
        ]
        lines += [
            f"| {name.replace('_', ' ')} | {interval_text(value)} |"
            for name, value in label["measures"]
        ]
        if label["calibration"]:
            lines += ["", label["calibration"]["text"]]
        if label["limits"]:
            lines += ["", "What limits it:", ""]
            lines += [f"- {title} ({state}): {text}" for title, state, text in label["limits"]]
        if label["slices"]:
            score = label["score_name"].replace("_", " ")
            lines += ["", f"| slice | examples | {score} |", "|---|---|---|"]
            lines += [
                f"| {_cell(s['column'])} = {_cell(s['value'])} | {s['score']['count']} | "
                f"{interval_text(s['score'])} |"
                for s in label["slices"]
            ]
    lines += ["", "## Data", "", content["leaks"]["text"], ""]
    lines += [
        "## Intended use",
        "",
        "To be filled in by those who ship it: who should use it for what, what it must not be "
        "used for, and who is affected by its mistakes.",
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A text as it can stand in a cell of a Markdown table."""
    return text.replace("|", "\\|")


def interval_text(one: Mapping[str, Any]) -> str:
    """An interval as ``interval_json`` gives it, in words."""
    if one["value"] is None:
        return "not known"
    numbers = {name: np.nan if one[name] is None else one[name] for name in ("low", "high")}
    return str(Interval(one["value"], **numbers, count=one["count"], note=one["note"]))
