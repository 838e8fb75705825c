"""A signal at any moment: one line, the status that asks for a restart, and the same bits.

The quick tests send the signal to this process; the others to a real ``tfic``.
"""

import dataclasses
import fcntl
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
import signal_program
import tensorflow as tf
from signal_program import SPEC, Server, before_call, trap

import tiny_runs
from processes import wait_until
from tf_image_classification import train_estimator
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.cli.main import main
from tf_image_classification.dataset.tfrecord import write_shards
from tf_image_classification.errors import RunInterrupted
from tf_image_classification.system import signals
from tf_image_classification.workflows.setup import run_data

PROGRAM = signal_program.__file__
ROOT = "tf_image_classification"
MOMENTS = {
    "reading": f"{ROOT}.workflows.setup.run_data:read_data",
    "checking": f"{ROOT}.workflows.setup.validate:require_spec",
    "building": f"{ROOT}.workflows.setup.build:build_model",
    "record": f"{ROOT}.model_folder:ModelFolder.write_manifest",
    "save": f"{ROOT}.checkpoints.store:_flush_to_disk",
    "tracing": f"{ROOT}.training.step:StepFunction.__call__",
    "step": f"{ROOT}.hooks.summaries:SummaryHook.after_step",
    "evaluation": f"{ROOT}.workflows.setup.evaluator:sum_batches",
    "last save": f"{ROOT}.hooks.checkpoints:CheckpointHook.end",
    "export": f"{ROOT}.export.saved_model:heat_maps_of",
    "moving the export": f"{ROOT}.export.saved_model:replace_folder",
}
STEPS = 9
"""All moments come in one run of as many steps, also after it was resumed from a later one."""


def arguments(data, model_dir, *more):
    return [
        "train", "--spec", SPEC, "--train_metadata", data.train, "--eval_metadata",
        data.evaluation, "--model_dir", str(model_dir), "--cache_dir", data.cache,
        "--image_size", str(tiny_runs.SIZE), "--batch_size", "6", "--train_steps", str(STEPS),
        "--save_checkpoints_steps", "4", "--eval_every_steps", "3", "--save_summary_steps", "2",
        "--learning_rate", "0.01", "--noprogress", "--strategy", "one_device", *more,
    ]  # fmt: skip


def can_unshare():
    """Whether this process may make another one that is the first of its kind."""
    command = ["unshare", "--pid", "--fork", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, check=False).returncode == 0


