import json
import os
import signal
import subprocess
import sys

import pytest

from processes import is_running, wait_until
from tf_image_classification.cli import launch as launch_verb
from tf_image_classification.distributed.launch import launch
from tf_image_classification.errors import ConfigError


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
    told = [line for line in capfd.readouterr().out.splitlines() if line.startswith("[launch]")]
    assert told == [
        "[launch] worker 1 ended with status 3",
        "[launch] starting worker 0 and worker 1 again (restart 1 of 2)",
        "[launch] worker 1 ended with status 3",
        "[launch] starting worker 0 and worker 1 again (restart 2 of 2)",
    ]
    assert [(tmp_path / name).read_text() for name in "01"] == ["xxx", "xxx"]


def test_without_restarts_the_others_are_stopped_and_the_status_is_that_of_the_failure(capfd):
    text = "print('begun', flush=True)\nif task['index'] == 1: sys.exit(4)\ntime.sleep(600)"
    assert launch(program(text), num_workers=2, grace_secs=0.5) == 4


@pytest.mark.parametrize(
    ("ending", "status", "words"),
    [
        ("os.kill(os.getpid(), 9)", 75, "was killed by SIGKILL (perhaps out of memory"),
        ("os.kill(os.getpid(), 15)", 75, "was killed by SIGTERM"),
        ("os.kill(os.getpid(), 11)", 139, "was killed by SIGSEGV"),
        ("sys.exit(75)", 75, "ended with status 75"),
        ("sys.exit(3)", 3, "ended with status 3"),
    ],
)
def test_it_says_which_task_died_of_what_with_its_last_lines(ending, status, words, capfd):
    text = f"for i in range(9): print('line', i)\nif task['index'] == 1: {ending}\n"
    assert launch(program(text), num_workers=2) == status
    output = capfd.readouterr().out
    assert f"[launch] worker 1 {words}" in output
    at = output.index("[launch] failed: worker 1")
    assert "[launch]   line 4\n[launch]   line 5\n" in output[at:]
    assert ("Start the same command again to resume." in output) == (status == 75)


def test_what_lost_another_task_is_not_taken_for_the_cause(capfd):
    """A worker that lost another one ends with 75, mostly before that one's death is noticed."""
    text = "if task['index'] == 1: time.sleep(1)\nsys.exit(75 if task['index'] == 0 else 4)"
    assert launch(program(text), num_workers=2) == 4
    assert "[launch] failed: worker 1 ended with status 4." in capfd.readouterr().out


def test_a_task_that_hangs_gets_sigterm_and_then_sigkill_and_it_is_said(tmp_path, capfd):
    text = (
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
        f"path = {str(tmp_path / 'ready')!r}\n"
        "if task['index'] == 0:\n  open(path, 'w').close()\n  while True: time.sleep(1)\n"
        "while not os.path.exists(path): time.sleep(0.05)\n"
        "os.kill(os.getpid(), 9)"
    )
    assert launch(program(text), num_workers=2, grace_secs=0.3, kill_secs=0.5) == 75
    output = capfd.readouterr().out
    lines = [line for line in output.splitlines() if line.startswith("[launch]")]
    assert lines[1:4] == [
        "[launch] waiting 0.3 s (--grace_secs) for worker 0 to end as well",
        "[launch] worker 0 did not end within 0.3 s: SIGTERM to worker 0, SIGKILL in 0.5 s "
        "(--kill_secs)",
        "[launch] worker 0 did not end within 0.5 s: killed",
    ]
    assert output.count("[worker 0] asked") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_lets_a_task_save_also_behind_a_shell_script(number, tmp_path):
    """The shell passes no signal on to the program."""
    saving = (
        "import signal\ndef save(*_): time.sleep(0.3); print('saved', flush=True); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save)\nprint('begun', flush=True)\ntime.sleep(600)"
    )
    script = tmp_path / "run.sh"
    script.write_text('"$@"\necho not reached\n')
    verb = [sys.executable, "-m", "tf_image_classification.cli.main", "launch", "--workers", "1"]
    launcher = subprocess.Popen(
        [*verb, "--", "bash", str(script), *program(saving)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "begun" not in launcher.stdout.readline():
        assert launcher.poll() is None
    launcher.send_signal(number)
    output, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 75
    assert f"stopped by {signal.Signals(number).name}" in output
    assert "[worker 0] saved" in output
    assert error == ""


def test_a_second_ctrl_c_kills_what_does_not_end(tmp_path):
    text = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(os.getpid(), flush=True)\ntime.sleep(600)"
    )
    verb = [sys.executable, "-m", "tf_image_classification.cli.main", "launch", "--workers", "1"]
    launcher = subprocess.Popen(
        [*verb, "--", *program(text)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pid = int(launcher.stdout.readline().split()[-1])
    launcher.send_signal(signal.SIGINT)
    while "SIGTERM to worker 0" not in launcher.stdout.readline():
        assert launcher.poll() is None
    launcher.send_signal(signal.SIGINT)
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 75
    assert error == "Stopped by SIGINT. Start the same command again to resume.\n"
    assert not is_running(pid)


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

    wait_until(lambda: len(os.listdir(tmp_path)) == 2)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    wait_until(lambda: not any(is_running(int(pid)) for pid in os.listdir(tmp_path)))


def test_a_command_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="'no-such-program' cannot be started"):
        launch(["no-such-program"], num_workers=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "missing: COMMAND"),
        (["--workers", "0", "--", "true"], "--workers is 0, expected a whole number of at least 1"),
        (["--workers", "1", "--max_restarts", "-1", "--", "true"], "of at least 0"),
        (["--workers", "1", "--grace_secs", "-5", "--", "true"], "of at least 0"),
        (["--workers", "1", "--grace_secs", "nan", "--", "true"], "expected a finite number"),
        (["--workers", "1", "--kill_secs", "-1", "--", "true"], "of at least 0"),
    ],
)
def test_the_verb_refuses_what_makes_no_sense(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        launch_verb.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_verb_hands_on_the_command_with_its_own_flags(capfd):
    command = program("print(sys.argv[1:])")
    assert launch_verb.main(["--workers", "1", "--", *command, "--workers", "7"]) == 0
    assert "[worker 0] ['--workers', '7']" in capfd.readouterr().out
