"""Checkpoints: whole or not there, found again when damaged, and weights to start from."""

import logging
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import files, train_estimator
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.checkpoints.warm_start import warm_start
from tf_image_classification.errors import CheckpointError, DataError, RunMismatchError
from tiny_runs import (
    TinySpec,
    assert_same_bits,
    last_checkpoint,
    plain_spec,
    run,
    tiny_settings,
    write_records,
)

TENSORS = {"model/a": np.arange(6.0).reshape(2, 3), "step": np.int64(3)}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("records"))


def test_what_is_saved_is_loaded(tmp_path):
    store = CheckpointStore(str(tmp_path / "c"))
    path = store.save(3, TENSORS, {"position": 7, "name": "ü"})
    saved = store.load(3)
    assert saved.step == 3 and saved.notes == {"position": 7, "name": "ü"}
    assert np.array_equal(saved.tensors["model/a"], TENSORS["model/a"])
    assert tf.train.load_checkpoint(path).get_tensor("step") == 3  # TensorFlow's own reader


@pytest.mark.parametrize(("keep", "left"), [(2, [4, 5]), (1, [5]), (-1, [1, 2, 3, 4, 5])])
def test_the_newest_remain(tmp_path, keep, left):
    store = CheckpointStore(str(tmp_path), keep)
    for step in range(1, 6):
        store.save(step, TENSORS, {})
    assert store.steps() == left
    assert len(os.listdir(tmp_path)) == 2 * len(left)


def test_a_failed_write_leaves_the_older_ones(tmp_path, monkeypatch):
    store = CheckpointStore(str(tmp_path), 1)
    store.save(1, TENSORS, {})
    full = tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    def failing(**arguments):
        with open(arguments["prefix"] + ".data-00000-of-00001", "wb") as stream:
            stream.write(b"half")
        raise full

    monkeypatch.setattr(tf.raw_ops, "SaveV2", failing)
    os.makedirs(tmp_path, exist_ok=True)
    with pytest.raises(CheckpointError, match="step 2 cannot be written"):
        store.save(2, TENSORS, {})
    assert store.steps() == [1] and store.load(1).step == 1
    assert len(os.listdir(tmp_path)) == 2


def test_a_write_cut_between_its_two_files_is_not_seen(tmp_path, monkeypatch):
    store = CheckpointStore(str(tmp_path), 5)
    store.save(1, TENSORS, {})
    rename, calls = files.rename, []

    def cut(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt  # as good as the end of the process
        rename(source, target)

    monkeypatch.setattr(files, "rename", cut)
    with pytest.raises(KeyboardInterrupt):
        store.save(2, TENSORS, {})
    assert calls[0].endswith(".data-00000-of-00001")
    assert store.steps() == [1]
    monkeypatch.undo()
    store.save(2, TENSORS, {})
    assert store.steps() == [1, 2] and store.load(2).step == 2
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


DAMAGES = {
    "data cut": (".data-00000-of-00001", lambda b: b[: len(b) // 2]),
    "data flipped": (".data-00000-of-00001", lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:]),
    "data gone": (".data-00000-of-00001", None),
    "index garbage": (".index", lambda b: b"garbage"),
    "index empty": (".index", lambda b: b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_one_falls_back_and_ends_with_the_same_bits(
    records, tmp_path, damage, caplog
):
    straight = run(TinySpec(), tmp_path / "straight", records, train_steps=6)
    run(TinySpec(), tmp_path / "m", records, train_steps=6, save_checkpoints_steps=2)
    store = CheckpointStore(str(tmp_path / "m" / "checkpoints"))
    suffix, change = DAMAGES[damage]
    path = store.prefix(6) + suffix
    if change is None:
        os.remove(path)
    else:
        with open(path, "rb") as stream:
            content = stream.read()
        with open(path, "wb") as stream:
            stream.write(change(content))
    with caplog.at_level(logging.WARNING):
        again = run(TinySpec(), tmp_path / "m", records, train_steps=6, save_checkpoints_steps=2)
    assert "Falling back" in caplog.text and "step-00000006" in caplog.text
    assert_same_bits(again, straight)


def test_nothing_but_damaged_ones_is_an_error_and_no_fresh_start(records, tmp_path):
    run(plain_spec(), tmp_path / "m", records, train_steps=2)
    folder = tmp_path / "m" / "checkpoints"
    for path in folder.glob("*.index"):
        path.write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="None of the checkpoints"):
        run(plain_spec(), tmp_path / "m", records, train_steps=2)


def test_a_folder_of_another_run_is_refused_with_the_differences(records, tmp_path):
    run(plain_spec(), tmp_path / "m", records, train_steps=2)

    class OtherSpec(TinySpec):
        pass

    other_data = write_records(tmp_path / "other", seed=5)

    def refused(expected, spec=None, data=records, **changes):
        with pytest.raises(RunMismatchError, match=expected):
            run(spec or plain_spec(), tmp_path / "m", data, train_steps=4, **changes)

    refused("spec: .*TinySpec there, .*OtherSpec now", OtherSpec(noise=0.0, batch_norm=False))
    refused("training set: 40 examples", data=other_data)
    refused("seed: 0 there, 3 now", seed=3)
    refused("batch_size: 6 there, 8 now", batch_size=8)
    refused("labels: ", plain_spec(names=("x", "y", "z")))
    assert run(plain_spec(), tmp_path / "m", records, train_steps=4).step == 4


def test_a_pretrained_checkpoint_is_not_read_again_on_resume(records, tmp_path):
    run(plain_spec(), tmp_path / "first", records, train_steps=2)
    source = str(tmp_path / "first")
    run(plain_spec(), tmp_path / "m", records, train_steps=2, checkpoint_path=source)
    files.remove(source)
    saved = run(plain_spec(), tmp_path / "m", records, train_steps=4, checkpoint_path=source)
    assert saved.step == 4


def test_a_model_folder_that_cannot_be_written_is_found_before_training(records, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        train_estimator.train(
            plain_spec(), tiny_settings(tmp_path / "file" / "m", records, train_steps=1)
        )


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


@pytest.mark.parametrize("form", ["tensorflow", ".weights.h5", ".keras"])
def test_every_form_of_weights_is_loaded(form, source, tmp_path):
    target = net()
    report = warm_start(target, save_as(form, source, tmp_path))
    assert len(report.loaded) == 4 and not report.initialised and not report.mismatched
    for a, b in zip(target.get_weights(), source.get_weights(), strict=True):
        assert np.array_equal(a, b)


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
    with pytest.raises(CheckpointError, match="cannot be read"):
        warm_start(net(), path)


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
