"""``Batch``: the tensors that input pipeline, training step and evaluation exchange.

B is the number of examples in a batch (per replica under a strategy), H, W, C the size of an image,
D the number of classes of a label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import tensorflow as tf

PADDING_ID = -1
"""Id of a placeholder row: padding of a last batch, or a bad image that was left out."""


class Batch(NamedTuple):
    """One batch of examples; a nest of tensors that traced functions accept.

    Attributes:
        images: [B, H, W, C] in the dtype and range of the preprocessing.
        labels: by label name, int64 [B] class numbers, float32 [B] values, or for multilabel
            float32 [B, D] of 0 and 1; 0 where missing.
        mask: by label name, bool [B], the mask of labelled examples: False where the label is
            missing or the row is a placeholder.
        ids: int64 [B], the example's index in its table, or PADDING_ID.
        random_parameters: float32 [B, n], of the augmentations on the device; () without any.
    """

    images: tf.Tensor
    labels: Mapping[str, tf.Tensor]
    mask: Mapping[str, tf.Tensor]
    ids: tf.Tensor
    random_parameters: Any = ()


def outputs_of(model: Callable[..., Any], images: tf.Tensor, *, training: bool) -> Any:
    """A model's outputs for images [B, H, W, C], for any name of its input."""
    from tf_image_classification.system.autograph import converted  # late: TensorFlow

    try:
        structure = model.input  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # a class of its own, or a Sequential
        structure = None
    if isinstance(structure, Mapping) and len(structure) == 1:
        images = dict.fromkeys(structure, images)
    return converted(model)(images, training=training)


def evenly_spaced(count: int, most: int) -> npt.NDArray[np.int64]:
    """Indices of at most ``most`` of ``count`` examples: the first, the last, and between them.

    Example:
        >>> evenly_spaced(10, 4).tolist()
        [0, 3, 6, 9]
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
