"""A thread pool that decodes images, with fair scheduling between the requests of a server.

    pool = DecodePool()
    jobs = RequestJobs()                                       # one for each request
    pixels = await pool.run(jobs, lambda: decode(data))

The next job is always one of the request that has used the least time so far, so a request with one
image waits for a single job of a request with a hundred, not for all of them. Jobs on large images
never occupy every thread: one thread is always left for small images.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

LARGE_PIXELS = 4_000_000
"""An image of more pixels counts as large: decoding takes tens of milliseconds."""

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class _Job:
    function: Callable[[], Any]
    future: asyncio.Future[Any]
    is_large: bool


class RequestJobs:
    """The jobs of one request that have not started, and its thread time so far."""

    def __init__(self) -> None:
        self.secs = 0.0
        self.waiting: collections.deque[_Job] = collections.deque()


class DecodePool:
    """One thread more than there are cores; used from one event loop."""

    def __init__(self, num_cores: int | None = None) -> None:
        self._max_large = num_cores or os.cpu_count() or 1
        self._num_threads = self._max_large + 1
        self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="decode")
        self._num_running = self._num_large = 0
        self._requests: list[RequestJobs] = []  # those with jobs that have not started
        self._min_secs = 0.0  # thread time that a new request starts with

    async def run(
        self, request: RequestJobs, function: Callable[[], _Result], *, is_large: bool = False
    ) -> _Result:
        """The function's result; it runs in a thread when it is the request's turn.

        A job whose caller has been cancelled before it started is not run.

        Args:
            request: the jobs of the request.
            function: the work.
            is_large: whether it works on a large image.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not request.waiting:
            # Without this a request would gain priority while it has no jobs.
            request.secs = max(request.secs, self._min_secs)
            self._requests.append(request)
        request.waiting.append(_Job(function, future, is_large))
        self._start_jobs()
        result: _Result = await future
        return result

    def close(self) -> None:
        """End the threads once their jobs are done."""
        self._pool.shutdown(wait=True)

    def _start_jobs(self) -> None:
        while self._num_running < self._num_threads and (request := self._next_request()):
            self._min_secs = max(self._min_secs, request.secs)
            job = request.waiting.popleft()
            self._num_running += 1
            self._num_large += job.is_large
            running = asyncio.get_running_loop().run_in_executor(self._pool, _timed, job.function)
            running.add_done_callback(functools.partial(self._finish, request, job))

    def _next_request(self) -> RequestJobs | None:
        """The request with the least thread time, of those whose next job may start."""
        for request in self._requests:
            while request.waiting and request.waiting[0].future.done():  # cancelled
                request.waiting.popleft()
        self._requests = [request for request in self._requests if request.waiting]
        allowed = [
            request
            for request in self._requests
            if not request.waiting[0].is_large or self._num_large < self._max_large
        ]
        return min(allowed, key=lambda request: request.secs, default=None)

    def _finish(self, request: RequestJobs, job: _Job, done: asyncio.Future[Any]) -> None:
        self._num_running -= 1
        self._num_large -= job.is_large
        result, error, secs = done.result()
        request.secs += secs
        if not job.future.done():
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)
        self._start_jobs()


def _timed(function: Callable[[], Any]) -> tuple[Any, Exception | None, float]:
    """The function's result or error, and its duration in seconds."""
    began = time.monotonic()
    try:
        return function(), None, time.monotonic() - began
    except Exception as error:
        return None, error, time.monotonic() - began
