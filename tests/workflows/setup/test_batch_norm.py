"""What settings do to batch normalisation, and the word about averages that cannot settle."""

import re

import keras
import numpy as np
import pytest

from tf_image_classification.config import make_settings
from tf_image_classification.errors import ConfigError, RunInterrupted
from tf_image_classification.hooks import LoadCheckpointHook
from tf_image_classification.workflows.setup import batch_norm, recipe
from tiny_runs import (
    StopAt,
    TinySpec,
    assert_same_bits,
    largest_difference,
    plain_spec,
    run,
    write_records,
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("records"))


def model(momentum=0.99):
    inputs = keras.Input([4])
    return keras.Model(inputs, keras.layers.BatchNormalization(momentum=momentum)(inputs))


def test_averages_that_cannot_settle_are_told_with_what_to_do():
    text = batch_norm.warning(model(), 82)
    assert "44% will be initial values after 82 steps with momentum 0.99" in text
    assert text.endswith("Use --batch_norm_momentum 0.9, or 299 steps.")
    enough = int(re.search(r"or (\d+) steps", text)[1])
    assert not batch_norm.warning(model(), enough)
    assert batch_norm.warning(model(), enough - 1)
    assert not batch_norm.warning(model(0.9), 82)
    parts = batch_norm.warning(model(), 82, updates_a_step=2)
    assert "19% will" in parts and parts.endswith("or 150 steps.")
    for steps in (1, 2, 9, 20):  # what it advises is enough
        advised = float(re.search(r"momentum (\S+),", batch_norm.warning(model(), steps))[1])
        assert not batch_norm.warning(model(advised), steps)


def test_averages_that_begin_elsewhere_or_stay_are_not_told():
    loaded, frozen, constant = model(), model(), model(momentum=1.0)
    loaded.layers[1].moving_mean.assign(np.ones(4))
    frozen.layers[1].trainable = False
    without = keras.Sequential([keras.Input([4]), keras.layers.Dense(2)])
    for each in (loaded, frozen, constant, without):
        assert batch_norm.warning(each, 1) == ""


@pytest.mark.slow
def test_momentum_moves_the_averages_and_nothing_else(records, tmp_path, capsys):
    spec = TinySpec(noise=0.0)
    slow = run(spec, tmp_path / "slow", records, train_steps=3)
    assert "WARNING: evaluations" in capsys.readouterr().out  # 0.8 ** 3 is a half
    fast = run(spec, tmp_path / "fast", records, train_steps=3, batch_norm_momentum=0.3)
    assert "WARNING" not in capsys.readouterr().out
    changed = {name for name, value in slow.tensors.items() if (fast.tensors[name] != value).any()}
    assert changed == {"model/norm/moving_mean", "model/norm/moving_variance"}


def test_the_recipe_for_initial_weights_lets_averages_settle():
    for num_images, steps in ((20, 60), (300, 600), (10**6, 10**5)):
        facts = recipe.Facts(num_images, True, False, train_steps=steps)
        chosen = {c.name: c.value for c in recipe.choose(facts)}
        assert chosen["batch_norm_momentum"] ** steps < 0.05
    beginning = {"backbone": "mobilenet_v2", "checkpoint_path": "none", "freeze_batch_norm": True}
    settled = make_settings(beginning).with_choices(chosen, "recipe")
    assert settled.model.batch_norm_momentum is None


def test_momentum_without_an_effect_is_refused(records, tmp_path):
    with pytest.raises(ConfigError, match="batch_norm_momentum has no effect: the model has no"):
        run(plain_spec(), tmp_path / "model", records, train_steps=1, batch_norm_momentum=0.9)
    with pytest.raises(ConfigError, match="has no effect with freeze_batch_norm = True"):
        make_settings({"batch_norm_momentum": 0.9, "freeze_batch_norm": True})


# --- after a warm start ----------------------------------------------------------------------


def set_up(each, **changes):
    more = {"train_steps": 136, "has_warm_start": True} | changes
    return batch_norm.set_up(each, make_settings(more.pop("settings", {})), **more)


def test_the_momentum_is_lowered_where_loaded_statistics_would_still_count():
    each = model(0.99)
    text = set_up(each)
    assert each.layers[1].momentum == 0.9
    assert text == (
        "batch normalisation: momentum 0.99 of 1 layers lowered to 0.9, because 25% of the loaded "
        "statistics would remain after 136 steps (--batch_norm_momentum overrides it)"
    )
    for steps in (1, 2, 9, 20, 299):  # it is low enough
        each = model(0.99)
        set_up(each, train_steps=steps)
        assert each.layers[1].momentum ** steps <= 0.05
    parts = model(0.99)
    assert set_up(parts, train_steps=150, settings={"gradient_accumulation_steps": 2}) == ""


def test_the_momentum_stays_where_it_does_not_matter_or_was_given():
    kept = [
        (model(0.99), {"train_steps": 300}),
        (model(0.9), {}),
        (model(1.0), {}),
        (model(0.99), {"has_warm_start": False}),
        (model(0.99), {"settings": {"freeze_batch_norm": True}}),
        (model(0.99), {"settings": {"batch_norm_momentum": 0.995}}),
    ]
    for each, changes in kept:
        before = each.layers[1].momentum
        assert set_up(each, **changes) == ""
        given = changes.get("settings", {}).get("batch_norm_momentum", before)
        assert each.layers[1].momentum == given


def test_weights_that_the_spec_has_loaded_itself_count_too():
    each = model(0.99)
    each.layers[1].moving_mean.assign(np.ones(4))
    assert "lowered" in set_up(each, has_warm_start=False)


@pytest.fixture(scope="module")
def pretrained(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "m"
    run(TinySpec(noise=0.0), folder, records, train_steps=2)
    return str(folder)


@pytest.mark.slow
def test_a_short_run_after_a_warm_start_uses_its_own_statistics(
    records, pretrained, tmp_path, capsys
):
    start = {"checkpoint_path": pretrained, "train_steps": 3, "optimizer": "momentum"}
    auto = run(TinySpec(noise=0.0), tmp_path / "auto", records, **start)
    said = capsys.readouterr().out
    assert "momentum 0.8 of 1 layers lowered to 0.36" in said and "WARNING" not in said
    given = run(TinySpec(noise=0.0), tmp_path / "given", records, **start, batch_norm_momentum=0.36)
    assert_same_bits(auto, given)
    hook = LoadCheckpointHook(pretrained)
    more = {"train_steps": 3, "optimizer": "momentum"}
    hooked = run(TinySpec(noise=0.0), tmp_path / "hook", records, hooks=[hook], **more)
    assert_same_bits(hooked, given)
    with pytest.raises(RunInterrupted):
        run(TinySpec(noise=0.0), tmp_path / "stopped", records, hooks=[StopAt(2)], **start)
    assert_same_bits(run(TinySpec(noise=0.0), tmp_path / "stopped", records, **start), given)
    devices = run(TinySpec(noise=0.0), tmp_path / "two", records, **start, strategy="mirrored",
                  sync_batch_norm=True)  # fmt: skip
    assert largest_difference(devices, given) < 1e-5
