"""``tfic export MODEL_DIR --format FORMAT``: the model as a file for another runtime, compared."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.config import make_settings
from tf_image_classification.errors import ConfigError, did_you_mean
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import cache_dir, prepare_tensorflow

_LIMITS = ("tolerance", "max_accuracy_drop")
_FORMATS = ("saved_model", "litert", "onnx", "keras")
_OTHER_NAMES = {
    "tflite": "litert",
    "tf_lite": "litert",
    "savedmodel": "saved_model",
    "pb": "saved_model",
}
_EXAMPLE = "example: tfic export runs/pets --format litert --quantize int8"


def main(arguments: Sequence[str]) -> int:
    """Export and compare; returns the exit status."""
    given = _parser().parse_args(cli_arguments.with_model_dir_first(arguments))
    with ends_the_process():
        _settle_formats(given)
        _refuse_without_effect(given)
        values = {
            "model_dir": given.model_dir,
            "eval_metadata": tuple(given.eval_metadata),
            "train_metadata": tuple(given.train_metadata),
        }
        settings = make_settings({name: value for name, value in values.items() if value})
        prepare_tensorflow(settings)
        from tf_image_classification.estimator_specs import load_spec
        from tf_image_classification.export.request import KERAS, ExportRequest
        from tf_image_classification.workflows import export, export_keras, messages

        model_dir = settings.run.model_dir
        spec = load_spec(given.spec) if given.spec else None
        if spec is None and KERAS in given.format:
            spec = export_keras.backbone_spec_of(model_dir)
        cache = cache_dir(settings)
        limits = {
            name: getattr(given, name) for name in _LIMITS if getattr(given, name) is not None
        }
        requests = [
            ExportRequest(name, given.quantize, given.examples, **limits) for name in given.format
        ]
        for request in requests:
            request.check(has_spec=spec is not None)
        for number, request in enumerate(requests):
            exported = export.export_folder(settings, request, cache, spec)
            if number == 0:
                print(messages.verification_header())
            line = messages.verification_line(request.format, exported.verification)
            print(line, exported.path, sep="  ")
    return 0


def _settle_formats(given: argparse.Namespace) -> None:
    """Separate the formats from the model folder that may follow them, and check both.

    Raises:
        ConfigError: a format is unknown, or no folder is named.
    """
    words = [part for word in given.format for part in word.split(",") if part]
    if not given.model_dir and words[-1].lower() not in {*_FORMATS, *_OTHER_NAMES}:
        given.model_dir = words.pop()
    if not given.model_dir or not words:
        raise ConfigError(f"Which folder, and which format? {_EXAMPLE}")
    given.format = [_OTHER_NAMES.get(word.lower(), word.lower()) for word in words]
    for word in given.format:
        if word not in _FORMATS:
            raise ConfigError(f"--format {word}: {did_you_mean(word, _FORMATS)}")


def _refuse_without_effect(given: argparse.Namespace) -> None:
    is_quantized = given.quantize != "none"
    needs = {
        "tolerance": (not is_quantized, "with --quantize, where --max_accuracy_drop holds"),
        "max_accuracy_drop": (is_quantized, "without --quantize, where --tolerance holds"),
        "train_metadata": (given.quantize == "int8", "without --quantize int8"),
        "spec": ("keras" in given.format, "without --format keras"),
    }
    for name, (acts, where) in needs.items():
        if getattr(given, name) not in (None, "", ()) and not acts:
            raise ConfigError(f"--{name} has no effect {where}. Remove it.")


def _parser() -> cli_arguments.Parser:
    parser = cli_arguments.Parser(
        "tfic export",
        description="Write the exported model of a folder in another format. The file is loaded in "
        "its own runtime and run on evaluation images; if it predicts something else, it is not "
        "kept.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model_dir", nargs="?", default="", help="folder of a run with an exported model")
    add(
        "--format",
        nargs="+",
        required=True,
        metavar="FORMAT",
        help="saved_model, litert, onnx or keras, or several; written below exports/ in the folder",
    )
    add(
        "--quantize",
        default="none",
        choices=("none", "dynamic", "int8", "float16"),
        help="smaller weights; int8 also computes in whole numbers, tuned on training images",
    )
    add("--eval_metadata", nargs="+", default=(), help="images to compare, where not the run's own")
    add("--train_metadata", nargs="+", default=(), help="images for int8, where not the run's own")
    add("--examples", type=int, default=500, help="how many of them, evenly over the set (500)")
    add(
        "--tolerance",
        type=float,
        help="largest difference of a probability, or of a value in standard deviations (0.001)",
    )
    add(
        "--max_accuracy_drop",
        type=float,
        help="how much of a label's accuracy a quantised file may lose (0.01)",
    )
    add("--spec", default="", help="file.py:Class or module:Class of the run, for keras")
    return parser
