"""The helpers of the contract's ``utils``, kept under their module; new ones belong elsewhere.

Finding and reading files, local or gs://, and writing TFRecords in the contract's form.

    for path in utils.expand_patterns(["records/train*"], option="records"):
        data = utils.read_bytes(path)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tf_image_classification.files import (
    exists,
    expand_patterns,
    list_folder,
    open_for_reading,
    read_bytes,
    read_text,
)

if TYPE_CHECKING:
    from tf_image_classification.dataset.tfrecord import write_shards

__all__ = [
    "exists",
    "expand_patterns",
    "list_folder",
    "open_for_reading",
    "read_bytes",
    "read_text",
    "write_shards",
]


def __getattr__(name: str) -> Any:
    if name != "write_shards":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tf_image_classification.dataset.tfrecord import write_shards  # late: needs TensorFlow

    return write_shards
