"""The path from a request's images to a model's outputs, which all protocols share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request

from tf_image_classification.serving.hosted_model import HostedModel, ModelVersion
from tf_image_classification.serving.inference_queue import SMALL_BYTES
from tf_image_classification.serving.request_bodies import BodyReader, within_time
from tf_image_classification.serving.requests import RequestImages
from tf_image_classification.serving.server_metrics import ServerMetrics


class InferenceService:
    """Reads requests within the server's limits and computes their images.

    Attributes:
        models: by name; the first one is that of addresses without a name.
        metrics: of the server.
        timeout_secs: for a request's body, and then for its answer.
    """

    def __init__(
        self,
        models: Sequence[HostedModel],
        metrics: ServerMetrics,
        *,
        max_body_bytes: int,
        timeout_secs: float,
    ) -> None:
        self.models = {model.name: model for model in models}
        self.metrics, self.timeout_secs = metrics, timeout_secs
        self._bodies = BodyReader(max_body_bytes, timeout_secs)

    @property
    def first(self) -> HostedModel:
        """The model of addresses without a name."""
        return next(iter(self.models.values()))

    @contextlib.asynccontextmanager
    async def request_to(
        self, model: HostedModel, request: Request
    ) -> AsyncIterator[tuple[ModelVersion, bytes]]:
        """The version that a request's address names, and the body; inside the block both are held.

        Raises:
            RefusedError: there is no such version, or the body exceeds a limit.
        """
        with model.use(request.path_params) as version:
            async with self._bodies.body(request) as data:
                yield version, data

    async def outputs(
        self, version: ModelVersion, images_of: Callable[[], RequestImages], num_bytes: int
    ) -> list[Mapping[str, Any]]:
        """The outputs of each image by name, as plain values.

        Args:
            version: the model.
            images_of: parses the request; called in a thread if its body is large.
            num_bytes: size of its body.

        Raises:
            RefusedError: the request has another form, an image cannot be used, the queue is full,
                or it takes too long.
        """
        is_small = num_bytes <= SMALL_BYTES  # parsed sooner than a thread begins
        given = images_of() if is_small else await asyncio.to_thread(images_of)
        work = version.queue.predict(given.images, given.field)
        found = await within_time(work, self.timeout_secs)
        self.metrics.images.inc(len(given.images))
        return found
