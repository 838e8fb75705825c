"""Weights of other models to start from."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.checkpoints.warm_start import load_values, warm_start
from tf_image_classification.errors import CheckpointError
from tiny_runs import last_checkpoint, plain_spec, run, write_records


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("records"))


def net(name="net"):
    return keras.Sequential(
        [
            keras.Input([4]),
            keras.layers.Dense(3, name="hidden"),
            keras.layers.Dense(2, name="logits"),
        ],
        name=name,
    )


@pytest.fixture
def source():
    model = net()
    model.set_weights([np.random.RandomState(0).normal(size=w.shape) for w in model.get_weights()])
    return model


def save_as(form, model, folder):
    if form == "object graph":
        return tf.train.Checkpoint(model=model).save(str(folder / "model"))
    if form == "saved model":
        model.export(str(folder / "saved"), verbose=False)
        return str(folder / "saved")
    if form == "tensorflow":
        names = {v.path.partition("/")[2]: v.numpy() for v in model.variables}
        tf.raw_ops.SaveV2(
            prefix=str(folder / "model.ckpt"), tensor_names=list(names),
            shape_and_slices=[""] * len(names), tensors=list(names.values()),
        )  # fmt: skip
        return str(folder / "model.ckpt")
    path = str(folder / f"model{form}")
    model.save_weights(path) if form == ".weights.h5" else model.save(path)
    return path


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(
    "form", ["tensorflow", "object graph", "saved model", ".weights.h5", ".h5", ".keras"]
)
@pytest.mark.filterwarnings(
    "ignore:.*HDF5 file via:UserWarning", "ignore:You are saving your model"
)
def test_every_form_of_weights_is_loaded(form, source, tmp_path):
    target = net()
    report = warm_start(target, save_as(form, source, tmp_path))
    assert len(report.loaded) == 4 and not report.initialised and not report.mismatched
    for a, b in zip(target.get_weights(), source.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_a_model_of_another_name_is_understood(source, tmp_path):
    path = save_as("object graph", source, tmp_path)
    target = net("another")
    assert len(warm_start(target, path).loaded) == 4
    assert np.array_equal(target.get_weights()[0], source.get_weights()[0])


@pytest.mark.parametrize("part", [".index", ".data-00000-of-00001"])
def test_a_part_of_a_checkpoint_typed_by_mistake_is_understood(part, source, tmp_path):
    assert len(warm_start(net(), save_as("tensorflow", source, tmp_path) + part).loaded) == 4


def test_what_does_not_fit_is_reported_and_nothing_is_an_error(source, tmp_path):
    path = save_as("tensorflow", source, tmp_path)
    wider = keras.Sequential(
        [
            keras.Input([4]),
            keras.layers.Dense(3, name="hidden"),
            keras.layers.Dense(5, name="logits"),
            keras.layers.Dense(2, name="new"),
        ]
    )
    report = warm_start(wider, path, exclude_scopes=("hidden/bias",))
    assert [name.partition("/")[2] for name in report.loaded] == ["hidden/kernel"]
    assert len(report.mismatched) == 2 and len(report.initialised) == 2
    assert len(report.excluded) == 1 and report.unused == ("hidden/bias",)
    other = keras.Sequential([keras.Input([4]), keras.layers.Dense(2, name="elsewhere")])
    with pytest.raises(CheckpointError, match=r"(?s)Nothing fits.*elsewhere"):
        warm_start(other, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        warm_start(net(), str(tmp_path / "absent.ckpt"))
    os.remove(path + ".data-00000-of-00001")
    with pytest.raises(CheckpointError, match="incomplete: only its .index"):
        warm_start(net(), path)


@pytest.mark.slow
def test_averages_start_from_the_loaded_weights(records, tmp_path):
    run(plain_spec(), tmp_path / "first", records, train_steps=3)
    run(
        plain_spec(), tmp_path / "m", records, train_steps=1, moving_average_decay=0.9,
        checkpoint_path=str(tmp_path / "first"),
    )  # fmt: skip
    start = CheckpointStore(str(tmp_path / "m" / "checkpoints")).load(0).tensors
    trained = last_checkpoint(tmp_path / "first").tensors
    name = "logits/kernel"
    assert np.array_equal(start[f"model/{name}"], trained[f"model/{name}"])
    assert np.array_equal(start[f"average/{name}"], trained[f"model/{name}"])


@pytest.mark.parametrize("form", [".weights.h5", ".keras"])
def test_a_new_head_stays_at_its_initial_weights(form, source, tmp_path):
    path = save_as(form, source, tmp_path)
    target = keras.Sequential(
        [
            keras.Input([4]),
            keras.layers.Dense(3, name="hidden"),
            keras.layers.Dense(7, name="logits"),
        ],
        name="net",
    )
    before = target.layers[1].get_weights()
    report = warm_start(target, path)
    assert report.loaded == ("net/hidden/kernel", "net/hidden/bias")
    assert np.array_equal(target.layers[0].get_weights()[0], source.layers[0].get_weights()[0])
    assert all(map(np.array_equal, target.layers[1].get_weights(), before))


def test_only_the_models_own_name_may_be_left_out(tmp_path):
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "bare"), tensor_names=["kernel", "bias"], shape_and_slices=["", ""],
        tensors=[np.ones([4, 3], np.float32), np.ones(3, np.float32)],
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="Nothing fits"):
        warm_start(net(), str(tmp_path / "bare"))


def test_the_states_of_random_layers_are_no_weights(source, tmp_path):
    path = save_as("tensorflow", source, tmp_path)
    plain, inputs = net(), keras.Input(source.input_shape[1:])
    x = inputs
    for layer in plain.layers:
        x = layer(x)
    target = keras.Model(inputs, keras.layers.Dropout(0.5, seed=1)(x), name=plain.name)
    report = warm_start(target, path)
    assert len(report.loaded) == 4 and not report.initialised


def test_a_normalization_layer_computes_with_the_statistics_that_were_loaded():
    model = keras.Sequential(
        [keras.Input([3]), keras.layers.Normalization(name="scale"), keras.layers.Dense(3)]
    )
    model.layers[1].set_weights([np.eye(3), np.zeros(3)])
    values = {"scale/mean": np.array([1.0, 2.0, 3.0]), "scale/variance": np.full(3, 4.0)}
    load_values(model, {k: v.astype(np.float32) for k, v in values.items()}, "a file")
    np.testing.assert_allclose(model(np.array([[3.0, 2.0, 1.0]])), [[1.0, 0.0, -1.0]])
