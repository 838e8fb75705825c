"""A cluster on this machine: starts its processes, merges their output, starts them again.

launch(["python", "myEstimator.py", "--epochs", "3"], num_workers=2)
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from tf_image_classification.distributed.cluster_spec import EVALUATOR, WORKER, Task, tf_config
from tf_image_classification.errors import ConfigError, RunInterrupted
from tf_image_classification.system import signals
from tf_image_classification.system.process_pool import end_with_parent

_POLL_SECS = 0.1
_WAITING_SECS = 10.0  # between two lines that say what is waited for
_LAST_LINES = 5  # of a failed task that are repeated


class _Process:
    """A task's process, whose output is printed line by line after the task's name.

    Attributes:
        task: which one it is.
        last_lines: the end of its output.
    """

    def __init__(self, command: Sequence[str], task: Task, environment: Mapping[str, str]) -> None:
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
                start_new_session=True,  # a Ctrl-C reaches it through us, once
                preexec_fn=functools.partial(end_with_parent, os.getpid())
                if sys.platform == "linux"
                else None,
            )
        except OSError as error:
            raise ConfigError(f"{command[0]!r} cannot be started: {error.strerror}.") from error
        # A daemon: what the task has started itself may hold the output open for ever.
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
        """Its exit status, or minus the signal that killed it; None while it runs."""
        status = self._popen.poll()
        if status is not None and not self._has_been_read:
            self._has_been_read = True
            self._reader.join(timeout=1.0)
        return status

    def send(self, number: int) -> None:
        """Send a signal to it and to what it has started, such as the Python of a shell script."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)

    def is_gone(self) -> bool:
        """Whether neither it runs nor anything that it has started."""
        if self.status() is None:
            return False
        try:
            os.killpg(self._popen.pid, 0)
        except (ProcessLookupError, PermissionError):
            return True
        return False

    def ending(self) -> str:
        """How it failed, in a sentence without its end."""
        status = self.status() or 0
        if status > 0:
            return f"{self.task} ended with status {status}"
        why = " (the kernel does that when memory runs out)" if -status == signal.SIGKILL else ""
        return f"{self.task} was killed by {_signal_name(-status)}{why}"

    def says_little(self) -> bool:
        """Whether another failure explains more: who has lost another task ends with 75."""
        return self.status() == RunInterrupted.exit_code

    def exit_status(self) -> int:
        """What its failure makes the launcher end with.

        Whoever kills a task from outside, be it for memory, leaves a run that resumes: 75. A fault
        of its own, such as SIGSEGV, gives 128 and the signal's number, as in a shell.
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


@dataclasses.dataclass
class _Group:
    """Processes that live and die together: the workers, or the evaluator.

    Attributes:
        tasks: what they are.
        grace_secs: as ``launch``.
        kill_secs: as ``launch``.
        processes: those that run or have ended.
        failed: those that failed by themselves; first the one that explains most.
        is_over: whether all had ended when this was last looked at.
        stop_at: when what is left gets SIGTERM; None while nothing has gone wrong.
        kill_at: when what is left then is killed; None before SIGTERM.
        told_at: when it was last said what is waited for.
    """

    tasks: Sequence[Task]
    grace_secs: float
    kill_secs: float
    processes: Sequence[_Process] = ()
    failed: list[_Process] = dataclasses.field(default_factory=list)
    is_over: bool = False
    stop_at: float | None = None
    kill_at: float | None = None
    told_at: float = 0.0

    def begin(self, processes: Sequence[_Process]) -> None:
        """Look after new processes."""
        self.processes, self.failed, self.is_over = processes, [], False
        self.stop_at = self.kill_at = None

    def watch(self) -> None:
        """Learn what has ended; stop the others when one has failed, and say so."""
        running = self._running()
        self.is_over = not running
        if self.kill_at is None:
            self._note_failures(running)
        now = time.monotonic()
        if not running or self.stop_at is None:
            return
        if self.kill_at is None and now >= self.stop_at:
            self.stop(f"{_names(running)} did not end within {self.grace_secs:g} s")
        elif self.kill_at is not None and now >= self.kill_at:
            say(f"[launch] {_names(running)} did not end within {self.kill_secs:g} s: killed")
            self.send(signal.SIGKILL)
            self.kill_at = math.inf
        elif now >= self.told_at + _WAITING_SECS:
            self.told_at = now
            until = ("SIGTERM", self.stop_at) if self.kill_at is None else ("SIGKILL", self.kill_at)
            left = f", {until[1] - now:.0f} s until {until[0]}" if until[1] < math.inf else ""
            say(f"[launch] still waiting for {_names(running)}{left}")

    def _running(self) -> list[_Process]:
        """What has not ended; once it was asked to stop, with all that it has started."""
        if self.kill_at is None or self.kill_at == math.inf:
            return [process for process in self.processes if process.status() is None]
        return [process for process in self.processes if not process.is_gone()]

    def _note_failures(self, running: Sequence[_Process]) -> None:
        new = [p for p in self.processes if p.status() and p not in self.failed]
        for process in new:
            say(f"[launch] {process.ending()}")
        self.failed = sorted([*self.failed, *new], key=_Process.says_little)
        if new and running and self.stop_at is None:
            self.told_at = time.monotonic()
            self.stop_at = self.told_at + self.grace_secs
            say(
                f"[launch] waiting {self.grace_secs:g} s (--grace_secs) for {_names(running)} to "
                "end as well"
            )

    def stop(self, why: str) -> None:
        """Send SIGTERM to what still runs; SIGKILL follows."""
        running = self._running()
        if self.kill_at is not None or not running:
            return
        say(
            f"[launch] {why}: SIGTERM to {_names(running)}, SIGKILL in {self.kill_secs:g} s "
            "(--kill_secs)"
        )
        self.told_at = self.stop_at = time.monotonic()
        self.kill_at = self.told_at + self.kill_secs
        self.send(signal.SIGTERM)

    def send(self, number: int) -> None:
        """Send a signal to what still runs."""
        for process in self.processes:
            process.send(number)


def _names(members: Iterable[_Process | Task]) -> str:
    return " and ".join(str(m.task if isinstance(m, _Process) else m) for m in members)


def say(text: str) -> None:
    """Print a line, while there is somebody who reads."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def launch(
    command: Sequence[str],
    *,
    num_workers: int,
    with_evaluator: bool = False,
    max_restarts: int = 0,
    grace_secs: float = 10.0,
    kill_secs: float = 30.0,
    gpus_per_worker: int = 0,
) -> int:
    """Run a command as every task of a cluster on this machine.

    Ctrl-C, SIGTERM and SIGHUP stop all tasks, which save first; a second Ctrl-C kills them.

    Args:
        command: the program with its arguments; finds its task in ``TF_CONFIG``.
        num_workers: workers that train together.
        with_evaluator: whether there is an evaluator beside them.
        max_restarts: how many times a failed group is started again.
        grace_secs: how long the others have to end by themselves when one has failed, before they
            get SIGTERM.
        kill_secs: how long a task has to save and end after SIGTERM, before it is killed.
        gpus_per_worker: GPUs that each worker sees, from the first one on; 0: all see all.

    Returns:
        The exit status: 0, or that of a failed task; 75 when the same command resumes, because the
        run was interrupted or a task was killed.

    Raises:
        ConfigError: the command cannot be started.
    """
    workers = _Group([Task(WORKER, i) for i in range(num_workers)], grace_secs, kill_secs)
    evaluators = [_Group([Task(EVALUATOR, 0)], grace_secs, kill_secs)] if with_evaluator else []
    groups = [workers, *evaluators]
    restarts_left = max_restarts

    def start(group: _Group) -> None:
        addresses = {WORKER: [f"127.0.0.1:{port}" for port in _free_ports(num_workers)]}
        processes: list[_Process] = []
        group.begin(processes)
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
            processes.append(_Process(command, task, environment))

    try:
        with signals.deferred():
            for group in groups:
                start(group)
            while not all(group.is_over for group in groups):
                time.sleep(_POLL_SECS)
                if name := signals.received():
                    for group in groups:
                        group.stop(f"stopped by {name}, a second Ctrl-C kills")
                for group in groups:
                    group.watch()
                    if group.is_over and group.failed and restarts_left and not name:
                        restarts_left -= 1
                        again = f"restart {max_restarts - restarts_left} of {max_restarts}"
                        say(f"[launch] starting {_names(group.tasks)} again ({again})")
                        start(group)
                if workers.is_over and workers.failed:
                    for group in evaluators:
                        group.stop(f"{_names(workers.tasks)} will not be started again")
    except BaseException:
        for group in groups:
            group.send(signal.SIGKILL)
        raise
    if name and any(process.status() for group in groups for process in group.processes):
        say("[launch] every task has ended. Start the same command again to resume.")
        return RunInterrupted.exit_code
    failed = [group.failed[0] for group in groups if group.failed]
    if not failed:
        return 0
    say(f"[launch] failed: {failed[0].ending()}. Its last lines were:")
    for line in failed[0].last_lines:
        say(f"[launch]   {line}")
    if failed[0].exit_status() == RunInterrupted.exit_code:
        say("[launch] Start the same command again to resume.")
    return failed[0].exit_status()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:  # all at once, so that they differ
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]
