"""A signal at any moment: one line, the status that asks for a restart, and the same bits.

The quick tests send the signal to this process; the others to a real ``tfic``.
"""

import dataclasses
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import signal_program
from signal_program import SPEC, Server, before_call, trap

import tiny_runs
from tf_image_classification import signals
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.cli.main import main
from tf_image_classification.runs import reading

PROGRAM = signal_program.__file__
ROOT = "tf_image_classification"
MOMENTS = {
    "reading": f"{ROOT}.runs.reading:read_data",
    "checking": f"{ROOT}.runs.opening:require_spec",
    "building": f"{ROOT}.runs.assembly:build_model",
    "record": f"{ROOT}.model_folder:ModelFolder.write_record",
    "first save": f"{ROOT}.checkpoints.store:_flush_to_disk",
    "tracing": f"{ROOT}.training.step:StepFunction.__call__",
    "step": f"{ROOT}.hooks.summaries:SummaryHook.after_step",
    "evaluation": f"{ROOT}.runs.assembly:sum_batches",
    "last save": f"{ROOT}.hooks.checkpoints:CheckpointHook.end",
    "export": f"{ROOT}.serving.export:heat_maps_of",
    "moving the export": f"{ROOT}.serving.export:replace_folder",
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


def test_a_run_stopped_at_every_stage_ends_with_the_same_bits(data, straight, stopped, tmp_path):
    again = "Start the same command again to"
    before = "before the first step. Nothing was lost. Start the same command again to train."
    assert stopped((MOMENTS["reading"], signal.SIGHUP)) == f"Stopped by SIGHUP {before}"
    assert not (tmp_path / "model").exists()
    assert stopped((MOMENTS["tracing"], signal.SIGINT)) == f"Stopped by SIGINT {before}"
    store = CheckpointStore(str(tmp_path / "model" / "checkpoints"))
    assert store.steps() == [0]
    line = stopped((MOMENTS["evaluation"], signal.SIGTERM))
    assert line.startswith(f"Stopped by SIGTERM at step 3 of {STEPS}; the state is saved in")
    assert store.steps() == [0, 3]
    line = stopped((MOMENTS["export"], signal.SIGTERM))
    assert line == (
        "Stopped by SIGTERM before the model was exported. The training is complete and saved. "
        f"{again} export it."
    )
    assert not (tmp_path / "model" / "saved_model").exists()
    assert main(arguments(data, tmp_path / "model")) == 0
    assert_ends_like(straight, tmp_path / "model")


def test_a_second_ctrl_c_stops_in_the_middle_of_saving(data, straight, stopped, tmp_path):
    step = (MOMENTS["step"], signal.SIGTERM, 5)
    assert stopped(step, (MOMENTS["first save"], signal.SIGINT, 7)) == (
        "Stopped by SIGINT a second time, before the state was saved. Start the same command again "
        "to resume from the newest checkpoint."
    )
    store = CheckpointStore(str(tmp_path / "model" / "checkpoints"))
    assert store.steps() == [0, 4]
    assert not [name for name in os.listdir(store.folder) if name.startswith(".")]
    # A platform may send its signal twice; that must not cost the state.
    again = (MOMENTS["step"], signal.SIGTERM, 2)
    line = stopped(again, (MOMENTS["first save"], signal.SIGTERM, 1))
    assert line.startswith("Stopped by SIGTERM at step 6")
    assert store.steps() == [0, 4, 6]
    assert main(arguments(data, tmp_path / "model")) == 0
    assert_ends_like(straight, tmp_path / "model")


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


def test_a_disk_that_fills_in_the_export_leaves_a_complete_run(
    data, straight, tmp_path, monkeypatch, capsys
):
    model_dir = tmp_path / "model"
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
    assert error.startswith(f"DataError: The model cannot be exported to {model_dir}/saved_model: ")
    assert "File too large" in error and "Make room" in error
    assert error.endswith(
        "The training is complete and saved. Start the same command again to export it.\n"
    )
    assert error.count("\n") == 1
    assert not [name for name in os.listdir(model_dir) if "saved_model" in name]
    assert main(arguments(data, model_dir)) == 0
    assert_ends_like(straight, model_dir)


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
    monkeypatch.setattr(reading, "read_data", None)
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


NUMBERS = itertools.cycle(signals.NUMBERS)


@pytest.mark.exhaustive
def test_every_moment_with_every_signal(data, straight, server, tmp_path):
    for name, where in MOMENTS.items():
        for number in signals.NUMBERS:
            ended = server.run(arguments(data, tmp_path / "model"), (where, number))
            assert ended.status == 75, (name, number, ended)
            assert len(ended.stderr.splitlines()) == 1, (name, ended.stderr)
            assert signal.Signals(number).name in ended.stderr
            if "export" not in name and "last" not in name:
                shutil.rmtree(tmp_path / "model", ignore_errors=True)
    ended = server.run(arguments(data, tmp_path / "model"))
    assert ended.status == 0, ended.stderr
    assert_ends_like(straight, tmp_path / "model")
