"""Every optimizer through one harness: settings, decay, replicas, determinism, resume."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.config import OPTIONS, OptimizerSettings, ScheduleSettings
from tf_image_classification.distributed.devices import make_strategy
from tf_image_classification.errors import ConfigError
from tf_image_classification.optim import optimizers
from tf_image_classification.optim.optimizers import (
    OptimizerInfo,
    find_optimizer,
    gradient_scale,
    list_optimizers,
    make_optimizer,
    prepare,
    register,
)
from tf_image_classification.optim.schedules import make_schedule

needs_muon = pytest.mark.skipif(
    tuple(map(int, keras.__version__.split(".")[:2])) < (3, 13), reason="muon needs Keras 3.13"
)
NAMES = [
    pytest.param(name, marks=[needs_muon] if name == "muon" else [])
    for name in OPTIONS["optimizer"].choices
]
OTHER_VALUES = {
    "opt_epsilon": 0.1,
    "adadelta_rho": 0.5,
    "adagrad_initial_accumulator_value": 0.5,
    "adam_beta1": 0.999,
    "adam_beta2": 0.3,
    "ftrl_learning_rate_power": -0.3,
    "ftrl_initial_accumulator_value": 0.5,
    "ftrl_l1": 0.3,
    "ftrl_l2": 0.3,
    "momentum": 0.5,
    "nesterov": True,
    "rmsprop_momentum": 0.5,
    "rmsprop_decay": 0.5,
}


def make_variables():
    """A dense kernel, a convolution's kernel and a bias."""
    rng = np.random.default_rng(5)
    shapes = {"kernel": (4, 3), "filter": (3, 3, 2, 2), "bias": (3,)}
    return [
        keras.Variable(rng.normal(0, 1, shape).astype(np.float32), name=name)
        for name, shape in shapes.items()
    ]


def gradients_of(variables, step):
    rng = np.random.default_rng(100 + step)
    return [tf.constant(rng.normal(0, 1, v.shape).astype(np.float32)) for v in variables]


def warmed_up_schedule():
    settings = ScheduleSettings(learning_rate=0.1, warmup_steps=1)
    return make_schedule(settings, train_steps=9, steps_per_epoch=3.0)


def trained(name, *, steps=3, learning_rate=0.1, **values):
    """The values of the variables after some steps."""
    variables = make_variables()
    optimizer = make_optimizer(OptimizerSettings(optimizer=name, **values), learning_rate)
    prepare(optimizer, variables)
    for step in range(steps):
        optimizer.apply(gradients_of(variables, step), variables)
    return [v.numpy() for v in variables]


def same(some, others):
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def test_the_registry_holds_what_a_user_may_choose():
    assert tuple(info.name for info in list_optimizers()) == OPTIONS["optimizer"].choices
    assert all(info.summary for info in list_optimizers())


def test_the_default_decays_are_those_that_the_help_promises():
    promised = dict.fromkeys(("adamw", "lamb", "lion", "muon"), 0.05)
    promised |= dict.fromkeys(("momentum", "sgd"), 4e-5)
    for info in list_optimizers():
        assert info.default_weight_decay == promised.get(info.name, 0.0)


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("name", NAMES)
def test_every_option_acts_where_it_applies_and_nowhere_else(name):
    declared = {o.name for o in OPTIONS.values() if o.group == "optimizer" and o.applies}
    assert set(OTHER_VALUES) == declared
    usual = trained(name)
    for option, value in OTHER_VALUES.items():
        acts = not same(usual, trained(name, **{option: value}))
        assert acts == (name in OPTIONS[option].applies[1]), option


@pytest.mark.slow_after(2)
@pytest.mark.exhaustive_after(6)
@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_acts_and_is_the_default_when_not_given(name):
    default = find_optimizer(name).default_weight_decay
    assert same(trained(name), trained(name, weight_decay=default))
    assert not same(trained(name), trained(name, weight_decay=0.3))