@dataclasses.dataclass(frozen=True)
class Data:
    train: str
    evaluation: str
    cache: str


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return Data(
        tiny_runs.write_records(folder),
        tiny_runs.write_records(folder, "eval", count=16, seed=1),
        str(folder / "cache"),
    )


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """The model folder of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("straight")
    assert main(arguments(data, folder)) == 0
    return folder


@pytest.fixture
def stopped(data, tmp_path, monkeypatch, capsys):
    """Runs the training with a signal at a moment; checks how it ends, and gives its one line."""

    def run(*moments):
        with monkeypatch.context() as patch:
            for moment in moments:
                trap(*moment, put=patch.setattr)
            with pytest.raises(SystemExit) as ended:
                main(arguments(data, tmp_path / "model"))
        error = capsys.readouterr().err
        assert ended.value.code == 75, error
        assert len(error.splitlines()) == 1 and "Traceback" not in error
        return error.strip()

    return run


def assert_ends_like(straight, model_dir):
    tiny_runs.assert_same_bits(
        tiny_runs.last_checkpoint(model_dir), tiny_runs.last_checkpoint(straight)
    )
    assert tiny_runs.evaluations(model_dir) == tiny_runs.evaluations(straight)
    for name in ("step.json", "saved_model.pb"):
        assert (model_dir / "saved_model" / name).exists()


@pytest.mark.slow
def test_a_run_stopped_at_every_stage_ends_with_the_same_bits(data, straight, stopped, tmp_path):
    store = CheckpointStore(str(tmp_path / "model" / "checkpoints"))
    before = "before the first step. Nothing was lost. Start the same command again to train."
    assert stopped((MOMENTS["reading"], signal.SIGHUP)) == f"Stopped by SIGHUP {before}"
    assert not (tmp_path / "model").exists()
    assert stopped((MOMENTS["tracing"], signal.SIGINT)) == f"Stopped by SIGINT {before}"
    assert store.steps() == [0]
    # A second Ctrl-C does not wait for the state to be saved ...
    step, saving = (MOMENTS["step"], signal.SIGTERM), MOMENTS["save"]
    assert stopped(step, (saving, signal.SIGINT)) == (
        "Stopped by SIGINT a second time, before the state was saved. Start the same command again "
        "to resume from the newest checkpoint."
    )
    assert store.steps() == [0]
    assert not [name for name in os.listdir(store.folder) if name.startswith(".")]
    # ... but a platform that sends its signal twice must not cost the state.
    assert stopped(step, (saving, signal.SIGTERM)).startswith(
        f"Stopped by SIGTERM at step 1 of {STEPS}; the state is saved in"
    )
    assert store.steps() == [0, 1]
    line = stopped((MOMENTS["evaluation"], signal.SIGTERM))
    assert line.startswith(f"Stopped by SIGTERM at step 3 of {STEPS}; the state is saved in")
    assert store.steps() == [0, 1, 3]
    assert stopped((MOMENTS["export"], signal.SIGTERM)) == (
        "Stopped by SIGTERM before the model was exported. The training is complete and saved. "
        "Start the same command again to export it."
    )
    assert not (tmp_path / "model" / "saved_model").exists()
    assert main(arguments(data, tmp_path / "model")) == 0
    assert_ends_like(straight, tmp_path / "model")


def test_a_program_and_the_python_api_are_stopped_alike(data, tmp_path, monkeypatch, capsys):
    words = "Stopped by SIGTERM before the first step. Nothing was lost."
    trap(MOMENTS["reading"], signal.SIGTERM, put=monkeypatch.setattr)
    flags = arguments(data, tmp_path / "model")[3:]
    with pytest.raises(SystemExit) as ended:
        train_estimator.train(tiny_runs.TinySpec(), argv=flags)
    assert ended.value.code == 75
    assert capsys.readouterr().err.startswith(words)
    trap(MOMENTS["reading"], signal.SIGTERM, put=monkeypatch.setattr)
    with pytest.raises(RunInterrupted, match=f"^{words}"):
        tiny_runs.run(tiny_runs.TinySpec(), tmp_path / "model", data.train)


def test_a_signal_while_tensorflow_is_imported_ends_with_a_line(data, tmp_path):
    request = {
        "arguments": arguments(data, tmp_path / "model"),
        "moments": [["import:tensorflow.python.eager.context", signal.SIGINT]],
    }
    ended = subprocess.run(
        [sys.executable, PROGRAM, json.dumps(request)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 75
    assert ended.stderr == "Stopped by SIGINT. Start the same command again to train.\n"


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_disk_that_fills_in_the_export_leaves_a_complete_run(
    data, straight, tmp_path, monkeypatch, capsys
):
    model_dir = tmp_path / "model"
    shutil.copytree(straight, model_dir)
    shutil.rmtree(model_dir / "saved_model")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        before_call(MOMENTS["export"], fill, put=patch.setattr)
        try:
            main(arguments(data, model_dir))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    error = capsys.readouterr().err
    assert ended.value.code == 1
    complete = "ExportError: The training is complete, but its model could not be exported to"
    assert error.startswith(f"{complete} {model_dir}/saved_model: ")
    assert "File too large. Make room" in error
    assert error.endswith("start the same command again: it trains no more and exports.\n")
    assert error.count("\n") == 1
    assert not [name for name in os.listdir(model_dir) if "saved_model" in name]
    assert main(arguments(data, model_dir)) == 0
    assert_ends_like(straight, model_dir)


@pytest.mark.slow
def test_a_folder_that_is_removed_while_it_is_trained_in_is_written_again(
    data, straight, tmp_path, monkeypatch, caplog
):
    model_dir, calls = tmp_path / "model", []

    def remove():
        calls.append(1)
        if len(calls) == 4:
            shutil.rmtree(model_dir)

    with monkeypatch.context() as patch:
        before_call(MOMENTS["step"], remove, put=patch.setattr)
        assert main(arguments(data, model_dir)) == 0
    assert f"{model_dir} was removed while the run trains in it" in caplog.text
    tiny_runs.assert_same_bits(
        tiny_runs.last_checkpoint(model_dir), tiny_runs.last_checkpoint(straight)
    )
    assert tiny_runs.evaluations(model_dir) == tiny_runs.evaluations(straight)[1:]
    assert sorted(os.listdir(model_dir)) == [
        "best", "checkpoints", "labels.json", "metrics.jsonl", "run.json", "saved_model",
        "tensorboard",
    ]  # fmt: skip
    assert main(["evaluate", "--model_dir", str(model_dir), "--cache_dir", data.cache]) == 0


@pytest.mark.slow
def test_a_training_goes_on_without_a_reader_and_with_a_clock_that_jumps(
    data, straight, tmp_path, monkeypatch
):
    reader, writer = os.pipe()
    os.close(reader)
    times = itertools.count(2e9, -3600.0)
    with open(writer, "w", buffering=1) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(time, "time", lambda: next(times))
        assert main(arguments(data, tmp_path / "model")) == 0
    assert_ends_like(straight, tmp_path / "model")


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_model_folder_that_cannot_be_written_is_refused_before_data_are_read(
    data, tmp_path, below, monkeypatch, capsys
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(run_data, "read_data", None)
    with pytest.raises(SystemExit) as ended:
        main(arguments(data, tmp_path / "file" / below))
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert f"cannot be written: '{tmp_path}/file': it is not a folder. Choose another" in error


# --- the sweep, with processes of their own ----------------------------------------------------


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


@pytest.mark.exhaustive
def test_every_moment_ends_with_the_same_bits(data, straight, server, tmp_path):
    numbers = itertools.cycle(signals.NUMBERS)
    for (name, where), number in zip(MOMENTS.items(), numbers, strict=False):
        ended = server.run(arguments(data, tmp_path / "model"), (where, number))
        assert ended.status == 75, (name, number, ended)
        assert len(ended.stderr.splitlines()) == 1, (name, ended.stderr)
        assert f"Stopped by {signal.Signals(number).name}" in ended.stderr
    ended = server.run(arguments(data, tmp_path / "model"))
    assert ended.status == 0, ended.stderr
    assert_ends_like(straight, tmp_path / "model")


def started(command, **more):
    """A real ``tfic`` that handles signals from now on."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"{ROOT}.cli.main", *command],
        stdout=subprocess.DEVNULL, text=True, **{"stderr": subprocess.PIPE, **more},
    )  # fmt: skip

    def handles_signals():
        assert process.poll() is None
        return handles_sigterm(process.pid)

    wait_until(handles_signals)
    return process


