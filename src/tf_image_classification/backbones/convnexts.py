"""ConvNeXt as in torchvision and timm: the last normalisation follows the pooling.

That of ``keras.applications`` without classifier normalises before the pooling, so its features
differ (Liu et al., arXiv 2201.03545).
"""

from __future__ import annotations

from typing import Any

from keras import layers


def body(images: Any, *, width: int, depth: int) -> Any:
    """The features [B, 8 * width] of scaled images.

    Args:
        images: [B, h, w, 3].
        width: channels of the first stage.
        depth: blocks of the third stage; the others have three.
    """
    x = layers.Conv2D(width, 4, strides=4, name="stem")(images)
    x = _norm(x, "stem_norm")
    number = 0
    for stage, count in enumerate((3, 3, depth, 3)):
        if stage:
            x = _norm(x, f"downsample{stage}_norm")
            x = layers.Conv2D(width << stage, 2, strides=2, name=f"downsample{stage}")(x)
        for _ in range(count):
            x = _block(x, f"block{number}")
            number += 1
    x = layers.GlobalAveragePooling2D(name="average_pool")(x)
    return _norm(x, "norm")


def _block(before: Any, name: str) -> Any:
    channels = before.shape[-1]
    x = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise")(before)
    x = _norm(x, f"{name}_norm")
    x = layers.Dense(4 * channels, activation="gelu", name=f"{name}_expand")(x)
    x = layers.Dense(channels, name=f"{name}_project")(x)
    # A factor for each channel, as a layer that Keras's files can hold.
    x = layers.DepthwiseConv2D(
        1, use_bias=False, depthwise_initializer=_SMALL, name=f"{name}_gamma"
    )(x)
    return layers.Add(name=f"{name}_add")([before, x])


_SMALL = {"class_name": "Constant", "config": {"value": 1e-6}}


def _norm(x: Any, name: str) -> Any:
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)
