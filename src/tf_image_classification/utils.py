"""Helpers that programs of 2018 import: files, TFRecords and confusion matrices.

Files are local or gs://. New helpers belong elsewhere.

    for path in utils.expand_patterns(["records/train*"], option="records"):
        data = utils.read_bytes(path)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tf_image_classification import tf1_code
from tf_image_classification.errors import SpecError
from tf_image_classification.system import files
from tf_image_classification.system.files import (
    exists,
    expand_patterns,
    list_folder,
    open_for_reading,
    read_bytes,
    read_text,
)

if TYPE_CHECKING:
    from tf_image_classification.dataset.tfrecord import write_shards
    from tf_image_classification.metrics.merging import StreamingMetric

__all__ = [
    "configure_learning_rate",
    "configure_optimizer",
    "draw_confusion_matrix",
    "exists",
    "expand_patterns",
    "get_variables_to_restore",
    "get_variables_to_train",
    "list_folder",
    "open_for_reading",
    "read_bytes",
    "read_text",
    "streaming_confusion_matrix",
    "write_shards",
]


def streaming_confusion_matrix(
    name: str | None = None,
    label: Any = None,
    prediction: Any = None,
    num_classes: int | None = None,
) -> StreamingMetric:
    """A streaming confusion matrix for ``metric_ops``: ``metrics.confusion_matrix``.

    Args:
        name: accepted as in 2018 and not used; the metric's key in ``metric_ops`` names it.
        label: true classes, numbers [n] or one-hot rows [n, num_classes].
        prediction: predicted classes, in either form.
        num_classes: number of classes.

    Raises:
        SpecError: as ``metrics.confusion_matrix``, or ``num_classes`` is not given.
    """
    from tf_image_classification.metrics import confusion_matrix  # late: it needs TensorFlow

    if num_classes is None:
        raise SpecError(
            "streaming_confusion_matrix: num_classes is not given, so the size of the matrix is "
            "not known. Add num_classes=, the depth of the label."
        )
    return confusion_matrix(label, prediction, num_classes)


def draw_confusion_matrix(
    cm: Any, title: str, labels: Sequence[str], output_path: str, is_large: bool = False
) -> None:
    """Write a confusion matrix as a PNG file, local or gs://; its folder is created.

    Args:
        cm: counts [D, D]; rows are true classes, columns predicted ones.
        title: the first line above the matrix.
        labels: D class names; line breaks at their ends are removed.
        output_path: the file to write.
        is_large: write class numbers in place of the names.

    Raises:
        SpecError: the matrix is not square, does not hold counts, or has not a row for each name.
        DataError: the file cannot be written.
    """
    from tf_image_classification.metrics import confusion  # late: it needs a second

    counts = np.asarray(cm)
    if counts.dtype.kind == "f" and (counts == np.floor(counts)).all():
        counts = counts.astype(np.int64)
    names = [str(number) if is_large else name.strip() for number, name in enumerate(labels)]
    png = confusion.draw_confusion_matrix(counts, names, title=title)
    folder = output_path.rpartition("/")[0]
    if folder and not files.is_remote(output_path):
        files.make_folder(folder)
    files.write_bytes(output_path, png)


def _replaced(helper: str) -> Callable[..., NoReturn]:
    """A helper of a TensorFlow 1 ``model_fn``, which raises an error that names its replacement."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise SpecError(f"utils.{helper}: {tf1_code.REPLACED_HELPERS[helper]}")

    return refuse


configure_learning_rate = _replaced("configure_learning_rate")
configure_optimizer = _replaced("configure_optimizer")
get_variables_to_restore = _replaced("get_variables_to_restore")
get_variables_to_train = _replaced("get_variables_to_train")


def __getattr__(name: str) -> Any:
    if name in tf1_code.REPLACED_HELPERS:
        raise AttributeError(f"utils.{name}: {tf1_code.REPLACED_HELPERS[name]}")
    if name != "write_shards":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tf_image_classification.dataset.tfrecord import write_shards  # late: needs TensorFlow

    return write_shards
