"""Labels: their schema, and the encoding of raw values as numbers; without TensorFlow."""

from tf_image_classification.labels.encoding import (
    Column,
    Value,
    collect_vocabulary,
    encode,
    example_values,
    number_name,
    ordinal_names,
    read_class_names,
    split_classes,
)
from tf_image_classification.labels.ordering import natural_order
from tf_image_classification.labels.schema import SEPARATOR, Label, LabelSchema

__all__ = [
    "SEPARATOR",
    "Column",
    "Label",
    "LabelSchema",
    "Value",
    "collect_vocabulary",
    "encode",
    "example_values",
    "natural_order",
    "number_name",
    "ordinal_names",
    "read_class_names",
    "split_classes",
]
