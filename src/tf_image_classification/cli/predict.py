"""``tfic predict MODEL_DIR PATHS...``: the predictions of a trained model, an image a row."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.config import make_settings
from tf_image_classification.errors import ConfigError
from tf_image_classification.system import files, streams
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import cache_dir, prepare_tensorflow

_EXAMPLE = "example: tfic predict runs/pets pictures/ more/*.jpg --output predictions.csv"


def main(arguments: Sequence[str]) -> int:
    """Predict; returns 1 if an image could not be used, else 0."""
    given = _parser().parse_args(cli_arguments.with_model_dir_first(arguments))
    num_bad = 0
    with ends_the_process():
        _check(given)
        settings = make_settings({"deterministic": False})
        prepare_tensorflow(settings)
        from tf_image_classification.serving.label_predictions import PredictOptions
        from tf_image_classification.workflows.predict import PredictRequest, predict

        request = PredictRequest(
            given.model_dir,
            given.paths,
            given.output,
            given.resume,
            PredictOptions(given.top_k, given.reject_below, given.calibrated, given.batch_size),
        )
        lines = streams.input_lines() if "-" in given.paths else ()
        num_bad = predict(request, cache_dir(settings), lines)
    return int(num_bad > 0)


def _check(given: argparse.Namespace) -> None:
    """Refuse a line that cannot work, before TensorFlow is imported."""
    output = given.output
    if not _is_model_folder(given.model_dir):
        folder = next(filter(_is_model_folder, given.paths), "")
        if folder:
            raise ConfigError(
                f"{folder} is the model folder. Write it first: tfic predict {folder} "
                f"{given.model_dir} ..."
            )
    if output == "-":
        if given.resume:
            raise ConfigError("--resume continues a file. Give it with --output.")
        if streams.was_closed("stdout"):
            raise ConfigError("Standard output is closed. Redirect it, or give --output FILE.")
    elif output.rpartition(".")[2].lower() not in ("csv", "jsonl", "parquet"):
        raise ConfigError(
            f"--output {output}: expected a name ending in .csv, .jsonl or .parquet, or - for CSV "
            "on standard output."
        )
    elif not files.is_remote(output):
        given.output = output = os.path.expanduser(output)
        inputs = [os.path.abspath(os.path.expanduser(path)) for path in given.paths]
        if os.path.abspath(output) in inputs:
            raise ConfigError(f"--output {output} is one of the inputs. Choose another name.")
        cli_arguments.check_output("output", output)
    if "-" in given.paths and streams.was_closed("stdin"):
        raise ConfigError("Standard input is closed, so - names no images. Pipe a path a line.")


def _is_model_folder(path: str) -> bool:
    return not files.is_remote(path) and os.path.isfile(os.path.join(path, "run.json"))


def _parser() -> cli_arguments.Parser:
    parser = cli_arguments.Parser(
        "tfic predict",
        description="Write the predictions of the exported model of a folder, an image a row.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model_dir", help="folder of a run with an exported model")
    add("paths", nargs="+", help="images, folders, patterns, .csv, .tfrecord; - for a path a line")
    add("--output", default="-", help=".csv, .jsonl or .parquet file; - for CSV on standard output")
    add(
        "--resume",
        action="store_true",
        help="continue an output that was interrupted: only the missing rows are computed",
    )
    add("--top_k", type=int, default=5, help="how many of the most probable classes to name (5)")
    add("--reject_below", type=float, default=0.0, help="mark predictions less probable than this")
    add(
        "--nocalibrated",
        dest="calibrated",
        action="store_false",
        help="write the model's own probabilities even if it has a calibration",
    )
    add("--batch_size", type=int, default=32, help="images that are computed together (32)")
    return parser
