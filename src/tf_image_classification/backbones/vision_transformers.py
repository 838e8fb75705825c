"""ViT as in timm and torchvision: the class token's features behind the last normalisation.

Only layers of Keras are used, so that an exported model needs no code of ours (Dosovitskiy et al.,
arXiv 2010.11929).
"""

from __future__ import annotations

from typing import Any

from keras import layers, ops


def body(images: Any, *, width: int, heads: int, patch: int = 16, depth: int = 12) -> Any:
    """The features [B, width] of scaled images.

    Args:
        images: [B, size, size, 3]; square, because weights for another size are resampled.
        width: of the tokens.
        heads: attention heads.
        patch: width and height of a patch, in pixels.
        depth: blocks.

    Raises:
        ValueError: the images are not square, or smaller than a patch.
    """
    height, breadth = images.shape[1:3]
    if height != breadth or height < patch:
        raise ValueError(f"a ViT takes square images of at least {patch} pixels")
    maps = layers.Conv2D(width, patch, strides=patch, name="patch_embed")(images)
    patches = layers.Reshape((-1, width))(maps)  # [B, n, width]
    zeros = ops.cast(ops.zeros_like(patches[:, :1, 0]), "int32")  # [B, 1]
    token = layers.Embedding(1, width, embeddings_initializer="zeros", name="class_token")(zeros)
    x = layers.Concatenate(axis=1)([token, patches])
    places = zeros + ops.arange(x.shape[1], dtype="int32")  # [B, 1 + n]
    x = x + layers.Embedding(x.shape[1], width, name="position_embed")(places)
    for number in range(depth):
        x = _block(x, heads, f"block{number}")
    return _norm(x, "norm")[:, 0]


def _block(x: Any, heads: int, name: str) -> Any:
    width = x.shape[-1]
    attended = _attention(_norm(x, f"{name}_norm1"), heads, name)
    x = layers.Add(name=f"{name}_add1")([x, attended])
    y = layers.Dense(4 * width, activation="gelu", name=f"{name}_fc1")(_norm(x, f"{name}_norm2"))
    y = layers.Dense(width, name=f"{name}_fc2")(y)
    return layers.Add(name=f"{name}_add2")([x, y])


def _attention(x: Any, heads: int, name: str) -> Any:
    """Self-attention; queries, keys and values have one kernel."""
    tokens, width = x.shape[1:]
    packed = layers.Dense(3 * width, name=f"{name}_qkv")(x)
    packed = layers.Reshape((tokens, 3, heads, width // heads))(packed)
    # Each [B, heads, tokens, width / heads]; the gradient of slices would be three padded sums.
    query, key, value = ops.unstack(ops.transpose(packed, (2, 0, 3, 1, 4)), 3, axis=0)
    scores = ops.matmul(query * (width // heads) ** -0.5, ops.transpose(key, (0, 1, 3, 2)))
    mixed = ops.matmul(layers.Softmax(name=f"{name}_softmax")(scores), value)
    mixed = layers.Reshape((tokens, width))(ops.transpose(mixed, (0, 2, 1, 3)))
    return layers.Dense(width, name=f"{name}_proj")(mixed)


def _norm(x: Any, name: str) -> Any:
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)
