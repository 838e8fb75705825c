"""Threads that decode images, shared fairly by the requests of a server.

    decoder = FairDecoder()
    share = decoder.share()                                    # one for each request
    pixels = await decoder.run(share, lambda: decode(data))

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
"""An image of more pixels is a large one: it takes tens of milliseconds to decode."""

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class _Job:
    function: Callable[[], Any]
    future: asyncio.Future[Any]
    is_large: bool


class Share:
    """The jobs of one request that have not started, and the thread time that it has used."""

    def __init__(self) -> None:
        self.secs = 0.0
        self.waiting: collections.deque[_Job] = collections.deque()


class FairDecoder:
    """One thread more than there are cores; used from one event loop."""

    def __init__(self, num_cores: int | None = None) -> None:
        self._max_large = num_cores or os.cpu_count() or 1
        self._num_threads = self._max_large + 1
        self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="decode")
        self._num_running = self._num_large = 0
        self._shares: list[Share] = []  # those with jobs that have not started
        self._least_secs = 0.0  # what a new request counts as having used

    def share(self) -> Share:
        """The place of a new request."""
        return Share()

    async def run(
        self, share: Share, function: Callable[[], _Result], *, is_large: bool = False
    ) -> _Result:
        """The function's result; it is called in a thread when it is the request's turn.

        A job whose caller has been cancelled before it started is not run.

        Args:
            share: that of the request.
            function: what to do.
            is_large: whether it works on a large image.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not share.waiting:
            # Without this a request could save up the time in which it asked for nothing.
            share.secs = max(share.secs, self._least_secs)
            self._shares.append(share)
        share.waiting.append(_Job(function, future, is_large))
        self._start_jobs()
        result: _Result = await future
        return result

    def close(self) -> None:
        """End the threads once their jobs are done."""
        self._pool.shutdown(wait=True)

    def _start_jobs(self) -> None:
        while self._num_running < self._num_threads and (share := self._next_share()):
            self._least_secs = max(self._least_secs, share.secs)
            job = share.waiting.popleft()
            self._num_running += 1
            self._num_large += job.is_large
            running = asyncio.get_running_loop().run_in_executor(self._pool, _timed, job.function)
            running.add_done_callback(functools.partial(self._finish, share, job))

    def _next_share(self) -> Share | None:
        """The share that has used the least time, of those whose next job may start."""
        for share in self._shares:
            while share.waiting and share.waiting[0].future.done():  # nobody waits for it any more
                share.waiting.popleft()
        self._shares = [share for share in self._shares if share.waiting]
        allowed = [
            share
            for share in self._shares
            if not share.waiting[0].is_large or self._num_large < self._max_large
        ]
        return min(allowed, key=lambda share: share.secs, default=None)

    def _finish(self, share: Share, job: _Job, done: asyncio.Future[Any]) -> None:
        self._num_running -= 1
        self._num_large -= job.is_large
        result, error, secs = done.result()
        share.secs += secs
        if not job.future.done():
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)
        self._start_jobs()


def _timed(function: Callable[[], Any]) -> tuple[Any, Exception | None, float]:
    """The function's result or error, and how many seconds it took."""
    began = time.monotonic()
    try:
        return function(), None, time.monotonic() - began
    except Exception as error:
        return None, error, time.monotonic() - began
