"""What the labels of an example are, and how raw values become numbers; without TensorFlow."""

from tf_image_classification.labels.encoding import (
    Column,
    collect_vocabulary,
    encode_numbers,
    encode_texts,
    example_values,
    read_class_names,
    split_classes,
)
from tf_image_classification.labels.schema import SEPARATOR, Label, LabelSchema

__all__ = [
    "SEPARATOR",
    "Column",
    "Label",
    "LabelSchema",
    "collect_vocabulary",
    "encode_numbers",
    "encode_texts",
    "example_values",
    "read_class_names",
    "split_classes",
]
