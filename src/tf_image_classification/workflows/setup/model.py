"""The model of a run: built from the spec, as a forward pass, with pretrained weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification import backbones, keras_settings
from tf_image_classification.checkpoints import torch_files
from tf_image_classification.checkpoints.warm_start import WarmStartReport, load_values, warm_start
from tf_image_classification.compiled_gradients import compiled_gradients
from tf_image_classification.config import IMAGENET, Settings
from tf_image_classification.errors import CheckpointError, ConfigError
from tf_image_classification.estimator_specs import call_model_fn, logits_of
from tf_image_classification.fused_batch_norm import fused_batch_norm
from tf_image_classification.labels import LabelSchema
from tf_image_classification.system import files
from tf_image_classification.training.step import Forward
from tf_image_classification.workflows.setup.context import RunContext
from tf_image_classification.workflows.setup.run_data import Data


def build_model(context: RunContext, image_shape: tuple[int, int, int]) -> keras.Model:
    """The spec's model, initialised from the seed, with stable variable names.

    Raises:
        SpecError: ``model_fn`` does not return a Keras model.
    """
    settings = context.settings
    keras_settings.require_policy(settings.model.precision, where="The program")
    keras.utils.clear_session(free_memory=False)  # layer names count from one again
    keras.utils.set_random_seed(settings.run.seed)
    with context.workers.strategy.scope():
        return call_model_fn(context.spec, settings, image_shape)


def make_forward(
    model: Callable[..., Any], schema: LabelSchema, settings: Settings | None = None
) -> Forward:
    """Images and whether training, to float32 logits by label; traced by its callers.

    With settings the logits of an evaluation are the means over the views that they ask for.
    """
    augmentation = settings.evaluation.test_time_augmentation if settings else "none"
    is_compiled = settings is None or settings.training.jit_compile != "off"

    def one_view(images: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        with contextlib.ExitStack() as faster:
            faster.enter_context(fused_batch_norm(model, training=training))
            if training and is_compiled:
                faster.enter_context(compiled_gradients(model))
            return logits_of(schema, model, images, training=training)

    def forward(images: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        if images.dtype.is_integer:
            images = tf.cast(images, tf.float32)
        if training or augmentation == "none":
            return one_view(images, training)
        of_views = [one_view(view, False) for view in views(images, augmentation)]
        return {
            name: tf.add_n([logits[name] for logits in of_views]) / len(of_views)
            for name in schema.names
        }

    return forward


def views(images: tf.Tensor, augmentation: str) -> list[tf.Tensor]:
    """The views of images that an evaluation averages over (as in airbench, arXiv 2404.00498).

    Args:
        images: [B, H, W, C].
        augmentation: "flip" or "flip_shift".
    """
    shown = [images]
    if augmentation == "flip_shift":
        height, width = images.shape[1], images.shape[2]
        by = max(1, round(min(height, width) / 32))
        wide = tf.pad(images, [[0, 0], [by, by], [by, by], [0, 0]], mode="SYMMETRIC")
        shown += [wide[:, d : d + height, d : d + width] for d in (0, 2 * by)]
    return [*shown, *(tf.reverse(view, [2]) for view in shown)]


def start_from_checkpoint(settings: Settings, model: keras.Model, data: Data) -> WarmStartReport:
    """Load the weights of ``checkpoint_path`` into a model; reports each variable's outcome.

    Raises:
        CheckpointError: as ``warm_start``.
        ConfigError: there are no ImageNet weights for the backbone, or there is no backbone.
    """
    source = settings.model.checkpoint_path
    scopes = {
        "restore_scopes": settings.model.checkpoint_restore_scopes,
        "exclude_scopes": settings.model.checkpoint_exclude_scopes,
    }
    if source != IMAGENET:
        averages = settings.model.checkpoint_averages
        try:
            return warm_start(
                model,
                source,
                with_averages=averages,
                schema=data.schema,
                image_shape=data.train.image_shape if data.train is not None else None,
                **scopes,
            )
        except CheckpointError as error:
            advice = _other_backbone(source, settings.backbone_spec.backbone)
            raise CheckpointError(f"{error}{advice}") from error
    if not settings.backbone_spec.backbone:
        raise ConfigError("checkpoint_path imagenet needs a backbone. Name a file of weights.")
    values = backbones.imagenet_values(settings.backbone_spec.backbone)
    return load_values(
        model, values, f"ImageNet weights of {settings.backbone_spec.backbone}", **scopes
    )


def _other_backbone(path: str, backbone: str) -> str:
    """A sentence with the backbone that a PyTorch file of weights is of, or ""."""
    try:
        file = "" if files.is_remote(path) else torch_files.file_in(path)
        fitting = backbones.fitting(file) if file and backbone else ()
    except CheckpointError:  # the warm start's message is about that
        return ""
    if not fitting or backbone in fitting:
        return ""
    return f" The file is of {' or '.join(fitting)}: use --backbone {fitting[0]}."
