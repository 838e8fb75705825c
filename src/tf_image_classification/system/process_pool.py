"""A pool of worker processes that end with this process, even if it is killed.

with process_pool(4) as pool:
    for result in pool.map(function, tasks): ...
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tf_image_classification.errors import DataError
from tf_image_classification.system import quiet

T = TypeVar("T")
V = TypeVar("V")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_OF_TERMINAL = {signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)}


def end_with_parent(parent: int) -> None:
    """In a new process: ask Linux for SIGTERM when its parent process ends.

    Args:
        parent: process id of the parent, which may have ended already.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)


def _begin(parent: int, is_hiding: bool) -> None:
    """Start of a process of the pool."""
    end_with_parent(parent)
    quiet.hide_libraries(is_hiding)


class Pool:
    """The running processes."""

    def __init__(self, executor: concurrent.futures.ProcessPoolExecutor) -> None:
        self._executor = executor

    def map(self, function: Callable[[T], V], tasks: Iterable[T]) -> Iterator[V]:
        """The function's value for each task, in the order of completion."""
        with _blocked_signals():  # the processes start now
            waiting = [self._executor.submit(function, task) for task in tasks]
        return self._values(each.result() for each in concurrent.futures.as_completed(waiting))

    def map_in_order(
        self, function: Callable[[T], V], tasks: Iterable[T], *, at_once: int
    ) -> Iterator[V]:
        """The function's value for each task, in the order of the tasks.

        Args:
            function: defined in a module, since it is sent to other processes.
            tasks: its arguments.
            at_once: number of tasks that are sent together.
        """
        with _blocked_signals():
            values = self._executor.map(function, tasks, chunksize=at_once)
        return self._values(values)

    def _values(self, values: Iterable[V]) -> Iterator[V]:
        try:
            yield from values
        except concurrent.futures.process.BrokenProcessPool as error:
            raise DataError(
                "A worker process was killed, perhaps because memory ran out. Start the same "
                "command again with fewer --processes."
            ) from error


@contextlib.contextmanager
def process_pool(num_processes: int) -> Iterator[Pool]:
    """A pool of spawned processes, since TensorFlow does not survive a fork.

    Ctrl-C and a closed terminal reach this process only, which ends the others at once when the
    block is left with an error.

    Raises:
        DataError: the processes cannot be started.
    """
    before = set(multiprocessing.active_children())
    try:
        executor = concurrent.futures.ProcessPoolExecutor(
            num_processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(os.getpid(), quiet.is_hiding()),
        )
    except OSError as error:
        raise DataError(
            f"Worker processes cannot be started: {error.strerror or error}. They need room in "
            "/dev/shm and open files; with --processes 1 none are started."
        ) from error
    try:
        yield Pool(executor)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        executor.shutdown()


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Inside the block a terminal's signals are blocked, also in processes that start in it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
