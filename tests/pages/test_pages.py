"""Templates: hostile texts stay text, tables and charts show numbers, missing values are errors."""

import doctest
import re

import jinja2
import pytest

from browser import accessibility_violations, open_page
from tf_image_classification.inspection.findings import Finding, Inspection
from tf_image_classification.inspection.image_stats import ImageStats
from tf_image_classification.inspection.page import page
from tf_image_classification.pages import charts, render, tables
from tf_image_classification.report.content import (
    NOT_COMPARED,
    ErrorGroup,
    Example,
    Gallery,
    LabelContent,
    Outcome,
    Report,
    UnknownContent,
)
from tf_image_classification.report.error_analysis import FOUND
from tf_image_classification.report.error_analysis import Finding as Cause

HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    "\"><img src=x onerror='window.hacked = 1'>",
    "' onmouseover=window.hacked=1 x='",
    "{{ 7 * 7 }}{% raw %}",
    "</style></textarea><!--",
    "safe\u202egpj.exe\u2066",
    "\x00\x1b[31m\ud800",
)


def hostile_report():
    outcomes = [
        {"kind": Outcome(name, other, "50 %", False, [i], [0])}
        for i, (name, other) in enumerate(zip(HOSTILE, HOSTILE[::-1], strict=True))
    ]
    examples = [
        Example(HOSTILE[i], HOSTILE[i], "", "", {}, one, [i]) for i, one in enumerate(outcomes)
    ]
    table = tables.Table(HOSTILE[0], HOSTILE, [HOSTILE])
    label = LabelContent(
        name=HOSTILE[1],
        classes=HOSTILE,
        score_name=HOSTILE[2],
        score=tables.Number(0.5, "0.500", HOSTILE[1]),
        metrics=tables.Table("", ["metric", "value"], [[HOSTILE[0], tables.count_cell(1)]]),
        per_class=table,
        confusion=[[1] * len(HOSTILE) for _ in HOSTILE],
        confused_pairs=(),
        galleries=[Gallery("worst", HOSTILE[0], HOSTILE[1], examples)],
        error_groups=[ErrorGroup([0], [1, 2], HOSTILE[1], examples)],
        calibration=None,
        slices=table,
        findings=[Cause(HOSTILE[0], FOUND, HOSTILE[1])],
    )
    return Report(
        title=HOSTILE[0],
        lead=HOSTILE[1],
        step=1,
        num_examples=2,
        num_train_examples="3",
        summary=[(name, name) for name in HOSTILE],
        details=[(name, name) for name in HOSTILE],
        curves=[charts.line_chart([(HOSTILE[0], [(0, 0), (1, 1)])], x=HOSTILE[1], y=HOSTILE[2])],
        labels=[label],
        examples=examples,
        examples_text=HOSTILE[0],
        slices=HOSTILE,
        leakage=NOT_COMPARED,
        folds=table,
        unknown=UnknownContent(
            HOSTILE[1], [table], Gallery("refused", HOSTILE[0], HOSTILE[1], examples)
        ),
        counts=[table],
        changed_settings=table,
        default_settings=table,
    )


def hostile_inspection():
    images = [
        ImageStats(name, name, {"label": name}, problem=HOSTILE[0] if i % 2 else "", width=1)
        for i, name in enumerate(HOSTILE)
    ]
    findings = [
        Finding(f"kind {i}", "error", name, [[0, 1], [2]], name) for i, name in enumerate(HOSTILE)
    ]
    broken = Finding("broken", "error", HOSTILE[1], [[1]])
    return Inspection(
        images,
        ["train"] * len(images),
        ["label"],
        [*findings, broken],
        (),
        {HOSTILE[1]: HOSTILE[0]},
    )


@pytest.mark.parametrize("kind", ["report", "inspection"])
def test_hostile_names_stay_text(kind, tmp_path):
    if kind == "report":
        text = render.render("report.html", report=hostile_report())
    else:
        text = page(hostile_inspection(), HOSTILE[0])
    assert text.count("<script>") == 1 and "\u202e" not in text and "\x00" not in text
    assert "{{ 7 * 7 }}" in text and "\\u202egpj.exe" in text
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    with open_page(f"file://{path}", width=390) as (shown, complaints):
        assert shown.evaluate("window.hacked") is None
        assert shown.locator("img[src=x]").count() == 0
        assert shown.inner_text("h1").startswith(("</script>", "Inspection of </script>"))
        assert shown.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert complaints == []
        # The policy alone stops a script that were in the page all the same.
        shown.evaluate(
            "() => { const s = document.createElement('script'); "
            "s.textContent = 'window.hacked = 1'; document.body.append(s); }"
        )
        assert shown.evaluate("window.hacked") is None


def test_a_model_card_keeps_the_cells_of_its_tables_apart():
    card = render.render("model_card.md", report=hostile_report())
    rows = re.findall(r"^\| .*\|$", card, re.MULTILINE)
    assert rows and not re.search(r"^\|.*[^\\]<", card, re.MULTILINE)
    assert render.plain_markdown("a|b\nc") == "a\\|b c"


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render.render("inspection.html", title="x")


@pytest.mark.parametrize("module", [render, tables, charts])
def test_the_examples_of_the_docstrings_hold(module):
    failed, tried = doctest.testmod(module)
    assert failed == 0 and tried > 0


@pytest.mark.parametrize("points", [[(0, 1.0)], [(3, 1e-9), (4, 2e6)], [(0, -5.0), (10, -5.0)]])
def test_the_points_of_a_chart_lie_inside_it(points):
    chart = charts.line_chart([("", points)], x="x", y="y")
    for x, y in chart.lines[0].dots:
        assert 0 <= x <= charts.WIDTH and charts.TOP - 1 <= y <= charts.HEIGHT - charts.BOTTOM + 1
    assert 2 <= len(chart.y_ticks) <= 6 and len(chart.x_ticks) <= 6


def test_a_histogram_keeps_rare_values_visible():
    heights = charts.histogram([0.0] * 1000 + [1.0])
    assert max(heights) == 1 and heights[-1] == pytest.approx(0.03) and heights[5] == 0


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("kind", ["report", "inspection"])
def test_the_pages_are_accessible(kind, dark, tmp_path):
    text = page(hostile_inspection(), "x")
    if kind == "report":
        text = render.render("report.html", report=hostile_report())
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    with open_page(f"file://{tmp_path}/page.html", dark=dark, width=1280) as (shown, complaints):
        shown.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert accessibility_violations(shown) == []
        shown.set_viewport_size({"width": 390, "height": 844})
        shown.click("#menu")
        assert accessibility_violations(shown) == []
        assert complaints == []
