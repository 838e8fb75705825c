"""The report: shows the evaluation, opens in a browser without errors, and analyses errors."""

import dataclasses
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from browser import open_page
from serving import shipped_run as making
from tf_image_classification import train
from tf_image_classification.cli import report as report_verb
from tf_image_classification.errors import CheckpointError
from tf_image_classification.evaluation.intervals import Interval
from tf_image_classification.evaluation.label_errors import LabelErrors
from tf_image_classification.evaluation.predictions import LabelPredictions, read_predictions
from tf_image_classification.labels import Label
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.pages.render import render
from tf_image_classification.report.content import (
    ErrorGroup,
    Gallery,
    error_groups,
    learning_curves,
)
from tf_image_classification.report.error_analysis import (
    FOUND,
    NOT_FOUND,
    UNKNOWN,
    Measurements,
    diagnose,
)
from tf_image_classification.report.similar_errors import similar_groups
from tf_image_classification.report.training_log import CURVES, read_training_curves
from tf_image_classification.workflows import report as report_workflow
from tf_image_classification.workflows.evaluated_model import load_evaluated
from tiny_runs import plain_spec, tiny_settings, write_records


@pytest.fixture(scope="module")
def run(shipped_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported") / "run"
    return making.find(shutil.copytree(shipped_folder, folder))


@pytest.fixture(scope="module")
def report(run):
    """Path of the page, its content, and the model card."""
    contents = []

    def keep(template, *, report):
        contents.append(report)
        return render(template, report=report)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_workflow, "render", keep)
        page, card = report_workflow.write_report(run.settings)
    with open(card, encoding="utf-8") as stream:
        return page, contents[0], stream.read()


def test_it_shows_the_evaluation(run, report):
    _, content, card = report
    [label] = content.labels
    predictions = read_predictions(ModelFolder(run.model_dir).predictions)
    kept = predictions.labels["kind"]
    accuracy = float(kept.is_right.mean())
    assert label.score.value == pytest.approx(accuracy)
    assert sum(map(sum, label.confusion)) == len(content.examples) == 90
    names = dict(zip(predictions.uris, np.array(label.classes)[kept.predicted], strict=True))
    assert {one.where: one.outcomes["kind"].predicted for one in content.examples} == names
    errors = [one for one in content.examples if not one.is_right]
    assert {one.where for one in errors} == set(np.array(predictions.uris)[~kept.is_right])
    assert content.examples[: len(errors)] == errors  # first
    worst = label.galleries[0]
    assert worst.key == "worst" and set(map(id, worst.examples)) <= set(map(id, errors))
    assert all(one.image and one.heat["kind"] for one in errors)
    counts = [[str(cell) for cell in row] for row in content.counts[0].rows]
    assert counts == [[name, "20", "30"] for name in ("cat", "dog", "emu")]
    assert {one.title for one in label.findings} >= {"Overfitting", "Label noise"}
    assert f"| accuracy | {accuracy:.3f} [" in card and "## Intended use" in card


def test_nothing_of_it_comes_from_the_network(report):
    with open(report[0], encoding="utf-8") as stream:
        text = stream.read()
    assert not re.search(r'(?:src|href)="(?!#|data:|file:)', text)
    assert text.count("<script") == 1 and "default-src 'none'" in text


