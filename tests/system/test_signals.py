"""What signals do inside the blocks that handle them."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tf_image_classification.errors import ConfigError, RunInterrupted
from tf_image_classification.system import signals

AGAIN = {"again": "Start it again.", "resumes": True}


@pytest.fixture(autouse=True)
def quiet_handlers():
    """A signal that a test leaves to the process must not end it."""
    before = {number: signal.signal(number, lambda *_: None) for number in signals.NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_a_signal_is_an_exception_with_the_message_of_the_stage(number):
    with pytest.raises(signals.Stopped) as stopped, signals.handled():
        with signals.stage("while reading", again="", resumes=False):
            pass
        with signals.stage("while exporting", **AGAIN):
            os.kill(os.getpid(), number)
    name = signal.Signals(number).name
    assert str(stopped.value) == f"Stopped by {name} while exporting. Start it again."
    assert stopped.value.exit_code == 75
    assert signals.received() == ""


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_what_does_not_resume_ends_with_the_status_of_a_shell(number):
    with pytest.raises(signals.Stopped) as stopped, signals.handled():
        os.kill(os.getpid(), number)
    assert stopped.value.exit_code == 128 + number
    assert str(stopped.value) == f"Stopped by {signal.Signals(number).name}."


def test_the_handlers_before_come_back():
    before = [signal.getsignal(number) for number in signals.NUMBERS]
    with signals.handled(), signals.deferred():
        pass
    assert [signal.getsignal(number) for number in signals.NUMBERS] == before


def test_a_signal_that_was_ignored_stays_ignored():
    """As under nohup, and in the background of a shell without job control."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.handled():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received() == ""


def test_a_deferred_signal_is_noted_and_told_when_asked_for():
    with signals.handled():
        with signals.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.received() == "SIGTERM"
            os.kill(os.getpid(), signal.SIGHUP)
        with (
            signals.stage("later", **AGAIN),
            pytest.raises(signals.Stopped, match="^Stopped by SIGTERM later. Start it again.$"),
        ):
            signals.check()


def test_only_a_second_ctrl_c_does_not_wait():
    with signals.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(signals.Stopped, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_function_may_be_called_at_the_first_signal():
    calls = []
    with signals.deferred(then=lambda: calls.append(1)):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert calls == [1]


def test_what_cleans_up_is_not_disturbed_by_the_same_signal_to_the_whole_group():
    cleaned = []
    with pytest.raises(signals.Stopped), signals.handled():
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(1)
    assert cleaned == [1]


def test_an_error_that_a_signal_was_turned_into_counts_as_the_signal():
    """Code of C++ that calls Python raises another error when that fails."""
    with (
        pytest.raises(RunInterrupted, match="^Stopped by SIGTERM while tracing. Start it again.$"),
        signals.resumable("while tracing", again="Start it again."),
    ):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            raise ImportError("initialization failed") from None


def test_an_error_of_its_own_is_not_taken_for_a_signal_that_was_only_noted():
    with pytest.raises(ConfigError), signals.resumable("", again=""), signals.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ConfigError("wrong")


def test_a_signal_that_is_lost_where_nobody_can_catch_it_comes_again(capsys):
    class Unlucky:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(signals.Stopped), signals.handled():
        one = Unlucky()
        del one
        for _ in range(1000):
            time.sleep(0.01)
    assert "Exception ignored" not in capsys.readouterr().err


def test_other_threads_leave_signals_to_their_caller():
    seen = []

    def work():
        with signals.handled(), signals.deferred():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_signal_after_the_work_is_done_does_not_change_the_status():
    program = (
        "import atexit, os, signal, sys\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "sys.argv = ['tfic', '--version']\n"
        "from tf_image_classification.cli.main import main\n"
        "sys.exit(main())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stderr == ""
    assert ended.stdout.startswith("tfic ")


def test_last_words_to_a_terminal_that_is_gone_are_no_error(monkeypatch):
    class Gone:
        def write(self, text):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    signals.tell_last("Stopped by SIGHUP.")
