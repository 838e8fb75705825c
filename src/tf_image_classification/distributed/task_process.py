"""The process of one task of a local cluster, with its output and its exit status."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from tf_image_classification.distributed.cluster_spec import Task
from tf_image_classification.errors import ConfigError, RunInterrupted
from tf_image_classification.system import signals
from tf_image_classification.system.process_pool import end_with_parent

_LAST_LINES = 5  # of a failed task that are repeated


class TaskProcess:
    """The process of a task; its output is printed line by line with the task's name in front.

    Attributes:
        task: the task.
        last_lines: the last lines of its output.
    """

    def __init__(self, command: Sequence[str], task: Task, environment: Mapping[str, str]) -> None:
        if os.name != "posix":
            raise ConfigError(
                "A cluster on this machine needs the process groups of Linux or macOS. Train in "
                "one process, or start each task by hand with its TF_CONFIG "
                "(docs/topics/cluster.md)."
            )
        self.task = task
        self.last_lines: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        try:
            self._popen = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # it gets a Ctrl-C once, from this process
                preexec_fn=functools.partial(end_with_parent, os.getpid())
                if sys.platform == "linux"
                else None,
            )
        except OSError as error:
            raise ConfigError(f"{command[0]!r} cannot be started: {error.strerror}.") from error
        # A daemon: a process that the task started may keep the output open for ever.
        self._reader = threading.Thread(target=self._copy_lines, daemon=True)
        self._reader.start()
        self._has_been_read = False

    def _copy_lines(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as lines:
            for line in lines:
                if line.strip():
                    self.last_lines.append(line.rstrip())
                    say(f"[{self.task}] {line.rstrip()}")

    def status(self) -> int | None:
        """The exit status, or minus the signal that killed it; None while it runs."""
        status = self._popen.poll()
        if status is not None and not self._has_been_read:
            self._has_been_read = True
            self._reader.join(timeout=1.0)
        return status

    def send(self, number: int) -> None:
        """Send a signal to it and its descendants, e.g. the Python of a shell script."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)

    def is_gone(self) -> bool:
        """Whether it and all its descendants have ended."""
        if self.status() is None:
            return False
        try:
            os.killpg(self._popen.pid, 0)
        except (ProcessLookupError, PermissionError):
            return True
        return False

    def ending(self) -> str:
        """How it failed, as a clause."""
        status = self.status() or 0
        if status > 0:
            return f"{self.task} ended with status {status}"
        reason = " (perhaps out of memory)" if -status == signal.SIGKILL else ""
        return f"{self.task} was killed by {_signal_name(-status)}{reason}"

    def is_secondary(self) -> bool:
        """Whether another failure is the cause: a task that lost another one ends with 75."""
        return self.status() == RunInterrupted.exit_code

    def exit_status(self) -> int:
        """The launcher's exit status for this failure.

        75 when the task was killed from outside, e.g. for memory, since the run can be resumed. A
        crash, e.g. by SIGSEGV, gives 128 plus the signal's number, as in a shell.
        """
        status = self.status() or 0
        if status >= 0:
            return status
        is_from_outside = -status in (signal.SIGKILL, *signals.NUMBERS)
        return RunInterrupted.exit_code if is_from_outside else 128 - status


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def say(text: str) -> None:
    """Print a line; errors of a closed output are ignored."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
