"""The ``tf.distribute`` strategy over the devices of this machine."""

from __future__ import annotations

import functools

import tensorflow as tf

from tf_image_classification.errors import ConfigError
from tf_image_classification.system import quiet


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The ``tf.distribute`` strategy of a name.

    Args:
        name: "auto" (all GPUs, or one device), "one_device", "mirrored" (all GPUs, or all logical
            CPU devices) or "tpu".

    Raises:
        ConfigError: no TPU can be used.
    """
    if name == "tpu":
        return _tpu()
    with quiet.hidden():  # libraries are loaded at the first use of a device
        gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        return _mirrored(tuple(devices))
    return tf.distribute.OneDeviceStrategy(devices[0])


@functools.cache
def _tpu() -> tf.distribute.Strategy:
    """All cores of the TPU that the environment names (``TPU_NAME``), or of this machine."""
    make = tf.distribute.cluster_resolver.TPUClusterResolver
    try:
        try:
            resolver = make()
        except ValueError:  # the environment names none
            resolver = make(tpu="local")
        else:
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"strategy is tpu, but no TPU can be used: {reason}. Run on a TPU machine, with a "
            "TensorFlow that is built for it, or set TPU_NAME."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """The strategy over these devices, the same object in every run of a process.

    TensorFlow keeps the shape of each collective operation under a number that every strategy
    counts from the start, so the collectives of a second strategy would collide with the first.
    """
    return tf.distribute.MirroredStrategy(devices)


def check_batch_size(batch_size: int, num_replicas: int, accumulation_steps: int) -> None:
    """Check that a global batch splits evenly over devices and accumulation parts.

    Raises:
        ConfigError: it does not; suggests the nearest sizes that do.
    """
    parts = num_replicas * accumulation_steps
    if batch_size % parts:
        below = batch_size - batch_size % parts
        raise ConfigError(
            f"batch_size is {batch_size}, which does not split evenly over {num_replicas} devices "
            f"(of all workers) times {accumulation_steps} accumulation steps. Nearest sizes that "
            f"do: {' and '.join(str(size) for size in (below, below + parts) if size)}."
        )


def uses_xla(choice: str, num_replicas: int) -> bool:
    """Whether to compile with XLA: by default on a single GPU.

    Raises:
        ConfigError: it is requested for several devices, whose sums XLA cannot compile.
    """
    if choice == "on" and num_replicas > 1:
        raise ConfigError(
            f"jit_compile is on, but the step is shared by {num_replicas} devices, which XLA "
            "cannot compile here. Use --jit_compile off, or --strategy one_device."
        )
    if choice == "auto":
        return num_replicas == 1 and bool(tf.config.list_logical_devices("GPU"))
    return choice == "on"
