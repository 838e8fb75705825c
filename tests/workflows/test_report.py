"""The report: opens in a browser without a complaint, and shows what was measured."""

import json
import os
import re

import numpy as np
import pytest

from browser import open_page
from serving import shipped_run as making
from tf_image_classification import train
from tf_image_classification.cli import report as report_verb
from tf_image_classification.errors import CheckpointError
from tf_image_classification.evaluation.intervals import Interval
from tf_image_classification.evaluation.label_errors import LabelErrors
from tf_image_classification.evaluation.predictions import read_predictions
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.report.diagnosis import NO, UNKNOWN, YES, Facts, limits_of
from tf_image_classification.report.html import curves, report_html
from tf_image_classification.workflows.report import write_report
from tiny_runs import plain_spec, tiny_settings, write_records


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return making.make(tmp_path_factory.mktemp("reported"))


@pytest.fixture(scope="module")
def report(run):
    page, card = write_report(run.settings)
    with open(page, encoding="utf-8") as stream:
        text = stream.read()
    content = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    with open(card, encoding="utf-8") as stream:
        return page, content, stream.read()


def test_it_holds_what_was_measured(run, report):
    _, content, card = report
    [label] = content["labels"]
    kept = read_predictions(ModelFolder(run.model_dir).predictions).labels["kind"]
    accuracy = float(kept.is_right.mean())
    assert label["score"]["value"] == pytest.approx(accuracy)
    assert sum(map(sum, label["confusion"])) == 90
    assert label["examples"]["predicted"] == kept.predicted.tolist()
    mistakes = set(np.flatnonzero(~kept.is_right).tolist())
    assert set(label["galleries"]["worst"]["indices"]) <= mistakes
    assert set(map(str, mistakes)) <= set(content["thumbs"])
    assert all("heat" in content["thumbs"][str(i)] for i in mistakes)
    assert content["counts"][0]["rows"] == [["cat", 20, 30], ["dog", 20, 30], ["emu", 20, 30]]
    assert {title for title, _, _ in label["limits"]} >= {"overfitting", "label noise", "leakage"}
    assert f"| accuracy | {accuracy:.3f} [" in card and "## Intended use" in card


def test_nothing_of_it_comes_from_the_network(report):
    with open(report[0], encoding="utf-8") as stream:
        text = stream.read()
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    assert "<\\/script" not in report_html({"x": "</script>"}).split('id="data">')[1][:40]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (390, True)])
def test_it_can_be_used_in_a_browser(report, width, dark):
    page_path, content, _ = report
    [label] = content["labels"]
    with open_page(f"file://{os.path.abspath(page_path)}", width=width, dark=dark) as (page, bad):
        assert page.inner_text("h1") == content["title"]
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0
        cells = page.locator("table.confusion td button:not([disabled])")
        cells.first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".chosen .images figure img:not(.heat)")
        picture = ".chosen .images figure img:not(.heat)"
        page.wait_for_function(f"document.querySelector('{picture}').naturalWidth > 0")
        page.select_option("select", "worst first")
        recalls = [row[i] / sum(row) for i, row in enumerate(label["confusion"])]
        first = page.inner_text("table.confusion tbody tr:first-child th")
        assert first == label["classes"][int(np.argmin(recalls))]
        table = page.locator("#label-0-classes table")
        table.locator("th button", has_text="recall").click()
        shown = [
            float(text.split(" ")[0])
            for text in table.locator("tbody tr td:nth-child(4)").all_inner_texts()
        ]
        assert shown == sorted(shown, reverse=True)
        assert table.locator("th[aria-sort=descending]").count() == 1
        assert bad == []


NUM_MANY = 300


@pytest.fixture(scope="module")
def report_of_many(tmp_path_factory):
    """The page of a model of many classes with names of 200 characters."""
    folder = tmp_path_factory.mktemp("many")
    names = tuple(
        f"{i:03d} {'of a kind that needs many words ' * 8}"[:195] + f" {i:03d}"
        for i in range(NUM_MANY)
    )
    records = write_records(
        folder, count=NUM_MANY + 100, labels=lambda i, _: {"kind": float(i % NUM_MANY)}
    )
    settings = tiny_settings(
        folder / "model", records, records, train_steps=1, export_saved_model=True
    )
    train(plain_spec(names=names, depth=NUM_MANY), settings)
    page, _ = write_report(settings, is_inspected=False)
    return page, names


@pytest.mark.slow
@pytest.mark.parametrize("width", [1100, 390])
def test_many_classes_with_long_names_stay_readable(report_of_many, width):
    path, names = report_of_many
    with open_page(f"file://{os.path.abspath(path)}", width=width) as (page, bad):
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert page.evaluate("document.querySelectorAll('*').length") < 4000
        heads = page.locator("#label-0-classes tbody th")
        assert heads.count() == 50
        assert (
            len(heads.first.inner_text()) <= 40 and heads.first.get_attribute("title") == names[0]
        )
        assert heads.first.bounding_box()["height"] < 150
        page.locator("#label-0-classes > div > button", has_text="show all").click()
        assert heads.count() == NUM_MANY
        # Too many for a matrix: the most frequent confusions, whose images can be seen.
        assert page.locator("table.confusion").count() == 0
        page.locator("#label-0-confusion tbody button").first.click()
        page.wait_for_selector(".chosen .images figure")
        assert len(page.inner_text(".chosen h3")) < 200
        assert bad == []


