"""What follows from kept predictions: measures, calibration, choices, slices."""

import dataclasses
import json
import threading

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import binomtest
from sklearn import metrics as sk

from tf_image_classification import metrics
from tf_image_classification.batches import PADDING_ID, Batch
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.evaluation import calibration
from tf_image_classification.evaluation.analysis import analyze
from tf_image_classification.evaluation.intervals import wilson
from tf_image_classification.evaluation.loop import Evaluation
from tf_image_classification.evaluation.measures import measure
from tf_image_classification.evaluation.predictions import (
    LabelPredictions,
    Predictions,
    PredictionStore,
    read_predictions,
    write_predictions,
)
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.workflows.messages import analysis_table

NAMES = ("ant", "bee", "cat", "dog", "emu", "fox")
KIND = Label("kind", depth=6, class_names=NAMES)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def stored(truth, known, predicted, probabilities):
    return LabelPredictions(truth, predicted, probabilities, known)


def of_class(count=600, sharpness=1.0, seed=0, label=KIND):
    """Predictions whose classes are drawn from their probabilities, then made too sure."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, [count, label.depth])
    truth = (softmax(logits).cumsum(axis=1) > random.random([count, 1])).argmax(axis=1)
    probabilities = softmax(logits * sharpness).astype(np.float32)
    return stored(truth, np.ones(count, bool), probabilities.argmax(axis=1), probabilities)


def predictions(of_label=None, slices=None, label=KIND):
    of_label = of_label or of_class()
    count = len(of_label.truth)
    uris = [f"{i}.jpg" for i in range(count)]
    schema = LabelSchema((label,))
    return Predictions(
        schema, np.arange(count), uris, {label.name: of_label}, 7, "data", slices or {}
    )


def test_numbers_are_those_of_scikit_learn():
    found = of_class(300)
    measures = measure(KIND, found)
    overall = measures.overall
    truth, predicted, probabilities = found.truth, found.predicted, found.probabilities
    expected = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
        "macro_f1": sk.f1_score(truth, predicted, average="macro"),
        "weighted_f1": sk.f1_score(truth, predicted, average="weighted"),
        "top_5_accuracy": sk.top_k_accuracy_score(truth, probabilities, k=5),
        "log_loss": -np.log(probabilities[np.arange(300), truth]).mean(),
        "macro_auc": sk.roc_auc_score(truth, probabilities, multi_class="ovr"),
    }
    for name, value in expected.items():
        assert overall[name].value == pytest.approx(value, abs=1e-6), name
        assert overall[name].low < overall[name].value < overall[name].high, name
    np.testing.assert_array_equal(measures.confusion, sk.confusion_matrix(truth, predicted))
    of_bee = measures.of_classes["bee"]
    assert of_bee["precision"].value == pytest.approx(
        sk.precision_score(truth == 1, predicted == 1)
    )
    assert of_bee["recall"].count == (truth == 1).sum()


def test_classes_without_examples_do_not_count_as_zero():
    found = of_class(200)
    kept = found.rows(found.truth != 2)
    measures = measure(KIND, kept)
    recalls = [measures.of_classes[name]["recall"].value for name in NAMES]
    assert np.isnan(recalls[2])
    assert measures.overall["balanced_accuracy"].value == pytest.approx(np.nanmean(recalls))


@pytest.mark.filterwarnings("ignore:.*y_pred contains classes not in y_true")
def test_a_class_that_is_only_predicted_counts_as_in_scikit_learn():
    found = of_class(200)
    truth = np.where(found.truth == 2, 0, found.truth)
    kept = dataclasses.replace(found, truth=truth)
    assert (kept.predicted == 2).any()
    overall = measure(KIND, kept).overall
    pair, average = (truth, kept.predicted), {"average": "macro", "zero_division": 0}
    assert overall["macro_f1"].value == pytest.approx(sk.f1_score(*pair, **average))
    assert overall["macro_precision"].value == pytest.approx(sk.precision_score(*pair, **average))
    streamed = metrics.f1(*pair, num_classes=6, average="macro").result()
    assert overall["macro_f1"].value == pytest.approx(streamed)
    assert overall["balanced_accuracy"].value == pytest.approx(sk.balanced_accuracy_score(*pair))

    several = Label("marks", depth=3, kind="several", class_names=("a", "b", "c"))
    chosen = np.eye(3, dtype=np.int64)[truth % 3]
    marks = stored(chosen * [1, 1, 0], kept.mask, chosen, chosen.astype(np.float32))
    assert measure(several, marks).overall["macro_f1"].value == pytest.approx(
        sk.f1_score(marks.truth, marks.predicted, **average)
    )


def test_ordinal_several_and_values():
    label = Label("age", depth=6, kind="ordinal")
    found = of_class(200, label=label)
    overall = measure(label, found).overall
    errors = np.abs(found.predicted - found.truth)
    assert overall["mean_absolute_error"].value == pytest.approx(errors.mean())
    assert overall["within_1"].value == pytest.approx((errors <= 1).mean())
    assert overall["within_2"].value == pytest.approx((errors <= 2).mean())

    random = np.random.default_rng(0)
    several = Label("marks", depth=3, kind="several", class_names=("a", "b", "c"))
    probabilities = random.random([150, 3]).astype(np.float32)
    truth = (random.random([150, 3]) < probabilities).astype(np.int64)
    known = np.ones(150, bool)
    marks = stored(truth, known, (probabilities >= 0.5).astype(np.int64), probabilities)
    overall = measure(several, marks).overall
    assert overall["exact_match"].value == pytest.approx(marks.is_right.mean())
    assert overall["macro_f1"].value == pytest.approx(
        sk.f1_score(truth, marks.predicted, average="macro")
    )
    assert analyze(predictions(marks, label=several)).labels["marks"].calibrated is not None

    size = Label("size", kind="value")
    values = random.normal(size=100)
    guesses = stored(values, np.ones(100, bool), values + 1.0, np.zeros([100, 0], np.float32))
    overall = measure(size, guesses).overall
    assert overall["root_mean_squared_error"].value == pytest.approx(1.0)
    assert overall["bias"].value == pytest.approx(1.0)
    perfect = dataclasses.replace(guesses, predicted=values)
    error = measure(size, perfect).overall["mean_absolute_error"]
    assert (error.low, error.high) == (0.0, 0.0)


def test_temperature_finds_how_much_too_sure_a_model_is():
    too_sure = of_class(4000, sharpness=2.5)
    found = analyze(predictions(too_sure)).labels["kind"].calibrated
    assert found.calibration.temperature == pytest.approx(2.5, abs=0.25)
    assert found.after < found.before / 2
    assert found.log_loss_after < found.log_loss_before
    assert found.count + found.calibration.count == 4000  # measured on what it was not fitted to
    assert found.set_coverage.low <= 0.9 <= found.set_coverage.high
    order = np.argsort(too_sure.probabilities, axis=1)
    calibrated = found.calibration.apply(too_sure.probabilities)
    right_order = np.take_along_axis(calibrated, order, axis=1)
    assert (np.diff(right_order, axis=1) >= 0).all()
    np.testing.assert_allclose(calibrated.sum(axis=1), 1.0)


def judged(of_label, label=KIND):
    return analyze(predictions(of_label, label=label)).labels[label.name].calibrated


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("count", [60, 400])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 1.5, 4.0])
def test_calibration_never_makes_the_other_half_worse(count, sharpness):
    for seed in range(6):
        found = judged(of_class(count, sharpness, seed))
        assert found.after <= found.before and found.log_loss_after <= found.log_loss_before
        if found.calibration.temperature == 1:
            assert found.after == found.before
            assert found.calibration.note.startswith("left out: ")


def test_a_calibration_that_is_left_out_says_what_it_would_have_done():
    notes = [judged(of_class(60, 1.0, seed)).calibration.note for seed in range(6)]
    assert any("would give the other half calibration error" in note for note in notes)


def test_examples_that_are_all_right_do_not_make_a_model_certain():
    """The likelihood alone ends at the search's bound, T = 0.05, and serves 1 - 1e-15."""
    for count in (60, 200, 2000):
        sure = np.linspace(0.6, 0.8, count)
        probabilities = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
        truth = np.zeros(count, int)
        right = stored(truth, np.ones(count, bool), truth, probabilities)
        two = Label("kind", depth=2)
        found = judged(right, two)
        fitted = found.calibration
        confidence = fitted.apply(probabilities).max(axis=1)
        assert confidence.mean() < (fitted.count + 1) / (fitted.count + 2) + 0.01
        assert confidence.max() < 1 - 1e-9
        assert found.log_loss_after < found.log_loss_before
    assert fitted.note.startswith("shrunk from 0.0")
    certain = np.full([60, 2], [0.9999, 0.0001], np.float32)
    unchanged = judged(stored(truth[:60], np.ones(60, bool), truth[:60], certain), two)
    assert unchanged.calibration.temperature == 1.0
    assert "do not support more confidence" in unchanged.calibration.note


