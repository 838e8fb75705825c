"""Find the largest batch size that fits into memory, and the smallest that is about as fast.

found = find_batch_size(spec, settings, cache_dir)
print(found.suggestion)
"""

from __future__ import annotations

import dataclasses
import math
import statistics

import tensorflow as tf

from tf_image_classification.config import Settings
from tf_image_classification.distributed.devices import make_strategy
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import ConfigError
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.workflows.setup import build
from tf_image_classification.workflows.setup.validate import open_run

_MEASURED_STEPS = 4
_FLAT = 0.05  # images/s that are not worth a larger batch


@dataclasses.dataclass(frozen=True)
class BatchSizes:
    """How fast batch sizes are.

    Attributes:
        images_per_second: by batch size.
        largest: the largest size that fits into memory, or the last one tried.
        suggestion: the smallest size that is within a twentieth of the fastest.
    """

    images_per_second: dict[int, float]
    largest: int
    suggestion: int


def find_batch_size(
    spec: EstimatorSpec,
    settings: Settings,
    cache_dir: str,
    *,
    smallest: int = 8,
    largest: int = 512,
) -> BatchSizes:
    """Train some steps with each of 8, 16, 32, ... until memory ends; nothing is written.

    Args:
        spec: the spec.
        settings: the settings of the training.
        cache_dir: folder for indexes and unpacked records.
        smallest: first size.
        largest: last size.

    Raises:
        ConfigError: not even the smallest size fits into memory.
    """
    workers = Workers(make_strategy(settings.run.strategy))
    speeds: dict[int, float] = {}
    for power in range(int(math.log2(largest / smallest)) + 1):
        size = smallest * 2**power
        changed = settings.replace(batch_size=size)
        try:
            opened = open_run(spec, changed, cache_dir)
            parts = build.assemble(spec, changed, opened.data, workers, [])
            secs = [parts.run.stepper.time_steps(1) for _ in range(_MEASURED_STEPS + 2)][2:]
        except tf.errors.ResourceExhaustedError:
            break
        speeds[size] = size / statistics.median(secs)
    if not speeds:
        raise ConfigError(f"Not even {smallest} images fit into memory. Use a smaller network.")
    best = max(speeds.values())
    suggestion = min(size for size, speed in speeds.items() if speed >= (1 - _FLAT) * best)
    return BatchSizes(speeds, max(speeds), suggestion)
