"""Checkpoints of a run: whole or not there, and found again when damaged."""

import logging
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import train_estimator
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.errors import CheckpointError, DataError, RunMismatchError
from tf_image_classification.estimator_specs import load_spec
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files
from tiny_runs import TinySpec, assert_same_bits, plain_spec, run, tiny_settings, write_records

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


def test_what_a_killed_process_left_behind_is_removed(tmp_path):
    store = CheckpointStore(str(tmp_path), 5)
    store.save(1, TENSORS, {})
    (tmp_path / "step-00000002.data-00000-of-00001").write_bytes(b"its index was never moved")
    (tmp_path / ".unfinished-0").mkdir()
    (tmp_path / ".unfinished-0" / "step.index").write_bytes(b"half")
    store.save(3, TENSORS, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-{step:08d}.{part}" for step in (1, 3) for part in ("data-00000-of-00001", "index")
    ]


DAMAGES = {
    "data cut": (".data-00000-of-00001", lambda b: b[: len(b) // 2]),
    "data flipped": (".data-00000-of-00001", lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:]),
    "data gone": (".data-00000-of-00001", None),
    "index garbage": (".index", lambda b: b"garbage"),
    "index empty": (".index", lambda b: b""),
}


@pytest.fixture(scope="module")
def ended(records, tmp_path_factory):
    """The folder of a run of six steps, and its last checkpoint."""
    folder = tmp_path_factory.mktemp("ended") / "m"
    last = run(TinySpec(), folder, records, train_steps=6, save_checkpoints_steps=2)
    return folder, last


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_one_falls_back_and_ends_with_the_same_bits(
    records, ended, tmp_path, damage, caplog
):
    folder, straight = ended
    shutil.copytree(folder, tmp_path / "m")
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
    assert "The one before is used" in caplog.text and "step-00000006" in caplog.text
    assert_same_bits(again, straight)


def test_nothing_but_damaged_ones_is_an_error_and_no_fresh_start(records, ended, tmp_path):
    shutil.copytree(ended[0], tmp_path / "m")
    folder = tmp_path / "m" / "checkpoints"
    for path in folder.glob("*.index"):
        path.write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="None of the checkpoints"):
        run(TinySpec(), tmp_path / "m", records, train_steps=6)


def test_a_folder_of_another_run_is_refused_with_the_differences(records, ended, tmp_path):
    shutil.copytree(ended[0], tmp_path / "m")

    class OtherSpec(TinySpec):
        pass

    other_data = write_records(tmp_path / "other", seed=5)

    def refused(expected, spec=None, data=records, **changes):
        with pytest.raises(RunMismatchError, match=expected):
            run(spec or TinySpec(), tmp_path / "m", data, train_steps=7, **changes)

    refused("spec: .*TinySpec there, .*OtherSpec now", OtherSpec())
    refused("training set: 40 examples", data=other_data)
    refused("seed: 0 there, 3 now", seed=3)
    refused("batch_size: 6 there, 8 now", batch_size=8)
    refused("labels: ", TinySpec(names=("x", "y", "z")))
    assert run(TinySpec(), tmp_path / "m", records, train_steps=7).step == 7


@pytest.mark.slow
def test_other_labels_of_the_same_records_are_other_data(tmp_path):
    both = write_records(
        tmp_path, labels=lambda i, kind: {"kind": float(kind), "other": i % 2 + 0.0}
    )
    run(plain_spec(), tmp_path / "m", both, train_steps=1)
    with pytest.raises(RunMismatchError, match="training set: 40 examples"):
        run(plain_spec(), tmp_path / "m", both, train_steps=2, label_features=("kind=other",))


@pytest.mark.slow
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


@pytest.mark.slow
def test_other_code_is_another_spec_wherever_it_lies(records, tmp_path):
    source = "from tiny_runs import TinySpec\n\n\nclass Mine(TinySpec):\n    pass\n"
    specs = []
    for name, text in (("a", source), ("b", source), ("c", source + "# other code\n")):
        (tmp_path / f"spec_{name}.py").write_text(text)
        specs.append(load_spec(f"{tmp_path}/spec_{name}.py:Mine"))
    run(specs[0], tmp_path / "m", records, train_steps=1)
    assert run(specs[1], tmp_path / "m", records, train_steps=2).step == 2  # only moved
    with pytest.raises(RunMismatchError, match=r"spec: .*spec_b.py:Mine .*other code in .*spec_c"):
        run(specs[2], tmp_path / "m", records, train_steps=3)
    assert run(specs[2], tmp_path / "m", records, train_steps=3, allow_changes=True).step == 3


@pytest.mark.exhaustive
def test_another_evaluation_set_is_refused_and_a_first_one_is_not(records, tmp_path):
    other = write_records(tmp_path / "other", seed=5)
    run(plain_spec(), tmp_path / "m", records, train_steps=1)
    run(plain_spec(), tmp_path / "m", records, records, train_steps=2)
    with pytest.raises(RunMismatchError, match="evaluation set: .* best checkpoint"):
        run(plain_spec(), tmp_path / "m", records, other, train_steps=3)


def test_two_processes_cannot_train_in_one_folder(records, ended, tmp_path):
    shutil.copytree(ended[0], tmp_path / "m")
    with (
        ModelFolder(str(tmp_path / "m")).locked(),
        pytest.raises(
            RunMismatchError, match=rf"Another process \({os.getpid()} on .*\) is training"
        ),
    ):
        run(TinySpec(), tmp_path / "m", records, train_steps=6)
    assert run(TinySpec(), tmp_path / "m", records, train_steps=6).step == 6
