"""``tfic predict MODEL_DIR PATHS...``: the predictions of a trained model, one row per image."""

from __future__ import annotations

import dataclasses
import os

from tf_image_classification.cli.verb import check_output, engine_argument, hide_absl, verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.config.parser import is_model_folder
from tf_image_classification.errors import ConfigError, UsageError
from tf_image_classification.system import faults, files, packages, streams
from tf_image_classification.workflows.setup.environment import cache_dir, prepare_tensorflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic predict``."""

    paths: tuple[str, ...] = declare(
        (),
        "Images, folders, patterns, .csv or .tfrecord files; - reads one path per line from "
        "standard input.",
        separator="",
        is_required=True,
    )
    output: str = declare(
        "-",
        "File to write: .csv, .jsonl or .parquet; -: standard output, as "
        "CSV, or on a terminal as lines to read.",
    )
    resume: bool = declare(False, "Resume an interrupted output: compute the missing rows only.")
    top_k: int = declare(5, "Number of most probable classes per image.", minimum=1)
    reject_below: float = declare(
        0.0, "Mark predictions below this probability as rejected.", minimum=0.0, maximum=1.0
    )
    calibrated: bool = declare(True, "Apply the calibration of the model folder, if it has one.")
    batch_size: int = declare(32, "Images per batch.", minimum=1)
    engine: str = engine_argument()


@verb(
    "predict",
    Arguments,
    description="Run inference on images with the exported model of a model folder; one row per "
    "image.\nEnds with status 1 if an image could not be used.",
    example="tfic predict runs/pets pictures/ more/*.jpg --output predictions.csv",
    positions=("model_dir", "paths"),
    required=("model_dir",),
    may_need_no_tensorflow=True,
)
def main(given: Arguments, settings: Settings) -> int:
    """Predict; returns 1 if an image could not be used, else 0."""
    _check(given, settings.run.model_dir)
    faults.allow_open_files()
    from tf_image_classification.serving.label_predictions import PredictOptions  # late: slow
    from tf_image_classification.workflows.predict import PredictRequest, predict

    options = PredictOptions(given.top_k, given.reject_below, given.calibrated, given.batch_size)
    request = PredictRequest(
        settings.run.model_dir, given.paths, given.output, given.resume, options, given.engine
    )
    lines = streams.input_lines() if "-" in given.paths else ()

    def prepare() -> None:
        hide_absl()
        prepare_tensorflow(settings.replace(deterministic=False), is_inference=True)

    return int(predict(request, cache_dir(settings), lines, prepare) > 0)


def _check(given: Arguments, model_dir: str) -> None:
    """Reject a command line that cannot work, before TensorFlow is imported."""
    output = given.output
    if not is_model_folder(model_dir):
        folder = next(filter(is_model_folder, given.paths), "")
        if folder:
            raise UsageError(
                f"{folder} is the model folder. Write it first: tfic predict {folder} "
                f"{model_dir} ..."
            )
    if output == "-":
        if given.resume:
            raise UsageError("--resume continues a file. Give it with --output.")
        if streams.was_closed("stdout"):
            raise ConfigError("Standard output is closed. Redirect it, or give --output FILE.")
    elif output.rpartition(".")[2].lower() not in ("csv", "jsonl", "parquet"):
        raise UsageError(
            f"--output {output}: expected a name ending in .csv, .jsonl or .parquet, or - for CSV "
            "on standard output."
        )
    if output.lower().endswith(".parquet") and not packages.is_installed("pyarrow"):
        raise ConfigError(packages.advice("pyarrow"))
    if output != "-" and not files.is_remote(output):
        inputs = [os.path.abspath(path) for path in given.paths]
        if os.path.abspath(output) in inputs:
            raise UsageError(f"--output {output} is one of the inputs. Choose another name.")
        check_output("output", output)
    if "-" in given.paths and streams.was_closed("stdin"):
        raise ConfigError("Standard input is closed, so - names no images. Pipe one path per line.")
