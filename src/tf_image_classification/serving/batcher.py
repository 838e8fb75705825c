"""Requests that come at the same time, answered together.

    batcher = Batcher(model.answers, Limits())
    answer = await batcher.answer(image)      by output name, of this image

A call on several images takes little longer than one on a single image. So whoever comes while a
call is running waits for it to end, and goes with all others that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class QueueFullError(Exception):
    """More images wait than may."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much is taken on.

    Attributes:
        max_batch_size: images in one call.
        max_wait_ms: milliseconds that the first image of a call waits for others.
        max_queue: images that wait; with more, requests are refused.
    """

    max_batch_size: int = 32
    max_wait_ms: float = 0.0
    max_queue: int = 512


class Batcher:
    """One call at a time, on all that wait.

    Attributes:
        limits: how much is taken on.
        num_waiting: images in the queue.
    """

    def __init__(
        self,
        answers: Callable[[Sequence[Any]], Sequence[Mapping[str, Any]]],
        limits: Limits,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        """Store what is needed; ``start`` begins.

        Args:
            answers: several images to an answer each; called in a thread, one call at a time.
            limits: how much is taken on.
            on_batch: called with the size of each call.
        """
        self.limits = limits
        self._answers = answers
        self._on_batch = on_batch
        self._queue: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None

    @property
    def num_waiting(self) -> int:
        """Images in the queue."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to answer; inside a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._serve())

    async def stop(self) -> None:
        """Answer what waits, then end."""
        while self.num_waiting and self._task is not None and not self._task.done():
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=True)

    async def answer(self, image: Any) -> Mapping[str, Any]:
        """The answer to one image.

        Raises:
            QueueFullError: too many wait.
        """
        if self.num_waiting >= self.limits.max_queue:
            raise QueueFullError(f"{self.num_waiting} images are waiting")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((image, future))
        found: Mapping[str, Any] = await future
        return found

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next_batch()
            wanted = [(image, future) for image, future in batch if not future.done()]
            if not wanted:  # all have given up
                continue
            self._on_batch(len(wanted))
            images = [image for image, _ in wanted]
            try:
                answers = await loop.run_in_executor(self._thread, self._answers, images)
            except Exception as error:
                for _, future in wanted:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(wanted, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _next_batch(self) -> list[tuple[Any, asyncio.Future[Any]]]:
        batch = [await self._queue.get()]
        if self.limits.max_wait_ms:
            await asyncio.sleep(self.limits.max_wait_ms / 1000)
        while len(batch) < self.limits.max_batch_size and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch
