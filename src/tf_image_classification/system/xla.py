"""Whether XLA compiles for the processor that a run computes on."""

from __future__ import annotations

import functools

import tensorflow as tf


@functools.cache
def compiles_for_processors() -> bool:
    """Whether all devices are processors, and this build of TensorFlow compiles for them."""
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return False
    try:
        tf.function(lambda: tf.constant(1.0) + 1.0, jit_compile=True, autograph=False)()
    except tf.errors.OpError:
        return False
    return True
