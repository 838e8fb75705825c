"""Names, types and shapes of a model's inputs and outputs, as protocols describe them."""

from __future__ import annotations

import dataclasses

from tf_image_classification.export.names import IS_UNKNOWN, UNKNOWN_SCORE
from tf_image_classification.labels.outputs import class_names_key, exported_outputs
from tf_image_classification.serving.hosted_model import ModelVersion
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.serving.requests import INPUT, PREPARED_INPUT

BYTES, BOOL = "BYTES", "BOOL"
_DATATYPES = {
    "float64": "FP64",
    "float32": "FP32",
    "float16": "FP16",
    "bfloat16": "BF16",
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        name: its name.
        datatype: its type, as in the Open Inference Protocol.
        shape: -1 for the number of images.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


ENCODED = Tensor(INPUT, BYTES, (-1,))
"""The input of encoded images."""


def prepared_input(version: ModelVersion) -> Tensor:
    """The input of preprocessed images."""
    datatype = _DATATYPES.get(version.image_dtype.name, version.image_dtype.name.upper())
    return Tensor(PREPARED_INPUT, datatype, (-1, *version.image_shape))


def output_tensors(model: Predictor) -> list[Tensor]:
    """The outputs of ``Predictor.outputs``."""
    found = []
    for label in model.schema:
        shape = (-1, label.depth) if label.has_classes else (-1,)
        names = exported_outputs(label, is_calibrated=label.name in model.calibrations)
        found += [Tensor(name, "FP32", shape) for name in names]
        if label.has_classes:
            found.append(Tensor(class_names_key(label), BYTES, (-1,)))
    kinds = {UNKNOWN_SCORE: "FP32", IS_UNKNOWN: BOOL}
    return found + [Tensor(name, kinds[name], (-1,)) for name in model.added_outputs]
