"""Every number that is said of a model, worked out again by scikit-learn and numpy.

One small run has a label of each kind and coding, some labels missing, a class that no evaluation
example has, and images that are there twice, so that scores tie. The kept predictions are read as
plain columns; what files, screens and pages say must follow from them.
"""

import dataclasses
import itertools
import json
import re
import threading
import zlib

import numpy as np
import pytest
import tensorflow as tf
from pyarrow import parquet
from scipy import optimize, stats
from sklearn import metrics as sk

import tiny_runs
from tf_image_classification import evaluate, load_model, train
from tf_image_classification.batches import Batch
from tf_image_classification.cli import compare as compare_verb
from tf_image_classification.evaluation.loop import conclude, evaluate_batches, sum_batches
from tf_image_classification.evaluation.predictions import read_predictions, write_predictions
from tf_image_classification.export.request import ExportRequest
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.metrics import confusion
from tf_image_classification.metrics.definitions import METRICS, metrics_of
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.workflows import report as report_workflow
from tf_image_classification.workflows.export import export_folder
from tf_image_classification.workflows.setup import default_hooks
from workflows.test_label_kinds import MixedSpec

pytestmark = pytest.mark.slow
SIZE, COUNT = 8, 120
EPS = np.finfo(np.float32).eps
KINDS = tuple(f"k{i}" for i in range(7))
ABSENT = 5  # a class that no evaluation example has
TAGS = ("bright", "striped", "tall", "never")
LABELS = (
    Label("kind", depth=7, class_names=KINDS),
    Label("size", depth=4, kind="ordinal"),
    Label("age", depth=12, kind="ordinal", coding="expectation"),
    Label("year", depth=5, kind="ordinal", coding="distribution"),
    Label("tags", depth=4, kind="multilabel", class_names=TAGS),
    Label("weight", kind="regression", weight=0.01),
)


class EveryKind(MixedSpec):
    """A label of each kind and coding."""

    def __init__(self):
        self.class_dict = list(LABELS)


