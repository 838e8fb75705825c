"""What Windows does not have is guarded: modules import, and commands start, without it."""

import ast
import pathlib
import subprocess
import sys

import pytest

import tf_image_classification
from tf_image_classification.distributed.cluster_spec import Task
from tf_image_classification.distributed.task_process import TaskProcess
from tf_image_classification.errors import ConfigError
from tf_image_classification.system import faults

PACKAGE = pathlib.Path(tf_image_classification.__file__).parent
POSIX_MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
POSIX_NAMES = {
    "os": {"fork", "forkpty", "getuid", "geteuid", "killpg", "setsid", "uname", "sysconf", "nice"}
    | {"getloadavg", "getpgid", "sched_getaffinity", "statvfs", "mkfifo", "openpty", "wait"},
    "signal": {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "alarm"},
}
GUARDED = {"distributed/task_process.py", "distributed/launch.py"}  # `tfic launch` rejects Windows

IMPORT_ALL = """
import importlib, pathlib, sys
import keras, starlette, tensorflow, uvicorn  # they may use what they find
import tf_image_classification
for name in {modules!r}:
    sys.modules[name] = None
root = pathlib.Path(tf_image_classification.__file__).parent
for path in sorted(root.rglob("*.py")):
    parts = path.relative_to(root).with_suffix("").parts
    if parts[-1] not in ("__main__", "__init__"):
        importlib.import_module(".".join(["tf_image_classification", *parts]))
from tf_image_classification.cli.main import main
sys.exit(main(["backbones", "--max_params", "1"]))
"""


def test_names_that_windows_lacks_are_used_in_guarded_modules_alone():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}: {node.value.id}.{node.attr}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).as_posix() not in GUARDED
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.attr in POSIX_NAMES.get(node.value.id, ())
    }
    assert not found


def test_files_are_read_and_written_as_utf8_everywhere():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
        if not any(keyword.arg == "encoding" for keyword in node.keywords)
        and not any("b" in str(getattr(mode, "value", "")) for mode in node.args[1:])
    }
    assert not found


@pytest.mark.slow
def test_every_module_imports_and_a_command_runs_without_the_modules_of_posix():
    program = IMPORT_ALL.format(modules=POSIX_MODULES)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "mobilenet_v1_025" in ran.stdout


def test_a_local_cluster_is_rejected_where_it_cannot_be_ended(monkeypatch):
    monkeypatch.setattr("os.name", "nt")
    with pytest.raises(ConfigError, match="TF_CONFIG"):
        TaskProcess(["true"], Task("worker", 0), {})


def test_memory_is_not_known_where_the_system_does_not_count_it(monkeypatch):
    assert faults.peak_memory() > 2**20
    monkeypatch.setattr(faults, "resource", None)
    assert faults.peak_memory() is None
    faults.allow_open_files()