def handles_sigterm(pid):
    with open(f"/proc/{pid}/status") as stream:
        caught = next(line.split()[1] for line in stream if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.exhaustive
def test_a_run_stopped_at_random_times_ends_with_the_same_bits(data, straight, tmp_path):
    dice, command = random.Random(0), arguments(data, tmp_path / "model")
    began = time.monotonic()
    assert started(arguments(data, tmp_path / "timed"), stderr=None).wait(600) == 0
    whole_secs = time.monotonic() - began
    for _ in range(12):
        process = started(command)
        time.sleep(dice.uniform(0, whole_secs))
        number = dice.choice(signals.NUMBERS)
        process.send_signal(number)
        error = process.communicate(timeout=600)[1]
        assert process.returncode in (0, 75), error
        assert len(error.splitlines()) == (process.returncode == 75), error
    assert main(command) == 0
    assert_ends_like(straight, tmp_path / "model")


@pytest.mark.exhaustive
def test_a_terminal_that_is_closed_stops_and_saves(data, tmp_path):
    """Nobody reads its last line; its status is that of every stop."""
    controller, terminal = os.openpty()

    def take_terminal():
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    streams = {"stdin": terminal, "stderr": terminal, "preexec_fn": take_terminal}
    process = started(arguments(data, tmp_path / "model", "--train_steps", "100000"), **streams)
    os.close(terminal)
    checkpoints = tmp_path / "model" / "checkpoints"
    wait_until(lambda: checkpoints.is_dir() and len(os.listdir(checkpoints)) > 4)
    os.close(controller)
    assert process.wait(600) == 75
    saved = tiny_runs.last_checkpoint(tmp_path / "model")
    assert 0 < saved.step < 100_000


@pytest.mark.exhaustive
@pytest.mark.skipif(not can_unshare(), reason="no namespace of processes can be made here")
def test_the_first_process_of_a_container_stops_and_saves(data, tmp_path):
    command = arguments(data, tmp_path / "model", "--train_steps", "100000")
    outer = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", f"{ROOT}.cli.main",
         *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    checkpoints = tmp_path / "model" / "checkpoints"
    wait_until(lambda: checkpoints.is_dir() and len(os.listdir(checkpoints)) > 4)
    with open(f"/proc/{outer.pid}/task/{outer.pid}/children") as stream:
        os.kill(int(stream.read()), signal.SIGTERM)
    error = outer.communicate(timeout=600)[1]
    assert outer.returncode == 75
    assert error.startswith("Stopped by SIGTERM at step")


@pytest.mark.exhaustive
def test_more_shards_than_files_that_may_be_open_are_told_in_a_line(data, server, tmp_path):
    examples = ((b"", f"{i}.png", {"kind": float(i % 3)}) for i in range(200))
    images = itertools.cycle(
        tf.io.encode_png(np.full([8, 8, 3], 80 * i, np.uint8)).numpy() for i in range(3)
    )
    whole = ((next(images), uri, labels) for _, uri, labels in examples)
    write_shards(str(tmp_path), "many", whole, num_shards=200)
    command = arguments(
        dataclasses.replace(data, train=str(tmp_path / "many-*")), tmp_path / "model"
    )
    ended = server.run(command, most_files=64)
    assert ended.status == 1
    assert ended.stderr.endswith(
        "Too many open files. Raise the limit of open files (ulimit -n 4096).\n"
    )
    assert ended.stderr.count("\n") == 1


# --- damaged files -----------------------------------------------------------------------------

HARMS = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "its last byte gone": lambda data: data[:-1],
    "zeros": lambda data: bytes(len(data)),
    "half zeros": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "other bytes": lambda data: random.Random(len(data)).randbytes(max(10, len(data))),
    "other JSON": lambda data: b'{"a": 1}\n',
}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The folder of a run that is not complete, with everything that other verbs put there."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    assert main([*arguments(data, folder), "--train_steps", "6"]) == 0
    assert main(["evaluate", "--model_dir", str(folder), "--cache_dir", data.cache]) == 0
    assert main(["report", str(folder), "--noinspect"]) == 0
    (folder / "bad_images.jsonl").write_text('{"where": "a", "reason": "b"}\n')
    return folder


