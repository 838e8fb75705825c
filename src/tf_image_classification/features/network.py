"""``FeatureNetwork``: a frozen network with its preprocessing, and what identifies both.

network = FeatureNetwork(prepare=prepare, forward=forward, identity=identity_of(...))
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.dataset.image.decode_and_crop import image_headers
from tf_image_classification.dataset.pipeline.image_preprocessor import ImagePreprocessor
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.features.store import KEY_BYTES
from tf_image_classification.run_manifest import ARITHMETIC
from tf_image_classification.system.autograph import unconverted

Content = bytes | npt.NDArray[np.uint8]
"""The encoded image, or its pixels [H, W, 3]."""

BATCH_SIZE = 32
"""Of every call of a network, padded: so the bits of a row do not depend on the others."""

_PNG16 = b"\x89PNG\r\n\x1a\n", b"\x10"  # first bytes, and the byte at 24: bits a channel
_PROBE_SIZES = ((61, 47), (40, 90))  # pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureNetwork:
    """A frozen network.

    Attributes:
        prepare: preprocesses images with their example numbers to [n, H, W, C]; from any thread.
        forward: prepared images [B, H, W, C] to features float32 [B, D].
        identity: hexadecimal digest of everything but the image that decides the features; "": it
            is not known, and nothing is cached.
        about: what it is, for people who look into the cache folder.
        key_of: what of an image and its example number decides its features.
    """

    prepare: Callable[[Sequence[Content], Sequence[int]], tf.Tensor]
    forward: Callable[[tf.Tensor], tf.Tensor]
    identity: str = ""
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    key_of: Callable[[Content, int], bytes] = lambda content, _: content_key(content)


def content_key(content: Content, extra: object = ()) -> bytes:
    """A digest of an image, and of what else decides how it is preprocessed."""
    digest = hashlib.sha256(repr(extra).encode())
    if isinstance(content, bytes):
        digest.update(content)
    else:
        digest.update(f"pixels {content.shape} ".encode())
        digest.update(np.ascontiguousarray(content).tobytes())
    return digest.digest()[:KEY_BYTES]


def preparation(
    preprocessor: ImagePreprocessor,
) -> tuple[
    Callable[[Sequence[Content], Sequence[int]], tf.Tensor], Callable[[Content, int], bytes]
]:
    """``prepare`` and ``key_of`` of a preprocessing for evaluation.

    A preprocessing that takes a seed may give each example number other pixels: then that is a
    part of the key, and so is the range of values of a 16-bit PNG.
    """
    is_ours = type(preprocessor.preproc) is Preprocessing
    takes_seed = not is_ours and "seed" in inspect.signature(preprocessor.preproc).parameters

    encoded = tf.function(
        unconverted(lambda data, numbers: preprocessor.images(data, numbers, may_be_raw=False)[0]),
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64)],
    )

    def prepare(contents: Sequence[Content], numbers: Sequence[int]) -> tf.Tensor:
        if all(isinstance(content, bytes) for content in contents):
            with tf.device("CPU:0"):
                return encoded(tf.constant(contents), tf.constant(numbers, tf.int64))
        return tf.stack([one(c, n) for c, n in zip(contents, numbers, strict=True)])

    def one(content: Content, number: int) -> tf.Tensor:
        header = image_headers(tf.constant([content]))[0] if isinstance(content, bytes) else None
        given = tf.constant(content), tf.constant(number, tf.int64)
        return preprocessor.before_device(*given, header)[0]

    def key_of(content: Content, number: int) -> bytes:
        extra: list[object] = [preprocessor.seed, number] if takes_seed else []
        if isinstance(content, bytes) and _is_png16(content):
            extra.append(preprocessor.png16_range)
        return content_key(content, tuple(extra))

    return prepare, key_of


def identity_of(
    *, network: object, weights: Iterable[Any], preprocessing: object, precision: str
) -> str:
    """The digest of what decides features; "" where a part of it has no lasting text.

    Versions of the libraries and the kind of device are a part of it: they change the rounding.

    Args:
        network: what its computation is, without the weights.
        weights: its variables, in the order of its layers.
        preprocessing: what happens to an image before.
        precision: in which the layers compute.
    """
    where = (
        *(tf.__version__, keras.__version__, ARITHMETIC, BATCH_SIZE, platform.machine()),
        *sorted({device.device_type for device in tf.config.list_logical_devices()}),
        os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""),
    )
    text = repr((network, preprocessing, precision, where))
    if " at 0x" in text:  # an address, which another object may have the next time
        return ""
    digest = hashlib.sha256(text.encode())
    for variable in weights:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(repr((value.shape, str(value.dtype))).encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:24]


def preprocessing_text(preproc: Preprocessing, image_size: int) -> tuple[object, ...]:
    """What identifies the package's own preprocessing in an evaluation."""
    return ("center crop", preproc.eval_crop, preproc.eval_stretch, image_size)


def structure_of(model: keras.Model) -> str:
    """The layers of a model and how they are connected; names that Keras counts do not matter."""
    try:
        config = model.get_config()
    except NotImplementedError:  # a model without layers that Keras knows
        config = {"name": type(model).__qualname__}
    places = {layer.name: f"layer {i}" for i, layer in enumerate(model._flatten_layers())}

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items() if key != "build_config"}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        return places.get(value, value) if isinstance(value, str) else value

    return repr((type(model).__qualname__, plain(config)))


def behaviour_of(
    prepare: Callable[[Sequence[Content], Sequence[int]], tf.Tensor],
    forward: Callable[[tf.Tensor], tf.Tensor],
) -> str:
    """A digest of what a user's code makes of two synthetic images; code elsewhere changes it."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, [h, w, 3], np.uint8) for h, w in _PROBE_SIZES]
    encoded = [tf.io.encode_png(image).numpy() for image in images]
    prepared = prepare(encoded, range(len(images)))
    rows = forward(padded(prepared)).numpy()[: len(images)]
    scale = max(float(np.abs(rows).max()), 1e-9)
    digest = hashlib.sha256(prepared.numpy().tobytes())
    digest.update(np.round(rows / scale * 100).astype(np.int32).tobytes())
    return digest.hexdigest()


def padded(images: tf.Tensor) -> tf.Tensor:
    """Images [n, H, W, C] with the last one repeated up to ``BATCH_SIZE``."""
    missing = BATCH_SIZE - len(images)
    return tf.concat([images, tf.repeat(images[-1:], missing, axis=0)], 0) if missing else images


def _is_png16(data: bytes) -> bool:
    return data[:8] == _PNG16[0] and data[24:25] == _PNG16[1]
