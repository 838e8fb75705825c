"""The training curves in the TensorBoard logs of a run.

points = read_training_curves(training_log_folder(folder, manifest), CURVES)
points["loss"][0]       # (10, 1.79)
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import tensorflow as tf

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.system import files

log = logging.getLogger("tf_image_classification")

CURVES = ("loss", "learning_rate")
"""The curves that the report draws."""

_MAX_BYTES = 200_000_000
_MAX_POINTS = 500


def training_log_folder(folder: ModelFolder, manifest: RunManifest) -> str:
    """The folder of the training's event files."""
    return files.join(manifest.settings.get("tensorboard_dir") or folder.tensorboard, "train")


def read_training_curves(
    folder: str, names: Collection[str] | None = None
) -> dict[str, list[tuple[float, float]]]:
    """Points of step and value by name, in the order of the steps; at most 500 of each.

    A missing folder gives {}. A file that is damaged or larger than 200 MB is left out with a
    warning. Of points of the same step, which a resumed run writes again, the last one counts.

    Args:
        folder: with the event files of the training.
        names: of the curves to read; None: all.
    """
    from tensorflow.core.util import event_pb2  # not in TensorFlow's public names

    found: dict[str, dict[int, float]] = {name: {} for name in names or ()}
    for name in files.list_folder(folder, missing_ok=True):
        if not name.startswith("events.out.tfevents."):
            continue
        path = files.join(folder, name)
        try:
            if files.size_and_time(path)[0] > _MAX_BYTES:
                log.warning("%s is too large to read its curves.", path)
                continue
            for data in tf.data.TFRecordDataset(path).as_numpy_iterator():
                event = event_pb2.Event.FromString(data)
                for value in event.summary.value:
                    if (names is None or value.tag in names) and value.HasField("tensor"):
                        number = tf.make_ndarray(value.tensor)
                        if number.ndim == 0 and number.dtype.kind == "f":  # no picture, no text
                            found.setdefault(value.tag, {})[event.step] = float(number)
        except (tf.errors.OpError, OSError, ValueError) as error:
            log.warning("%s is damaged: %s", path, " ".join(str(error).split())[:200])
    return {
        name: [points[i] for i in evenly_spaced(len(points), _MAX_POINTS).tolist()]
        for name, by_step in found.items()
        if (points := [(float(step), by_step[step]) for step in sorted(by_step)])
    }