READERS = {
    "train": ("run.json", "metrics.jsonl", "bad_images.jsonl", "data.json", ".lock", "checkpoints",
              "best", "saved_model/step.json"),
    "evaluate": ("run.json", "evaluations.jsonl", "saved_model"),
    "report": ("run.json", "metrics.jsonl", "evaluations.jsonl", "predictions.parquet"),
    "predict": ("run.json", "calibration.json", "saved_model"),
}  # fmt: skip


@pytest.mark.exhaustive
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("verb", READERS)
def test_a_damaged_file_is_repaired_or_named(
    data, straight, whole, tmp_path, verb, harm, capsys, caplog
):
    image = tmp_path / "image.png"
    image.write_bytes(tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)).numpy())
    for path in sorted(whole.rglob("*")):
        name = str(path.relative_to(whole))
        if not path.is_file() or not name.startswith(READERS[verb]):
            continue
        folder = tmp_path / "model"
        shutil.copytree(whole, folder)
        (folder / name).write_bytes(HARMS[harm](path.read_bytes()))
        command = {
            "train": arguments(data, folder, "--allow_changes"),
            "evaluate": ["evaluate", "--model_dir", str(folder), "--cache_dir", data.cache],
            "report": ["report", str(folder), "--noinspect"],
            "predict": ["predict", str(folder), str(image), "--output", str(tmp_path / "o.csv")],
        }[verb]
        try:
            status = main(command)
        except SystemExit as ended:
            status = ended.code
        error = capsys.readouterr().err
        assert status in (0, 1) and len(error.splitlines()) <= 2, (name, error)
        if status == 1:
            assert name.partition("/")[0] in error or str(folder / name) in caplog.text
        elif verb == "train":
            tiny_runs.assert_same_bits(
                tiny_runs.last_checkpoint(folder), tiny_runs.last_checkpoint(straight)
            )
        shutil.rmtree(folder)
