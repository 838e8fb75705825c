"""Every schedule: its formula, its corners, the same traced as eager."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.config import OPTIONS, ScheduleSettings
from tf_image_classification.errors import ConfigError
from tf_image_classification.optim.schedules import make_schedule

STEPS = 200
KINDS = OPTIONS["learning_rate_decay_type"].choices
WITH_WARMUP = OPTIONS["warmup_steps"].applies[1]


def schedule_of(kind, *, train_steps=STEPS, steps_per_epoch=12.5, **values):
    values = {"learning_rate": 0.4, "learning_rate_decay_type": kind, **values}
    return make_schedule(
        ScheduleSettings(**values), train_steps=train_steps, steps_per_epoch=steps_per_epoch
    )


def rates_of(schedule, steps=STEPS):
    return schedule(tf.range(steps)).numpy().astype(float)


def test_every_kind_that_a_user_may_choose_starts_at_its_highest_rate_or_rises_to_it():
    for kind in KINDS:
        rates = rates_of(schedule_of(kind))
        assert rates.max() == pytest.approx(0.4), kind
        assert rates[0] == pytest.approx(0.4 / 25 if kind == "one_cycle" else 0.4), kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup_steps", [0, 7])
def test_traced_and_eager_vector_and_scalar_agree(kind, warmup_steps):
    if warmup_steps and kind not in WITH_WARMUP:
        return
    schedule = schedule_of(
        kind, warmup_steps=warmup_steps, end_learning_rate=0.01, polynomial_power=1.5
    )
    traced = tf.function(schedule, input_signature=[tf.TensorSpec([], tf.int64)])
    steps = [0, 1, 6, 7, 8, 59, 60, 61, 150, 151, STEPS - 1, STEPS]
    in_graph = [float(traced(tf.constant(step, tf.int64))) for step in steps]
    eager = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(in_graph, eager, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(rates_of(schedule, STEPS + 1)[steps], eager, rtol=1e-6, atol=1e-7)
    assert traced(tf.constant(3, tf.int64)).dtype == tf.float32


def test_fixed_is_exactly_the_same_at_every_step():
    assert set(rates_of(schedule_of("fixed"))) == {float(np.float32(0.4))}


def test_exponential_is_slims_formula_at_every_step():
    batch_size, num_examples, epochs_per_decay, factor = 32, 330, 1.7, 0.94
    schedule = schedule_of(
        "exponential",
        steps_per_epoch=num_examples / batch_size,
        num_epochs_per_decay=epochs_per_decay,
        learning_rate_decay_factor=factor,
    )
    decay_steps = int(num_examples / batch_size * epochs_per_decay)
    expected = [0.4 * factor ** (step // decay_steps) for step in range(STEPS)]
    np.testing.assert_allclose(rates_of(schedule), expected, rtol=1e-6)
    traced = tf.function(schedule)(tf.range(STEPS))  # a stair must not be a step late in a graph
    np.testing.assert_allclose(traced, expected, rtol=1e-6)


def test_exponential_decays_every_step_when_an_epoch_is_shorter_than_a_step():
    schedule = schedule_of("exponential", steps_per_epoch=0.25, learning_rate_decay_factor=0.5)
    np.testing.assert_allclose(rates_of(schedule, 3), [0.4, 0.2, 0.1], rtol=1e-6)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_polynomial_is_its_formula(power):
    schedule = schedule_of("polynomial", end_learning_rate=0.05, polynomial_power=power)
    progress = np.arange(STEPS) / STEPS
    np.testing.assert_allclose(rates_of(schedule), 0.05 + 0.35 * (1 - progress) ** power, rtol=1e-5)


def test_cosine_is_its_formula():
    progress = np.arange(STEPS) / STEPS
    expected = 0.05 + 0.35 * 0.5 * (1 + np.cos(math.pi * progress))
    np.testing.assert_allclose(
        rates_of(schedule_of("cosine", end_learning_rate=0.05)), expected, rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["polynomial", "cosine", "one_cycle"])
@pytest.mark.parametrize("end", [0.0, 0.05])
def test_the_end_rate_is_reached_when_the_run_is_complete_and_kept_after_it(kind, end):
    schedule = schedule_of(kind, end_learning_rate=end)
    assert float(schedule(STEPS - 1)) > end  # the last update still moves the weights
    assert float(schedule(STEPS - 1)) == pytest.approx(end, abs=0.4 * 2 / STEPS)
    assert float(schedule(STEPS)) == pytest.approx(end, abs=1e-7)
    assert float(schedule(10 * STEPS)) == pytest.approx(end, abs=1e-7)


@pytest.mark.parametrize("kind", ["polynomial", "cosine", "exponential"])
def test_a_falling_schedule_never_rises(kind):
    rates = rates_of(schedule_of(kind))
    assert (np.diff(rates) <= 0).all()
    assert rates[-1] < rates[0]
    assert (rates > 0).all()


@pytest.mark.parametrize("kind", WITH_WARMUP)
def test_warm_up_is_a_straight_line_and_the_body_has_the_remaining_steps(kind):
    warmup_steps = 20
    schedule = schedule_of(kind, warmup_steps=warmup_steps, end_learning_rate=0.01)
    body = schedule_of(kind, train_steps=STEPS - warmup_steps, end_learning_rate=0.01)
    rates = rates_of(schedule)
    line = 0.4 * (np.arange(warmup_steps) + 1) / (warmup_steps + 1)
    np.testing.assert_allclose(rates[:warmup_steps], line, rtol=1e-5)
    assert rates[warmup_steps] == pytest.approx(0.4)
    np.testing.assert_array_equal(rates[warmup_steps:], rates_of(body, STEPS - warmup_steps))


def test_one_cycle_rises_in_a_line_for_its_share_and_then_falls_by_a_cosine():
    schedule = schedule_of("one_cycle", one_cycle_warmup=0.25, end_learning_rate=0.001)
    rates, top = rates_of(schedule), STEPS // 4
    np.testing.assert_allclose(rates[: top + 1], np.linspace(0.4 / 25, 0.4, top + 1), rtol=1e-5)
    progress = np.arange(STEPS - top) / (STEPS - top)
    expected = 0.001 + 0.399 * 0.5 * (1 + np.cos(math.pi * progress))
    np.testing.assert_allclose(rates[top:], expected, rtol=1e-5)


def test_one_cycle_without_a_rise_is_the_cosine():
    np.testing.assert_array_equal(
        rates_of(schedule_of("one_cycle", one_cycle_warmup=0.0)), rates_of(schedule_of("cosine"))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_of_0_and_a_run_of_one_step_are_served(kind):
    assert rates_of(schedule_of(kind, learning_rate=0.0)).tolist() == [0.0] * STEPS
    assert float(schedule_of(kind, train_steps=1)(0)) == pytest.approx(0.4)


def test_a_warm_up_as_long_as_the_run_is_refused_with_both_numbers():
    with pytest.raises(ConfigError, match=r"warmup_steps is 200 but train_steps is only 200"):
        schedule_of("fixed", warmup_steps=STEPS)
    schedule_of("fixed", warmup_steps=STEPS - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_rate_above_the_highest_is_refused_where_it_acts(kind):
    if kind not in OPTIONS["end_learning_rate"].applies[1]:
        schedule_of(kind, end_learning_rate=0.5)
        return
    with pytest.raises(ConfigError, match=r"end_learning_rate is 0.5, above learning_rate 0.4"):
        schedule_of(kind, end_learning_rate=0.5)
    schedule_of(kind, end_learning_rate=0.4)


def test_every_number_acts_on_the_schedules_it_applies_to_and_on_no_other():
    others = {
        "end_learning_rate": 0.1,
        "learning_rate_decay_factor": 0.5,
        "num_epochs_per_decay": 1.0,
        "polynomial_power": 2.0,
        "one_cycle_warmup": 0.5,
        "warmup_steps": 10,
    }
    declared = {o.name for o in OPTIONS.values() if o.group == "schedule" and o.applies}
    assert set(others) == declared
    for name, value in others.items():
        for kind in KINDS:
            if name == "warmup_steps" and kind == "one_cycle":
                continue  # refused by the settings; what would it mean?
            same = np.array_equal(
                rates_of(schedule_of(kind)), rates_of(schedule_of(kind, **{name: value}))
            )
            assert same != (kind in OPTIONS[name].applies[1]), (name, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_described_by_its_config_is_the_same_schedule(kind):
    schedule = schedule_of(kind, warmup_steps=5 if kind in WITH_WARMUP else 0)
    described = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(described)
    np.testing.assert_array_equal(rates_of(again), rates_of(schedule))


def test_an_optimizer_follows_the_schedule_step_by_step():
    schedule = schedule_of("cosine", warmup_steps=3)
    optimizer = keras.optimizers.SGD(schedule)
    variable = keras.Variable(0.0)
    before, moves = 0.0, []
    apply = tf.function(lambda: optimizer.apply([tf.constant(1.0)], [variable]))
    for _ in range(8):
        apply()
        moves.append(before - float(variable))
        before = float(variable)
    np.testing.assert_allclose(moves, rates_of(schedule, 8), rtol=1e-4)
