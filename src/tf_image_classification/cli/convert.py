"""``tfic convert SOURCE OUT``: a source of images into sharded records."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.config import DEFAULT_MAX_PIXELS
from tf_image_classification.errors import ConfigError
from tf_image_classification.system import files
from tf_image_classification.system.process_exit import ends_the_process

if TYPE_CHECKING:
    from tf_image_classification.workflows.convert import Summary

_EXAMPLE = "example: tfic convert pictures records --split train=0.8,eval=0.2 --short_side 384"
_MOST_SHOWN = 5


def main(arguments: Sequence[str]) -> int:
    """Convert; returns the exit status."""
    with ends_the_process():
        parser = _parser()
        given, beam_options = parser.parse_known_args(of_the_first_version(arguments))
        if beam_options and given.runner == "pool":
            parser.error(f"unrecognized arguments: {' '.join(beam_options)}")
        if os.path.isdir(given.source) and os.path.realpath(given.source) == os.path.realpath(
            given.out
        ):
            raise ConfigError(f"{given.out} is the source itself. Choose another folder to write.")
        from tqdm import tqdm  # late: help is instant without them

        from tf_image_classification.conversion.images import ImageOptions
        from tf_image_classification.conversion.splits import Split
        from tf_image_classification.workflows.convert import ConvertOptions, convert

        options = ConvertOptions(
            split=Split(_shares(given.split), given.group_column, given.stratify, given.seed),
            images=ImageOptions(
                given.short_side,
                given.quality,
                given.image_format,
                given.exif == "apply",
                given.max_image_pixels,
                given.png16_range,
            ),
            schema=given.schema,
            label=given.label,
            feature=given.feature,
            class_names=_lines(given.labels),
            suffix=given.suffix,
            num_shards=given.num_shards,
            shard_mb=given.shard_mb,
            shuffle=given.shuffle,
            seed=given.seed,
            runner=given.runner,
            num_processes=given.processes,
            beam_options=beam_options,
        )
        with tqdm(desc="convert", unit="shard", file=sys.stderr, disable=None) as bar:

            def show(result: object, count: int) -> None:
                bar.total = count
                bar.update()

            summary = convert(given.source, given.out, options, on_shard=show)
        print(_text(given.out, given.suffix, summary))
    return 0


def _parser() -> cli_arguments.Parser:
    parser = cli_arguments.Parser(
        "tfic convert",
        description="Write the images of a source into sharded TFRecords, every row accounted for.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", help="folder, CSV, idx or CIFAR folder, .tar, .parquet, .tfrecord, tfds:NAME")
    add("out", help="folder to write, local or gs://")
    add("--split", default="", help="parts and shares, as train=0.8,eval=0.1,test=0.1")
    add("--group_column", default="", help="column whose equal values stay in one part")
    add("--stratify", default="", help="column whose values are divided in the same shares")
    add("--label", default="", help="column of the classes, where it is not called label")
    add("--feature", default="", help="what that column is called in the records")
    add("--labels", default="", help="file with a class a line; others are refused")
    add("--suffix", default="", help="of the names of labels.txt, dataset.json and refused.csv")
    add("--schema", default="ours", help="ours, or legacy: one float a label, GZIP")
    add("--short_side", type=int, default=0, help="pixels to reduce the shorter side to; 0: keep")
    add("--quality", type=int, help="1 to 95, of what is encoded anew as JPEG (90)")
    add("--image_format", default="keep", help="keep, jpeg, png, or ppm: raw pixels (keep)")
    add("--exif", choices=("keep", "apply"), default="keep", help="apply: store upright (keep)")
    add(
        "--max_image_pixels", type=int, default=DEFAULT_MAX_PIXELS, help="larger images are refused"
    )
    add("--png16_range", default="", help="values of 16-bit PNGs that become 0-255, e.g. 0-4095")
    add("--num_shards", type=int, default=0, help="of each part; 0: by --shard_mb")
    add("--shard_mb", type=int, default=128, help="megabytes of a shard, about (128)")
    add("--noshuffle", dest="shuffle", action="store_false", help="keep the source's order")
    add("--seed", type=int, default=0, help="of order and split (0)")
    add("--runner", default="pool", help="pool, or with Beam: direct, dask, dataflow, flink, spark")
    add("--processes", type=int, default=0, help="of the pool; 0: one a core")
    return parser


def of_the_first_version(arguments: Sequence[str]) -> list[str]:
    """The arguments as they are, or those of ``dataflow_jpeg_to_tfrecord`` in today's words.

    That program read a CSV without a header and wrote ``OUTPUT_PATH-00000-of-00001.tfrecord.gz``,
    the class as one float ``class_id`` by its line in INPUT_LABELS.

    Raises:
        ConfigError: an argument is missing, or has no effect on this machine.
    """
    if not any(one.split("=")[0] == "--input_path" for one in arguments):
        return list(arguments)
    parser = cli_arguments.Parser("tfic convert", allow_abbrev=False)
    for name in ("input_path", "input_labels", "output_path"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("project", "job_name", "runner"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--cloud", action="store_true")
    given, others = parser.parse_known_args(arguments)
    folder, _, part = given.output_path.rpartition("/")
    if not part:
        raise ConfigError(
            f"--output_path {given.output_path}: expected the beginning of the records' names, as "
            "records/train."
        )
    runner = (given.runner or ("DataflowRunner" if given.cloud else "")).removesuffix("Runner")
    is_here = runner.lower() in ("", "direct")
    if is_here and (given.job_name or given.project):
        raise ConfigError("--job_name and --project act with --cloud only. Leave them out.")
    words = [given.input_path, folder or "."]
    words += ["--schema", "legacy", "--feature", "class_id", "--labels", given.input_labels]
    words += ["--split", f"{part}=1", f"--suffix=-{part}", "--noshuffle", *others]
    if is_here:
        return [*words, *(["--processes", str(given.num_workers)] if given.num_workers else [])]
    told = {"project": given.project, "job_name": given.job_name}
    told["num_workers"] = str(given.num_workers or "")
    told["temp_location"] = f"{folder or '.'}/temp"
    words += ["--runner", runner.lower()]
    return words + [f"--{name}={value}" for name, value in told.items() if value]


def _lines(path: str) -> list[str]:
    """The class names of a file, in order.

    Raises:
        ConfigError: there is no such file, or it holds no class, or one twice.
    """
    if not path:
        return []
    if not files.exists(path):
        raise ConfigError(f"--labels {path}: there is no such file.")
    names = [line.strip() for line in files.read_text(path).splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--labels {path}: expected a class a line, each once.")
    return names


def _shares(text: str) -> dict[str, float]:
    shares = {}
    for entry in filter(None, text.split(",")):
        name, equals, share = entry.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"--split: {entry!r} is not of the form name=share, as train=0.8.")
    return shares


def _text(out: str, suffix: str, summary: Summary) -> str:
    lines = [f"{summary.num_rows} rows of the source"]
    lines += [f"  {part}: {count} images" for part, count in summary.num_examples.items()]
    if summary.refused:
        lines.append(f"  refused: {len(summary.refused)}, listed in {out}/refused{suffix}.csv")
        lines += [f"    {r.where}: {r.reason}" for r in summary.refused[:_MOST_SHOWN]]
    if summary.classes:
        lines.append(f"{len(summary.classes)} classes, in {out}/labels{suffix}.txt")
    train = "train" if "train" in summary.num_examples else next(iter(summary.num_examples))
    lines.append(f"train with: --train_metadata '{out}/{train}-*'")
    return "\n".join(lines)
