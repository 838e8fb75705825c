"""A model of a server under its name; replaced by a newer export while requests go on.

hosted = HostedModel("pets", model, make_queue)
hosted.start()
with hosted.use() as version:
    outputs = await version.queue.predict(images, "instances")
await hosted.replace(newer)        an old version ends after its last request
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tf_image_classification.labels import LabelSchema
from tf_image_classification.serving.inference_queue import InferenceQueue
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.serving.requests import RefusedError

LABELS = ("latest", "stable")
"""Version labels in TensorFlow Serving's addresses; both are the version that is served."""


class ModelVersion:
    """One loaded model with its queue.

    Attributes:
        model: the model.
        queue: computes its outputs.
        image_shape: of one preprocessed image, [H, W, C].
        image_dtype: of its values.
        num_users: requests that use it.
    """

    def __init__(self, model: Predictor, queue: InferenceQueue) -> None:
        self.model, self.queue = model, queue
        prepared = np.asarray(model.prepare(np.zeros([8, 8, 3], np.uint8)))
        self.image_shape, self.image_dtype = prepared.shape, prepared.dtype
        self.num_users = 0
        self._has_changed = asyncio.Event()

    @property
    def version(self) -> str:
        """Its number in addresses: the training step."""
        return str(self.model.step)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[ModelVersion]:
        """Inside the block the version is not stopped."""
        self.num_users += 1
        try:
            yield self
        finally:
            self.num_users -= 1
            self._has_changed.set()

    async def stop(self) -> None:
        """Wait for its last request, then end its threads."""
        while self.num_users:
            self._has_changed.clear()
            await self._has_changed.wait()
        await self.queue.stop()


class HostedModel:
    """The current version of a model; requests that have begun keep the version they began with.

    Attributes:
        name: in addresses.
    """

    def __init__(
        self, name: str, model: Predictor, make_queue: Callable[[Predictor], InferenceQueue]
    ) -> None:
        """Store the first version; ``start`` begins.

        Args:
            name: in addresses.
            model: the first version.
            make_queue: makes the queue of a version.
        """
        self.name = name
        self._make_queue = make_queue
        self._current = ModelVersion(model, make_queue(model))
        self._versions = [self._current]  # with those that still have requests

    @property
    def schema(self) -> LabelSchema:
        """The labels of the current version."""
        return self._current.model.schema

    @property
    def num_accepted(self) -> int:
        """Images that have been accepted and not yet answered."""
        return sum(version.queue.num_accepted for version in self._versions)

    def start(self) -> None:
        """Begin to compute; inside a running event loop."""
        self._current.queue.start()

    async def stop(self) -> None:
        """Answer the accepted images, then end."""
        await asyncio.gather(*(version.queue.stop() for version in self._versions))

    @contextlib.contextmanager
    def use(self, wanted: Mapping[str, str] | None = None) -> Iterator[ModelVersion]:
        """The current version; inside the block it keeps its queue.

        Args:
            wanted: parameters of the address: ``version`` or ``label``.

        Raises:
            RefusedError: it has another version or label.
        """
        current = self._current
        wanted = wanted or {}
        if wanted.get("version", current.version) != current.version:
            raise RefusedError(
                404,
                f"{self.name} has no version {wanted['version']}; it serves {current.version}.",
            )
        if wanted.get("label", LABELS[0]) not in LABELS:
            raise RefusedError(
                404, f"{self.name} has no label {wanted['label']!r}, only {' and '.join(LABELS)}."
            )
        with current.in_use():
            yield current

    async def replace(self, model: Predictor) -> None:
        """Serve another version from now on; returns when the old one has ended."""
        newer = await asyncio.to_thread(lambda: ModelVersion(model, self._make_queue(model)))
        newer.queue.start()
        old, self._current = self._current, newer
        self._versions.append(newer)
        await old.stop()
        self._versions.remove(old)
