"""The request for an exported file, and the differences from the evaluation that it accepts."""

from __future__ import annotations

import dataclasses
import math

from tf_image_classification.errors import ConfigError, ParityError
from tf_image_classification.export.formats import FORMATS
from tf_image_classification.export.names import (
    FLOAT32,
    KERAS,
    LITERT,
    NONE,
    ONNX,
    PIXELS,
    UINT8,
    WEB,
)
from tf_image_classification.export.verify import Verification
from tf_image_classification.labels import LabelSchema

NUM_EXAMPLES = 500
TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""Max difference by the precision of the model; other runtimes compute in float32."""

ADDED_TOLERANCES = {"float32": 2e-3, "float16": 5e-2, "bfloat16": 1e-1}
"""Max difference of an output beside the predictions, as ``Verification.added``."""

MAX_ACCURACY_DROP = 0.01


@dataclasses.dataclass(frozen=True)
class ExportRequest:
    """One file to export.

    Attributes:
        format: a name of ``FORMATS``, or "keras".
        quantization: one of ``names.QUANTIZATIONS``.
        num_examples: evaluation examples to verify.
        tolerance: largest accepted ``max_difference`` of a file that is not quantised. None: that
            of ``TOLERANCES`` for the model's precision.
        max_accuracy_drop: largest accepted value of ``losses`` of a quantised file.
        input_type: one of ``names.INPUT_TYPES``.
    """

    format: str
    quantization: str = NONE
    num_examples: int = NUM_EXAMPLES
    tolerance: float | None = None
    max_accuracy_drop: float = MAX_ACCURACY_DROP
    input_type: str = FLOAT32

    def __post_init__(self) -> None:
        if self.format == WEB:  # its page gives decoded images
            object.__setattr__(self, "input_type", PIXELS)

    @property
    def is_quantised(self) -> bool:
        """Whether weights, or images and probabilities, are rounded."""
        return self.quantization != NONE or self.input_type == UINT8

    @property
    def name(self) -> str:
        """The name of the file's folder."""
        usual_input = PIXELS if self.format == WEB else FLOAT32
        given = (self.quantization, NONE), (self.input_type, usual_input)
        return "-".join([self.format, *(value for value, usual in given if value != usual)])

    def check(self, *, has_spec: bool) -> None:
        """Check everything that does not depend on the model.

        Args:
            has_spec: whether the run's spec is at hand.

        Raises:
            ConfigError: the request cannot be met.
        """
        possible = FORMATS[self.format].quantizations if self.format in FORMATS else (NONE,)
        if self.quantization not in possible:
            raise ConfigError(
                f"{self.format} with --quantize {self.quantization} is not possible; it can be "
                f"{', '.join(possible)}."
            )
        formats = {UINT8: LITERT, PIXELS: ONNX}
        if self.format not in (WEB, formats.get(self.input_type, self.format)):
            raise ConfigError(
                f"{self.format} with --input_type {self.input_type} is not possible; "
                f"{formats[self.input_type]} is."
            )
        if self.num_examples < 1:
            raise ConfigError(f"examples is {self.num_examples}, expected at least 1.")
        if self.format == KERAS and not has_spec:
            raise ConfigError(
                "format keras writes the spec's own model. Name it: --spec file.py:Class"
            )


def check_verification(
    found: Verification, request: ExportRequest, schema: LabelSchema, half: str = ""
) -> None:
    """Check that a file's predictions are as close to the evaluation's as requested.

    Args:
        found: the file's verification.
        request: the request with its limits.
        schema: the labels.
        half: the half precision of the model, "float16" or "bfloat16", or "".

    Raises:
        ParityError: they are not; names the label.
    """
    precision = half or "float32"
    different = {n: d for n, d in found.added.items() if not d <= ADDED_TOLERANCES[precision]}
    problem = ""
    if not math.isfinite(found.max_difference):
        problem = "gives numbers that are not finite"
    elif found.num_contradictions:
        problem = (
            "gives calibrated probabilities that name another class than the probabilities in "
            f"{found.num_contradictions} of {found.num_examples} examples"
        )
    elif different:
        name, difference = max(different.items(), key=lambda one: one[1])
        problem = (
            f"gives another {name}: it differs by {difference:.2g} of its largest value, more than "
            f"{ADDED_TOLERANCES[precision]:g}"
        )
    elif request.is_quantised:
        problem = _lost_too_much(found, request, schema)
    else:
        problem = _differs_too_much(found, request, schema, half)
    if problem:
        raise ParityError(f"The {request.format} file {problem}. Nothing was kept.")


def _differs_too_much(
    found: Verification, request: ExportRequest, schema: LabelSchema, half: str
) -> str:
    tolerance = TOLERANCES[half or "float32"] if request.tolerance is None else request.tolerance
    if found.max_difference <= tolerance:
        return ""
    unit = (
        f"a probability of label {found.label!r}"
        if schema[found.label].has_classes
        else f"a value of label {found.label!r}, relative to their standard deviation"
    )
    return (
        f"differs from the evaluation by {found.max_difference:.2g} in {unit} "
        f"({found.num_changed} of {found.num_examples} predictions changed), more than the "
        f"tolerance of {tolerance:g}; --tolerance allows more"
    )


def _with(request: ExportRequest) -> str:
    if request.quantization == NONE:
        return f"with {request.input_type} input and output"
    return f"with {request.quantization} weights"


def _lost_too_much(found: Verification, request: ExportRequest, schema: LabelSchema) -> str:
    for name, lost in found.losses.items():
        if not lost <= request.max_accuracy_drop:
            loss = (
                f"loses {lost:.4f} of the accuracy"
                if schema[name].has_classes
                else f"adds {lost:.4f} standard deviations to the mean absolute error"
            )
            return (
                f"{_with(request)} {loss} of label {name!r}, more than "
                f"--max_accuracy_drop {request.max_accuracy_drop:g}"
            )
    return ""
