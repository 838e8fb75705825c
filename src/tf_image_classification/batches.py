"""The shape of what flows between the input, the step and the evaluation.

B is the number of examples in a batch (of one device where the work is shared), H, W, C the size of
an image, D the number of classes of a label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import tensorflow as tf

PADDING_ID = -1
"""Id of a row that stands for no example: padding of a last batch, or a bad image left out."""


class Batch(NamedTuple):
    """Examples side by side; also a nest that TensorFlow can pass through a traced function.

    Attributes:
        images: [B, H, W, C], whatever dtype and range the preprocessing gives.
        labels: by label name, int64 [B] class numbers, float32 [B] values, or float32 [B, D] with
            1 for each of several classes; 0 where missing.
        present: by label name, bool [B]; False where the label is missing or the row is no example.
        ids: int64 [B], the example's number in its table, or PADDING_ID.
        draws: float32 [B, n], random numbers from which the device changes each training image;
            () where it changes none.
    """

    images: tf.Tensor
    labels: Mapping[str, tf.Tensor]
    present: Mapping[str, tf.Tensor]
    ids: tf.Tensor
    draws: Any = ()


def outputs_of(model: Callable[..., Any], images: tf.Tensor, *, training: bool) -> Any:
    """A model's outputs for images, whatever its input is called."""
    try:
        structure = model.input  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # a class of its own, or a Sequential
        structure = None
    if isinstance(structure, Mapping) and len(structure) == 1:
        return model(dict.fromkeys(structure, images), training=training)
    return model(images, training=training)


def probabilities_key(name: str) -> str:
    """Where ``predictions`` keeps the probabilities of a label's classes, float32 [B, D]."""
    return f"{name}_probabilities"


def calibrated_key(name: str) -> str:
    """Where a shipped model gives a label's calibrated probabilities, float32 [B, D]."""
    return f"{name}_calibrated"


def logits_key(name: str) -> str:
    """Where ``predictions`` keeps a label's raw outputs, float32 [B, ...]."""
    return f"{name}_logits"


def expected_key(name: str) -> str:
    """Where ``predictions`` keeps the mean of an ordinal label's distribution, float32 [B]."""
    return f"{name}_expected"


def label_of_output(key: str) -> str:
    """The label that a shipped model's output is of.

    Example:
        >>> label_of_output("kind_calibrated")
        'kind'
    """
    for key_of in (probabilities_key, calibrated_key):
        key = key.removesuffix(key_of(""))
    return key


def prediction_keys(name: str) -> tuple[str, ...]:
    """All that ``predictions`` may keep of a label."""
    return (name, logits_key(name), probabilities_key(name), expected_key(name))


def evenly_spaced(count: int, most: int) -> npt.NDArray[np.int64]:
    """Indices of at most ``most`` of ``count`` examples: the first, the last, and between them.

    Example:
        >>> evenly_spaced(10, 4).tolist()
        [0, 3, 6, 9]
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
