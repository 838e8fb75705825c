"""The release gate: what it shows, of which metric, and what it refuses to call shown."""

import dataclasses

import numpy as np
import pytest

from evaluation.test_analysis import KIND, NAMES, of_class, predictions, stored
from evaluation.test_compare import changed
from tf_image_classification.errors import ConfigError, DataError, UsageError
from tf_image_classification.evaluation.claim_test import power_text
from tf_image_classification.evaluation.claims import make_claim, read_margin
from tf_image_classification.evaluation.gate import judge
from tf_image_classification.evaluation.pairing import pair
from tf_image_classification.labels import Label, LabelSchema


def gate(a, b, metric="", slices=(), slice_margin=None, group="", **claim):
    pairs = pair(a, b, group)
    return judge(
        pairs, make_claim(**claim), metric=metric, slices=slices, slice_margin=slice_margin
    )


def test_few_flips_in_many_examples_are_equivalent_and_no_flip_in_few_is_not():
    many, few = of_class(2000), of_class(20)
    one_more = changed(many, np.flatnonzero(~many.is_right)[:1], right=True)
    found = gate(predictions(many), predictions(one_more), equivalent=0.01)
    assert found.is_shown and found.labels["kind"].overall.p_value < 0.01
    same = gate(predictions(few), predictions(few), equivalent=0.01).labels["kind"].overall
    assert not same.is_shown and "up to" in same.reason


def test_better_worse_and_not_worse():
    found = of_class(1000)
    better = changed(found, np.flatnonzero(~found.is_right)[:60], right=True)
    a, b = predictions(found), predictions(better)
    assert gate(a, b, better=True).is_shown
    assert gate(a, b, better=0.03).is_shown and not gate(a, b, better=0.055).is_shown
    assert gate(a, b, not_worse=0).is_shown
    assert not gate(a, b, equivalent=0.05).is_shown
    lost = gate(b, a, not_worse=0.03).labels["kind"].overall
    assert not lost.is_shown and lost.reason.startswith("B is worse")
    assert (lost.num_better, lost.num_worse) == (0, 60)


@pytest.mark.parametrize(
    ("metric", "margin"),
    [("f1_macro", 0.03), ("balanced-accuracy", 0.03), ("AUROC", 0.03), ("log_loss", 0.1),
     ("kind/accuracy", 0.03), ("brier", 0.05), ("top 5", 0.03)],
)  # fmt: skip
def test_any_metric_by_its_name_or_a_usual_other_one(metric, margin):
    found = of_class(600)
    slightly = changed(found, np.flatnonzero(~found.is_right)[:2], right=True)
    worse = changed(found, np.flatnonzero(found.is_right)[:120], right=False)
    random = np.random.default_rng(0)
    guesses = random.dirichlet(np.ones(6), 600).astype(np.float32)
    worse = dataclasses.replace(worse, probabilities=guesses)
    a = predictions(found)
    assert gate(a, predictions(slightly), metric=metric, not_worse=margin).is_shown
    assert not gate(a, predictions(worse), metric=metric, not_worse=margin).is_shown


@pytest.mark.parametrize("metric", ["macro_f1", "macro_auc", "log_loss", "brier_score"])
def test_no_change_in_few_examples_shows_nothing_of_other_metrics_either(metric):
    found = of_class(30)
    one = gate(predictions(found), predictions(found), metric=metric, equivalent=0.01)
    assert not one.is_shown
    interval = one.labels["kind"].overall.difference
    assert interval.low < -0.01 and interval.high > 0.01


def test_less_error_is_better_of_values():
    label = Label("size", kind="regression")
    random = np.random.default_rng(0)
    truth, nothing = random.normal(50, 20, 300), np.zeros([300, 0], np.float32)
    known = np.ones(300, bool)
    near = stored(truth, known, truth + random.normal(0, 1, 300), nothing)
    far = stored(truth, known, truth + random.normal(0, 2, 300), nothing)
    a, b = predictions(far, label=label), predictions(near, label=label)
    assert gate(a, b, better=True).is_shown
    assert not gate(b, a, not_worse=0.3).is_shown
    assert gate(b, a, not_worse=1.5).is_shown
    assert gate(a, b, metric="rmse", better=0.5).is_shown
    with pytest.raises(ConfigError, match="no direction"):
        gate(a, b, metric="bias", not_worse=1)
    assert gate(a, b, metric="bias", equivalent=1).is_shown


def test_every_slice_must_show_it_and_the_classes_are_slices_too():
    found = of_class(1200)
    camera = ["old" if i % 4 else "new" for i in range(1200)]
    of_new = np.array(camera) == "new"
    worse = changed(found, np.flatnonzero(found.is_right & of_new)[:30], right=False)
    a, b = predictions(found, {"camera": camera}), predictions(worse)
    assert gate(a, b, not_worse=0.04).is_shown
    sliced = gate(a, b, slices=["camera"], not_worse=0.04)
    assert not sliced.is_shown and sliced.labels["kind"].overall.is_shown
    assert [one.is_shown for one in sliced.labels["kind"].slices] == [False, True]
    assert gate(a, b, slices=["camera"], slice_margin=0.25, not_worse=0.04).is_shown
    of_classes = gate(a, a, slices=["kind"], not_worse=0.05).labels["kind"].slices
    assert [one.name for one in of_classes] == [f"kind = {name}" for name in NAMES]
    undefined = gate(a, a, metric="macro_auc", slices=["kind"], not_worse=0.5).labels["kind"].slices
    assert not any(one.is_shown for one in undefined)
    with pytest.raises(ConfigError, match="camera"):
        gate(a, b, slices=["camra"], not_worse=0.04)


