"""``tfic predict MODEL_DIR PATHS...``: what a trained model makes of images."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tf_image_classification import files, train_estimator
from tf_image_classification.config import make_settings
from tf_image_classification.errors import ConfigError

if TYPE_CHECKING:
    from tf_image_classification.serving.predictor import Prediction

_EXAMPLE = "example: tfic predict runs/pets pictures/ more/*.jpg --output predictions.csv"


def main(arguments: Sequence[str]) -> int:
    """Predict; returns 1 if an image could not be used, else 0."""
    given = _parser().parse_args(arguments)
    bad = 0
    with train_estimator.ends_the_process():
        kind = _kind(given.output)
        if given.output != "-":
            files.make_folder(os.path.dirname(given.output) or ".")  # before the work
        train_estimator.prepare_tensorflow(make_settings({"deterministic": False}))
        from tqdm import tqdm  # late: help is instant without them

        from tf_image_classification.serving.found_images import images_of
        from tf_image_classification.serving.predictor import load_model

        model = load_model(given.model_dir)
        began = time.monotonic()
        rows = []
        lines = (line.rstrip("\n") for line in sys.stdin)
        with tqdm(desc="predict", unit="img", file=sys.stderr, disable=None) as bar:
            for prediction in model.predict_each(
                images_of(given.paths, lines),
                top_k=given.top_k,
                reject_below=given.reject_below,
                is_calibrated=given.calibrated,
                batch_size=given.batch_size,
            ):
                rows.append(_row(prediction))
                bad += bool(prediction.error)
                bar.update()
        secs = time.monotonic() - began
        _WRITERS[kind](given.output, rows)
        print(
            f"{len(rows)} images, {bad} of them bad, {len(rows) / secs:.1f} images/s; "
            f"model of step {model.step}"
            + ("" if model.calibrations and given.calibrated else ", probabilities not calibrated"),
            file=sys.stderr,
        )
    return int(bad > 0)


def _kind(output: str) -> str:
    kind = output.rpartition(".")[2].lower() if output != "-" else "csv"
    if kind not in _WRITERS:
        raise ConfigError(
            f"--output {output}: expected a name ending in .csv, .jsonl or .parquet, or - for CSV "
            "on standard output."
        )
    return kind


def _row(prediction: Prediction) -> dict[str, Any]:
    row: dict[str, Any] = {"uri": _utf8(prediction.uri), "error": _utf8(prediction.error)}
    for name, said in prediction.labels.items():
        if said.probability is None:
            row[name] = said.value
            continue
        row |= {
            name: said.name,
            f"{name}_probability": said.probability,
            f"{name}_rejected": said.is_rejected,
            f"{name}_top": [{"class": c, "probability": p} for c, p in said.top],
        }
        if said.conformal_set is not None:
            row[f"{name}_set"] = list(said.conformal_set)
        if said.above_threshold is not None:
            row[f"{name}_above_threshold"] = list(said.above_threshold)
    return row


def _utf8(text: str) -> str:
    """The text; bytes of a file name that are no UTF-8 become escapes."""
    return text.encode(errors="backslashreplace").decode()


def _columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row)) or ["uri", "error"]


def _write_csv(path: str, rows: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = _columns(rows)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name, "")) for name in columns])
    if path == "-":
        sys.stdout.write(text.getvalue())
    else:
        files.write_bytes(path, text.getvalue().encode())


def _cell(value: Any) -> Any:
    """A value as CSV holds it: classes joined by "|", with their probabilities after a colon."""
    if isinstance(value, list):
        return "|".join(
            f"{one['class']}:{one['probability']:.4f}" if isinstance(one, dict) else one
            for one in value
        )
    return f"{value:.6g}" if isinstance(value, float) else value


def _write_json_lines(path: str, rows: Sequence[dict[str, Any]]) -> None:
    files.write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _write_parquet(path: str, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow as pa  # late: it takes half a second
    from pyarrow import parquet

    columns = {name: [row.get(name) for row in rows] for name in _columns(rows)}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer, compression="zstd")
    files.write_bytes(path, buffer.getvalue())


_WRITERS: dict[str, Callable[[str, Sequence[dict[str, Any]]], None]] = {
    "csv": _write_csv,
    "jsonl": _write_json_lines,
    "parquet": _write_parquet,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "tfic predict",
        description="Say what the exported model of a folder makes of images.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model_dir", help="folder of a run with an exported model")
    add("paths", nargs="+", help="images, folders, patterns, .csv, .tfrecord; - for a path a line")
    add("--output", default="-", help=".csv, .jsonl or .parquet file; - for CSV on standard output")
    add("--top_k", type=int, default=5, help="how many of the likeliest classes are named (5)")
    add("--reject_below", type=float, default=0.0, help="mark predictions less probable than this")
    add(
        "--nocalibrated",
        dest="calibrated",
        action="store_false",
        help="give the model's own probabilities, although it has been evaluated",
    )
    add("--batch_size", type=int, default=32, help="images that are computed together (32)")
    return parser
