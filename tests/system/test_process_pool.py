"""Helping processes end with the one that started them."""

import multiprocessing.synchronize
import os
import signal
import subprocess
import sys

import pytest

from processes import is_running, wait_until
from tf_image_classification.errors import DataError
from tf_image_classification.system.process_pool import process_pool


def square(number):
    return number * number


def kill_itself(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_values_come_back_in_order_or_as_they_are_ready():
    with process_pool(2) as pool:
        assert list(pool.map_in_order(square, range(5), at_once=2)) == [0, 1, 4, 9, 16]
        assert sorted(pool.map(square, range(3))) == [0, 1, 4]


def test_a_helper_that_is_killed_is_an_error_with_advice():
    why = "was killed, perhaps because memory ran out"
    with pytest.raises(DataError, match=why), process_pool(1) as pool:
        list(pool.map(kill_itself, [1]))


def test_a_machine_that_cannot_start_any_is_told_with_advice(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "_make_name", full)
    why = "No space left on device. They need room in /dev/shm"
    with pytest.raises(DataError, match=why), process_pool(1):
        pass


PROGRAM = """
import os, sys, time
from tf_image_classification.system.process_pool import process_pool

def work(number):
    open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
    time.sleep(600)

if __name__ == "__main__":
    with process_pool(2) as pool:
        list(pool.map(work, range(4)))
"""


@pytest.fixture
def busy(tmp_path):
    """A process whose two helpers are at work, and a function that gives those that still run."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "pids").mkdir()
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "pids")],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip

    def helpers():
        return [int(name) for name in os.listdir(tmp_path / "pids") if is_running(int(name))]

    wait_until(lambda: len(helpers()) == 2)
    yield process, helpers
    process.kill()
    process.wait()
    process.stderr.close()


def test_ctrl_c_reaches_the_helpers_only_through_the_process(busy):
    process, helpers = busy
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate()[1]
    assert error.count("Traceback") == error.count("KeyboardInterrupt") == 1, error
    wait_until(lambda: not helpers())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells processes of their parent")
def test_helpers_end_with_a_process_that_is_killed(busy):
    process, helpers = busy
    process.kill()
    wait_until(lambda: not helpers())
