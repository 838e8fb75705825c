"""Features of the images of a listing by a pretrained backbone, labelled or not.

found = backbone_features(listing, cache_dir=cache_dir)        # of the default backbone
found.values                                                   # float32 [N, D]
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tf_image_classification import backbones
from tf_image_classification.checkpoints.warm_start import load_values, warm_start
from tf_image_classification.config import (
    DEFAULT_BACKBONE,
    DEFAULT_MAX_PIXELS,
    IMAGENET,
    RECIPE_STRETCH,
)
from tf_image_classification.dataset.pipeline.image_preprocessor import ImagePreprocessor
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.dataset.readers import Listing, Place
from tf_image_classification.errors import DataError
from tf_image_classification.features.compute import Features, compute_features
from tf_image_classification.features.network import (
    Content,
    FeatureNetwork,
    identity_of,
    preparation,
    preprocessing_text,
)
from tf_image_classification.fused_batch_norm import fused_batch_norm
from tf_image_classification.system import screen
from tf_image_classification.system.autograph import unconverted

FLOAT32 = "float32"
_NUM_THREADS = 8
_AT_ONCE = 64  # images that are read at a time


def backbone_features(
    listing: Listing,
    *,
    cache_dir: str,
    backbone: str = DEFAULT_BACKBONE,
    weights: str = IMAGENET,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    numbers: Sequence[int] | None = None,
) -> Features:
    """The features [N, D] of the images of a listing by a pretrained backbone.

    The progress is shown on the screen. Images that cannot be used have zeros, and an entry in
    ``problems``.

    Args:
        listing: the examples; labels do not matter.
        cache_dir: folder of the cache; "": nothing is cached.
        backbone: a name of ``tfic backbones``.
        weights: a file as for ``--checkpoint_path``, or ``imagenet``.
        max_pixels: larger images are not decoded.
        numbers: of some examples; None: all. N is their number.

    Raises:
        ConfigError: the backbone is unknown, or its weights are not at hand.
        CheckpointError: the weights are missing or of another backbone.
    """
    chosen = range(len(listing)) if numbers is None else numbers
    network = backbone_network(backbone, weights, max_pixels=max_pixels)
    images = read_places([listing.places[i] for i in chosen])
    with screen.progress("features", "img") as show:
        return compute_features(network, images, len(chosen), cache_dir=cache_dir, on_images=show)


def backbone_network(
    backbone: str, weights: str, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> FeatureNetwork:
    """A pretrained backbone for images of its published size; arguments as ``backbone_features``.

    Raises:
        ConfigError: the backbone is unknown, or its weights are not at hand.
        CheckpointError: the weights are missing or of another backbone.
    """
    size = backbones.find(backbone).image_size
    model = backbones.create(backbone, (size, size, 3))
    if weights == IMAGENET:
        load_values(model, backbones.imagenet_values(backbone), f"ImageNet weights of {backbone}")
    else:
        warm_start(model, weights)
    # As trainings prepare them by the recipe, so that they find the features in the cache.
    preproc = Preprocessing(is_training=False, eval_stretch=RECIPE_STRETCH)
    preprocessor = ImagePreprocessor(preproc=preproc, image_size=size, max_image_pixels=max_pixels)
    prepare, key_of = preparation(preprocessor)

    def features(images: tf.Tensor) -> tf.Tensor:
        with fused_batch_norm(model, training=False):
            return tf.cast(model(images, training=False), tf.float32)

    return FeatureNetwork(
        prepare=prepare,
        forward=tf.function(unconverted(features), reduce_retracing=True),
        identity=identity_of(
            network=backbone_text(backbone, ""),
            weights=model.weights,
            preprocessing=preprocessing_text(preproc, size),
            precision=FLOAT32,
        ),
        about={"network": backbone, "weights": weights, "image_size": str(size)},
        key_of=key_of,
    )


def backbone_text(backbone: str, pixel_scaling: str) -> tuple[str, ...]:
    """What identifies the computation of a built-in backbone."""
    is_ours = not backbone.startswith(backbones.KERAS_HUB)
    return ("backbone", backbones.find(backbone).name if is_ours else backbone, pixel_scaling)


def read_places(places: Sequence[Place]) -> Iterator[tuple[int, Content | Exception]]:
    """Number and encoded bytes of each image, or why it cannot be read; in order."""
    # Packed images are unpacked once, one after the other.
    num_threads = _NUM_THREADS if places and places[0].kind == "file" else 1
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        ahead: list[Any] = [pool.submit(_read, place) for place in places[:_AT_ONCE]]
        for start in range(0, len(places), _AT_ONCE):
            now = ahead
            following = places[start + _AT_ONCE : start + 2 * _AT_ONCE]
            ahead = [pool.submit(_read, place) for place in following]
            for i, future in enumerate(now):
                yield start + i, future.result()


def _read(place: Place) -> Content | Exception:
    try:
        return place.encoded()
    except (DataError, OSError, ValueError) as error:
        return error
