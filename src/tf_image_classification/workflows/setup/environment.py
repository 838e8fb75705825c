"""The environment of a process: TensorFlow, the other workers, the cache folder."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
from typing import TYPE_CHECKING

from tf_image_classification import keras_settings
from tf_image_classification.config import Settings
from tf_image_classification.config.command_line import folders_of_vertex
from tf_image_classification.distributed import cluster_spec
from tf_image_classification.errors import ConfigError
from tf_image_classification.system import faults, packages, quiet, screen

if TYPE_CHECKING:
    from tf_image_classification.distributed.workers import Workers

_X86 = ("x86_64", "AMD64")  # as platform.machine() names it


def join(settings: Settings) -> Workers:
    """This process's place among the workers that the environment describes.

    ``train`` does it by itself. A program that uses TensorFlow before, for instance to convert its
    data, must call this first: afterwards the workers cannot be connected any more. It returns when
    all have come; ``is_writer`` of what it returns says who may write files for all, and
    ``wait_for_all`` lets the others wait for them.

    Raises:
        ConfigError: TensorFlow is not installed, or the environment contradicts the settings.
        WorkerLostError: a worker did not start in time.
    """
    prepare_tensorflow(settings)
    from tf_image_classification.distributed import workers

    cluster = cluster_spec.read_cluster(os.environ)
    if cluster is not None and cluster.is_evaluator:
        cluster = None  # it works by itself
    return workers.join(
        settings.run.strategy, cluster, timeout_secs=settings.run.cluster_timeout_secs
    )


def hide_libraries(settings: Settings) -> None:
    """Hide the messages of TensorFlow and other libraries unless ``verbose`` is set.

    ``TF_CPP_MIN_LOG_LEVEL`` 0 or 1, set by the user, shows them too.
    """
    is_asked_for = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "") in ("0", "1")
    quiet.hide_libraries(not settings.run.verbose and not is_asked_for)
    if quiet.is_hiding():  # its logging in Python
        logging.getLogger("tensorflow").setLevel(logging.ERROR)


def prepare_tensorflow(
    settings: Settings, *, with_onednn: bool = True, is_inference: bool = False
) -> None:
    """Import TensorFlow, set its determinism, and check how Keras is configured.

    oneDNN is switched on for x86 processors unless the environment decides or TensorFlow has been
    imported before: TensorFlow leaves it off without AVX-512, where it makes batches faster too.

    Args:
        settings: all settings.
        with_onednn: whether to switch it on; single images become slower where a model's weights
            are variables.
        is_inference: whether images are predicted and nothing else, which needs TensorFlow alone.

    Raises:
        ConfigError: TensorFlow or a package of trainings is not installed, or Keras is configured
            incompatibly.
        DataError: there is no room for temporary files, which TensorFlow needs to read functions.
    """
    hide_libraries(settings)
    faults.check_temporary()
    faults.allow_open_files()
    if with_onednn and platform.machine() in _X86:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if not is_inference and packages.is_installed("tensorflow"):
        for package in packages.OF_TRAININGS:
            if not packages.is_installed(package):
                raise ConfigError(packages.advice(package))
    try:
        is_new = "tensorflow" not in sys.modules
        with screen.working("loading TensorFlow") if is_new else contextlib.nullcontext():
            import tensorflow as tf
    except ModuleNotFoundError as error:
        raise ConfigError(packages.advice("tensorflow")) from error
    keras_settings.require(os.environ)
    if settings.run.deterministic:
        tf.config.experimental.enable_op_determinism()


def job_folders() -> dict[str, str]:
    """The folders that a platform gives this job, as settings by name; {} elsewhere."""
    return folders_of_vertex(os.environ)


def cache_dir(settings: Settings) -> str:
    """The folder for indexes and unpacked records."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return settings.data.cache_dir or os.path.join(base, "tf_image_classification")