@pytest.mark.slow_after(4)
@pytest.mark.exhaustive_after(7)
@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_takes_its_share_of_kernels_and_leaves_the_rest_alone(name):
    free = trained(name, steps=1, weight_decay=0.0)
    decayed = trained(name, steps=1, weight_decay=0.5)
    start = [v.numpy() for v in make_variables()]
    for variable, a, b in zip(start, free, decayed, strict=True):
        if variable.ndim < 2:
            np.testing.assert_array_equal(a, b)
        elif name not in ("ftrl", "lamb"):  # their update itself depends on the decayed value
            np.testing.assert_allclose(a - b, 0.1 * 0.5 * variable, rtol=1e-3, atol=1e-6)
        else:
            assert not np.array_equal(a, b)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("penalties", [(0.0, 0.0), (0.02, 0.0), (3.0, 0.1)])
def test_ftrl_from_zero_at_a_constant_rate_is_that_of_keras(penalties):
    l1, l2 = penalties
    ours, theirs = make_variables(), make_variables()
    for variable in (*ours, *theirs):
        variable.assign(np.zeros(variable.shape))
    optimizer = make_optimizer(OptimizerSettings(optimizer="ftrl", ftrl_l1=l1, ftrl_l2=l2), 0.1)
    reference = keras.optimizers.Ftrl(
        0.1, l1_regularization_strength=l1, l2_regularization_strength=l2
    )
    prepare(optimizer, ours)
    for step in range(20):
        optimizer.apply(gradients_of(ours, step), ours)
        reference.apply(gradients_of(theirs, step), theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)
    assert any((v.numpy() == 0).any() for v in ours) == (l1 == 3.0)


