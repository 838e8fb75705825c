"""Training on several workers: real processes on this machine's loopback."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

import tiny_runs
from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.distributed.cluster_spec import Task, tf_config

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny_program.py")
STEPS = 16
TIMEOUT_SECS = 240


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        "train": tiny_runs.write_records(folder),
        "evaluation": tiny_runs.write_records(folder, "eval", count=17, seed=1),
    }


def arguments(data, model_dir, *more, steps=STEPS, every=4):
    folder = os.path.dirname(data["train"])
    return [
        sys.executable, PROGRAM, "--model_dir", str(model_dir), "--train_metadata", data["train"],
        "--eval_metadata", data["evaluation"], "--cache_dir", os.path.join(folder, "cache"),
        "--image_size", str(tiny_runs.SIZE), "--batch_size", "6", "--train_steps", str(steps),
        "--learning_rate", "0.01", "--save_checkpoints_steps", str(every), "--noprogress",
        "--save_summary_steps", "0", "--noexport_saved_model", *more,
    ]  # fmt: skip


def launched(workers, command, *options):
    """What ``tfic launch`` ends with and prints."""
    tfic = [sys.executable, "-m", "tf_image_classification.cli.main", "launch"]
    return subprocess.run(
        [*tfic, "--workers", str(workers), *options, "--", *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_SECS,
        check=False,
    )  # fmt: skip


def in_this_process(data, model_dir, spec, **changes):
    return tiny_runs.run(
        spec, model_dir, data["train"], data["evaluation"], train_steps=STEPS,
        save_checkpoints_steps=4, **changes,
    )  # fmt: skip


def assert_close(found, expected, tolerance=2e-5):
    assert found.step == expected.step
    for part in ("model/", "optimizer/"):
        assert tiny_runs.largest_difference(found, expected, beginning=part) < tolerance


def assert_same_evaluations(found, expected):
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-5)
        assert ours["num_examples"] == 17


@pytest.mark.slow
def test_two_workers_train_and_evaluate_as_one(data, tmp_path):
    expected = in_this_process(data, tmp_path / "one", tiny_runs.plain_spec(), eval_every_steps=5)
    ended = launched(2, arguments(data, tmp_path / "two", "--plain", "--eval_every_steps", "5"))
    assert ended.returncode == 0, ended.stdout
    assert "devices: 2 in 2 processes, each computes 3 of the 6 examples" in ended.stdout
    assert ended.stdout.count("new run in") == 1  # one worker speaks for all
    assert_close(tiny_runs.last_checkpoint(tmp_path / "two"), expected)
    assert_same_evaluations(
        tiny_runs.evaluations(tmp_path / "two"), tiny_runs.evaluations(tmp_path / "one")
    )


@pytest.mark.exhaustive
def test_a_run_stopped_on_two_workers_goes_on_on_three_and_on_one(data, tmp_path):
    expected = in_this_process(data, tmp_path / "one", tiny_runs.plain_spec())
    stop = ("--plain", "--signal", "SIGTERM", "--signal_at", "5", "--signal_rank", "1")
    ended = launched(2, arguments(data, tmp_path / "other", *stop, every=1000))
    assert ended.returncode == 75, ended.stdout
    stops = re.findall(r"\[worker (\d)\] Stopped by (.*) at step (\d+) of", ended.stdout)
    assert {worker for worker, _, _ in stops} == {"0", "1"}
    assert {reason for _, reason, _ in stops} == {"SIGTERM", "a signal to another worker"}
    assert len({step for _, _, step in stops}) == 1
    saved = CheckpointStore(str(tmp_path / "other" / "checkpoints")).newest()
    assert 5 <= saved.step <= 7
    assert str(saved.step) == stops[0][2]

    stop = ("--plain", "--signal", "SIGTERM", "--signal_at", str(saved.step + 2))
    os.remove(tmp_path / "other" / "signal_was_sent")
    ended = launched(3, arguments(data, tmp_path / "other", *stop, "--signal_rank", "2"))
    assert ended.returncode == 75, ended.stdout
    assert f"resumed at step {saved.step}" in ended.stdout
    found = in_this_process(data, tmp_path / "other", tiny_runs.plain_spec(), allow_changes=True)
    assert_close(found, expected)


@pytest.mark.slow
def test_after_a_killed_worker_the_job_starts_again_and_ends_with_the_same_bits(data, tmp_path):
    expected = launched(2, arguments(data, tmp_path / "straight"))
    assert expected.returncode == 0, expected.stdout
    kill = ("--signal", "SIGKILL", "--signal_at", "10", "--signal_rank", "1")
    ended = launched(2, arguments(data, tmp_path / "killed", *kill), "--max_restarts", "1")
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"\[worker 0\] WorkerLostError: Lost worker 1 \(127.0.0.1:\d+\)", ended.stdout)
    assert "Traceback" not in ended.stdout
    assert "[launch] worker 1 was killed by SIGKILL" in ended.stdout
    assert "[launch] starting worker 0 and worker 1 again (restart 1 of 1)" in ended.stdout
    assert "[worker 0] resumed at step 8" in ended.stdout
    tiny_runs.assert_same_bits(
        tiny_runs.last_checkpoint(tmp_path / "killed"),
        tiny_runs.last_checkpoint(tmp_path / "straight"),
    )
    assert tiny_runs.evaluations(tmp_path / "killed") == tiny_runs.evaluations(
        tmp_path / "straight"
    )


@pytest.mark.exhaustive
def test_when_the_first_of_three_workers_is_killed_the_others_name_it(data, tmp_path):
    kill = ("--plain", "--signal", "SIGKILL", "--signal_at", "6", "--signal_rank", "0")
    began = time.monotonic()
    ended = launched(3, arguments(data, tmp_path / "model", *kill, steps=10**6))
    assert ended.returncode == 75
    assert "[launch] failed: worker 0 was killed by SIGKILL" in ended.stdout
    for worker in (1, 2):
        assert f"[worker {worker}] WorkerLostError: Lost worker" in ended.stdout
    assert re.search(r"Lost worker 0 \(127.0.0.1:\d+\)", ended.stdout)
    assert time.monotonic() - began < TIMEOUT_SECS
    assert CheckpointStore(str(tmp_path / "model" / "checkpoints")).newest().step == 4


@pytest.mark.exhaustive
def test_synchronised_batch_norm_makes_two_workers_train_as_one(data, tmp_path):
    spec = tiny_runs.TinySpec(noise=0.0)
    # Not with adamw: before a batch normalisation a bias has no gradient but rounding, and adamw
    # makes whole steps of that.
    same = {"sync_batch_norm": True, "optimizer": "momentum"}
    expected = in_this_process(data, tmp_path / "one", spec, **same)
    options = ("--nonoisy", "--sync_batch_norm", "--optimizer", "momentum")
    ended = launched(2, arguments(data, tmp_path / "two", *options))
    assert ended.returncode == 0, ended.stdout
    assert_close(tiny_runs.last_checkpoint(tmp_path / "two"), expected)


@pytest.mark.slow
def test_the_evaluator_evaluates_every_checkpoint_and_keeps_the_best(data, tmp_path):
    expected = in_this_process(data, tmp_path / "one", tiny_runs.plain_spec(), eval_every_steps=4)
    command = arguments(data, tmp_path / "model", "--plain", "--eval_throttle_secs", "0")
    command.remove("--noexport_saved_model")
    ended = launched(1, [*command, "--keep_checkpoint_max", "-1"], "--evaluator")
    assert ended.returncode == 0, ended.stdout
    assert "[evaluator] exported:" in ended.stdout
    assert "[worker 0] exported:" not in ended.stdout
    assert_close(tiny_runs.last_checkpoint(tmp_path / "model"), expected)
    found = tiny_runs.evaluations(tmp_path / "model")
    assert_same_evaluations(found, tiny_runs.evaluations(tmp_path / "one"))
    best = CheckpointStore(str(tmp_path / "model" / "best")).newest()
    assert best.step == min(found, key=lambda line: line["loss"])["step"]

    # Whoever goes on without an evaluator keeps what it has found.
    tiny_runs.run(
        tiny_runs.plain_spec(), tmp_path / "model", data["train"], data["evaluation"],
        train_steps=STEPS + 2, allow_changes=True,
    )  # fmt: skip
    steps = [line["step"] for line in tiny_runs.evaluations(tmp_path / "model")]
    assert steps == [*(line["step"] for line in found), STEPS + 2]


@pytest.mark.exhaustive
def test_an_evaluator_that_was_away_evaluates_what_the_steps_ask_for(data, tmp_path):
    expected = in_this_process(data, tmp_path / "one", tiny_runs.plain_spec(), eval_every_steps=2)
    command = arguments(data, tmp_path / "model", "--plain", "--eval_every_steps", "2", every=3)
    command += ["--keep_checkpoint_max", "1"]
    addresses = {"worker": [f"127.0.0.1:{port}" for port in tiny_runs.free_ports(1)]}
    for task in (Task("worker", 0), Task("evaluator", 0)):  # one after the other
        ended = subprocess.run(
            command, env=os.environ | {"TF_CONFIG": tf_config(addresses, task, has_evaluator=True)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_SECS,
            check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout
    assert_close(tiny_runs.last_checkpoint(tmp_path / "model"), expected)
    found = tiny_runs.evaluations(tmp_path / "model")
    assert [line["step"] for line in found] == list(range(2, STEPS + 1, 2))
    assert_same_evaluations(found, tiny_runs.evaluations(tmp_path / "one"))


@pytest.fixture(scope="module")
def data_with_a_bad_image(data, tmp_path_factory):
    """A CSV of 24 images of which one is none."""
    folder = tmp_path_factory.mktemp("images")
    lines = ["URIs,labels\n"]
    for number in range(24):
        values = np.random.RandomState(number).randint(0, 255, [8, 8, 3], np.uint8)
        image = b"no image" if number == 13 else tf.io.encode_png(values).numpy()
        (folder / f"{number}.png").write_bytes(image)
        lines.append(f"{number}.png,{number % 3}\n")
    (folder / "train.csv").write_text("".join(lines))
    return {**data, "train": str(folder / "train.csv")}


@pytest.mark.exhaustive
def test_a_bad_image_is_left_out_by_the_worker_that_meets_it(data_with_a_bad_image, tmp_path):
    data = data_with_a_bad_image
    expected = in_this_process(data, tmp_path / "one", tiny_runs.plain_spec(), on_bad_image="skip")
    skip = ("--plain", "--on_bad_image", "skip")
    ended = launched(2, arguments(data, tmp_path / "two", *skip))
    assert ended.returncode == 0, ended.stdout
    assert_close(tiny_runs.last_checkpoint(tmp_path / "two"), expected)
    lists = sorted((tmp_path / "two").glob("bad_images*.jsonl"))
    found = {json.loads(line)["where"] for path in lists for line in path.read_text().splitlines()}
    assert len(found) == 1
    assert "13.png" in found.pop()


@pytest.mark.slow
def test_a_bad_image_ends_every_worker_and_is_named_by_one(data_with_a_bad_image, tmp_path):
    ended = launched(2, arguments(data_with_a_bad_image, tmp_path / "model", "--plain"))
    assert ended.returncode == 1, ended.stdout
    assert len(re.findall(r"\[worker \d\] BadImageError: .*13\.png", ended.stdout)) == 1
    assert len(re.findall(r"WorkerLostError: Lost worker \d", ended.stdout)) == 1
    assert "Traceback" not in ended.stdout


@pytest.mark.exhaustive
def test_an_evaluation_by_the_clock_is_made_once(data, tmp_path):
    options = ("--plain", "--eval_throttle_secs", "0.5", "--step_secs", "0.05")
    ended = launched(2, arguments(data, tmp_path / "model", *options, steps=60, every=1000))
    assert ended.returncode == 0, ended.stdout
    steps = [line["step"] for line in tiny_runs.evaluations(tmp_path / "model")]
    assert len(steps) > 2
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert min(gaps[:-1]) > 2  # the last one is the end's


@pytest.mark.exhaustive
def test_evaluations_by_the_clock_and_early_stopping_come_at_one_step_on_all(data, tmp_path):
    options = ("--plain", "--eval_throttle_secs", "0", "--early_stopping_patience", "2")
    options = (*options, "--best_metric", "accuracy", "--learning_rate", "0.1")
    ended = launched(2, arguments(data, tmp_path / "model", *options, steps=400))
    assert ended.returncode == 0, ended.stdout
    stopped = int(re.search(r"stopped: +at step (\d+) of 400", ended.stdout)[1])
    lines = tiny_runs.evaluations(tmp_path / "model")
    assert len(lines) > 2
    assert lines[-1]["step"] == stopped == tiny_runs.last_checkpoint(tmp_path / "model").step


def start(command, addresses, index):
    environment = os.environ | {
        "TF_CONFIG": tf_config({"worker": addresses}, Task("worker", index))
    }
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("started", "message"),
    [
        (0, "Not started within 2 seconds: worker 1 ({1}), worker 2 ({2})"),
        (1, "The worker 0 ({0}) did not start, or not every other worker did, within 2 seconds"),
    ],
)
def test_workers_that_do_not_start_are_named(data, tmp_path, started, message):
    addresses = [f"127.0.0.1:{port}" for port in tiny_runs.free_ports(3)]
    command = arguments(data, tmp_path / "model", "--cluster_timeout_secs", "2")
    process = start(command, addresses, started)
    output, _ = process.communicate(timeout=TIMEOUT_SECS)
    assert process.returncode == 75
    assert f"WorkerLostError: {message.format(*addresses)}" in output
    assert not (tmp_path / "model").exists()


@pytest.mark.exhaustive
def test_workers_that_do_not_share_the_folder_are_told(data, tmp_path):
    addresses = [f"127.0.0.1:{port}" for port in tiny_runs.free_ports(2)]
    processes = [
        start(
            arguments(data, tmp_path / folder, "--plain", "--allow_changes", steps=20),
            addresses, index,
        )
        for index, folder in enumerate(["model", "another"])
    ]  # fmt: skip
    outputs = [process.communicate(timeout=TIMEOUT_SECS)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    for output in outputs:
        assert "worker 1 did not find the file that worker 0 has just written to its" in output
        assert re.search(r"this worker's is .*/(model|another)\. Every worker needs the", output)
    assert [os.listdir(tmp_path / folder) for folder in ("model", "another")] == [[], []]


@pytest.mark.slow
def test_ctrl_c_on_the_launcher_stops_every_worker_once(data, tmp_path):
    tfic = [sys.executable, "-m", "tf_image_classification.cli.main", "launch", "--workers", "2"]
    command = arguments(data, tmp_path / "model", "--plain", "--step_secs", "0.2", steps=10**6)
    launcher = subprocess.Popen(
        [*tfic, "--evaluator", "--", *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lines = []
    for line in launcher.stdout:
        lines.append(line)
        if "step 6" in line:
            launcher.send_signal(signal.SIGINT)
            break
    rest, _ = launcher.communicate(timeout=TIMEOUT_SECS)
    assert launcher.returncode == 75, "".join(lines) + rest
    assert "[worker 0] Stopped by SIGTERM" in rest
    assert "[worker 1] Stopped by" in rest
    assert "[evaluator] Stopped by SIGTERM in the evaluator task" in rest
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    assert record["settings"]["train_steps"] == 10**6