def test_groups_widen_the_interval_and_few_groups_show_nothing():
    found = of_class(400)
    worse = changed(found, np.flatnonzero(found.is_right)[:12], right=False)
    many = [str(i // 4) for i in range(400)]
    few = [str(i // 100) for i in range(400)]
    a, b = predictions(found, {"person": many, "site": few}), predictions(worse)
    alone = gate(a, b, not_worse=0.1).labels["kind"].overall.difference
    grouped = gate(a, b, not_worse=0.1, group="person").labels["kind"].overall.difference
    assert grouped.high - grouped.low > alone.high - alone.low
    one = gate(a, a, equivalent=0.5, group="site").labels["kind"].overall
    assert not one.is_shown and one.reason == "4 groups, at least 10 are needed"


def test_classes_are_matched_by_name_and_those_of_one_model_are_named():
    found = of_class(500)
    a = predictions(found)
    order = np.array([3, 1, 0, 2, 5, 4])
    places = np.argsort(order)
    turned = Label("kind", depth=6, class_names=tuple(NAMES[i] for i in order))
    b = predictions(
        stored(places[found.truth], found.mask, places[found.predicted],
               found.probabilities[:, order]), label=turned,
    )  # fmt: skip
    same = gate(a, b, metric="macro_auc", equivalent=0.02)
    assert same.is_shown and same.labels["kind"].overall.difference.value == 0
    more = Label("kind", depth=7, class_names=(*NAMES, "gnu"))
    wide = np.pad(found.probabilities, [(0, 0), (0, 1)])
    c = predictions(stored(found.truth, found.mask, found.predicted, wide), label=more)
    found_more = gate(a, c, not_worse=0.02)
    assert found_more.is_shown and "gnu" in found_more.labels["kind"].notes[0]
    others = dataclasses.replace(KIND, class_names=tuple("uvwxyz"))
    with pytest.raises(DataError, match="other classes"):
        gate(a, predictions(found, label=others), not_worse=0.02)


def test_several_labels_must_all_show_it_unless_the_metric_names_one():
    kind, size = of_class(300), Label("size", kind="regression")
    values = np.arange(300.0)
    of_size = stored(values, np.ones(300, bool), values + 1, np.zeros([300, 0], np.float32))
    both = dataclasses.replace(
        predictions(kind),
        schema=LabelSchema((KIND, size)),
        labels={"kind": kind, "size": of_size},
    )
    with pytest.raises(ConfigError, match="kind/accuracy, size/mean_absolute_error"):
        gate(both, both, not_worse=0.05)
    assert [*gate(both, both, metric="kind/accuracy", not_worse=0.05).labels] == ["kind"]
    assert [*gate(both, both, metric="mae", not_worse=0.5).labels] == ["size"]
    with pytest.raises(UsageError, match="Did you mean accuracy"):
        gate(both, both, metric="accuracu", not_worse=0.05)


@pytest.mark.parametrize(
    ("given", "margin"), [("0.01", 0.01), ("1%", 0.01), ("1 %", 0.01), (0.5, 0.5), ("5", 5.0)]
)
def test_a_margin_is_a_number_or_a_percentage(given, margin):
    assert read_margin("not_worse", given) == margin


def test_margins_that_mean_nothing_are_rejected():
    for given in ("-0.1", "nan", "inf", "abc", "%"):
        with pytest.raises(UsageError, match="--not_worse"):
            make_claim(not_worse=given)
    with pytest.raises(UsageError, match="exactly equal"):
        make_claim(equivalent=0)
    with pytest.raises(UsageError, match="one claim"):
        make_claim(equivalent=0.1, better=True)
    a = predictions(of_class(50))
    with pytest.raises(UsageError, match=r"write 0\.05 or 5%"):
        gate(a, a, equivalent=5)
    with pytest.raises(UsageError, match="every difference"):
        gate(a, a, not_worse=1)
    assert make_claim() is None


def test_the_power_says_what_the_examples_can_tell():
    found = of_class(153)
    flipped = changed(found, np.flatnonzero(~found.is_right)[:4], right=True)
    flipped = changed(flipped, np.flatnonzero(found.is_right)[:4], right=False)
    label = gate(predictions(found), predictions(flipped), equivalent=0.01).labels["kind"]
    text = power_text(label.overall, label.claim)
    assert text.startswith("with 153 examples a difference of 0.046 can be told")
    power = label.overall.power
    assert power.needed_low < power.needed < power.needed_high
    # The set of the needed size shows it in about 80 % of the cases.
    from tf_image_classification.evaluation.paired_fractions import PairedFractions

    random = np.random.default_rng(0)
    p = 8 / 153
    draws = random.multinomial(power.needed, [p / 2, p / 2, 1 - p], 80)
    outcomes = [PairedFractions(int(g), int(b), power.needed) for g, b, _ in draws]
    passed = [max(one.p_below(-0.01), one.p_above(0.01)) <= 0.05 for one in outcomes]
    assert 0.65 < np.mean(passed) < 0.95


def test_a_grouped_claim_at_the_edge_is_rarely_shown():
    random = np.random.default_rng(0)
    passes = []
    for _ in range(100):
        groups = np.repeat(np.arange(60), 5)
        is_lost = (random.random(60) < 0.08)[groups] & (random.random(300) < 0.625)
        truth = np.zeros(300, int)
        probabilities = np.full([300, 6], 1 / 6, np.float32)
        a = stored(truth, np.ones(300, bool), truth, probabilities)
        b = stored(truth, np.ones(300, bool), is_lost.astype(int), probabilities)
        found = gate(
            predictions(a, {"person": [*map(str, groups)]}), predictions(b), not_worse=0.05,
            group="person",
        )  # fmt: skip
        passes.append(found.is_shown)
    assert np.mean(passes) < 0.13  # 5 % of 100 draws is at most 12 with 99.8 %