@pytest.mark.parametrize("l1", [0.0, 1e-3])
def test_ftrl_keeps_weights_at_a_rate_of_zero_and_begins_where_they_are(l1):
    rates = tf.Variable(0.1)
    variables = make_variables()
    optimizer = make_optimizer(OptimizerSettings(optimizer="ftrl", ftrl_l1=l1), lambda: rates)
    prepare(optimizer, variables)
    start = [v.numpy() for v in variables]
    rates.assign(1e-6)
    optimizer.apply(gradients_of(variables, 0), variables)
    for a, b in zip(start, variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for step, rate in enumerate((0.1, 0.01, 1e-4, 0.0, 0.0, 1e-6)):
        rates.assign(rate)
        before = [v.numpy() for v in variables]
        optimizer.apply(gradients_of(variables, step), variables)
        for a, b in zip(before, variables, strict=True):
            np.testing.assert_allclose(a, b, atol=max(rate * 2, 1e-7))


def test_the_rules_are_the_published_ones():
    start = [v.numpy() for v in make_variables()]
    first = [g.numpy() for g in gradients_of(start, 0)]
    second = [g.numpy() for g in gradients_of(start, 1)]

    def moves(name, steps, **values):
        after = trained(name, steps=steps, weight_decay=0.0, **values)
        return [(b - a) / 0.1 for a, b in zip(start, after, strict=True)]

    expected = {
        ("sgd", 1): [-g for g in first],
        ("momentum", 2): [-1.9 * g - h for g, h in zip(first, second, strict=True)],
        ("adam", 1): [-np.sign(g) for g in first],
        ("lion", 1): [-np.sign(g) for g in first],
        ("adagrad", 1): [-g / np.sqrt(0.1 + g**2) for g in first],
        ("rmsprop", 1): [-g / np.sqrt(0.1 * g**2 + 1e-7) for g in first],
    }
    for (name, steps), values in expected.items():
        for got, want in zip(moves(name, steps), values, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4, err_msg=name)


@needs_muon
def test_muon_without_a_matrix_to_act_on_is_refused():
    variables = make_variables()
    kernels = [v for v in variables if len(v.shape) != 2]
    optimizer = make_optimizer(OptimizerSettings(optimizer="muon"), 0.1)
    with pytest.raises(ConfigError, match="muon would be adamw"):
        prepare(optimizer, kernels)


def state_after(strategy, name, precision, steps=2):
    """Weights and slots by path after steps in which every replica has the same gradients."""
    with strategy.scope():
        variables = make_variables()
        settings = OptimizerSettings(optimizer=name, weight_decay=0.1)
        optimizer = make_optimizer(settings, warmed_up_schedule(), precision=precision)
        prepare(optimizer, variables)

    def replica_step(gradients):
        scale = gradient_scale(optimizer)
        optimizer.apply([gradient * scale for gradient in gradients], variables)

    def step(gradients):
        strategy.run(replica_step, args=(gradients,))

    if strategy.num_replicas_in_sync > 1:  # several replicas must be traced; one is quicker eager
        step = tf.function(step)
    for number in range(steps):
        step(gradients_of(variables, number))
    state = {}
    for variable in [*variables, *optimizer.variables]:
        replicas = [v.numpy() for v in strategy.experimental_local_results(variable.value)]
        assert len(replicas) == strategy.num_replicas_in_sync
        assert same(replicas[:1] * len(replicas), replicas)
        state[variable.path] = replicas[0]
    return state


@pytest.mark.slow_after(2)
@pytest.mark.exhaustive_after(6)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_already_summed_give_on_two_replicas_the_step_of_one_device(name):
    precisions = ["float32", "mixed_float16"] if name in ("momentum", "muon") else ["float32"]
    for precision in precisions:
        one = state_after(tf.distribute.get_strategy(), name, precision)
        two = state_after(make_strategy("mirrored"), name, precision)
        assert list(one) == list(two)
        for path, value in one.items():
            np.testing.assert_allclose(value, two[path], rtol=1e-5, atol=1e-6, err_msg=path)


def test_a_plain_keras_optimizer_would_sum_them_again():
    strategy = make_strategy("mirrored")
    with strategy.scope():
        variable, summing = keras.Variable(0.0), keras.optimizers.SGD(1.0)
        summing.build([variable])

    def replica_step():
        summing.apply([tf.constant(1.0)], [variable])

    @tf.function
    def step():
        strategy.run(replica_step)

    step()
    assert variable.numpy() == -2.0  # once Keras stops summing, our mixin can go


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("name", NAMES)
def test_slots_kept_by_path_and_put_into_a_fresh_optimizer_continue_to_the_same_bits(
    name,
):
    precision = "mixed_float16" if name in ("momentum", "muon") else "float32"

    def begin():
        variables = make_variables()
        settings = OptimizerSettings(optimizer=name)
        optimizer = make_optimizer(settings, warmed_up_schedule(), precision=precision)
        prepare(optimizer, variables)
        return variables, optimizer

    def train(variables, optimizer, steps):
        for step in steps:
            scale = gradient_scale(optimizer)
            optimizer.apply([g * scale for g in gradients_of(variables, step)], variables)

    variables, optimizer = begin()
    train(variables, optimizer, range(3))
    slots = {v.path: v.numpy() for v in optimizer.variables}
    assert len(slots) == len(optimizer.variables)
    values = [v.numpy() for v in variables]
    train(variables, optimizer, range(3, 6))

    resumed, fresh = begin()
    assert {v.path for v in fresh.variables} == set(slots)
    for variable, value in zip(resumed, values, strict=True):
        variable.assign(value)
    for variable in fresh.variables:
        variable.assign(slots[variable.path])
    train(resumed, fresh, range(3, 6))
    assert same([v.numpy() for v in variables], [v.numpy() for v in resumed])
    assert same([v.numpy() for v in optimizer.variables], [v.numpy() for v in fresh.variables])
    assert int(fresh.iterations) == 6


@pytest.mark.slow_after(4)
@pytest.mark.exhaustive_after(7)
@pytest.mark.parametrize("name", NAMES)
def test_the_same_settings_give_the_same_bits(name):
    assert same(trained(name), trained(name))


def test_preparing_makes_the_slots_that_the_first_step_would_make():
    variables = make_variables()
    prepared = make_optimizer(OptimizerSettings(optimizer="adamw"), 0.1)
    prepare(prepared, variables)
    assert "adamw/kernel_momentum" in [v.path for v in prepared.variables]
    before = [v.path for v in prepared.variables]
    prepared.apply(gradients_of(variables, 0), variables)
    assert [v.path for v in prepared.variables] == before


def test_an_optimizer_is_prepared_once():
    optimizer, variables = make_optimizer(OptimizerSettings(), 0.1), make_variables()
    prepare(optimizer, variables)
    with pytest.raises(ConfigError, match="'adamw' already has its slots"):
        prepare(optimizer, variables)


def test_loss_scaling_comes_with_float16_only():
    for precision in ("float32", "mixed_bfloat16"):
        optimizer = make_optimizer(OptimizerSettings(), 0.1, precision=precision)
        assert not isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        assert gradient_scale(optimizer) == 1.0
    optimizer = make_optimizer(OptimizerSettings(), 0.1, precision="mixed_float16")
    variables = make_variables()
    prepare(optimizer, variables)
    assert float(optimizer.scale_loss(tf.constant(1.0))) == float(gradient_scale(optimizer)) > 1.0


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_gradient_that_overflows_leaves_the_weights_and_halves_the_scale(num_replicas):
    strategy = make_strategy("mirrored" if num_replicas == 2 else "one_device")
    with strategy.scope():
        variables = make_variables()
        optimizer = make_optimizer(OptimizerSettings(), 0.1, precision="mixed_float16")
        prepare(optimizer, variables)
    before, scale = [v.numpy() for v in variables], float(gradient_scale(optimizer))

    @tf.function
    def step(factor):
        def replica_step():
            optimizer.apply([g * factor for g in gradients_of(variables, 0)], variables)

        strategy.run(replica_step)

    step(tf.constant(np.inf))
    assert same(before, [v.numpy() for v in variables])
    assert float(gradient_scale(optimizer)) == scale / 2
    assert optimizer.iterations.numpy() == 0
    step(tf.constant(1.0))
    assert not same(before, [v.numpy() for v in variables])
    assert optimizer.iterations.numpy() == 1


@needs_muon
def test_muon_leaves_the_class_heads_to_adamw():
    image = keras.Input((4,))
    hidden = keras.layers.Dense(6, name="hidden")(image)
    model = keras.Model(image, keras.layers.Dense(3, name="digit_logits")(hidden))
    optimizer = make_optimizer(OptimizerSettings(optimizer="muon"), 0.1)
    prepare(optimizer, model.trainable_variables)
    paths = {v.path for v in optimizer.variables}
    assert "muon/digit_logits_kernel_velocity" in paths  # a second moment: AdamW
    assert "muon/hidden_kernel_velocity" not in paths


def test_a_keras_without_a_fit_muon_is_refused_with_the_version_needed(monkeypatch):
    class OldMuon(keras.optimizers.Optimizer):
        def __init__(self, learning_rate=0.001, adam_beta_1=0.9, momentum=0.95):
            super().__init__(learning_rate)

    monkeypatch.setattr(keras.optimizers, "Muon", OldMuon)
    with pytest.raises(ConfigError, match=r"muon needs Keras 3\.13 or newer, found 3\."):
        make_optimizer(OptimizerSettings(optimizer="muon"), 0.1)
    monkeypatch.delattr(keras.optimizers, "Muon")
    with pytest.raises(ConfigError, match=r"muon needs Keras 3\.13"):
        make_optimizer(OptimizerSettings(optimizer="muon"), 0.1)


def test_a_keras_that_sums_gradients_elsewhere_is_refused(monkeypatch):
    class Other:
        pass

    monkeypatch.setattr(keras.optimizers, "SGD", Other)
    with pytest.raises(ConfigError, match="does not sum gradients where"):
        make_optimizer(OptimizerSettings(optimizer="sgd"), 0.1)


@pytest.mark.parametrize("name", ["adam", "adamw", "lamb", "muon"])
@pytest.mark.parametrize("beta", ["adam_beta1", "adam_beta2"])
def test_a_beta_of_1_is_refused_where_the_rule_would_divide_by_0(name, beta):
    with pytest.raises(ConfigError, match=f"{beta} is 1, expected less than 1|needs Keras"):
        make_optimizer(OptimizerSettings(optimizer=name, **{beta: 1.0}), 0.1)


def test_what_keras_refuses_names_the_optimizer():
    with pytest.raises(ConfigError, match=r"optimizer lion cannot be made so: .*beta_1"):
        make_optimizer(OptimizerSettings(optimizer="lion", adam_beta1=0.0), 0.1)


def test_an_unknown_optimizer_is_refused_with_near_names():
    with pytest.raises(ConfigError, match=r"Unknown optimizer 'adamv'\. Did you mean adam"):
        make_optimizer(OptimizerSettings(optimizer="adamv"), 0.1)


def test_a_name_is_registered_once(monkeypatch):
    monkeypatch.setattr(optimizers, "_OPTIMIZERS", dict(optimizers._OPTIMIZERS))
    info = OptimizerInfo("adam2", "Adam again.", 0.0, find_optimizer("adam").make)
    assert register(info) is find_optimizer("adam2")
    with pytest.raises(ConfigError, match="'adam2' is registered already"):
        register(info)
