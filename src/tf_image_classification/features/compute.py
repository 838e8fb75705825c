"""Features of images in one pass: those in the store are read, the others computed and added.

found = compute_features(network, images, count, cache_dir=cache_dir)
found.values                                            # float32 [count, D]
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.errors import TficError, counted
from tf_image_classification.features.network import BATCH_SIZE, Content, FeatureNetwork, padded
from tf_image_classification.features.store import FeatureStore

_BAD = (tf.errors.OpError, TficError, OSError, ValueError)


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of some images.

    Attributes:
        values: float32 [N, D]; zeros for an image that cannot be used.
        problems: by example number, why an image cannot be used.
        num_computed: images whose features were not in the cache.
        num_bytes: of the cache of this network on the disk; 0 without one.
        path: its folder, or "".
    """

    values: npt.NDArray[np.float32]
    problems: dict[int, Exception]
    num_computed: int
    num_bytes: int = 0
    path: str = ""

    def note(self) -> str:
        """A sentence about the cache."""
        count = len(self.values)
        text = f"features: {counted(count, 'image')}"
        if not self.path:
            return f"{text}, not cached"
        return (
            f"{text}, {self.num_computed} computed, {count - self.num_computed} from the cache "
            f"({self.num_bytes / 1e6:.1f} MB in {self.path})"
        )


def compute_features(
    network: FeatureNetwork,
    images: Iterable[tuple[int, Content | Exception]],
    count: int,
    *,
    cache_dir: str = "",
    on_images: Callable[[int, int], Any] = lambda done, count: None,
    on_problem: Callable[[int, Content, Exception], None] | None = None,
) -> Features:
    """The features of images; each image is read once, and each content computed once.

    What is computed is written every few seconds and when the pass ends, also by an error.

    Args:
        network: the frozen network.
        images: number and content of each image, or why it cannot be read; one number once.
        count: the number of images; numbers are below it.
        cache_dir: folder of the cache; "": nothing is cached.
        on_images: called with the number of images that are done, and of all.
        on_problem: called with number, content (b"" if it cannot be read) and error of an image
            that cannot be used, and may raise; None: its row is zeros.
    """
    store = None
    if cache_dir and network.identity:
        store = FeatureStore(cache_dir, network.identity, network.about)
    work = _Pass(network, count, store, on_images, on_problem)
    try:
        work.run(images)
    finally:
        if store is not None:
            store.flush()
    values = work.values if work.values is not None else np.zeros([count, 0], np.float32)
    is_kept = store is not None and not store.problem
    size, path = (store.num_bytes(), store.path) if store and is_kept else (0, "")
    return Features(values, work.problems, work.num_computed, size, path)


class _Pass:
    """The state of one pass."""

    def __init__(
        self,
        network: FeatureNetwork,
        count: int,
        store: FeatureStore | None,
        on_images: Callable[[int, int], Any],
        on_problem: Callable[[int, Content, Exception], None] | None,
    ) -> None:
        self.values: npt.NDArray[np.float32] | None = None
        self.problems: dict[int, Exception] = {}
        self.num_computed = 0
        self._network, self._count, self._store = network, count, store
        self._on_images, self._on_problem = on_images, on_problem
        self._first: dict[bytes, int] = {}  # the number of each content that is computed
        self._done = 0

    def run(self, images: Iterable[tuple[int, Content | Exception]]) -> None:
        copies: list[tuple[int, Content, int]] = []
        threads = os.cpu_count() or 1
        with _stopping(concurrent.futures.ThreadPoolExecutor(threads)) as pool:
            waiting: list[tuple[int, Content, bytes]] = []
            in_work: collections.deque[Any] = collections.deque()
            for number, content in images:
                if isinstance(content, Exception):
                    self._refuse(number, b"", content)
                    continue
                key = self._network.key_of(content, number)
                if key in self._first:
                    copies.append((number, content, self._first[key]))
                elif self._store is not None and (row := self._store.get(key)) is not None:
                    self._put(number, row)
                else:
                    self._first[key] = number
                    waiting.append((number, content, key))
                if len(waiting) == BATCH_SIZE:
                    in_work.append(pool.submit(self._prepared, waiting))
                    waiting = []
                    if len(in_work) > threads:
                        self._finish(in_work.popleft().result())
            if waiting:
                in_work.append(pool.submit(self._prepared, waiting))
            while in_work:
                self._finish(in_work.popleft().result())
        for number, content, first in copies:
            if first in self.problems:
                self._refuse(number, content, self.problems[first])
            elif self.values is not None:
                self._put(number, self.values[first])

    def _prepared(self, batch: Sequence[tuple[int, Content, bytes]]) -> Any:
        """The usable images of a batch, prepared, with those that cannot be used."""
        numbers, contents = [each[0] for each in batch], [each[1] for each in batch]
        try:
            return batch, self._network.prepare(contents, numbers), []
        except _BAD:
            pass
        usable, images, bad = [], [], []
        for each in batch:
            try:
                images.append(self._network.prepare([each[1]], [each[0]]))
                usable.append(each)
            except _BAD as error:
                bad.append((each, error))
        return usable, tf.concat(images, 0) if images else None, bad

    def _finish(self, prepared: Any) -> None:
        batch, images, bad = prepared
        for (number, content, _), error in bad:
            self._refuse(number, content, error)
        if not batch:
            return
        rows = self._network.forward(padded(images)).numpy()[: len(batch)]
        self.num_computed += len(batch)
        for (number, _, key), row in zip(batch, rows, strict=True):
            self._put(number, row)
            if self._store is not None:
                self._store.add(key, row)

    def _put(self, number: int, row: npt.NDArray[np.float32]) -> None:
        if self.values is None:
            self.values = np.zeros([self._count, len(row)], np.float32)
        self.values[number] = row
        self._show()

    def _refuse(self, number: int, content: Content, error: Exception) -> None:
        self.problems[number] = error
        if self._on_problem is not None:
            self._on_problem(number, content, error)
        self._show()

    def _show(self) -> None:
        self._done += 1
        self._on_images(self._done, self._count)


@contextlib.contextmanager
def _stopping(
    pool: concurrent.futures.ThreadPoolExecutor,
) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """The pool; after an error it does not begin what waits."""
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
