"""The teachers of a distillation: model folders whose predictions a training learns from.

fingerprints = teacher_fingerprints(settings, schema)    # before the run, without loading them
forward = teacher_forward(context, schema, image_shape)  # images of a batch to their logits
"""

from __future__ import annotations

import os
from collections.abc import Callable

import tensorflow as tf

from tf_image_classification.config import Settings
from tf_image_classification.dataset.pipeline.image_preprocessor import preprocessed
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.export.identity import saved_model_fingerprint
from tf_image_classification.export.pixel_scaling import pixel_scaling, scaling_of
from tf_image_classification.export.saved_model import ExportedModel, exported_step
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.model_outputs import mean_logits
from tf_image_classification.optim.distillation import can_be_distilled
from tf_image_classification.workflows.setup.context import RunContext

Forward = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def teacher_fingerprints(settings: Settings, schema: LabelSchema) -> tuple[str, ...]:
    """The fingerprint of each teacher's exported model, after checks of its labels.

    Raises:
        CheckpointError: a teacher is not a model folder.
        ConfigError: it is the run's own folder, or its labels or classes are others.
        DataError: it has no exported model.
    """
    found: list[str] = []
    if not any(map(can_be_distilled, schema)):
        return ()  # the option is rejected as one without effect
    for path in settings.training.teacher:
        folder = ModelFolder(path)
        manifest = folder.known_manifest()
        if os.path.abspath(path) == os.path.abspath(settings.run.model_dir):
            raise ConfigError(
                f"teacher {path} is the folder that this run trains in. Name another model_dir."
            )
        for label in filter(can_be_distilled, schema):
            theirs = manifest.schema
            same = label.name in theirs.names and theirs[label.name] == label
            if not same:
                there = ", ".join(
                    f"{other.name} ({', '.join(other.named_classes()[:6])})" for other in theirs
                )
                raise ConfigError(
                    f"teacher {path} knows {there}; expected {label.name} with the classes "
                    f"{', '.join(label.named_classes()[:6])} in this order. Train the teacher on "
                    "the same labels."
                )
        if exported_step(folder.saved_model) is None:
            raise DataError(
                f"teacher {path} has no exported model. Complete its run with export_saved_model."
            )
        found.append(saved_model_fingerprint(folder.saved_model))
    return tuple(found)


def teacher_forward(
    context: RunContext, schema: LabelSchema, image_shape: tuple[int, ...]
) -> Forward:
    """A function from the images of a batch to the mean predictions of the teachers, as logits.

    A teacher sees the same augmented pixels as the model that is trained (Beyer et al., arXiv
    2106.05237), resized where its image size is another one.

    Args:
        context: the run, with teachers.
        schema: its labels.
        image_shape: height, width and channels of a preprocessed image.

    Raises:
        ConfigError: a teacher takes pixels of another range or another number of channels.
        DataError: its exported model is damaged.
    """
    settings = context.settings
    own = scaling_of(lambda image: _prepared(context, image))
    teachers = []
    for path in settings.training.teacher:
        exported = ExportedModel(ModelFolder(path).saved_model).load()
        theirs = pixel_scaling(exported)
        if own is None or theirs != own or exported.image_spec.shape[-1] != image_shape[-1]:
            raise ConfigError(
                f"teacher {path} takes pixels scaled by {theirs or 'its own preprocessing'}, this "
                f"run's model by {own or 'its own preprocessing'}. A teacher sees the images of "
                "the run, so both need pixels of one range: scale them inside the networks, as "
                "built-in backbones do."
            )
        teachers.append(exported)

    shared = LabelSchema(tuple(filter(can_be_distilled, schema)))

    def forward(images: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.cast(images, tf.float32)
        return mean_logits(shared, [_logits(one, images) for one in teachers])

    return forward


def _prepared(context: RunContext, image: tf.Tensor) -> tf.Tensor:
    """A decoded image in the run's evaluation preprocessing."""
    size, seed = context.settings.data.image_size, (0, tf.constant(0, tf.int64))
    return preprocessed(context.spec.get_preproc_fn(False), image, size=size, seed=seed)


def _logits(exported: ExportedModel, images: tf.Tensor) -> dict[str, tf.Tensor]:
    shape, dtype = exported.image_spec.shape, exported.image_spec.dtype
    if images.shape[1:3] != shape[:2]:
        images = tf.image.resize(images, shape[:2], antialias=True)
    return exported.forward(tf.cast(images, dtype), False)
