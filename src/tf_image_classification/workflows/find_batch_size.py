"""Find the largest batch size that fits into memory, and the smallest that is about as fast.

found = find_batch_size(context)
print(found.suggestion)
"""

from __future__ import annotations

import dataclasses
import math
import statistics

import tensorflow as tf

from tf_image_classification.errors import ConfigError
from tf_image_classification.workflows.setup import build
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.validate import open_run

_MEASURED_STEPS = 4
_FLAT = 0.05  # images/s that are not worth a larger batch


@dataclasses.dataclass(frozen=True)
class BatchSizes:
    """The measured throughput of batch sizes.

    Attributes:
        images_per_second: throughput by batch size.
        largest: the largest size that fits into memory, or the last one tried.
        suggestion: the smallest size within 5 % of the highest throughput.
    """

    images_per_second: dict[int, float]
    largest: int
    suggestion: int


def find_batch_size(
    context: RunContext,
    *,
    smallest: int = 8,
    largest: int = 512,
) -> BatchSizes:
    """Train a few steps with batch sizes 8, 16, 32, ... until memory runs out; writes nothing.

    Args:
        context: the training.
        smallest: first size.
        largest: last size.

    Raises:
        ConfigError: not even the smallest size fits into memory.
    """
    speeds: dict[int, float] = {}
    for power in range(int(math.log2(largest / smallest)) + 1):
        size = smallest * 2**power
        changed = context.settings.replace(batch_size=size)
        try:
            opened = open_run(context.replace(settings=changed))
            parts = build.assemble(opened.context, opened.data, [])
            secs = [parts.run.stepper.time_steps(1) for _ in range(_MEASURED_STEPS + 2)][2:]
        except tf.errors.ResourceExhaustedError:
            break
        speeds[size] = size / statistics.median(secs)
    if not speeds:
        raise ConfigError(f"Not even {smallest} images fit into memory. Use a smaller network.")
    best = max(speeds.values())
    suggestion = min(size for size, speed in speeds.items() if speed >= (1 - _FLAT) * best)
    return BatchSizes(speeds, max(speeds), suggestion)