def test_it_can_be_read_without_its_script(report):
    page_path, content, _ = report
    with open_page(f"file://{os.path.abspath(page_path)}", script=False) as (page, bad):
        assert page.inner_text("h1") == content.title
        assert page.locator("#label-0-classes tbody tr").count() == 3
        page.locator("#all-examples summary").click()
        assert page.locator("#all-examples figure img:not(.heat)").count() == 90
        assert page.locator("#all-examples figure").last.is_visible()
        assert page.locator("#settings tbody tr").first.is_visible()
        assert not page.locator("button").first.is_visible()  # those do nothing here
        assert bad == []


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (390, True)])
def test_it_can_be_used_in_a_browser(report, width, dark):
    page_path, content, _ = report
    [label] = content.labels
    with open_page(f"file://{os.path.abspath(page_path)}", width=width, dark=dark) as (page, bad):
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0
        assert page.evaluate("[...document.images].every(i => i.alt || i.className == 'heat')")
        links = page.locator("nav a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
        assert links and all(page.locator(link).count() == 1 for link in links)
        cell = page.locator("table.confusion td a").first
        count = int(cell.inner_text())
        cell.focus()
        page.keyboard.press("Enter")
        shown = page.locator("#all-examples figure:visible")
        assert shown.count() == count and f": {count} image" in page.inner_text("#chosen")
        assert shown.first.locator("img").first.evaluate("i => i.naturalWidth") > 0
        page.select_option("#outcome", "wrong")
        assert shown.count() == sum(not one.is_right for one in content.examples)
        page.select_option(".class-order", "recall")
        recalls = [row[i] / sum(row) for i, row in enumerate(label.confusion)]
        first = page.inner_text("table.confusion tbody tr:first-child th")
        assert first == label.classes[int(np.argmin(recalls))]
        heads = page.locator("table.confusion thead th").all_text_contents()
        assert heads[0].strip() == first
        interval = page.locator(".score .quiet").first
        assert interval.bounding_box()["height"] < 30  # one line
        contents = page.locator("#contents")
        if width == 390:
            assert not contents.is_visible()
            page.click("#menu")
            assert contents.is_visible()
            page.keyboard.press("Escape")
        assert contents.is_visible() == (width > 992)
        if width > 640:  # narrower tables are stacked, without heads to sort by
            table = page.locator("#label-0-classes table")
            table.locator("th button", has_text="recall").click()
            cells = table.locator("tbody tr td:nth-child(4)").all_inner_texts()
            values = [float(text.split()[0]) for text in cells]
            assert values == sorted(values, reverse=True)
            assert table.locator("th[aria-sort=descending]").count() == 1
        assert page.locator(".heat:visible").count() == 0
        page.click("#reset")
        assert shown.count() == len(content.examples)
        page.locator(".heat-switch").first.check()
        assert page.locator(".heat:visible").count() > 0
        page.emulate_media(media="print")
        for hidden in ("nav", ".tools", ".menu", "#settings details"):
            assert not page.locator(hidden).first.is_visible()
        assert page.locator("#label-0-metrics thead").inner_text().split() == ["metric", "value"]
        assert bad == []


@pytest.mark.slow
def test_groups_of_similar_errors_need_the_spec(run):
    model = load_evaluated(ModelFolder(run.model_dir), run.settings)
    of_kind = model.predictions.labels["kind"]
    false = dataclasses.replace(of_kind, truth=(of_kind.predicted + 1) % 3)
    predictions = dataclasses.replace(model.predictions, labels={"kind": false})
    wrong = dataclasses.replace(model, predictions=predictions)
    labels = list(model.manifest.schema)
    similar = report_workflow._similar_errors
    found, _ = similar(run.model_dir, wrong, labels, making.TinyMaps())
    assert len(found["kind"]) > 1  # the images of a class are similar
    for group in found["kind"]:
        assert len(set(of_kind.truth[group])) == 1 and len(group) >= 3
    examples = report_workflow._examples(wrong, labels, range(90), {})
    first, *_ = error_groups(false, examples, found["kind"])
    assert first.predicted == [k for one in first.examples[:1] for k in
                               one.outcomes["kind"].predicted_classes]  # fmt: skip
    assert len(first.actual) == 1 and f"{len(found['kind'][0])} errors" in first.text
    found, reason = similar(run.model_dir, wrong, labels, None)
    assert found == {} and "spec" in reason
    assert similar(run.model_dir, model, labels, None) == ({}, "")  # no error at all


def test_rows_are_in_a_group_only_if_their_features_are_similar():
    random = np.random.default_rng(0)
    centres = np.repeat(random.normal(size=[3, 64]), [9, 6, 2], axis=0)
    noise = random.normal(size=[40, 64])
    noise[:17] = centres + noise[:17] / 3
    features = noise.astype(np.float32)
    assert similar_groups(features) == [list(range(9)), list(range(9, 15))]
    assert similar_groups(features[17:]) == similar_groups(features[:2]) == []
    assert similar_groups(np.ones([5, 4], np.float32)) == []
    assert similar_groups(features[17:25, :4]) == []  # too few dimensions to exceed chance


def test_features_that_agree_by_chance_make_no_groups():
    random = np.random.default_rng(0)
    for directions in (1, 2):
        assert similar_groups(random.normal(size=[12, directions]).astype(np.float32)) == []


NUM_PICTURES, NUM_CLASSES = 10_000, 200


@pytest.mark.slow
def test_a_report_of_10_000_pictures_stays_under_20_mb(report, tmp_path):
    """With 200 classes that are all confused, pictures of noise, and as many groups as possible."""
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, NUM_CLASSES, [2, NUM_PICTURES])
    label = Label("kind", NUM_CLASSES, class_names=[f"class {i}" for i in range(NUM_CLASSES)])
    chances = np.full([NUM_PICTURES, NUM_CLASSES], 1 / NUM_CLASSES)
    rows = LabelPredictions(truth, predicted, chances, np.ones(NUM_PICTURES, bool))
    pixels = tf.constant(random.integers(0, 255, [128, 128, 3]), tf.uint8)
    model = SimpleNamespace(
        predictions=SimpleNamespace(
            labels={"kind": rows},
            ids=np.arange(NUM_PICTURES),
            uris=[f"photographs/{i:05d}.jpg" for i in range(NUM_PICTURES)],
        ),
        evaluation=SimpleNamespace(paths=(), names=(), fetch=lambda ids: tf.as_string(ids)),
        predictor=SimpleNamespace(
            prepare=lambda _: pixels,
            explain=lambda images: {"kind": random.random([len(images), 7, 7]).astype(np.float32)},
        ),
        folds=None,
    )
    chosen = range(report_workflow._MAX_EXAMPLES)
    examples = report_workflow._examples(model, [label], chosen, {})
    few = list(examples.values())[: report_workflow._MAX_IN_GALLERY]
    confusion = np.zeros([NUM_CLASSES, NUM_CLASSES], int)
    np.add.at(confusion, (truth, predicted), 1)
    content = report[1]
    label_content = dataclasses.replace(
        content.labels[0],
        classes=label.named_classes(),
        confusion=confusion.tolist(),
        galleries=[Gallery(f"key {i}", "", "", few) for i in range(3)],
        error_groups=[ErrorGroup([0], [1], "", few[:12]) for _ in range(12)],
    )
    text = render(
        "report.html",
        report=dataclasses.replace(
            content, labels=[label_content], examples=list(examples.values())
        ),
    )
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    assert 10_000_000 < len(text.encode()) < 20_000_000
    with open_page(f"file://{tmp_path}/page.html") as (page, bad):
        first = examples[0].outcomes["kind"]
        page.select_option("#actual", f"0:{first.actual_classes[0]}")
        shown = page.locator("#all-examples figure:visible")
        assert 1 <= shown.count() < 100
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
    page, _ = report_workflow.write_report(settings, is_inspected=False)
    return page, names


