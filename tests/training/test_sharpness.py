"""Sharpness-aware minimization: against numpy, in parts, on devices, and with frozen layers."""

import keras
import numpy as np
import pytest

import tiny_runs
from tf_image_classification.hooks import UnfreezeHook

STEP = {
    "train_steps": 1, "optimizer": "sgd", "learning_rate": 0.5, "weight_decay": 0.0,
    "learning_rate_decay_type": "fixed", "batch_size": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tiny_runs.write_records(tmp_path_factory.mktemp("records"), count=8)


class Linear(tiny_runs.TinySpec):
    """A linear classifier that starts at 0."""

    def __init__(self):
        super().__init__(noise=0.0, batch_norm=False)

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            inputs = keras.Input(image_shape)
            head = keras.layers.Dense(3, name="logits", kernel_initializer="zeros")
            return keras.Model(inputs, head(keras.layers.Flatten()(inputs)))

        return model_fn


def seen():
    """Pixels with a 1 for the bias, and classes, of the examples that ``write_records`` draws."""
    random, images = np.random.RandomState(0), []
    for number in range(8):
        image = random.randint(0, 100, [tiny_runs.SIZE, tiny_runs.SIZE, 3], np.uint8)
        image[:, 2 * (number % 3) : 2 * (number % 3) + 2] += 120
        images.append(image.reshape(-1) / 127.5 - 1.0)
    return np.hstack([images, np.ones([8, 1])]), np.arange(8) % 3


def weights(saved):
    return np.vstack([saved.tensors["model/logits/kernel"], saved.tensors["model/logits/bias"]])


@pytest.mark.slow
def test_the_gradient_is_taken_uphill_of_the_weights(records, tmp_path):
    plain = -weights(tiny_runs.run(Linear(), tmp_path / "a", records, **STEP)) / 0.5
    sharp = -weights(tiny_runs.run(Linear(), tmp_path / "b", records, sam_rho=0.3, **STEP)) / 0.5
    x, kinds = seen()

    def gradient(w):
        z = x @ w
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        return x.T @ (p - np.eye(3)[kinds]) / 8

    g = gradient(np.zeros_like(plain))
    np.testing.assert_allclose(plain, g, atol=1e-5)
    np.testing.assert_allclose(sharp, gradient(0.3 * g / np.linalg.norm(g)), atol=1e-5)
    assert abs(sharp - plain).max() > 0.01


SHARP = {"sam_rho": 0.2, "batch_size": 8, "train_steps": 3, "gradient_clip_norm": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"gradient_accumulation_steps": 4}, {"strategy": "mirrored"}])
def test_parts_and_devices_take_the_same_step(records, tmp_path, changes):
    whole = tiny_runs.run(tiny_runs.plain_spec(), tmp_path / "a", records, **SHARP)
    parts = tiny_runs.run(tiny_runs.plain_spec(), tmp_path / "b", records, **SHARP | changes)
    assert tiny_runs.largest_difference(parts, whole) < 2e-5


@pytest.mark.slow
def test_a_run_that_goes_on_ends_with_the_same_bits(records, tmp_path):
    fixed = SHARP | {"learning_rate_decay_type": "fixed", "train_steps": 4}
    straight = tiny_runs.run(tiny_runs.TinySpec(), tmp_path / "a", records, **fixed)
    tiny_runs.run(tiny_runs.TinySpec(), tmp_path / "b", records, **fixed | {"train_steps": 2})
    parts = tiny_runs.run(tiny_runs.TinySpec(), tmp_path / "b", records, **fixed)
    tiny_runs.assert_same_bits(parts, straight)


@pytest.mark.slow
def test_statistics_are_those_of_the_first_pass_and_weights_come_back(records, tmp_path):
    still = SHARP | {"learning_rate": 0.0, "train_steps": 2}
    plain = tiny_runs.run(tiny_runs.TinySpec(), tmp_path / "a", records, **still | {"sam_rho": 0.0})
    sharp = tiny_runs.run(tiny_runs.TinySpec(), tmp_path / "b", records, **still)
    for name, value in plain.tensors.items():
        if name.startswith("model/"):
            np.testing.assert_array_equal(sharp.tensors[name], value, err_msg=name)


@pytest.mark.slow
def test_layers_that_a_hook_freezes_stay_out_of_the_norm(records, tmp_path):
    options = STEP | {"sam_rho": 0.2, "train_steps": 1}
    by_hook = tiny_runs.run(
        tiny_runs.plain_spec(), tmp_path / "a", records,
        hooks=[UnfreezeHook(["hidden"], at_step=9)], **options,
    )  # fmt: skip
    by_scope = tiny_runs.run(
        tiny_runs.plain_spec(), tmp_path / "b", records, trainable_scopes=("logits",), **options
    )
    for name in ("model/logits/kernel", "model/hidden/kernel"):
        np.testing.assert_allclose(by_hook.tensors[name], by_scope.tensors[name], atol=1e-6)
