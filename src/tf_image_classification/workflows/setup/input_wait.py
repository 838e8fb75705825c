"""A warning when the input pipeline is the bottleneck, with its stages and a remedy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import tensorflow as tf

from tf_image_classification.dataset.image.decode_and_crop import image_headers
from tf_image_classification.dataset.pipeline.pipeline import Pipeline
from tf_image_classification.hooks.base import Hook, Run
from tf_image_classification.system.autograph import unconverted

log = logging.getLogger(__name__)

MOST = 0.10
"""Fraction of the steps' time spent waiting for input above which a warning is logged."""

_AFTER_SECS, _AFTER_STEPS = 20.0, 50
_NUM_IMAGES = 64
_ADVICE = {
    "reading": "keep the files on a local disk, or gather them in records with tfic convert",
    "decoding": (
        "store smaller images, or raw ones, with tfic convert (--short_side, --image_format ppm), "
        "or let other machines decode (--data_service)"
    ),
    "preprocessing": (
        "use dataset.preprocessing.Preprocessing, which decodes only what it needs, or let other "
        "machines preprocess (--data_service)"
    ),
}


class InputWaitHook(Hook):
    """Once the training has run for a while, warns if it waits for input.

    Attributes:
        pipeline: the training's input.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        """Store the input."""
        self.pipeline = pipeline
        self._start = (0, 0.0, 0.0)
        self._is_done = False

    def begin(self, run: Run) -> None:
        """Count from the second step of this process; the first one is compiled."""
        self._start = (run.step, run.wait_secs, run.step_secs)

    def after_step(self, run: Run) -> None:
        """Check once, after enough steps."""
        step, wait_secs, step_secs = self._start
        if step_secs == 0.0:
            self._start = (run.step, run.wait_secs, run.step_secs)
            return
        passed = run.step_secs - step_secs
        if self._is_done or passed < _AFTER_SECS or run.step - step < _AFTER_STEPS:
            return
        self._is_done = True
        fraction = (run.wait_secs - wait_secs) / passed
        if fraction > MOST:
            log.warning(
                "%.0f %% of the steps' time is spent waiting for input: %s",
                100 * fraction,
                explain(time_stages(self.pipeline)),
            )


def time_stages(pipeline: Pipeline, num_images: int = _NUM_IMAGES) -> dict[str, float]:
    """Seconds an image takes by stage, on one core; of a table's first examples."""
    table, preprocessor = pipeline.table, pipeline.preprocessor
    if table is None:
        return {}
    numbers = tf.range(min(num_images, table.num_examples), dtype=tf.int64)
    count = len(numbers)
    position = tf.constant(0, tf.int64)
    kept = pipeline.reader.cached_images()
    if kept is not None:
        change = tf.function(unconverted(lambda image: preprocessor.preprocess(image, position)))
        return {"preprocessing": _secs(change, kept[:count]) / count}
    began = time.monotonic()
    data = table.fetch(numbers)
    read_secs = time.monotonic() - began
    decode = preprocessor.decode
    if preprocessor.bytes_preproc:
        whole = tf.function(
            unconverted(
                lambda d: preprocessor.before_device(d, position, image_headers(d[tf.newaxis])[0])
            )
        )
        return {"reading": read_secs / count, "decoding": _secs(whole, data) / count}
    decode_secs = _secs(decode, data)
    both = tf.function(unconverted(lambda d: preprocessor.preprocess(decode(d), position)))
    return {
        "reading": read_secs / count,
        "decoding": decode_secs / count,
        "preprocessing": max(0.0, _secs(both, data) - decode_secs) / count,
    }


def _secs(function: Callable[[tf.Tensor], tf.Tensor], data: tf.Tensor) -> float:
    function(data[0])  # traced
    began = time.monotonic()
    for one in data:
        function(one)
    return time.monotonic() - began


def explain(secs: Mapping[str, float]) -> str:
    """The stages with their fractions of the time, and a remedy for the longest."""
    if not secs:
        return "its files are read in sequence; see where their time goes with a profile."
    total = sum(secs.values())
    fractions = ", ".join(f"{name} {value / total:.0%}" for name, value in secs.items())
    longest = max(secs, key=lambda name: secs[name])
    return (
        f"{fractions} ({1 / total:.0f} images/s on one core). To change that, {_ADVICE[longest]}."
    )