@pytest.mark.slow
@pytest.mark.parametrize("width", [1100, 390])
def test_many_classes_with_long_names_stay_readable(report_of_many, width):
    path, names = report_of_many
    with open_page(f"file://{os.path.abspath(path)}", width=width) as (page, bad):
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert page.evaluate("document.querySelectorAll('*').length") < 20_000
        heads = page.locator("#label-0-classes tbody th:visible")
        assert heads.count() == 50
        assert len(heads.first.inner_text()) <= 40
        assert heads.first.locator("bdi").get_attribute("title") == names[0]
        assert heads.first.bounding_box()["height"] < 150
        page.locator("#label-0-classes > button", has_text="Show all").click()
        assert heads.count() == NUM_MANY
        # Too many for a matrix: the most frequent confusions, whose images can be seen.
        assert page.locator("table.confusion").count() == 0
        page.locator("#label-0-confusion tbody a").first.click()
        assert page.locator("#all-examples figure:visible").count() > 0
        assert len(page.inner_text("#chosen")) < 200
        assert bad == []


def test_the_verb_and_a_folder_without_a_run(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.folder))
    out = str(tmp_path / "deep" / "page.html")
    assert report_verb.main([run.model_dir, "--output", out, "--noinspect"]) == 0
    assert capsys.readouterr().out.split()[1::2] == [out, str(tmp_path / "deep" / "model_card.md")]
    settings = run.settings.replace(model_dir=str(tmp_path / "none"))
    with pytest.raises(CheckpointError):
        report_workflow.write_report(settings)


def test_one_evaluation_makes_no_curve():
    line = {"step": 10, "num_examples": 4, "time": 1.0, "loss": 0.5, "accuracy": 0.5}
    assert learning_curves([], {}) == learning_curves([line], {}) == []
    later = line | {"step": 20, "accuracy": None}
    assert len(learning_curves([line, later], {})) == 1


def test_the_curves_hold_the_loss_of_training_and_evaluation(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path)).as_default() as writer:
        for step in (2, 4, 4):
            tf.summary.scalar("loss", 1 / step, step=step)
            tf.summary.scalar("gradient_norm", 1.0, step=step)
        writer.close()
    training = read_training_curves(str(tmp_path), CURVES)
    assert training == {"loss": [(2, 0.5), (4, 0.25)]}
    line = {"step": 4, "num_examples": 4, "time": 1.0, "loss": 0.5}
    [chart] = learning_curves([line], training)
    assert chart.y == "loss"
    assert [one.name for one in chart.lines] == ["training", "evaluation"]