def test_a_model_that_knows_nothing_is_not_calibrated_to_the_end_of_the_search():
    random = np.random.default_rng(0)
    found = of_class(2000, sharpness=3.0)
    guessing = dataclasses.replace(found, truth=random.integers(0, 6, 2000))
    fitted = judged(guessing).calibration
    assert fitted.temperature == 1.0 and "up to 20 a larger temperature" in fitted.note


def test_calibration_of_decisions_keeps_to_the_same_rules():
    label = Label("marks", depth=3, kind="several", class_names=("a", "b", "c"))
    for seed in range(4):
        random = np.random.default_rng(seed)
        odds = random.normal(0, 2, [200, 3])
        truth = (random.random([200, 3]) < 1 / (1 + np.exp(-odds))).astype(np.int64)
        p = (1 / (1 + np.exp(-2.5 * odds))).astype(np.float32)
        found = judged(stored(truth, np.ones(200, bool), (p >= 0.5).astype(int), p), label)
        assert found.after <= found.before and found.log_loss_after <= found.log_loss_before
        assert found.calibration.temperature == pytest.approx(2.5, abs=1.2)


def test_calibration_error_and_risk_by_hand():
    confidence = np.array([0.95, 0.95, 0.65, 0.65])
    is_right = np.array([True, True, True, False])
    bins = calibration.reliability(confidence, is_right, num_bins=10)
    assert [b.count for b in bins if b.count] == [2, 2]
    assert calibration.expected_calibration_error(bins) == pytest.approx((0.05 + 0.15) / 2)
    limits, kept, wrong = calibration.risk_and_coverage(confidence, ~is_right)
    np.testing.assert_allclose(limits, [0.95, 0.65])  # no limit divides equal ones
    np.testing.assert_allclose(kept, [0.5, 1.0])
    np.testing.assert_allclose(wrong, [1, 0.75])
    same = calibration.risk_and_coverage(np.ones(10), np.arange(10) < 5)
    assert [part.tolist() for part in same] == [[1.0], [1.0], [0.5]]


