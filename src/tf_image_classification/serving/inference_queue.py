"""Inference for many requests at once: limits, fair decoding, and batches across requests.

queue = InferenceQueue(model, Limits(), max_request_pixels=0)
answers = await queue.predict(encoded_images, "instances")      one for each image
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tf_image_classification.dataset.file_kinds import image_format
from tf_image_classification.errors import BadImageError
from tf_image_classification.serving.batcher import Batcher, Limits, QueueFullError, StoppedError
from tf_image_classification.serving.decode_pool import LARGE_PIXELS, DecodePool, RequestJobs
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.serving.requests import PreparedImage, RefusedError, RequestImage

SMALL_BYTES = 2**18
"""Work on fewer bytes than these takes less time than a thread needs to begin."""

_MAX_SEGMENTS = 4096
_Result = TypeVar("_Result")


class InferenceQueue:
    """Accepts images of requests, decodes them and computes them in batches.

    Attributes:
        num_accepted: images that have been accepted and not yet answered.
    """

    def __init__(
        self,
        model: Predictor,
        limits: Limits,
        max_request_pixels: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        """Store the settings; ``start`` begins.

        Args:
            model: the model.
            limits: of batches and queue.
            max_request_pixels: of all images of a request; 0: four images of the model's
                max_pixels.
            on_batch: called with the size of each batch.
        """
        self.num_accepted = 0
        self._model, self._limits = model, limits
        self._max_request_pixels = max_request_pixels or 4 * model.max_pixels
        self._batcher = Batcher(
            functools.partial(_outputs, model), limits, on_batch, model.num_calls
        )
        self._decoder = DecodePool()

    def start(self) -> None:
        """Begin to compute; inside a running event loop."""
        self._batcher.start()

    async def stop(self) -> None:
        """Answer the accepted images, then end."""
        await self._batcher.stop()
        await asyncio.to_thread(self._decoder.close)

    async def predict(self, images: Sequence[RequestImage], field: str) -> list[Mapping[str, Any]]:
        """The model's outputs by name for each image of a request.

        Args:
            images: the images; those that are not prepared are decoded and preprocessed.
            field: their name in the request, for messages.

        Raises:
            RefusedError: an image cannot be used, they have too many pixels, or the queue is full.
        """
        waiting = self.num_accepted + len(images)
        if waiting > self._limits.max_queue:
            raise RefusedError(503, f"{waiting} images would wait. Try again later.")
        self.num_accepted += len(images)
        jobs = RequestJobs()
        # Of one request no more than one batch at a time, so that others find a place in the next.
        places = asyncio.Semaphore(self._limits.max_batch_size)

        async def answer(number: int, image: RequestImage, pixels: int) -> Mapping[str, Any]:
            async with places:
                try:
                    prepared = await self._prepared(image, pixels, jobs)
                except BadImageError as error:
                    raise RefusedError(400, f"{field}[{number}]: {error}") from error
                return await self._batcher.answer(prepared)

        try:
            sizes = await self._num_pixels(images, jobs)
            return await _all_or_none(
                [answer(k, *each) for k, each in enumerate(zip(images, sizes, strict=True))]
            )
        except (QueueFullError, StoppedError) as error:
            raise RefusedError(503, f"{error}. Try again later.") from error
        finally:
            self.num_accepted -= len(images)

    async def prepare(self, image: bytes) -> Any:
        """One encoded image, decoded and preprocessed.

        Raises:
            RefusedError: it has too many pixels.
            BadImageError: it cannot be used.
        """
        jobs = RequestJobs()
        [pixels] = await self._num_pixels([image], jobs)
        return await self._prepared(image, pixels, jobs)

    async def _prepared(self, image: RequestImage, pixels: int, jobs: RequestJobs) -> Any:
        if isinstance(image, PreparedImage):
            return image.values
        work = functools.partial(self._model.prepare, image)
        is_large = LARGE_PIXELS < pixels <= self._model.max_pixels
        return await self._decoder.run(jobs, work, is_large=is_large)

    async def _num_pixels(self, images: Sequence[RequestImage], jobs: RequestJobs) -> list[int]:
        """The number of pixels of each image, of an encoded one from its header.

        An image that cannot be used or has too many pixels by itself is not counted: it is rejected
        when it is decoded.

        Raises:
            RefusedError: together they have too many.
        """

        async def size(image: RequestImage) -> int:
            if isinstance(image, PreparedImage):
                return 0
            if isinstance(image, np.ndarray):
                return int(np.prod(image.shape[:2]))
            if _has_short_header(image):
                return self._model.declared_pixels(image)
            work = functools.partial(self._model.declared_pixels, image)
            return await self._decoder.run(jobs, work)

        sizes = await _all_or_none([size(one) for one in images])
        total = sum(size for size in sizes if size <= self._model.max_pixels)
        if total > self._max_request_pixels:
            raise RefusedError(
                413,
                f"The {len(images)} images have {total:,} pixels together, at most "
                f"{self._max_request_pixels:,} are taken. Send them in several requests.",
            )
        return sizes


def _has_short_header(image: bytes) -> bool:
    """Whether the header of an encoded image is read without delay for other requests."""
    if len(image) > SMALL_BYTES:
        return False
    kind = image_format(image)
    return kind == "png" or (kind == "jpeg" and image.count(b"\xff") <= _MAX_SEGMENTS)


def _outputs(model: Predictor, images: Sequence[Any]) -> list[dict[str, Any]]:
    """The outputs of each image as plain values."""
    columns = {name: values.tolist() for name, values in model.outputs(images).items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


async def _all_or_none(jobs: Sequence[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """The results of all; the first error cancels the others."""
    if len(jobs) == 1:
        return [await jobs[0]]
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
