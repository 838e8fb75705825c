"""How a training ends as a process: its status, its last words, and what it leaves."""

import os
import signal
import subprocess
import sys

import pytest

import tiny_runs
from tf_image_classification.checkpoints.store import CheckpointStore

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny_program.py")


@pytest.fixture
def command(tmp_path):
    return [
        sys.executable, PROGRAM, "--train_metadata", tiny_runs.write_records(tmp_path),
        "--model_dir", str(tmp_path / "model"), "--cache_dir", str(tmp_path / "cache"),
        "--image_size", str(tiny_runs.SIZE), "--batch_size", "6", "--train_steps", "40",
        "--save_checkpoints_steps", "2", "--save_summary_steps", "0", "--noexport_saved_model",
    ]  # fmt: skip


def run(command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_the_last_checkpoint_remains(command, tmp_path):
    ended = run([*command, "--full_after", "5"])
    assert ended.returncode == 1
    assert "CheckpointError: The checkpoint of step 6 cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr
    store = CheckpointStore(str(tmp_path / "model" / "checkpoints"))
    assert store.steps() == [0, 2, 4]
    assert store.load(4).step == 4
    assert len(os.listdir(store.folder)) == 2 * len(store.steps())
    again = run(command)
    assert again.returncode == 0, again.stderr
    assert "resumed at step 4" in again.stdout and "step 40" in again.stdout


@pytest.mark.exhaustive
def test_a_disk_too_full_for_the_logs_ends_the_run_with_a_message(command):
    rest = ["--full_after", "5", "--save_checkpoints_steps", "1000", "--save_summary_steps", "1"]
    ended = run([*command, *rest])
    assert ended.returncode == 1
    assert "DataError: The TensorBoard logs cannot be written to" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_with_the_status_that_asks_for_a_restart(command, number, tmp_path):
    with subprocess.Popen(
        [*command, "--step_secs", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not process.stdout.readline().startswith("step 5"):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        _, stderr = process.communicate()
    assert process.returncode == 75, stderr
    assert f"Stopped by {number.name} at step" in stderr
    assert "Start the same command again to resume." in stderr
    assert tiny_runs.last_checkpoint(tmp_path / "model").step in (5, 6, 7)
