"""``tfic export MODEL_DIR --format FORMAT``: the model for another runtime, verified."""

from __future__ import annotations

import dataclasses

from tf_image_classification.cli import specs
from tf_image_classification.cli.verb import verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.errors import UsageError
from tf_image_classification.export.names import (
    FLOAT32,
    INPUT_TYPES,
    INT8,
    KERAS,
    NAMES,
    NONE,
    QUANTIZATIONS,
    check_limits,
    format_named,
)
from tf_image_classification.export.optional_packages import check_installed
from tf_image_classification.system import screen
from tf_image_classification.workflows.setup.environment import prepare_tensorflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic export``."""

    format: tuple[str, ...] = declare(
        (),
        f"Formats to write below exports/ in the model folder: {', '.join(NAMES)}; web is a page "
        "that runs the model in the browser.",
        is_required=True,
    )
    quantize: str = declare(
        NONE,
        "Weight quantization; int8 also quantizes activations, calibrated on training images.",
        choices=QUANTIZATIONS,
    )
    input_type: str = declare(
        FLOAT32,
        "Input of the file: float32, preprocessed images; uint8, cropped and resized pixels, with "
        "probabilities as 0-255 (litert); pixels, decoded images of any size (onnx).",
        choices=INPUT_TYPES,
    )
    examples: int = declare(
        500, "Images to compare or calibrate with, evenly over the set.", minimum=1
    )
    tolerance: float | None = declare(
        None,
        "Maximum difference of a probability, or of a regression output in standard deviations "
        "(0.001).",
        minimum=0.0,
    )
    max_accuracy_drop: float | None = declare(
        None,
        "Maximum loss of accuracy per label by quantization, uint8 input included (0.01).",
        minimum=0.0,
    )
    spec: str = declare("", "Spec of the run, file.py:Class or module:Class, for --format keras.")


@verb(
    "export",
    Arguments,
    description="Export the model of a model folder to another format. The file is loaded in its "
    "own runtime\nand its predictions are checked against the evaluation's; if they differ, it is "
    "not kept.",
    example="tfic export runs/pets --format litert --quantize int8",
    positions=("model_dir",),
    required=("model_dir",),
)
def main(given: Arguments, settings: Settings) -> int:
    """Export and compare; returns the exit status."""
    formats = [format_named(word) for word in given.format]
    if given.spec and KERAS not in formats:
        raise UsageError("--spec has no effect without --format keras. Remove it.")
    if settings.data.train_metadata and given.quantize != INT8:
        raise UsageError("--train_metadata has no effect without --quantize int8. Remove it.")
    limits = {
        name: value
        for name in ("tolerance", "max_accuracy_drop")
        if (value := getattr(given, name)) is not None
    }
    check_limits(limits, given.quantize, given.input_type)
    for name in formats:
        check_installed(name)
    spec = specs.load(given.spec, settings) if given.spec else None
    prepare_tensorflow(settings)
    from tf_image_classification.export.request import ExportRequest  # late: TensorFlow
    from tf_image_classification.workflows import export, export_keras, messages

    if spec is None and KERAS in formats:
        spec = export_keras.backbone_spec_of(settings.run.model_dir)
    requests = [
        ExportRequest(name, given.quantize, given.examples, input_type=given.input_type, **limits)
        for name in formats
    ]
    for request in requests:
        request.check(has_spec=spec is not None)
    for number, request in enumerate(requests):
        with screen.working(f"exporting and checking {request.format}"):
            exported = export.export_folder(settings, request, spec)
        if number == 0:
            print(messages.verification_header())
        line = messages.verification_line(request.format, exported.verification)
        print(line, exported.path, sep="  ")
    return 0
