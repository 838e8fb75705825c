"""Reloads a served model when its folder gets a newer export or calibration."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable

from tf_image_classification.errors import TficError
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving.hosted_model import HostedModel
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.system import files

log = logging.getLogger("tf_image_classification")


@dataclasses.dataclass(frozen=True)
class Source:
    """The folder that a served model comes from.

    Attributes:
        model_dir: the folder.
        loaded_state: its ``folder_state`` before the model was loaded.
        load: loads the model again.
    """

    model_dir: str
    loaded_state: str
    load: Callable[[], Predictor]


def folder_state(model_dir: str) -> str:
    """A hash that changes with a folder's exported model, manifest, calibration or limit.

    "" without a model, of TensorFlow or for prediction without it.

    Raises:
        OSError, TficError: the folder cannot be read.
    """
    folder = ModelFolder(model_dir)
    step_path = files.join(folder.saved_model, "step.json")
    notes = [step_path, *(files.join(folder.light, name) for name in ("model.json", "parity.json"))]
    if not any(map(files.exists, notes)):
        return ""
    digest = hashlib.sha256()
    for path in (*notes, folder.manifest, folder.calibration, folder.unknown):
        digest.update(files.read_bytes(path) if files.exists(path) else b"-")
        if path in notes and os.path.exists(path):  # a model of the same step, exported anew
            digest.update(str(os.stat(path).st_mtime_ns).encode())
    return digest.hexdigest()


def _is_being_exported(model_dir: str) -> bool:
    return ModelFolder(model_dir).is_being_exported


async def watch(hosted: HostedModel, source: Source, every_secs: float) -> None:
    """Replace the model after each change of its folder; ends when it is cancelled.

    A change counts when two looks find the same, so that a calibration that is written after the
    model is loaded with it, and when no training is exporting any more: the file for engines
    without TensorFlow follows the SavedModel. A folder that cannot be loaded leaves the model in
    place.

    Args:
        hosted: the model.
        source: its folder.
        every_secs: time between two looks.
    """
    loaded = before = source.loaded_state
    while True:
        await asyncio.sleep(every_secs)
        try:
            if await asyncio.to_thread(_is_being_exported, source.model_dir):
                continue
            state = await asyncio.to_thread(folder_state, source.model_dir)
            is_settled, before = state == before, state
            if state in ("", loaded) or not is_settled:
                continue
            loaded = state
            newer = await asyncio.to_thread(source.load)
        except (OSError, TficError) as error:
            log.warning("%s: the newer export cannot be served: %s", hosted.name, error)
            continue
        await hosted.replace(newer)
        del newer
