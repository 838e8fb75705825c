"""A cluster on this machine: starts the processes, merges their output, restarts failed ones.

launch(["python", "myEstimator.py", "--epochs", "3"], num_workers=2)
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import socket
import time
from collections.abc import Iterable, Sequence

from tf_image_classification.distributed.cluster_spec import EVALUATOR, WORKER, Task, tf_config
from tf_image_classification.distributed.task_process import TaskProcess, say
from tf_image_classification.errors import RunInterrupted
from tf_image_classification.system import signals

_POLL_SECS = 0.1
_WAITING_SECS = 10.0  # between two lines about the tasks that still run


@dataclasses.dataclass
class _Group:
    """Processes that start and stop together: the workers, or the evaluator.

    Attributes:
        tasks: their tasks.
        grace_secs: as ``launch``.
        kill_secs: as ``launch``.
        processes: running and ended processes.
        failed: those that failed by themselves; the likely cause first.
        is_over: whether all had ended at the last check.
        stop_at: time of SIGTERM to the processes that still run; None without a failure.
        kill_at: time of SIGKILL; None before SIGTERM.
        told_at: time of the last line about the tasks that still run.
    """

    tasks: Sequence[Task]
    grace_secs: float
    kill_secs: float
    processes: Sequence[TaskProcess] = ()
    failed: list[TaskProcess] = dataclasses.field(default_factory=list)
    is_over: bool = False
    stop_at: float | None = None
    kill_at: float | None = None
    told_at: float = 0.0

    def begin(self, processes: Sequence[TaskProcess]) -> None:
        """Watch new processes."""
        self.processes, self.failed, self.is_over = processes, [], False
        self.stop_at = self.kill_at = None

    def watch(self) -> None:
        """Check which processes have ended; stop the others when one has failed."""
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

    def _running(self) -> list[TaskProcess]:
        """The processes that have not ended; after SIGTERM, with their descendants."""
        if self.kill_at is None or self.kill_at == math.inf:
            return [process for process in self.processes if process.status() is None]
        return [process for process in self.processes if not process.is_gone()]

    def _note_failures(self, running: Sequence[TaskProcess]) -> None:
        new = [p for p in self.processes if p.status() and p not in self.failed]
        for process in new:
            say(f"[launch] {process.ending()}")
        self.failed = sorted([*self.failed, *new], key=TaskProcess.is_secondary)
        if new and running and self.stop_at is None:
            self.told_at = time.monotonic()
            self.stop_at = self.told_at + self.grace_secs
            say(
                f"[launch] waiting {self.grace_secs:g} s (--grace_secs) for {_names(running)} to "
                "end as well"
            )

    def stop(self, reason: str) -> None:
        """Send SIGTERM to the processes that still run; SIGKILL follows."""
        running = self._running()
        if self.kill_at is not None or not running:
            return
        say(
            f"[launch] {reason}: SIGTERM to {_names(running)}, SIGKILL in {self.kill_secs:g} s "
            "(--kill_secs)"
        )
        self.told_at = self.stop_at = time.monotonic()
        self.kill_at = self.told_at + self.kill_secs
        self.send(signal.SIGTERM)

    def send(self, number: int) -> None:
        """Send a signal to all processes."""
        for process in self.processes:
            process.send(number)


def _names(members: Iterable[TaskProcess | Task]) -> str:
    return " and ".join(str(m.task if isinstance(m, TaskProcess) else m) for m in members)


def launch(
    command: Sequence[str],
    *,
    num_workers: int,
    with_evaluator: bool = False,
    max_restarts: int = 0,
    grace_secs: float = 20.0,
    kill_secs: float = 30.0,
    gpus_per_worker: int = 0,
) -> int:
    """Run a command as every task of a cluster on this machine.

    Ctrl-C, SIGTERM and SIGHUP stop all tasks, which save first; a second Ctrl-C kills them.

    Args:
        command: the program with its arguments; finds its task in ``TF_CONFIG``.
        num_workers: workers that train together.
        with_evaluator: whether an evaluator task is started too.
        max_restarts: number of times that a failed group is started again.
        grace_secs: time for the other tasks to end by themselves after a failure, before SIGTERM.
        kill_secs: time for a task to save and end after SIGTERM, before SIGKILL.
        gpus_per_worker: GPUs visible to each worker, from the first one on; 0: all GPUs.

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
        processes: list[TaskProcess] = []
        group.begin(processes)
        for task in group.tasks:
            environment = {
                "TF_CONFIG": tf_config(addresses, task, has_evaluator=with_evaluator),
                "PYTHONUNBUFFERED": "1",
                "no_grpc_proxy": "127.0.0.1",  # a proxy is for other machines
            }
            if gpus_per_worker:
                first = task.index * gpus_per_worker
                own = range(first, first + gpus_per_worker) if task.kind == WORKER else ()
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, own)) or "-1"
            processes.append(TaskProcess(command, task, environment))

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
    return _report(groups, was_stopped=bool(name))


def _report(groups: Sequence[_Group], *, was_stopped: bool) -> int:
    """Print how the tasks ended; returns the exit status."""
    if was_stopped and any(process.status() for group in groups for process in group.processes):
        say("[launch] every task has ended. Start the same command again to resume.")
        return RunInterrupted.exit_code
    failed = next((group.failed[0] for group in groups if group.failed), None)
    if failed is None:
        return 0
    say(f"[launch] failed: {failed.ending()}. Its last lines were:")
    for line in failed.last_lines:
        say(f"[launch]   {line}")
    if failed.exit_status() == RunInterrupted.exit_code:
        say("[launch] Start the same command again to resume.")
    return failed.exit_status()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:  # all at once, so that the ports differ
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]
