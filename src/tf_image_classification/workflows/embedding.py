"""The features of images: the values that a trained model's last layer takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_image_classification.batches import outputs_of
from tf_image_classification.errors import BadImageError, ConfigError
from tf_image_classification.features.compute import Features, compute_features
from tf_image_classification.features.network import (
    Content,
    FeatureNetwork,
    identity_of,
    structure_of,
)
from tf_image_classification.layer_calls import watched_layers
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.system import files
from tf_image_classification.system.autograph import unconverted
from tf_image_classification.workflows.setup.head_init import features_of, output_layers


def features(
    model: keras.Model,
    names: tuple[str, ...],
    predictor: Predictor,
    images: Sequence[tuple[str, Any]],
    *,
    cache_dir: str,
    on_images: Callable[[int, int], Any] = lambda done, count: None,
) -> Features:
    """The features [n, d] of images; feature maps are averaged over their places.

    Args:
        model: the trained model.
        names: of its labels.
        predictor: prepares images as the trained model takes them.
        images: name and content (path, encoded bytes, pixels or an error) of each.
        cache_dir: folder of the cache of features.
        on_images: called with the number of images that are done, and of all.

    Raises:
        BadImageError: one cannot be used; names it.
        ConfigError: its labels have different features, or no layer has a kernel.
    """

    def refuse(number: int, content: Content, error: Exception) -> None:
        if isinstance(error, ConfigError):
            raise error
        raise BadImageError(f"{images[number][0]}: {error}") from error

    return compute_features(
        feature_network(model, names, predictor),
        _contents(content for _, content in images),
        len(images),
        cache_dir=cache_dir,
        on_images=on_images,
        on_problem=refuse,
    )


def feature_network(
    model: keras.Model, names: tuple[str, ...], predictor: Predictor
) -> FeatureNetwork:
    """The model below its last layer, with the preprocessing of its inference."""

    def prepare(contents: Sequence[Content], numbers: Sequence[int]) -> tf.Tensor:
        return tf.stack([predictor.prepare(content) for content in contents])

    def forward(images: tf.Tensor) -> tf.Tensor:
        layers = _last_layers(model, names, images[:1])
        found = tf.cast(features_of(model, layers, tf.cast(images, tf.float32)), tf.float32)
        return tf.reduce_mean(found, [1, 2]) if found.shape.rank == 4 else found

    return FeatureNetwork(
        prepare=prepare,
        forward=tf.function(unconverted(forward)),
        identity=identity_of(
            network=("last layer", names, structure_of(model)),
            weights=model.weights,
            preprocessing=predictor.engine.fingerprint(),
            precision=model.dtype_policy.name,
        ),
        about={"network": f"{model.name} at step {predictor.step}"},
    )


def _contents(images: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    """Number and content of each image; files are read."""
    for number, image in enumerate(images):
        if isinstance(image, (bytes, np.ndarray, Exception)):
            yield number, image
            continue
        try:
            yield number, files.read_bytes(str(image))
        except (OSError, ValueError) as error:
            yield number, error


def _last_layers(
    model: keras.Model, names: tuple[str, ...], images: tf.Tensor
) -> dict[str, keras.layers.Layer]:
    """The layers that give the logits: by name, or the last one with a kernel."""
    try:
        return dict(output_layers(model, names))
    except ConfigError:
        if len(names) > 1:
            raise
    called: list[keras.layers.Layer] = []
    with watched_layers(model, lambda layer, _, __: called.append(layer)):
        outputs_of(model, tf.cast(images, tf.float32), training=False)
    with_kernel = [layer for layer in called if getattr(layer, "kernel", None) is not None]
    if not with_kernel:
        raise ConfigError("The model has no layer with a kernel, so that it has no features.")
    return {names[0]: with_kernel[-1]}
