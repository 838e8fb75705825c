"""The TensorBoard logs: training curves, evaluation metrics and pictures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.batches import PADDING_ID
from tf_image_classification.errors import DataError
from tf_image_classification.hooks.base import Every, Hook, Run
from tf_image_classification.metrics.confusion import draw_confusion_matrix
from tf_image_classification.model_folder import tensorboard_folder
from tf_image_classification.system import files

_MAX_IMAGES = 8
# A bucket takes the whole file anew whenever points are added to it, so they are gathered.
_REMOTE_SECS = 120.0
_REMOTE_QUEUE = 10_000


class SummaryHook(Hook):
    """Writes curves every so many steps, and every evaluation.

    Attributes:
        every: when points of the training curves are written.
    """

    def __init__(self, every: Every) -> None:
        self.every = every
        self._writers: dict[str, Any] = {}
        self._since = (0.0, 0, 0.0, 0.0)
        self._points: list[tuple[int, dict[str, float]]] = []
        self._upload = Every(secs=_REMOTE_SECS)

    def begin(self, run: Run) -> None:
        """Start counting."""
        self.every.start(run.step)
        self._upload.start(run.step)
        self._since = (time.monotonic(), run.step, run.wait_secs, run.step_secs)

    def _writer(self, run: Run, name: str) -> Any:
        """The writer of ``train`` or ``eval``, opened when there is something to write."""
        folder = files.join(tensorboard_folder(run.settings), name)
        if not files.is_remote(folder) and not files.is_folder(folder):
            self._writers.pop(name, None)  # it was removed while the run trains
        if name not in self._writers:
            max_queue = _REMOTE_QUEUE if files.is_remote(folder) else None
            self._writers[name] = tf.summary.create_file_writer(folder, max_queue=max_queue)
        return self._writers[name]

    def after_step(self, run: Run) -> None:
        """Write a point of each training curve when it is due."""
        if self.every.is_due(run.step):
            self._write_curves(run)

    def _write_curves(self, run: Run) -> None:
        now = time.monotonic()
        since, step, wait_secs, step_secs = self._since
        curves = {
            "loss": run.mean_loss(),
            "learning_rate": run.learning_rate(),
            "gradient_norm": run.gradient_norm(),
            "images_per_second": (run.step - step) * run.batch_size / max(now - since, 1e-9),
            "input_wait_share": (run.wait_secs - wait_secs) / max(run.step_secs - step_secs, 1e-9),
        }
        self._points.append((run.step, curves))
        is_remote = files.is_remote(tensorboard_folder(run.settings))
        if not is_remote or self._upload.is_due(run.step):
            self._write_points(run)
        if step == 0:
            with _named_errors(run), self._writer(run, "train").as_default(step=run.step):
                self._write_images(run)
        self._since = (now, run.step, run.wait_secs, run.step_secs)

    def _write_points(self, run: Run) -> None:
        points, self._points = self._points, []
        if not points:
            return
        with _named_errors(run), self._writer(run, "train").as_default():
            for step, curves in points:
                for name, value in curves.items():
                    tf.summary.scalar(name, value, step=step)

    def _write_images(self, run: Run) -> None:
        batch = run.sample_batch()
        rows = np.flatnonzero(batch.ids.numpy() != PADDING_ID)[:_MAX_IMAGES]
        images = to_displayable(batch.images.numpy()[rows])
        if images.shape[-1] in (1, 3, 4):
            tf.summary.image("training_images", images, max_outputs=_MAX_IMAGES)

    def after_evaluation(self, run: Run, evaluation: Any) -> None:
        """Write the metrics, and a picture of each confusion matrix."""
        with _named_errors(run), self._writer(run, "eval").as_default(step=run.step):
            for name, value in evaluation.scalars().items():
                tf.summary.scalar(name, value)
            for name, matrix in evaluation.confusion.items():
                png = draw_confusion_matrix(matrix, run.schema[name].named_classes(), title=name)
                image = tf.io.decode_png(png, channels=3)[None]
                tf.summary.image(f"confusion_matrix/{name}", image)
            self._writer(run, "eval").flush()

    def end(self, run: Run) -> None:
        """Write a last point, so that the curves of a short run are not empty."""
        if run.step > self._since[1]:
            self._write_curves(run)
        self._write_points(run)

    def on_stop(self, run: Run, reason: str) -> None:
        """Write the points that are still gathered."""
        self._write_points(run)

    def close(self) -> None:
        """Close the writers."""
        for writer in self._writers.values():
            with contextlib.suppress(tf.errors.OpError):  # that of a full disk has been told
                writer.close()


@contextlib.contextmanager
def _named_errors(run: Run) -> Iterator[None]:
    """Turns TensorFlow's error of a full disk into one that says what could not be written."""
    try:
        yield
    except tf.errors.OpError as error:
        raise DataError(
            f"The TensorBoard logs cannot be written to {tensorboard_folder(run.settings)}: "
            f"{error.message.splitlines()[0]}. Make room or correct the folder, and start the same "
            "command again to resume from the last checkpoint."
        ) from error


def to_displayable(images: Any) -> Any:
    """Preprocessed images of any range as float32 0..1, [n, H, W, C]; uint8 stays as it is."""
    if images.dtype == np.uint8:
        return images
    images = images.astype(np.float32)
    low = images.min(axis=(1, 2, 3), keepdims=True)
    high = images.max(axis=(1, 2, 3), keepdims=True)
    return (images - low) / np.maximum(high - low, 1e-6)
