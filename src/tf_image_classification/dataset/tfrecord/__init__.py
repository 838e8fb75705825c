"""TFRecord files: framing, exact index with random access, and writing."""

from tf_image_classification.dataset.tfrecord.framing import (
    compression,
    framed,
    open_plain,
    scan_records,
)
from tf_image_classification.dataset.tfrecord.index import (
    ContentDigest,
    RecordFile,
    count_records,
    index_file,
)
from tf_image_classification.dataset.tfrecord.writing import (
    LabelValue,
    make_example,
    write_shards,
)

__all__ = [
    "ContentDigest",
    "LabelValue",
    "RecordFile",
    "compression",
    "count_records",
    "framed",
    "index_file",
    "make_example",
    "open_plain",
    "scan_records",
    "write_shards",
]