def test_the_verb_and_a_folder_without_a_run(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.folder))
    out = str(tmp_path / "deep" / "page.html")
    assert report_verb.main([run.model_dir, "--output", out, "--noinspect"]) == 0
    assert capsys.readouterr().out.split()[1::2] == [out, str(tmp_path / "deep" / "model_card.md")]
    settings = run.settings.replace(model_dir=str(tmp_path / "none"))
    with pytest.raises(CheckpointError):
        write_report(settings)


def test_one_evaluation_makes_no_curve():
    line = {"step": 10, "num_examples": 4, "time": 1.0, "loss": 0.5, "accuracy": 0.5}
    assert curves([]) == curves([line]) == []
    later = line | {"step": 20, "accuracy": None}
    assert len(curves([line, later])) == 1


# --- what limits a model ------------------------------------------------------------------------


SOMEWHAT_WORSE = Interval(0.93, 0.92, 0.94, 1000)


def errors_of(num_likely, precision, count=1000):
    return LabelErrors(np.arange(num_likely), num_likely, precision, count)


def facts(**changes):
    fields = {
        "score": Interval(0.985, 0.98, 0.99, 1000),
        "balanced": Interval(0.93, 0.91, 0.95, 1000),
        "train_score": Interval(0.94, 0.92, 0.96, 500),
        "train_counts": [500, 400, 450],
        "recalls": np.array([0.8, 0.8, 0.8]),
        "label_errors": errors_of(3, None),
        "median_side": 256.0,
        "image_size": 224,
        "num_leaked": 0,
    }
    return Facts(**(fields | changes))


@pytest.mark.parametrize(
    ("title", "changes"),
    [
        ("no better than chance", {"balanced": Interval(0.4, 0.3, 0.5, 90)}),
        ("underfitting", {"train_score": Interval(0.84, 0.8, 0.88, 500)}),
        (
            "overfitting",
            {"train_score": Interval(0.99, 0.98, 1.0, 500), "score": SOMEWHAT_WORSE},
        ),
        ("amount of data", {"train_counts": [20, 30, 40], "score": SOMEWHAT_WORSE}),
        (
            "class imbalance",
            {"train_counts": [1000, 100, 50], "recalls": np.array([0.95, 0.7, 0.5])},
        ),
        ("label noise", {"label_errors": errors_of(100, 0.8)}),
        ("resolution", {"median_side": 32.0}),
        ("resolution", {"median_side": 1024.0, "score": SOMEWHAT_WORSE}),
        ("leakage", {"num_leaked": 4}),
    ],
)
def test_each_limit_is_found_by_its_measurement(title, changes):
    assert {limit.state for limit in limits_of(facts())} == {NO}
    states = {limit.title: limit.state for limit in limits_of(facts(**changes))}
    assert [name for name, state in states.items() if state == YES] == [title]


def test_wrong_labels_are_not_told_by_a_model_that_may_be_guessing():
    guessing = facts(balanced=Interval(0.4, 0.3, 0.5, 90), label_errors=errors_of(60, 0.9))
    states = {limit.title: limit.state for limit in limits_of(guessing)}
    assert states["label noise"] == UNKNOWN and states["no better than chance"] == YES
    weak = facts(score=SOMEWHAT_WORSE, label_errors=errors_of(30, None))
    [noise] = [limit for limit in limits_of(weak) if limit.title == "label noise"]
    assert noise.state == UNKNOWN and "The number of errors cannot be estimated" in noise.text
    good = facts(label_errors=errors_of(40, 0.75))
    [noise] = [limit for limit in limits_of(good) if limit.title == "label noise"]
    assert noise.state == YES and "About 30 of the first" in noise.text
    few = facts(balanced=Interval(0.9, np.nan, np.nan, 5, "too few examples"))
    assert {limit.title: limit.state for limit in limits_of(few)}["no better than chance"] == YES
    one_class = facts(balanced=Interval(1.0, 0.9, 1.0, 30), recalls=np.array([1.0, np.nan, np.nan]))
    assert {limit.title: limit.state for limit in limits_of(one_class)}["label noise"] == NO


def test_what_could_not_be_measured_is_not_known():
    nothing = dict.fromkeys(
        ("train_score", "train_counts", "label_errors", "median_side", "num_leaked")
    )
    chance, *others = sorted(limits_of(facts(**nothing)), key=lambda limit: limit.state)
    assert chance.title == "no better than chance" and chance.state == NO
    assert {limit.state for limit in others} == {UNKNOWN}
