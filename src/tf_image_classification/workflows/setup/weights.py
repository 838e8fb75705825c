"""The weights of a model folder: its best or newest checkpoint, loaded into a model.

saved, which = newest_weights(folder)   # "best" or "last"
assign_weights(model, saved)
"""

from __future__ import annotations

import logging

import keras

from tf_image_classification.checkpoints.adapted_layers import refresh
from tf_image_classification.checkpoints.store import CheckpointStore, Saved
from tf_image_classification.errors import CheckpointError
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.training.state import model_variables

log = logging.getLogger("tf_image_classification")


def newest_weights(folder: ModelFolder) -> tuple[Saved, str]:
    """The best checkpoint of a folder, or else its last one; and "best" or "last".

    Raises:
        CheckpointError: no checkpoint can be read.
    """
    for which, path in (("best", folder.best), ("last", folder.checkpoints)):
        try:
            saved = CheckpointStore(path).newest()
        except CheckpointError as error:
            log.warning("%s", error)
            continue
        if saved is not None:
            return saved, which
    manifest = folder.read_manifest()
    if manifest is not None and manifest.combined:
        raise CheckpointError(
            f"{folder.path} is an ensemble, which has no weights of one network. Use one of its "
            f"members: {', '.join(manifest.combined['members'])}."
        )
    raise CheckpointError(f"{folder.path} holds no readable checkpoint. Train first.")


def assign_weights(model: keras.Model, saved: Saved) -> None:
    """Load the weights for evaluation into a model: moving averages if the checkpoint has them.

    Raises:
        CheckpointError: the checkpoint does not fit the model.
    """
    for variable in model_variables(model):
        value = saved.tensors.get(
            f"average/{variable.path}", saved.tensors.get(f"model/{variable.path}")
        )
        if value is None or tuple(value.shape) != tuple(variable.shape):
            raise CheckpointError(
                f"The checkpoint of step {saved.step} does not fit the model: {variable.path} "
                + ("is missing" if value is None else f"has shape {tuple(value.shape)}")
                + f", expected {tuple(variable.shape)}. Use the spec that it was made with."
            )
        variable.assign(value)
    refresh(model)