def test_damaged_training_logs_give_no_curves(tmp_path):
    assert read_training_curves(str(tmp_path / "none")) == {}
    (tmp_path / "events.out.tfevents.1").write_bytes(b"no record at all")
    assert read_training_curves(str(tmp_path)) == {}


# --- error analysis ------------------------------------------------------------------------


SOMEWHAT_WORSE = Interval(0.93, 0.92, 0.94, 1000)


def errors_of(num_likely, precision, count=1000):
    return LabelErrors(np.arange(num_likely), num_likely, precision, count)


def measured(**changes):
    fields = {
        "accuracy": Interval(0.985, 0.98, 0.99, 1000),
        "balanced_accuracy": Interval(0.93, 0.91, 0.95, 1000),
        "train_accuracy": Interval(0.94, 0.92, 0.96, 500),
        "train_counts": [500, 400, 450],
        "recalls": np.array([0.8, 0.8, 0.8]),
        "label_errors": errors_of(3, None),
        "median_side": 256.0,
        "image_size": 224,
        "num_leaked": 0,
    }
    return Measurements(**(fields | changes))


@pytest.mark.parametrize(
    ("title", "changes"),
    [
        ("No better than chance", {"balanced_accuracy": Interval(0.4, 0.3, 0.5, 90)}),
        ("Underfitting", {"train_accuracy": Interval(0.84, 0.8, 0.88, 500)}),
        (
            "Overfitting",
            {"train_accuracy": Interval(0.99, 0.98, 1.0, 500), "accuracy": SOMEWHAT_WORSE},
        ),
        ("Too few training examples", {"train_counts": [20, 30, 40], "accuracy": SOMEWHAT_WORSE}),
        (
            "Class imbalance",
            {"train_counts": [1000, 100, 50], "recalls": np.array([0.95, 0.7, 0.5])},
        ),
        ("Label noise", {"label_errors": errors_of(100, 0.8)}),
        ("Image resolution", {"median_side": 32.0}),
        ("Image resolution", {"median_side": 1024.0, "accuracy": SOMEWHAT_WORSE}),
        ("Train/eval leakage", {"num_leaked": 4}),
    ],
)
def test_each_cause_is_found_by_its_measurement(title, changes):
    assert {finding.status for finding in diagnose(measured())} == {NOT_FOUND}
    states = {finding.title: finding.status for finding in diagnose(measured(**changes))}
    assert [name for name, state in states.items() if state == FOUND] == [title]


def finding_of(title, **changes):
    return next(one for one in diagnose(measured(**changes)) if one.title == title)


def test_pretrained_weights_are_advised_to_a_run_without_them():
    worse = {"train_accuracy": Interval(0.84, 0.8, 0.88, 500)}
    few = {"train_counts": [20, 30, 40], "accuracy": SOMEWHAT_WORSE}
    for title, changes in (("Underfitting", worse), ("Too few training examples", few)):
        assert "pretrained" in finding_of(title, **changes).text
        advised = finding_of(title, **changes, is_pretrained=True)
        assert advised.status == FOUND and "pretrained" not in advised.text
    assert "Try a larger backbone" in finding_of("Underfitting", **worse, is_pretrained=True).text


def test_label_noise_is_unknown_to_a_model_at_chance_level():
    guessing = {"balanced_accuracy": Interval(0.4, 0.3, 0.5, 90)}
    assert finding_of("No better than chance", **guessing).status == FOUND
    noise = finding_of("Label noise", **guessing, label_errors=errors_of(60, 0.9))
    assert noise.status == UNKNOWN
    noise = finding_of("Label noise", accuracy=SOMEWHAT_WORSE, label_errors=errors_of(30, None))
    assert noise.status == UNKNOWN and "The number of errors cannot be estimated" in noise.text
    noise = finding_of("Label noise", label_errors=errors_of(40, 0.75))
    assert noise.status == FOUND and "About 30 of the first" in noise.text
    few = Interval(0.9, np.nan, np.nan, 5, "too few examples")
    assert finding_of("No better than chance", balanced_accuracy=few).status == FOUND
    one_class = {
        "balanced_accuracy": Interval(1.0, 0.9, 1.0, 30),
        "recalls": np.array([1.0, np.nan, np.nan]),
    }
    assert finding_of("Label noise", **one_class).status == NOT_FOUND


def test_a_missing_measurement_makes_a_finding_unknown():
    nothing = dict.fromkeys(
        ("train_accuracy", "train_counts", "label_errors", "median_side", "num_leaked")
    )
    chance, *others = sorted(diagnose(measured(**nothing)), key=lambda finding: finding.status)
    assert chance.title == "No better than chance" and chance.status == NOT_FOUND
    assert {finding.status for finding in others} == {UNKNOWN}
