"""Dynamic batching: images that wait at the same time are computed in one call.

    batcher = Batcher(outputs_of_images, Limits())
    answer = await batcher.answer(image)      by output name, of this image

A call on a batch takes little longer than one on a single image. So an image that arrives while as
many calls run as may run at the same time waits until one ends, and joins the next one with all
others that wait.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class QueueFullError(Exception):
    """The queue is full."""


class StoppedError(Exception):
    """The batcher has been stopped and accepts no more images."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of batches and queue.

    Attributes:
        max_batch_size: images in one call.
        max_wait_ms: milliseconds that the first image of a call waits for others.
        max_queue: images that may wait; further requests are rejected.
    """

    max_batch_size: int = 32
    max_wait_ms: float = 0.0
    max_queue: int = 512


_Waiting = tuple[Any, "asyncio.Future[Any]"]
"""An image and the future of its answer."""


class Batcher:
    """Computes batches of all images that wait.

    Attributes:
        limits: of batches and queue.
        num_waiting: images in the queue.
    """

    def __init__(
        self,
        answers: Callable[[Sequence[Any]], Sequence[Mapping[str, Any]]],
        limits: Limits,
        on_batch: Callable[[int], None] = lambda size: None,
        num_calls: int = 1,
    ) -> None:
        """Store the settings; ``start`` begins.

        Args:
            answers: images to an answer each; called in threads.
            limits: of batches and queue.
            on_batch: called with the size of each call.
            num_calls: calls at the same time.
        """
        self.limits = limits
        self._answers = answers
        self._on_batch = on_batch
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()  # None: the end
        self._threads = ThreadPoolExecutor(num_calls, thread_name_prefix="model")
        self._free = asyncio.Semaphore(num_calls)
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False

    @property
    def num_waiting(self) -> int:
        """Images in the queue."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to compute; inside a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._serve())

    async def stop(self) -> None:
        """Answer every accepted image, then end; further images are rejected."""
        if not self._is_stopped:
            self._is_stopped = True
            self._queue.put_nowait(None)
        if self._task is None:
            self.start()
        assert self._task is not None
        await self._task
        self._threads.shutdown(wait=True)

    async def answer(self, image: Any) -> Mapping[str, Any]:
        """The answer to one image.

        Raises:
            QueueFullError: the queue is full.
            StoppedError: ``stop`` was called before.
        """
        if self._is_stopped:
            raise StoppedError("no more images are taken")
        if self.num_waiting >= self.limits.max_queue:
            raise QueueFullError(f"{self.num_waiting} images are waiting")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((image, future))
        found: Mapping[str, Any] = await future
        return found

    async def _serve(self) -> None:
        is_last = False
        calls: set[asyncio.Task[None]] = set()
        while not is_last:
            await self._free.acquire()
            batch, is_last = await self._next_batch()
            # A cancelled request, e.g. after its time limit, needs no answer.
            wanted = [(image, future) for image, future in batch if not future.done()]
            call = asyncio.create_task(self._compute(wanted))
            calls.add(call)
            call.add_done_callback(calls.discard)
        await asyncio.gather(*calls)

    async def _compute(self, wanted: Sequence[_Waiting]) -> None:
        """Compute one batch; an error is the answer to all of its images."""
        if not wanted:
            self._free.release()
            return
        loop = asyncio.get_running_loop()
        try:
            self._on_batch(len(wanted))
            images = [image for image, _ in wanted]
            answers = await loop.run_in_executor(self._threads, self._answers, images)
            pairs = list(zip(wanted, answers, strict=True))
        except Exception as error:
            for _, future in wanted:
                if not future.done():
                    future.set_exception(error)
            return
        finally:
            self._free.release()
        for (_, future), answer in pairs:
            if not future.done():
                future.set_result(answer)

    async def _next_batch(self) -> tuple[list[_Waiting], bool]:
        """The images of the next call, and whether the call is the last one."""
        batch: list[_Waiting] = []
        entry = await self._queue.get()
        if self.limits.max_wait_ms and entry is not None:
            await asyncio.sleep(self.limits.max_wait_ms / 1000)
        while entry is not None:
            batch.append(entry)
            if len(batch) == self.limits.max_batch_size or self._queue.empty():
                return batch, False
            entry = self._queue.get_nowait()
        return batch, True
