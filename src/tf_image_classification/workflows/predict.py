"""``tfic predict``: inference on images, one row of predictions per image."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from tf_image_classification.errors import RunInterrupted, RunMismatchError
from tf_image_classification.export.names import AUTO, IS_UNKNOWN
from tf_image_classification.serving import predictor
from tf_image_classification.serving.input_images import InputImage, check_patterns, find_images
from tf_image_classification.serving.label_predictions import PredictOptions
from tf_image_classification.serving.prediction_file import PredictionFile
from tf_image_classification.serving.prediction_rows import PredictionRows, Row, row_of, utf8
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.system import screen, signals

_MAX_SHOWN = 5  # reasons on standard error


@dataclasses.dataclass(frozen=True)
class PredictRequest:
    """Images to predict and the output to write.

    Attributes:
        model_dir: folder of the run.
        paths: as ``find_images`` takes them.
        output: a .csv, .jsonl or .parquet file; "-" for CSV on standard output, or lines for
            people on a terminal.
        resume: whether rows of an interrupted process are kept.
        options: of the inference.
        engine: one of ``export.names.ENGINES``.
    """

    model_dir: str
    paths: Sequence[str]
    output: str = "-"
    resume: bool = False
    options: PredictOptions = dataclasses.field(default_factory=PredictOptions)
    engine: str = AUTO


def predict(
    request: PredictRequest,
    cache_dir: str,
    lines: Iterable[str] = (),
    before_tensorflow: Callable[[], None] = lambda: None,
) -> int:
    """Write a row of predictions for each image; returns the number of bad images.

    Args:
        request: images and output.
        cache_dir: folder of this machine for the rows of a file in a bucket.
        lines: paths of images, where "-" is one of the paths.
        before_tensorflow: called before TensorFlow is imported, if the engine needs it.

    Raises:
        TficError: the model or the output cannot be used, or a pattern matches no file.
        RunInterrupted: by a signal, of a request that resumes.
    """
    check_patterns(request.paths)
    model = predictor.load_model(
        request.model_dir, engine=request.engine, before_tensorflow=before_tensorflow
    )
    calibrated = model.calibrations if request.options.is_calibrated else {}
    rows = PredictionRows(model.schema, calibrated, model.added_outputs)
    images = find_images(request.paths, lines)
    if request.output == "-":
        return _print_rows(model, images, request.options, rows)
    identity = {
        "model": model.fingerprint(),
        "step": model.step,
        "calibrated": request.options.is_calibrated,
        "top_k": request.options.top_k,
        "reject_below": request.options.reject_below,
    }
    output = PredictionFile(
        request.output, rows, identity, resume=request.resume, cache_dir=cache_dir
    )
    with output:
        _skip_written(images, output)
        if output.is_complete:
            print(f"{output.path} is complete: {output.num_rows:,} rows", file=sys.stderr)
        else:
            _add_rows(model, images, request, output)
    return output.num_bad


def _print_rows(
    model: Predictor,
    images: Iterator[InputImage],
    options: PredictOptions,
    rows: PredictionRows,
) -> int:
    """Print each row as soon as it is computed; returns the number of bad images.

    On a terminal as a line for people, else as CSV.
    """
    is_for_people = screen.is_terminal(sys.stdout)
    # Rows on a terminal are the progress; a bar between them would tear both.
    with _progress(model, options, has_bar=not is_for_people) as progress:
        if not is_for_people:
            print(rows.csv_header(), end="", flush=True)
        for row in _rows(model, images, options):
            print(rows.as_text(row) if is_for_people else rows.as_csv(row), end="", flush=True)
            progress.add(row)
    return progress.num_bad


def _skip_written(images: Iterator[InputImage], output: PredictionFile) -> None:
    """Skip the images whose rows are written.

    Raises:
        RunMismatchError: the rows are of other images.
    """
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


def _add_rows(
    model: Predictor,
    images: Iterator[InputImage],
    request: PredictRequest,
    output: PredictionFile,
) -> None:
    """Add the missing rows and complete the output."""
    with _progress(model, request.options) as progress:
        progress.start_after(output.num_rows, output.num_bad)
        try:
            for row in _rows(model, images, request.options):
                output.add(row)
                progress.add(row)
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
            if request.resume:  # the exit status asks to start the command again
                raise RunInterrupted(text) from None
            signals.tell_last(text)
            raise SystemExit(stopped.exit_code) from None
        output.complete()


def _rows(model: Predictor, images: Iterator[InputImage], options: PredictOptions) -> Iterator[Row]:
    contents = ((image.name, image.content()) for image in images)
    return map(row_of, model.predict_each(contents, **dataclasses.asdict(options)))


class _Progress:
    """A progress bar, and the counts for the last line on standard error."""

    def __init__(self, bar: screen.Progress) -> None:
        self.num_images = self.num_bad = self._num_before = self._num_unknown = 0
        self._reasons: list[str] = []
        self._bar = bar
        self._began = time.monotonic()

    def start_after(self, num_images: int, num_bad: int) -> None:
        """Count the images of an interrupted process."""
        self.num_images = self._num_before = num_images
        self.num_bad = num_bad
        self._bar(num_images, 0)

    def add(self, row: Row) -> None:
        """Count one image."""
        self.num_images += 1
        self._bar(self.num_images, 0)
        self._num_unknown += bool(row.get(IS_UNKNOWN))
        if row["error"]:
            self.num_bad += 1
            if len(self._reasons) < _MAX_SHOWN:
                self._reasons.append(f"bad: {row['uri']}: {row['error']}")

    def text(self) -> str:
        """The first bad images, and the counts."""
        new = self.num_images - self._num_before
        speed = new / (time.monotonic() - self._began)
        resumed = f" ({self._num_before:,} from before)" if self._num_before else ""
        unknown = f", {self._num_unknown:,} of none of the classes" if self._num_unknown else ""
        counts = (
            f"{self.num_images:,} images{resumed}, {self.num_bad:,} of them bad{unknown}, "
            f"{speed:.1f} images/s"
        )
        return "\n".join([*self._reasons, counts])


@contextlib.contextmanager
def _progress(
    model: Predictor, options: PredictOptions, *, has_bar: bool = True
) -> Iterator[_Progress]:
    """Progress while the block runs, and a summary at its end, however it ends."""
    with screen.progress("predict", "img", is_shown=has_bar) as bar:
        progress = _Progress(bar)
        try:
            yield progress
        finally:
            bar.close()
            plain = "" if model.calibrations and options.is_calibrated else ", not calibrated"
            how = f"model of step {model.step}{plain}, engine {model.engine.name}"
            print(f"{progress.text()}; {how}", file=sys.stderr)
