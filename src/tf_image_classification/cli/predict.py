"""``tfic predict MODEL_DIR PATHS...``: the predictions of a trained model, one row per image."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tf_image_classification.cli.verb import check_output, verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.errors import ConfigError, RunInterrupted, RunMismatchError, UsageError
from tf_image_classification.system import files, signals, streams
from tf_image_classification.workflows.setup.environment import cache_dir, prepare_tensorflow

if TYPE_CHECKING:
    from tf_image_classification.serving.found_images import FoundImage
    from tf_image_classification.serving.prediction_file import PredictionFile
    from tf_image_classification.serving.prediction_rows import PredictionRows, Row
    from tf_image_classification.serving.predictor import Predictor

_MAX_SHOWN = 5  # reasons on standard error


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
        "-", "File to write: .csv, .jsonl or .parquet; -: CSV on standard output."
    )
    resume: bool = declare(False, "Resume an interrupted output: compute the missing rows only.")
    top_k: int = declare(5, "Number of most probable classes per image.", minimum=1)
    reject_below: float = declare(
        0.0, "Mark predictions below this probability as rejected.", minimum=0.0, maximum=1.0
    )
    calibrated: bool = declare(True, "Apply the calibration of the model folder, if it has one.")
    batch_size: int = declare(32, "Images per batch.", minimum=1)


@verb(
    "predict",
    Arguments,
    description="Run inference on images with the exported model of a model folder; one row per "
    "image.\nEnds with status 1 if an image could not be used.",
    example="tfic predict runs/pets pictures/ more/*.jpg --output predictions.csv",
    positions=("model_dir", "paths"),
    required=("model_dir",),
)
def main(given: Arguments, settings: Settings) -> int:
    """Predict; returns 1 if an image could not be used, else 0."""
    _check(given, settings.run.model_dir)
    prepare_tensorflow(settings.replace(deterministic=False))
    from tf_image_classification.serving import predictor  # late: TensorFlow
    from tf_image_classification.serving.found_images import check_patterns, images_of
    from tf_image_classification.serving.prediction_file import PredictionFile
    from tf_image_classification.serving.prediction_rows import PredictionRows

    check_patterns(given.paths)
    model = predictor.load_model(settings.run.model_dir)
    calibrated = model.calibrations if given.calibrated else {}
    rows = PredictionRows(model.schema, calibrated)
    images = images_of(given.paths, streams.input_lines() if "-" in given.paths else ())
    if given.output == "-":
        bad = _print_rows(model, images, given, rows)
    else:
        output = PredictionFile(
            given.output,
            rows,
            _identity(model, given),
            resume=given.resume,
            cache_dir=cache_dir(settings),
        )
        bad = _write_rows(model, images, given, output)
    return int(bad > 0)


def _check(given: Arguments, model_dir: str) -> None:
    """Reject a command line that cannot work, before TensorFlow is imported."""
    output = given.output
    if not _is_model_folder(model_dir):
        folder = next(filter(_is_model_folder, given.paths), "")
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
    elif not files.is_remote(output):
        inputs = [os.path.abspath(path) for path in given.paths]
        if os.path.abspath(output) in inputs:
            raise UsageError(f"--output {output} is one of the inputs. Choose another name.")
        check_output("output", output)
    if "-" in given.paths and streams.was_closed("stdin"):
        raise ConfigError("Standard input is closed, so - names no images. Pipe a path a line.")


def _is_model_folder(path: str) -> bool:
    return not files.is_remote(path) and os.path.isfile(os.path.join(path, "run.json"))


def _identity(model: Predictor, given: Arguments) -> dict[str, Any]:
    """The values that must not change when an output is resumed; inputs are compared row by row."""
    return {
        "model": model.fingerprint(),
        "step": model.step,
        "calibrated": given.calibrated,
        "top_k": given.top_k,
        "reject_below": given.reject_below,
    }


def _print_rows(
    model: Predictor, images: Iterator[FoundImage], given: Arguments, rows: PredictionRows
) -> int:
    """Print each row as soon as it is computed; returns the number of bad images."""
    with _counted(model, given) as counts:
        print(rows.csv_header(), end="", flush=True)
        for row in _rows(model, images, given):
            print(rows.as_csv(row), end="", flush=True)
            counts.add(row)
    return counts.num_bad


def _write_rows(
    model: Predictor, images: Iterator[FoundImage], given: Arguments, output: PredictionFile
) -> int:
    """Write the missing rows to the file; returns the number of bad images in the whole file."""
    with output:
        _skip_written(images, output)
        if output.is_complete:
            print(f"{output.path} is complete: {output.num_rows:,} rows", file=sys.stderr)
        else:
            _add_rows(model, images, given, output)
    return output.num_bad


def _add_rows(
    model: Predictor, images: Iterator[FoundImage], given: Arguments, output: PredictionFile
) -> None:
    with _counted(model, given) as counts:
        counts.begin_after(output.num_rows, output.num_bad)
        try:
            for row in _rows(model, images, given):
                output.add(row)
                counts.add(row)
        except BaseException as error:
            stopped = signals.cause_of(error)
            if stopped is None:
                raise
            text = f"Stopped by {stopped.name} before the first row."
            if output.num_rows:
                text = (
                    f"Stopped by {stopped.name}: {output.num_rows:,} rows are in "
                    f"{output.part_path}. The same command with --resume continues."
                )
            if given.resume:  # the status that says: start me again
                raise RunInterrupted(text) from None
            signals.tell_last(text)
            raise SystemExit(stopped.exit_code) from None
        output.complete()


def _skip_written(images: Iterator[FoundImage], output: PredictionFile) -> None:
    """Skip the images whose rows are in the file.

    Raises:
        RunMismatchError: the rows are of other images.
    """
    from tf_image_classification.serving.prediction_rows import utf8

    advice = "Repeat the command as it was, or choose another output."
    for number, uri in enumerate(output.written_uris(), start=1):
        image = next(images, None)
        if image is None or utf8(image.name) != uri:
            now = "there are no more inputs" if image is None else f"the input is {image.name!r}"
            raise RunMismatchError(
                f"{output.path} was begun with other inputs: row {number} is {uri!r}, now {now}. "
                + advice
            )
    if output.is_complete and next(images, None) is not None:
        raise RunMismatchError(
            f"{output.path} is complete with {output.num_rows:,} rows, and there are more inputs "
            f"now. {advice}"
        )


def _rows(model: Predictor, images: Iterator[FoundImage], given: Arguments) -> Iterator[Row]:
    from tf_image_classification.serving.prediction_rows import row_of

    for prediction in model.predict_each(
        ((image.name, image.content()) for image in images),
        top_k=given.top_k,
        reject_below=given.reject_below,
        is_calibrated=given.calibrated,
        batch_size=given.batch_size,
    ):
        yield row_of(prediction)


class _Counts:
    """Counts of images for the last line on standard error."""

    def __init__(self, bar: Any) -> None:
        self.num_images = self.num_bad = self.num_before = 0
        self.reasons: list[str] = []
        self._bar = bar
        self._began = time.monotonic()

    def begin_after(self, num_images: int, num_bad: int) -> None:
        """Count the rows of an interrupted process."""
        self.num_images = self.num_before = num_images
        self.num_bad = num_bad
        self._bar.update(num_images)

    def add(self, row: Row) -> None:
        self.num_images += 1
        self._bar.update()
        if row["error"]:
            self.num_bad += 1
            if len(self.reasons) < _MAX_SHOWN:
                self.reasons.append(f"bad: {row['uri']}: {row['error']}")

    def text(self) -> str:
        new = self.num_images - self.num_before
        speed = new / (time.monotonic() - self._began)
        resumed = f" ({self.num_before:,} from before)" if self.num_before else ""
        return "\n".join(
            [
                *self.reasons,
                f"{self.num_images:,} images{resumed}, {self.num_bad:,} of them bad, "
                f"{speed:.1f} images/s",
            ]
        )


@contextlib.contextmanager
def _counted(model: Predictor, given: Arguments) -> Iterator[_Counts]:
    """Show the progress while the block runs, and a summary when it ends, also by an error."""
    from tqdm import tqdm  # late: help is instant without it

    with tqdm(desc="predict", unit="img", file=sys.stderr, disable=None) as bar:
        counts = _Counts(bar)
        try:
            yield counts
        finally:
            bar.close()
            plain = "" if model.calibrations and given.calibrated else ", not calibrated"
            print(f"{counts.text()}; model of step {model.step}{plain}", file=sys.stderr)