def write_set(folder, name, *, seed, absent=None):
    """A CSV of images that tell a little of their labels; every fifth image is there twice."""
    random = np.random.RandomState(seed)
    lines = ["URIs,kind,size,age,year,tags,weight,light,person"]
    for i in range(COUNT):
        kind = i * 3 % 7
        if kind == absent:
            kind = 0
        size, age = i % 4, (i * 5 + i // 24) % 12
        if i % 5 != 4 or i == 0:
            image = random.randint(0, 60, [SIZE, SIZE, 3])
            image[:, kind : kind + 2, 0] += 90
            image[2 * size : 2 * size + 2, :, 1] += 80
            image[:, :, 2] += 10 * age
            (folder / f"{name}{i}.png").write_bytes(
                tf.io.encode_png(np.clip(image, 0, 255).astype(np.uint8)).numpy()
            )
            uri = f"{name}{i}.png"
        tags = [n for n, has in zip(TAGS, (age > 6, size % 2, kind > 3), strict=False) if has]
        cells = [
            uri,
            "" if i % 11 == 3 else KINDS[kind],
            "" if i % 13 == 5 else size,
            "" if i % 17 == 1 else age,
            (age + size) // 3 % 5,
            "" if i % 19 == 7 else "|".join(tags) or "|",
            "" if i % 7 == 2 else 10.0 + size + kind / 4,
            "night" if i % 3 else "day",
            f"p{i // 6}",
        ]
        lines.append(",".join(map(str, cells)))
    (folder / f"{name}.csv").write_text("\n".join(lines))
    return str(folder / f"{name}.csv")


@dataclasses.dataclass
class Run:
    folder: object
    settings: object
    trained: str
    evaluated: str
    matrices: dict
    columns: dict
    card: str
    report: object

    def json(self, name):
        with open(f"{self.settings.run.model_dir}/{name}", encoding="utf-8") as stream:
            text = stream.read()
        return (
            [json.loads(line) for line in text.splitlines()]
            if "jsonl" in name
            else json.loads(text)
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    learned, held_out = (
        write_set(folder, "a", seed=0),
        write_set(folder, "b", seed=1, absent=ABSENT),
    )
    settings = tiny_runs.tiny_settings(
        folder / "model", learned, held_out, train_steps=60, batch_size=16, eval_every_steps=60,
        learning_rate=0.01, export_saved_model=True, label_smoothing=0.1,
        test_time_augmentation="flip", precision="mixed_bfloat16",
    )  # fmt: skip
    capture, matrices = pytest.MonkeyPatch(), {}

    def draw(matrix, names, *, title):
        matrices[title] = matrix
        return confusion.draw_confusion_matrix(matrix, names, title=title)

    with capture.context() as patch:
        patch.setattr(default_hooks, "draw_confusion_matrix", draw)
        printed = []
        patch.setattr(
            "builtins.print", lambda *texts, **_: printed.append(" ".join(map(str, texts)))
        )
        train(EveryKind(), settings)
        trained, printed[:] = "\n".join(printed), []
        evaluate(None, settings.replace(output_cm_folder=str(folder / "cm")))
        evaluated = "\n".join(printed)
    with capture.context() as patch:
        made = report_workflow._report
        contents = []
        patch.setattr(
            report_workflow, "_report", lambda *a: contents.append(made(*a)) or contents[-1]
        )
        page, card = report_workflow.write_report(settings, is_inspected=False)
    with open(page, encoding="utf-8") as stream:
        assert contents[0].labels[0].score.text in stream.read()
    with open(card, encoding="utf-8") as stream:
        card = stream.read()
    columns = parquet.read_table(ModelFolder(settings.run.model_dir).predictions).to_pydict()
    return Run(folder, settings, trained, evaluated, matrices, columns, card, contents[0])


# --- what scikit-learn and numpy say ------------------------------------------------------------


def rows_of(run, label):
    """Truth, predictions, probabilities and numbers of the examples whose label is known."""
    known = [i for i, truth in enumerate(run.columns[label.name]) if truth is not None]
    truth, predicted = (
        [run.columns[label.name + end][i] for i in known] for end in ("", "_predicted")
    )
    if label.kind == "regression":
        return np.array(truth), np.array(predicted), None, np.array(known)
    names = list(label.named_classes())
    if label.kind == "multilabel":
        truth, predicted = (
            np.array([[int(n in text.split("|")) for n in names] for text in texts])
            for texts in (truth, predicted)
        )
    else:
        truth, predicted = (np.array([names.index(t) for t in ts]) for ts in (truth, predicted))
    p = np.array([run.columns[f"{label.name}_probabilities"][i] for i in known], np.float32)
    return truth, predicted, p, np.array(known)


def reference(label, truth, predicted, p):
    """Every metric of a label by name; those of classes as arrays."""
    errors = np.abs(predicted.astype(float) - truth) if label.kind != "multilabel" else None
    if label.kind == "regression":
        return {
            "mean_absolute_error": sk.mean_absolute_error(truth, predicted),
            "root_mean_squared_error": sk.root_mean_squared_error(truth, predicted),
            "bias": np.mean(predicted - truth),
            "r2": sk.r2_score(truth, predicted),
        }
    classes = range(label.depth)
    is_class = truth if label.kind == "multilabel" else np.eye(label.depth, dtype=int)[truth]
    pair = {"y_true": truth, "y_pred": predicted}
    occurs = [k for k in classes if is_class[:, k].any() or _is(label, predicted, k).any()]
    present = [k for k in classes if is_class[:, k].any()]
    both = [k for k in present if not is_class[:, k].all()]
    plain = {"labels": list(classes), "average": None, "zero_division": np.nan}
    occurring = {"labels": occurs, "average": "macro", "zero_division": 0}
    areas = np.full(label.depth, np.nan)
    averages = np.full(label.depth, np.nan)
    for k in both:
        areas[k] = sk.roc_auc_score(is_class[:, k], p[:, k])
    for k in present:
        averages[k] = sk.average_precision_score(is_class[:, k], p[:, k])
    found = {
        "macro_f1": sk.f1_score(**pair, **occurring),
        "weighted_f1": sk.f1_score(
            **pair, labels=list(classes), average="weighted", zero_division=0
        ),
        "macro_precision": sk.precision_score(**pair, **occurring),
        "macro_auc": np.nanmean(areas),
        "mean_average_precision": np.nanmean(averages),
        "precision": sk.precision_score(**pair, **plain),
        "recall": sk.recall_score(**pair, **plain),
        "f1": sk.f1_score(**pair, **plain),
        "auc": areas,
        "average_precision": averages,
    }
    if label.kind == "multilabel":
        each = np.clip(p.astype(float), EPS, 1 - EPS)
        return found | {
            "exact_match": sk.accuracy_score(truth, predicted),
            "micro_f1": sk.f1_score(**pair, average="micro"),
            "macro_recall": sk.recall_score(**pair, labels=present, average="macro"),
            "log_loss": np.mean(
                [sk.log_loss(truth[:, k], each[:, k], labels=[0, 1]) for k in classes]
            ),
            "brier_score": np.mean(
                [sk.brier_score_loss(truth[:, k], p[:, k].astype(float)) for k in classes]
            ),
        }
    given = np.clip(p[np.arange(len(truth)), truth].astype(float), EPS, 1)
    found |= {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.recall_score(**pair, labels=present, average="macro"),
        "log_loss": -np.log(given).mean(),
        "brier_score": ((p.astype(float) - is_class) ** 2).sum(axis=1).mean(),
    }
    if label.depth > 5:
        # Of equal scores scikit-learn takes the highest class first, we the lowest.
        found["top_5_accuracy"] = sk.top_k_accuracy_score(
            label.depth - 1 - truth, p[:, ::-1], k=5, labels=list(classes)
        )
    if label.kind == "ordinal":
        found |= {
            "mean_absolute_error": errors.mean(),
            "root_mean_squared_error": np.sqrt((errors**2).mean()),
            **{f"within_{k}": (errors <= k).mean() for k in (1, 2, 5) if k < label.depth - 1},
        }
        if label.coding != "thresholds":
            expected = p.astype(float) @ np.arange(label.depth)
            found["mean_absolute_error_of_expected"] = np.abs(expected - truth).mean()
    return found


def _is(label, values, k):
    return values[:, k] == 1 if label.kind == "multilabel" else values == k


def same(value, expected, tolerance=1e-9):
    if value is None or np.isnan(value):
        return np.isnan(expected)
    return value == pytest.approx(expected, abs=tolerance)


def references(run):
    return {label.name: (label, *rows_of(run, label)) for label in LABELS}


# --- the places where numbers are said ----------------------------------------------------------


def test_the_reference_knows_every_metric_of_the_table_and_the_data_are_awkward_enough(run):
    covered = set()
    for label, truth, predicted, p, known in references(run).values():
        expected = reference(label, truth, predicted, p)
        of_table = {m.name for by in (False, True) for m in metrics_of(label, by_class=by)}
        assert set(expected) == of_table, label.name
        covered |= of_table
        if label.name != "year":
            assert len(known) < COUNT, "some labels are missing"
    assert covered == {metric.name for metric in METRICS}
    _, truth, predicted, p, _ = references(run)["kind"]
    assert not (truth == ABSENT).any()
    assert len(np.unique(p[:, 0])) < len(p), "scores tie"
    assert 0 < np.mean(truth == predicted) < 1


def test_kept_and_judged_numbers(run):
    judged, line = run.json("judgement.json")["labels"], run.json("evaluations.jsonl")[-1]
    for name, (label, truth, predicted, p, known) in references(run).items():
        expected = reference(label, truth, predicted, p)
        measures = judged[name]["measures"]
        for key, one in measures["overall"].items():
            assert same(one["value"], expected[key]), (name, key)
            assert one["count"] == len(known)
            assert line[f"{name}/{key}"] == one["value"], (name, key)
            if one["low"] is not None:
                assert one["low"] <= one["value"] <= one["high"], (name, key)
        for k, of_class in enumerate(measures["of_classes"].values()):
            for key, one in of_class.items():
                assert same(one["value"], expected[key][k]), (name, key, k)
                assert one["count"] == _is(label, truth, k).sum()
        if label.is_class:
            matrix = sk.confusion_matrix(truth, predicted, labels=range(label.depth)).tolist()
            assert measures["confusion"] == matrix
    assert line["num_examples"] == COUNT
    assert set(line) > {f"kind/{metric.name}" for metric in metrics_of(LABELS[0])}


def test_fractions_have_wilsons_interval(run):
    measures = run.json("judgement.json")["labels"]["kind"]["measures"]
    _, truth, predicted, _, _ = references(run)["kind"]
    wholes = {"recall": truth, "precision": predicted}
    for k, name in enumerate(KINDS):
        for key, whole in wholes.items():
            one, count = measures["of_classes"][name][key], int((whole == k).sum())
            if not count:
                assert one["value"] is None and one["low"] is None
                continue
            hits = int(((truth == k) & (predicted == k)).sum())
            ends = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
            assert (one["low"], one["high"]) == pytest.approx((ends.low, ends.high)), (name, key)


def test_the_training_says_the_same_of_the_step_that_was_exported(run):
    line = next(one for one in run.json("metrics.jsonl") if one["step"] == 60)
    asked = {"kind": ("accuracy", "top_5_accuracy", "macro_f1", "log_loss")}
    asked["tags"] = ("mean_average_precision", "macro_f1", "micro_f1", "exact_match")
    asked["weight"] = ("mean_absolute_error", "root_mean_squared_error")
    asked["age"] = (
        "mean_absolute_error",
        "mean_absolute_error_of_expected",
        "within_1",
        "within_5",
    )
    for name, (label, truth, predicted, p, _) in references(run).items():
        expected = reference(label, truth, predicted, p)
        found = {k.partition("/")[2]: v for k, v in line.items() if k.startswith(f"{name}/")}
        assert set(asked.get(name, ())) <= set(found)
        for key, value in found.items():
            assert same(value, expected[key], 1e-5), (name, key)
            assert re.search(rf"{name}/{key} +{value:.4f}$", run.trained, re.MULTILINE), (name, key)
    loss = line["loss"]
    assert f"loss{' ' * 4}" in run.trained and f"{loss:.4f}" in run.trained


def test_the_screen_of_an_evaluation(run):
    sections = re.split(r"^(\w+): with 95 % intervals$", run.evaluated, flags=re.MULTILINE)
    said = dict(zip(sections[1::2], sections[2::2], strict=True))
    for name, (label, truth, predicted, p, _) in references(run).items():
        expected = reference(label, truth, predicted, p)
        found = re.findall(r"^  (\w+) +(-?[\d.]+) (?:\[|\()", said[name], re.MULTILINE)
        assert [key for key, _ in found] == [metric.name for metric in metrics_of(label)]
        for key, text in found:
            assert text == f"{expected[key]:.3f}", (name, key)
    names = re.findall(r"^  ([\w/]+) ", sections[0], re.MULTILINE)
    assert names == []  # no second table; an exported model has no loss


def test_slices(run):
    light = np.array(run.columns["slice:light"])
    for name, (label, truth, predicted, _, known) in references(run).items():
        values = (
            np.abs(predicted - truth)
            if label.kind == "regression"
            else (truth == predicted).reshape(len(truth), -1).all(axis=1)
        )
        slices = run.json("judgement.json")["labels"][name]["slices"]
        of_light = {one["value"]: one["score"] for one in slices if one["column"] == "light"}
        for value in ("day", "night"):
            chosen = light[known] == value
            assert of_light[value]["value"] == pytest.approx(values[chosen].mean())
            assert of_light[value]["count"] == chosen.sum()
        [shown] = [one for one in run.report.labels if one.name == name]
        assert [score.value for _, _, score in shown.slices.rows] == [
            one["score"]["value"] for one in slices
        ]


def halves(run, known):
    """Which of the labelled examples fit the calibration, as a hash of their numbers says."""
    ids = np.array(run.columns["id"])[known]
    return np.array([zlib.crc32(str(i).encode()) % 2 == 0 for i in ids])


def tempered(p, temperature, several):
    p = p.astype(np.float64)
    if temperature == 1:
        return p
    if several:
        p = np.clip(p, 1e-12, 1 - 1e-6)
        return 1 / (1 + ((1 - p) / p) ** (1 / temperature))
    powers = np.maximum(p, 1e-12) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def error_of(confidence, is_right, bins=15):
    """The expected calibration error."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    return sum(
        np.mean(places == b) * abs(confidence[places == b].mean() - is_right[places == b].mean())
        for b in np.unique(places)
    )


def test_calibration_and_choices(run):
    stored = run.json("calibration.json")["labels"]
    for name, (label, truth, predicted, p, known) in references(run).items():
        judged = run.json("judgement.json")["labels"][name]
        if label.kind == "regression":
            assert judged["calibrated"] is None and name not in stored
            continue
        several = label.kind == "multilabel"
        fits, said = halves(run, known), judged["calibrated"]
        fitted = said["calibration"]
        assert stored[name] == fitted
        assert (fitted["count"], said["count"]) == (fits.sum(), (~fits).sum())
        q = tempered(p, fitted["temperature"], several)
        is_class = truth == 1 if several else truth[:, None] == np.arange(label.depth)

        # The temperature: no other one has a smaller penalised loss on the half that fits.
        def loss(x, truth=truth[fits], p=p[fits], several=several):
            given = np.clip(tempered(p, np.exp(x), several), 1e-12, 1 - 1e-12)
            if several:
                each = -np.where(truth > 0, np.log(given), np.log1p(-given)).mean(axis=1)
            else:
                each = -np.log(given[np.arange(len(truth)), truth])
            return each.sum() + x**2 / (2 * np.log(2) ** 2)

        if fitted["note"] == "":
            best = optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded").x
            assert np.log(fitted["temperature"]) == pytest.approx(best, abs=2e-3), name
        else:
            assert fitted["temperature"] == 1.0 or fitted["note"].startswith("shrunk")

        for key, values in (("before", p.astype(np.float64)), ("after", q)):
            rest = values[~fits]
            if several:
                confidence = np.maximum(rest, 1 - rest).ravel()
                is_right = (truth == predicted)[~fits].ravel()
                clipped = np.clip(rest, EPS, 1 - EPS)
                expected = np.mean(
                    [
                        sk.log_loss(truth[~fits][:, k], clipped[:, k], labels=[0, 1])
                        for k in range(label.depth)
                    ]
                )
            else:
                confidence = rest[np.arange(len(rest)), predicted[~fits]]
                is_right = (truth == predicted)[~fits]
                given = np.clip(rest[np.arange(len(rest)), truth[~fits]], EPS, 1)
                expected = -np.log(given).mean()
            assert said[key] == pytest.approx(error_of(confidence, is_right), abs=1e-9), (name, key)
            assert said[f"log_loss_{key}"] == pytest.approx(expected, abs=1e-9), (name, key)
            bins = said[f"bins_{key}"]
            assert sum(one["count"] for one in bins) == len(confidence)
        assert said["after"] <= said["before"]
        assert said["log_loss_after"] <= said["log_loss_before"]

        for k, threshold in enumerate(fitted["thresholds"]):
            has, scores = is_class[fits, k], q[fits, k]
            if not has.any() or has.all():
                assert threshold == 0.5
                continue
            above = scores >= np.unique(scores)[:, None]
            best = (2 * (above & has).sum(axis=1) / (above.sum(axis=1) + has.sum())).max()
            is_above = scores >= threshold - 1e-12  # of this score as it was worked out there
            assert sk.f1_score(has, is_above) == pytest.approx(best), (name, k)
        if several:
            continue
        scores = np.sort(q[fits][np.arange(fits.sum()), truth[fits]])
        rank = int(np.floor((fits.sum() + 1) * 0.1 + 1e-9))
        assert fitted["conformal"] == pytest.approx(scores[rank - 1])
        inside = q[~fits] >= fitted["conformal"] - 1e-12
        inside[np.arange(len(inside)), q[~fits].argmax(axis=1)] = True
        held = inside[np.arange(len(inside)), truth[~fits]]
        assert said["set_coverage"]["value"] == pytest.approx(held.mean())
        assert said["set_size"] == pytest.approx(inside.sum(axis=1).mean())

        confidence = q[np.arange(len(q)), predicted]
        for limit, kept, wrong in judged["rejecting"]:
            is_kept = confidence >= limit - 1e-12
            assert kept == pytest.approx(is_kept.mean())
            assert wrong == pytest.approx(1 - (truth == predicted)[is_kept].mean())
        shown = f"error {said['before']:.3f}"
        assert shown in run.evaluated and shown in run.card


@pytest.mark.slow
def test_the_page_and_the_card(run):
    for shown in run.report.labels:
        label, truth, predicted, p, known = references(run)[shown.name]
        expected = reference(label, truth, predicted, p)
        names = [metric.name.replace("_", " ") for metric in metrics_of(label)]
        assert [name for name, _ in shown.metrics.rows] == names
        section = run.card.split(f"## {label.name}\n")[1].split("\n## ")[0]
        for metric, (name, cell) in zip(metrics_of(label), shown.metrics.rows, strict=True):
            assert same(cell.value, expected[metric.name]), (label.name, name)
            written = re.search(rf"\| {name} \| (-?[\d.]+)", section)[1]
            assert written == f"{expected[metric.name]:.3f}"
        keys = [title.replace(" ", "_") for title in shown.per_class.columns[2:]]
        for k, (_, count, *scores) in enumerate(shown.per_class.rows):
            assert count.value == _is(label, truth, k).sum()
            for key, cell in zip(keys, scores, strict=True):
                assert same(cell.value, expected[key][k])
        judged = run.json("judgement.json")["labels"][label.name]
        assert shown.confusion == judged["measures"]["confusion"]
        assert shown.score.value == pytest.approx(expected[judged["score_name"]])
        if label.is_class:
            wrong = {run.columns["uri"][i] for i in known[truth != predicted]}
            worst = next(one for one in shown.galleries if one.key == "worst")
            assert worst.examples and {example.where for example in worst.examples} <= wrong
    [kind] = [one for one in run.report.labels if one.name == "kind"]
    findings = {finding.title.lower(): finding.text for finding in kind.findings}
    _, truth, predicted, *_ = references(run)["kind"]
    present = np.unique(truth)
    balanced = sk.recall_score(truth, predicted, labels=present, average="macro")
    chance = 1 / len(present)
    assert f"{balanced:.3f} [" in findings["no better than chance"]
    assert f"(chance level {chance:.3f})" in findings["no better than chance"]
    learned = np.genfromtxt(run.folder / "a.csv", str, delimiter=",", skip_header=1)
    known = learned[learned[:, 1] != ""]
    said = load_model(run.settings.run.model_dir).predict(
        [str(run.folder / n) for n in known[:, 0]]
    )
    right = np.mean([one.labels["kind"].name for one in said] == known[:, 1])
    assert f"{right:.1%} on {len(known)} sampled examples" in findings["underfitting"]
    [counts] = [table for table in run.report.counts if "kind" in table.caption]
    of_kind = {name: evaluated.value for name, _, evaluated in counts.rows}
    _, truth, *_ = references(run)["kind"]
    assert of_kind == {name: int((truth == k).sum()) for k, name in enumerate(KINDS)}


def test_pictures_of_the_confusion_matrix(run):
    for name, (label, truth, predicted, *_) in references(run).items():
        if not label.is_class:
            assert name not in run.matrices
            continue
        expected = sk.confusion_matrix(truth, predicted, labels=range(label.depth))
        np.testing.assert_array_equal(run.matrices[name], expected)
        accuracy = sk.accuracy_score(truth, predicted)
        assert confusion._summary(expected) == f"{len(truth)} examples, accuracy {accuracy:.1%}"
        picture = run.folder / "cm" / f"confusion_matrix_{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_predictions_are_those_of_the_evaluation(run):
    """What predict and serve answer, calibrated and not, bfloat16 and two views included."""
    model = load_model(run.settings.run.model_dir)
    rows = list(range(0, COUNT, 17))
    assert run.columns["id"] == list(range(COUNT))
    paths = [str(run.folder / f"b{i - 1 if i % 5 == 4 else i}.png") for i in rows]
    said = model.predict(paths, is_calibrated=False)
    calibrated = model.predict(paths)
    stored = run.json("calibration.json")["labels"]
    for label in LABELS:
        for one, sure, i in zip(said, calibrated, rows, strict=True):
            kept = run.columns[f"{label.name}_predicted"][i]
            found = one.labels[label.name]
            if label.kind == "regression":
                assert found.value == pytest.approx(kept, abs=0.02)  # bfloat16 in other batches
                continue
            p = np.array(run.columns[f"{label.name}_probabilities"][i], np.float32)
            np.testing.assert_allclose(found.probabilities, p, atol=0.01)
            temperature = stored[label.name]["temperature"]
            q = tempered(np.array([found.probabilities]), temperature, label.kind == "multilabel")[
                0
            ]
            np.testing.assert_allclose(sure.labels[label.name].probabilities, q, atol=1e-6)


def test_a_comparison(run, tmp_path, capsys):
    first = read_predictions(ModelFolder(run.settings.run.model_dir).predictions)
    random, others = np.random.default_rng(0), {}
    for name, one in first.labels.items():  # another model, right and wrong elsewhere
        is_other = random.random(COUNT) < 0.4
        predicted = np.where(
            is_other if one.truth.ndim == 1 else is_other[:, None], one.truth[::-1], one.predicted
        )
        others[name] = dataclasses.replace(one, predicted=predicted)
    second = str(tmp_path / "other.parquet")
    write_predictions(second, dataclasses.replace(first, labels=others))
    out = str(tmp_path / "c.json")
    compare_verb.main([run.settings.run.model_dir, second, "--json", out])
    printed = capsys.readouterr().out
    with open(out, encoding="utf-8") as stream:
        said = json.load(stream)
    both = dataclasses.replace(run, columns=parquet.read_table(second).to_pydict())
    judged = run.json("judgement.json")["labels"]
    for name, (label, truth, a, _, _) in references(run).items():
        _, _, b, _, _ = references(both)[name]
        if label.kind == "regression":
            scores = -np.abs(a - truth), -np.abs(b - truth)
        else:
            scores = [(x == truth).reshape(len(truth), -1).all(axis=1) * 1.0 for x in (a, b)]
        sign = -1 if label.kind == "regression" else 1
        one = said[name]
        assert one["a"]["value"] == judged[name]["measures"]["overall"][one["score_name"]]["value"]
        assert one["b"]["value"] == pytest.approx(sign * scores[1].mean())
        difference = sign * (scores[1] - scores[0])
        assert one["difference"]["value"] == pytest.approx(difference.mean())
        gained, lost = (int((sign * difference > 0).sum()), int((sign * difference < 0).sum()))
        assert (len(one["gained"]), len(one["lost"])) == (gained, lost)
        p_value = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
        assert one["p_value"] == pytest.approx(p_value)
        assert f"A {one['a']['value']:.3f}" in printed and f"B {one['b']['value']:.3f}" in printed


@pytest.mark.slow
def test_an_export_says_the_accuracy_of_the_evaluation(run):
    exported = export_folder(run.settings, ExportRequest("saved_model", tolerance=0.05))
    right = np.concatenate(
        [
            (truth == predicted).reshape(len(truth), -1).all(axis=1)
            for label, truth, predicted, *_ in references(run).values()
            if label.has_classes
        ]
    )
    assert exported.verification.reference_accuracy == pytest.approx(right.mean())


@pytest.mark.slow
def test_two_workers_have_the_numbers_of_one(run):
    """The batches dealt to two workers; sums and rows put together again."""
    schema = LabelSchema(LABELS)
    kept = read_predictions(ModelFolder(run.settings.run.model_dir).predictions)
    also = [f"{label.name}/{metric.name}" for label in LABELS for metric in metrics_of(label)]

    def batches(rows, size):
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            labels, known, logits = {}, {}, {}
            for label in LABELS:
                one = kept.labels[label.name]
                labels[label.name] = tf.constant(one.truth[part])
                known[label.name] = tf.constant(one.mask[part])
                logits[label.name] = tf.constant(made_up[label.name][part], tf.float32)
            yield Batch(tf.zeros([len(part), 1, 1, 1]), labels, known, tf.constant(part)), logits

    random = np.random.default_rng(0)
    made_up = {
        label.name: np.round(random.normal(size=[COUNT, *label.logits_shape]), 1)
        for label in LABELS
    }
    parts = np.arange(COUNT)[:77], np.arange(COUNT)[77:]
    every = itertools.chain(*(batches(rows, 16) for rows in parts))
    alone = evaluate_batches(every, schema, metric_fn=None, also=also)
    barrier, given, found = threading.Barrier(2), [None, None], [None, None]

    def work(rank):
        def exchange(numbers):
            given[rank] = np.asarray(numbers, np.float64)
            barrier.wait()
            rows = np.stack(given)
            barrier.wait()
            return rows

        sums = sum_batches(batches(parts[rank], 16), schema, metric_fn=None, also=also)
        found[rank] = conclude(sums.merged_over(exchange), schema)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(also) <= set(alone.scalars())
    for one in found:
        assert one.num_examples == COUNT
        for name, value in alone.scalars().items():
            assert same(one.scalars()[name], value, 1e-12), name
