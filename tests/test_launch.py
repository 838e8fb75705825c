import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tf_image_classification.cli import launch as launch_verb
from tf_image_classification.errors import ConfigError
from tf_image_classification.launch import launch


def program(text):
    """A Python program in which ``task`` and ``cluster`` are those of TF_CONFIG."""
    begin = "import json, os, sys, time\nconfig = json.loads(os.environ['TF_CONFIG'])\n"
    begin += "task, cluster = config['task'], config['cluster']\n"
    return [sys.executable, "-c", begin + text]


def test_each_task_gets_its_place_and_its_lines_carry_its_name(capfd):
    status = launch(
        program("print(task['type'], task['index'], json.dumps(cluster))"),
        num_workers=2,
        with_evaluator=True,
    )
    lines = sorted(capfd.readouterr().out.splitlines())
    assert status == 0
    assert [line.split(" {")[0] for line in lines] == [
        "[evaluator] evaluator 0",
        "[worker 0] worker 0",
        "[worker 1] worker 1",
    ]
    clusters = [json.loads(line[line.index("{") :]) for line in lines[1:]]
    assert clusters[0] == clusters[1]
    assert len(set(clusters[0]["worker"])) == 2
    assert "evaluator" in clusters[0]


def test_a_failure_is_started_again_as_often_as_allowed(tmp_path, capfd):
    counts = program(
        f"path = {str(tmp_path)!r} + '/' + str(task['index'])\n"
        "with open(path, 'a') as stream: stream.write('x')\n"
        "sys.exit(3 if task['index'] == 1 and os.path.getsize(path) < 3 else 0)"
    )
    assert launch(counts, num_workers=2, max_restarts=2) == 0
    assert capfd.readouterr().out.count("ended with status 3; starting again") == 2
    assert [(tmp_path / name).read_text() for name in "01"] == ["xxx", "xxx"]


def test_without_restarts_the_others_are_stopped_and_the_status_is_that_of_the_failure(capfd):
    text = "print('begun', flush=True)\nif task['index'] == 1: sys.exit(4)\ntime.sleep(600)"
    assert launch(program(text), num_workers=2, grace_secs=0.5) == 4


def test_a_failed_evaluator_starts_again_by_itself(tmp_path):
    text = (
        f"path = {str(tmp_path)!r} + '/' + task['type']\n"
        "with open(path, 'a') as stream: stream.write('x')\n"
        "sys.exit(5 if task['type'] == 'evaluator' and os.path.getsize(path) < 2 else 0)"
    )
    assert launch(program(text), num_workers=1, with_evaluator=True, max_restarts=1) == 0
    assert (tmp_path / "evaluator").read_text() == "xx"
    assert (tmp_path / "worker").read_text() == "x"


def test_each_worker_sees_its_own_gpus(capfd):
    text = "print(os.environ['CUDA_VISIBLE_DEVICES'])"
    launch(program(text), num_workers=2, with_evaluator=True, gpus_per_worker=2)
    lines = sorted(capfd.readouterr().out.splitlines())
    assert lines == ["[evaluator] -1", "[worker 0] 0,1", "[worker 1] 2,3"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells processes of their parent")
def test_the_tasks_end_with_a_launcher_that_is_killed(tmp_path):
    text = f"open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w').close(); time.sleep(600)"
    verb = [sys.executable, "-m", "tf_image_classification.cli.main", "launch", "--workers", "2"]
    launcher = subprocess.Popen([*verb, "--", *program(text)])

    def wait_until(condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    wait_until(lambda: len(os.listdir(tmp_path)) == 2)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    wait_until(lambda: not any(is_running(int(pid)) for pid in os.listdir(tmp_path)))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="'no-such-program' cannot be started"):
        launch(["no-such-program"], num_workers=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "Which command"),
        (["--workers", "0", "--", "true"], "--workers must be 1 or more"),
        (["--workers", "1", "--max_restarts", "-1", "--", "true"], "0 or more"),
        (["--workers", "1", "--grace_secs", "-5", "--", "true"], "0 or more"),
        (["--workers", "1", "--grace_secs", "nan", "--", "true"], "0 or more"),
    ],
)
def test_the_verb_refuses_what_makes_no_sense(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        launch_verb.main(arguments)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


def test_the_verb_hands_on_the_command_with_its_own_flags(capfd):
    command = program("print(sys.argv[1:])")
    assert launch_verb.main(["--workers", "1", "--", *command, "--workers", "7"]) == 0
    assert "[worker 0] ['--workers', '7']" in capfd.readouterr().out