@pytest.mark.parametrize("count", [9, 19, 39, 99])
def test_the_conformal_limit_leaves_out_a_tenth(count):
    probability = np.linspace(0.3, 0.9, count)
    fitted = calibration.fit(np.zeros(count, int), np.stack([probability, 1 - probability], axis=1))
    calibrated = fitted.apply(np.stack([probability, 1 - probability], axis=1))[:, 0]
    assert fitted.conformal == np.sort(calibrated)[(count + 1) // 10 - 1]


def test_what_a_limit_rejects_is_what_the_table_says_for_ordinal_labels_too():
    label = Label("age", depth=6, kind="ordinal")
    found = of_class(200, label=label)
    nearest = np.rint(found.probabilities @ np.arange(6.0)).astype(int)
    found = dataclasses.replace(found, predicted=nearest)
    assert (nearest != found.probabilities.argmax(axis=1)).any()
    said = analyze(predictions(found, label=label)).labels["age"]
    calibrated = said.calibrated.calibration.apply(found.probabilities)
    confidence = calibrated[np.arange(200), nearest]
    for limit, kept, wrong in said.rejecting:
        is_kept = confidence >= limit
        assert kept == is_kept.mean()
        assert wrong == pytest.approx(1 - found.is_right[is_kept].mean())


def test_slices_come_worst_first_and_numbers_by_quarters():
    found = of_class(400)
    is_night = np.arange(400) % 4 == 0
    predicted = np.where(is_night, (found.truth + 1) % 6, found.predicted)
    slices = {
        "light": np.where(is_night, "night", "day").tolist(),
        "name": [f"n{i}" for i in range(400)],
        "weight": [f"{i}" for i in range(400)],
    }
    worse = stored(found.truth, found.mask, predicted, found.probabilities)
    shown = analyze(predictions(worse, slices)).labels["kind"].slices
    assert (shown[0].column, shown[0].value, shown[0].score.value) == ("light", "night", 0.0)
    assert {s.column for s in shown} == {"light", "weight"}
    assert sum(s.score.count for s in shown if s.column == "weight") == 400


def test_groups_that_were_found_are_kept_and_resampled(tmp_path):
    """Twelve videos of twenty frames that are right or wrong together; a column goes before."""
    random = np.random.default_rng(0)
    right = np.repeat(random.random(12) < 0.7, 20)
    truth = np.zeros(240, int)
    wrong = of_class(240).probabilities
    frames = stored(truth, np.ones(240, bool), np.where(right, truth, 1), wrong)
    videos = [f"video {i // 20}" for i in range(240)]
    alone = predictions(frames, {"parity": [str(i % 30) for i in range(240)]})
    found = dataclasses.replace(alone, found_groups=videos)
    path = str(tmp_path / "predictions.parquet")
    write_predictions(path, found)
    again = read_predictions(path)
    assert list(again.found_groups) == videos and "found_group" not in again.slices
    widths = {}
    for name, each in (("images", alone), ("videos", again)):
        accuracy = analyze(each).labels["kind"].measures.overall["accuracy"]
        widths[name] = accuracy.high - accuracy.low
    assert widths["videos"] > 3 * widths["images"]
    analysis = analyze(again)
    assert analysis.group == "videos and bursts" and analyze(alone).group == ""
    text = analysis_table(Evaluation({}, {}, 240), 7, analysis)
    assert "intervals are over videos and bursts, not over images" in text
    assert analyze(again, "parity").group == "parity"


def test_groups_widen_the_interval_and_stay_in_one_half():
    found = of_class(50)
    many = LabelPredictions(*(np.repeat(v, 10, axis=0) for v in vars(found).values()))
    people = {"person": np.repeat(np.arange(50), 10).astype(str).tolist()}
    alone = analyze(predictions(many, people)).labels["kind"].score
    grouped = analyze(predictions(many, people), "person").labels["kind"].score
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    with pytest.raises(ConfigError, match="person"):
        analyze(predictions(many, people), "persons")


def test_every_fraction_of_a_class_has_wilsons_interval():
    truth = np.array([0, 0, 0, *[1] * 40, 3])
    predicted = np.array([1, 1, 1, *[1] * 37, 2, 2, 2, 3])
    probabilities = np.eye(6, dtype=np.float32)[predicted]
    found = measure(KIND, stored(truth, np.ones(44, bool), predicted, probabilities)).of_classes
    wilson = {
        ("ant", "recall"): (0, 3),
        ("bee", "recall"): (37, 40),
        ("bee", "precision"): (37, 40),
        ("cat", "precision"): (0, 3),
        ("dog", "recall"): (1, 1),
        ("dog", "precision"): (1, 1),
    }
    for (name, metric), (hits, count) in wilson.items():
        ends = binomtest(hits, count).proportion_ci(0.95, method="wilson")
        one = found[name][metric]
        assert one.value == pytest.approx(hits / count), (name, metric)
        assert (one.low, one.high) == pytest.approx((ends.low, ends.high)), (name, metric)
    jaccard = binomtest(37, 43).proportion_ci(0.95, method="wilson")
    of_f1 = [2 * end / (1 + end) for end in (jaccard.low, jaccard.high)]
    assert [found["bee"]["f1"].low, found["bee"]["f1"].high] == pytest.approx(of_f1)
    assert found["ant"]["f1"].low == 0 < found["ant"]["f1"].high
    assert str(found["emu"]["recall"]) == str(found["ant"]["precision"]) == "not known"
    assert str(found["ant"]["auc"]) == "0.500 (too few examples)"


def test_of_a_few_examples_nothing_is_drawn_and_that_is_said():
    one = of_class(1)
    overall = measure(KIND, one).overall
    assert overall["accuracy"].low < overall["accuracy"].high  # Wilson's
    for name in ("macro_f1", "log_loss", "balanced_accuracy", "brier_score"):
        assert np.isnan(overall[name].low) and np.isnan(overall[name].high), name
        assert str(overall[name]).endswith("(too few examples)"), name
    text = analysis_table(Evaluation({"loss": 1.5}, {}, 1), 7, analyze(predictions(one)))
    assert "nan" not in text and "loss  1.5000" in text
    assert "calibration: too few examples (at least 40 in two halves)." in text


def test_a_number_is_printed_once_and_a_specs_own_one_is_marked():
    kept = predictions(of_class(200))
    analysis = analyze(kept)
    right = analysis.labels["kind"].score.value
    own = {"loss": 1.25, "accuracy": right, "macro_f1": 0.5, "speed": 3.0}
    text = analysis_table(Evaluation(own, {}, 200), 7, analysis)
    assert text.count("  accuracy ") == 1 and f"  accuracy                {right:.3f} [" in text
    before, _, after = text.partition("kind: with 95 % intervals")
    assert "loss" in before and "speed" in before and "accuracy" not in before
    assert "macro_f1 (the spec's own)  0.5000" in before and "  macro_f1 " in after


def test_where_no_draw_differs_the_classes_counts_decide_the_width():
    truth = np.array([*[0] * 100, *[1] * 4])
    of_two = np.eye(2, dtype=np.float32)[truth]
    right = stored(truth, np.ones(104, bool), truth, of_two)
    overall = measure(Label("kind", depth=2), right).overall
    # Kish: two classes of equal weight with 100 and 4 examples count as 15.
    ends = wilson(1.0, 4 / (1 / 100 + 1 / 4))
    for name in ("macro_f1", "balanced_accuracy", "macro_precision"):
        assert (overall[name].low, overall[name].high) == pytest.approx(ends), name
    assert overall["accuracy"].low > overall["balanced_accuracy"].low
    groups = np.arange(104) % 12
    of_people = measure(Label("kind", depth=2), right, groups).overall["macro_f1"]
    assert of_people.low < overall["accuracy"].low


def test_too_few_examples_are_not_calibrated_and_json_is_plain():
    analysis = analyze(predictions(of_class(20)))
    assert analysis.labels["kind"].calibrated is None
    text = json.dumps(analysis.to_json(), allow_nan=False)
    assert json.loads(text)["labels"]["kind"]["measures"]["overall"]["accuracy"]["count"] == 20


def test_workers_put_their_rows_together_in_the_order_of_the_set():
    schema = LabelSchema((Label("kind", depth=3, class_names=("a", "b", "c")),))
    barrier, given, found = threading.Barrier(2), [None, None], [None, None]

    def work(rank):
        def exchange(numbers):
            given[rank] = np.asarray(numbers)
            barrier.wait()
            rows = np.stack(given)
            barrier.wait()
            return rows

        store = PredictionStore(schema)
        for first in range(3 * rank, 7, 6):  # rows in turns of three; the second has fewer
            ids = np.array([i if i < 7 else PADDING_ID for i in range(first, first + 3)])
            batch = Batch(
                tf.zeros([3, 1, 1, 1]),
                {"kind": tf.constant(ids % 3)},
                {"kind": tf.constant(ids >= 0)},
                tf.constant(ids),
            )
            store.add(batch, predictions_from(schema, {"kind": tf.one_hot(ids % 3, 3) * 5.0}))
        found[rank] = store.predictions(step=1, data="", locate=str, exchange=exchange)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        assert one.ids.tolist() == list(range(7)) and one.uris == [str(i) for i in range(7)]
        assert one.labels["kind"].truth.tolist() == [i % 3 for i in range(7)]
        assert one.labels["kind"].is_right.all()
        assert one.labels["kind"].probabilities.shape == (7, 3)


def test_predictions_survive_the_file(tmp_path):
    random = np.random.default_rng(0)
    labels = (
        KIND,
        Label("marks", depth=3, kind="several", class_names=("a", "b", "c")),
        Label("size", kind="value"),
    )
    count = 30
    known = np.arange(count) % 5 != 0
    of_kind = of_class(count)
    marks = random.integers(0, 2, [count, 3])
    size = random.normal(size=count)
    nothing = np.zeros([count, 0], np.float32)
    before = Predictions(
        LabelSchema(labels),
        np.arange(count),
        [f"{i}.jpg" for i in range(count)],
        {
            "kind": stored(of_kind.truth, known, of_kind.predicted, of_kind.probabilities),
            "marks": stored(marks, known, 1 - marks, random.random([count, 3]).astype("f4")),
            "size": stored(size, known, size + 1, nothing),
        },
        3,
        "data",
        {"light": ["day"] * count},
    )
    path = str(tmp_path / "p.parquet")
    write_predictions(path, before)
    after = read_predictions(path)
    assert after.schema == before.schema and after.uris == before.uris
    assert (after.step, after.data, after.slices) == (3, "data", before.slices)
    for name, of_label in before.labels.items():
        found = after.labels[name]
        np.testing.assert_array_equal(found.mask, known)
        np.testing.assert_array_equal(found.truth[known], of_label.truth[known])
        np.testing.assert_array_equal(found.predicted, of_label.predicted)
        np.testing.assert_array_equal(found.probabilities, of_label.probabilities)
    with pytest.raises(DataError, match="Evaluate"):
        read_predictions(str(tmp_path / "none"))
    whole = (tmp_path / "p.parquet").read_bytes()
    for length in (0, len(whole) // 2, len(whole) - 3):
        (tmp_path / "p.parquet").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"p\.parquet cannot be read.*evaluate the model again"):
            read_predictions(path)
