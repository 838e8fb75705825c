"""Bodies of requests, read within limits of size, memory and time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from tf_image_classification.serving.requests import RefusedError

_MAX_BODIES = 8  # of the largest size, held in memory at the same time
_Result = TypeVar("_Result")


async def within_time(work: Coroutine[Any, Any, _Result], timeout_secs: float) -> _Result:
    """The result of some work.

    Raises:
        RefusedError: it takes longer.
    """
    try:
        return await asyncio.wait_for(work, timeout_secs)
    except asyncio.TimeoutError as error:
        raise RefusedError(504, f"It took longer than {timeout_secs:g} s.") from error


class BodyReader:
    """Reads the bodies of a server's requests and limits the memory that they take together."""

    def __init__(self, max_bytes: int, timeout_secs: float) -> None:
        """Store the limits of one body."""
        self._max_bytes, self._timeout_secs = max_bytes, timeout_secs
        self._num_held = 0  # bytes of all bodies in memory

    @contextlib.asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """A request's body; inside the block it counts as held in memory.

        Raises:
            RefusedError: it is too long, takes too long, is compressed, or too many are held.
        """
        limit = self._max_bytes
        declared = request.headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > limit:
            raise RefusedError(413, f"The body is {declared} bytes, at most {limit} are taken.")
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise RefusedError(415, f"The body is compressed ({encoding}). Send it as it is.")
        size = 0

        async def read() -> bytes:
            nonlocal size
            parts = []
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                self._num_held += len(part)
                if size > limit:
                    raise RefusedError(413, f"The body is longer than {limit} bytes.")
                if self._num_held > _MAX_BODIES * limit:
                    raise RefusedError(503, "Too many large requests at once. Try again later.")
            return b"".join(parts)

        try:
            yield await within_time(read(), self._timeout_secs)
        finally:
            self._num_held -= size
