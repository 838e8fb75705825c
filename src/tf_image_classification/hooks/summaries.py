"""The TensorBoard logs: training curves, evaluation metrics and pictures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import PADDING_ID
from tf_image_classification.config import Settings
from tf_image_classification.errors import DataError
from tf_image_classification.hooks.base import EvaluatedRun, EvaluationHook, Hook, Run
from tf_image_classification.hooks.cadence import Every
from tf_image_classification.metrics.confusion import draw_confusion_matrix
from tf_image_classification.model_folder import tensorboard_folder
from tf_image_classification.system import files

_MAX_IMAGES = 8
# In a bucket every flush uploads the whole file, so points are gathered.
_REMOTE_SECS = 120.0
_REMOTE_QUEUE = 10_000


class _Log:
    """The event files of one subfolder of the TensorBoard logs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._writer: Any = None

    @contextlib.contextmanager
    def opened(self, settings: Settings) -> Iterator[Any]:
        """Inside the block ``tf.summary`` writes here.

        Raises:
            DataError: the disk is full, or the folder cannot be written.
        """
        folder = files.join(tensorboard_folder(settings), self._name)
        is_remote = files.is_remote(folder)
        if not is_remote and not files.is_folder(folder):
            self._writer = None  # it was removed while the run trains
        try:
            if self._writer is None:
                max_queue = _REMOTE_QUEUE if is_remote else None
                self._writer = tf.summary.create_file_writer(folder, max_queue=max_queue)
            with self._writer.as_default():
                yield self._writer
        except tf.errors.OpError as error:
            raise DataError(
                f"The TensorBoard logs cannot be written to {tensorboard_folder(settings)}: "
                f"{error.message.splitlines()[0]}. Make room or correct the folder, and start the "
                "same command again to resume from the last checkpoint."
            ) from error

    def close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(tf.errors.OpError):  # that of a full disk has been raised
                self._writer.close()


class EvaluationSummaryHook(EvaluationHook):
    """Writes the metrics and confusion matrices of every evaluation."""

    def __init__(self) -> None:
        self._log = _Log("eval")

    def after_evaluation(self, run: EvaluatedRun, evaluation: Any) -> None:
        """Write the metrics, and a picture of each confusion matrix."""
        with self._log.opened(run.settings) as writer:
            for name, value in evaluation.scalars().items():
                tf.summary.scalar(name, value, step=run.step)
            for name, matrix in evaluation.confusion.items():
                png = draw_confusion_matrix(matrix, run.schema[name].named_classes(), title=name)
                image = tf.io.decode_png(png, channels=3)[None]
                tf.summary.image(f"confusion_matrix/{name}", image, step=run.step)
            writer.flush()

    def close(self) -> None:
        """Close the writer."""
        self._log.close()


class SummaryHook(Hook):
    """Writes training curves every N steps, and every evaluation.

    Attributes:
        every: when points of the training curves are written.
    """

    def __init__(self, every: Every) -> None:
        self.every = every
        self._evaluations = EvaluationSummaryHook()
        self._log = _Log("train")
        self._since = (0.0, 0, 0.0, 0.0)
        self._points: list[tuple[int, dict[str, float]]] = []
        self._upload = Every(secs=_REMOTE_SECS)

    def begin(self, run: Run) -> None:
        """Start counting."""
        self.every.start(run.step)
        self._upload.start(run.step)
        self._since = (time.monotonic(), run.step, run.wait_secs, run.step_secs)

    def after_step(self, run: Run) -> None:
        """Write a point of each training curve when it is due."""
        if self.every.is_due(run.step):
            self._add_point(run)

    def _add_point(self, run: Run) -> None:
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
            self._write_images(run)
        self._since = (now, run.step, run.wait_secs, run.step_secs)

    def _write_points(self, run: Run) -> None:
        points, self._points = self._points, []
        if not points:
            return
        with self._log.opened(run.settings):
            for step, curves in points:
                for name, value in curves.items():
                    tf.summary.scalar(name, value, step=step)

    def _write_images(self, run: Run) -> None:
        batch = run.sample_batch()
        rows = np.flatnonzero(batch.ids.numpy() != PADDING_ID)[:_MAX_IMAGES]
        images = to_displayable(batch.images.numpy()[rows])
        if images.shape[-1] in (1, 3, 4):
            with self._log.opened(run.settings):
                tf.summary.image("training_images", images, max_outputs=_MAX_IMAGES, step=run.step)

    def after_evaluation(self, run: Run, evaluation: Any) -> None:
        """Write the metrics, and a picture of each confusion matrix."""
        self._evaluations.after_evaluation(run, evaluation)

    def end(self, run: Run) -> None:
        """Write a last point, so that the curves of a short run are not empty."""
        if run.step > self._since[1]:
            self._add_point(run)
        self._write_points(run)

    def on_stop(self, run: Run, reason: str) -> None:
        """Write the points that are still gathered."""
        self._write_points(run)

    def close(self) -> None:
        """Close the writers."""
        self._log.close()
        self._evaluations.close()


def to_displayable(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Preprocessed images of any range as float32 0..1, [n, H, W, C]; uint8 stays as it is."""
    if images.dtype == np.uint8:
        return images
    images = images.astype(np.float32)
    low = images.min(axis=(1, 2, 3), keepdims=True)
    high = images.max(axis=(1, 2, 3), keepdims=True)
    scaled: npt.NDArray[Any] = (images - low) / np.maximum(high - low, 1e-6)
    return scaled
