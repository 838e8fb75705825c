"""A cluster on this machine: starts its processes, merges their output, starts them again.

launch(["python", "myEstimator.py", "--epochs", "3"], num_workers=2)
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tf_image_classification.errors import ConfigError, RunInterrupted
from tf_image_classification.tasks import EVALUATOR, WORKER, Task, tf_config

_POLL_SECS = 0.1
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_KILL_SECS = 30.0  # from the request to stop until the process is killed


@dataclasses.dataclass
class _Group:
    """Processes that live and die together: the workers, or the evaluator.

    Attributes:
        tasks: what they are.
        processes: those that run or have ended; empty before the start.
        stop_at: when what is left is stopped; None while nothing has gone wrong.
        status: 0, or the exit status of what failed first; one that says more than "start me
            again" takes precedence.
        is_over: whether all had ended when this was last looked at.
    """

    tasks: Sequence[Task]
    processes: list[subprocess.Popen[str]] = dataclasses.field(default_factory=list)
    stop_at: float | None = None
    status: int = 0
    is_over: bool = False

    def take_note(self, *, of_failures: bool) -> None:
        """Learn which processes have ended, and of failures those by themselves."""
        statuses = [process.poll() for process in self.processes]
        self.is_over = None not in statuses
        for status in statuses:
            if status and of_failures and self.status in (0, RunInterrupted.exit_code):
                self.status = status

    def send(self, number: int) -> None:
        """Send a signal to those that still run."""
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)


def launch(
    command: Sequence[str],
    *,
    num_workers: int,
    with_evaluator: bool = False,
    max_restarts: int = 0,
    grace_secs: float = 60.0,
    gpus_per_worker: int = 0,
) -> int:
    """Run a command as every task of a cluster on this machine.

    Ctrl-C and SIGTERM stop all tasks, which save first; a second Ctrl-C kills them.

    Args:
        command: the program with its arguments; finds its task in ``TF_CONFIG``.
        num_workers: workers that train together.
        with_evaluator: whether there is an evaluator beside them.
        max_restarts: how many times a failed group is started again.
        grace_secs: how long the others have to end by themselves when one has failed.
        gpus_per_worker: GPUs that each worker sees, from the first one on; 0: all see all.

    Returns:
        The exit status: 0, or that of a failed task; 75 when the run was interrupted.

    Raises:
        ConfigError: the command cannot be started.
    """
    workers = _Group([Task(WORKER, index) for index in range(num_workers)])
    groups = [workers, *([_Group([Task(EVALUATOR, 0)])] if with_evaluator else [])]
    restarts_left = max_restarts
    with _signals() as received:

        def start(group: _Group) -> None:
            addresses = {WORKER: [f"127.0.0.1:{port}" for port in _free_ports(num_workers)]}
            group.stop_at, group.status, group.is_over, group.processes = None, 0, False, []
            for task in group.tasks:
                environment = {
                    "TF_CONFIG": tf_config(addresses, task, has_evaluator=with_evaluator),
                    "PYTHONUNBUFFERED": "1",
                    "no_grpc_proxy": "127.0.0.1",  # a proxy is for what is outside
                }
                if gpus_per_worker:
                    first = task.index * gpus_per_worker
                    own = range(first, first + gpus_per_worker) if task.kind == WORKER else ()
                    environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, own)) or "-1"
                group.processes.append(_started(command, task, environment))

        for group in groups:
            start(group)
        while not all(group.is_over for group in groups):
            time.sleep(_POLL_SECS)
            for group in groups:
                _stop_what_is_left(group, grace_secs)
                if not (group.is_over and group.status and restarts_left) or received.count:
                    continue
                restarts_left -= 1
                names = " and ".join(map(str, group.tasks))
                print(f"[launch] {names} ended with status {group.status}; starting again")
                start(group)
            if received.count > received.handled:
                received.handled = received.count
                for group in groups:
                    group.send(signal.SIGTERM if received.count == 1 else signal.SIGKILL)
            elif workers.is_over and workers.status and not restarts_left:
                for group in groups[1:]:
                    group.stop_at = group.stop_at or time.monotonic()
    if received.count:
        return RunInterrupted.exit_code
    return next((group.status for group in groups if group.status), 0)


def _stop_what_is_left(group: _Group, grace_secs: float) -> None:
    """Stop the rest of a group one of whose processes has failed."""
    now = time.monotonic()
    overdue = -math.inf if group.stop_at is None else now - group.stop_at
    group.take_note(of_failures=overdue < 0)
    if overdue < 0:
        if group.status and group.stop_at is None:
            group.stop_at = now + grace_secs
    elif overdue >= _KILL_SECS:
        group.send(signal.SIGKILL)
    else:
        group.send(signal.SIGTERM)


def _started(
    command: Sequence[str], task: Task, environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    """A process whose output is printed line by line after its name."""
    try:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # a Ctrl-C reaches it through us, once
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    except OSError as error:
        raise ConfigError(f"{command[0]!r} cannot be started: {error.strerror}.") from error
    threading.Thread(target=_copy_lines, args=(process, task), daemon=False).start()
    return process


def _end_with_parent() -> None:
    """In a new process: ask Linux for a SIGTERM when the launcher is gone, however it went."""
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _copy_lines(process: subprocess.Popen[str], task: Task) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if line.strip():
                sys.stdout.write(f"[{task}] {line.rstrip()}\n")
                sys.stdout.flush()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:  # all at once, so that they differ
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]


@dataclasses.dataclass
class _Received:
    """Signals that ask to stop: how many came, and how many have been passed on."""

    count: int = 0
    handled: int = 0


@contextlib.contextmanager
def _signals() -> Iterator[_Received]:
    received = _Received()

    def note(number: int, frame: Any) -> None:
        received.count += 1

    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
