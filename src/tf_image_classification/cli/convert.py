"""``tfic convert SOURCE OUT``: a data set as sharded TFRecords."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tf_image_classification.cli.verb import verb
from tf_image_classification.config import (
    DEFAULT_MAX_PIXELS,
    NO_GROUPS,
    Settings,
    declare,
    options_of,
)
from tf_image_classification.config.parser import read_line
from tf_image_classification.errors import ConfigError, UsageError, nearest
from tf_image_classification.system import files, screen

if TYPE_CHECKING:
    from tf_image_classification.workflows.convert import Summary

_MAX_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic convert``; unknown flags are ``beam_options``."""

    source: str = declare(
        "",
        "Images: folder, CSV, idx or CIFAR folder, .tar, .parquet, .tfrecord, tfds:NAME.",
        is_required=True,
    )
    out: str = declare("", "Folder to write, local or gs://.", is_required=True)
    split: tuple[str, ...] = declare(
        (), "Splits and their fractions, e.g. train=0.8,eval=0.1,test=0.1."
    )
    group_column: str = declare("", "Column whose equal values stay in one split.")
    groups: str = declare(
        "auto",
        "Copies, frames of one video and bursts: auto keeps each in one split, none divides them. "
        "A group column decides instead.",
        choices=("auto", NO_GROUPS),
    )
    stratify: str = declare("", "Column whose values get the same fractions in every split.")
    label: str = declare("", "Label column, if it is not called label.")
    feature: str = declare("", "Name of the label feature in the records.")
    labels: str = declare("", "File of class names, one per line; other classes are rejected.")
    suffix: str = declare("", "Suffix of the names of labels.txt, dataset.json and refused.csv.")
    schema: str = declare("ours", "ours, or legacy: one float per label, GZIP.")
    short_side: int = declare(
        0, "Pixels to reduce the shorter side to; 0: keep the size.", minimum=0
    )
    quality: int | None = declare(None, "JPEG quality of re-encoded images, 1 to 95 (90).")
    image_format: str = declare("keep", "keep, jpeg, png, or ppm (raw pixels).")
    exif: str = declare(
        "keep",
        "EXIF orientation: keep it, or apply it (stored upright).",
        choices=("keep", "apply"),
    )
    max_image_pixels: int = declare(DEFAULT_MAX_PIXELS, "Maximum pixels per image.", minimum=1)
    png16_range: str = declare("", "Values of 16-bit PNGs that map to 0-255, e.g. 0-4095.")
    num_shards: int = declare(0, "Shards per split; 0: by --shard_mb.", minimum=0)
    shard_mb: int = declare(128, "Approximate megabytes per shard.")
    shuffle: bool = declare(True, "Shuffle the examples; off: in the order of the source.")
    seed: int = declare(0, "Random seed of shuffling and splitting.")
    runner: str = declare(
        "pool", "pool: processes; with Beam: direct, dask, dataflow, flink, spark."
    )
    processes: int = declare(
        0, "Processes of the pool; 0: one per core, or one for up to 1000 images.", minimum=0
    )
    beam_options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FirstVersion:
    """The arguments of ``dataflow_jpeg_to_tfrecord``."""

    input_path: str = declare("", "", is_required=True)
    input_labels: str = declare("", "", is_required=True)
    output_path: str = declare("", "", is_required=True)
    project: str = declare("", "")
    job_name: str = declare("", "")
    runner: str = declare("", "")
    num_workers: int = declare(0, "")
    cloud: bool = declare(False, "")


def of_the_first_version(arguments: Sequence[str]) -> list[str]:
    """The arguments as they are, or those of ``dataflow_jpeg_to_tfrecord`` as today's.

    That program read a CSV without a header and wrote ``OUTPUT_PATH-00000-of-00001.tfrecord.gz``,
    the class as one float ``class_id`` by its line in INPUT_LABELS.

    Raises:
        UsageError: an argument is missing, or has no effect on this machine.
    """
    if not any(one.split("=")[0].replace("-", "_") == "__input_path" for one in arguments):
        return list(arguments)
    options = {option.name: option for option in options_of("convert", _FirstVersion)}
    line = read_line(arguments, options, passes_on=True)
    if line.asks_for_help:
        return ["--help"]
    given = _FirstVersion(**line.values(options))
    folder, _, part = given.output_path.rpartition("/")
    if not part:
        raise UsageError(
            f"--output_path {given.output_path}: expected the prefix of the records' names, e.g. "
            "records/train."
        )
    runner = (given.runner or ("DataflowRunner" if given.cloud else "")).removesuffix("Runner")
    is_here = runner.lower() in ("", "direct")
    if is_here and (given.job_name or given.project):
        raise UsageError("--job_name and --project have no effect without --cloud. Remove them.")
    words = [given.input_path, folder or "."]
    words += ["--schema", "legacy", "--feature", "class_id", "--labels", given.input_labels]
    words += ["--split", f"{part}=1", f"--suffix=-{part}", "--noshuffle", *line.unknown]
    if is_here:
        return [*words, *(["--processes", str(given.num_workers)] if given.num_workers else [])]
    beam = {"project": given.project, "job_name": given.job_name}
    beam["num_workers"] = str(given.num_workers or "")
    beam["temp_location"] = f"{folder or '.'}/temp"
    words += ["--runner", runner.lower()]
    return words + [f"--{name}={value}" for name, value in beam.items() if value]


@verb(
    "convert",
    Arguments,
    description="Convert a data set to sharded TFRecords; every row of the source is accounted "
    "for. Further\nflags are passed on to Beam.",
    example="tfic convert pictures records --split train=0.8,eval=0.2 --short_side 384",
    positions=("source", "out"),
    passes_on="beam_options",
    rewrite=of_the_first_version,
)
def main(given: Arguments, settings: Settings) -> int:
    """Convert; returns the exit status."""
    if given.beam_options and given.runner == "pool":
        flag = given.beam_options[0].partition("=")[0]
        known = [option.name for option in options_of("convert", Arguments)]
        raise UsageError(f"Unknown flag {flag}.{nearest(flag.lstrip('-'), known)}")
    if given.groups == NO_GROUPS and (given.group_column or not given.split):
        reason = "--group_column decides" if given.group_column else "nothing is divided"
        raise UsageError(f"--groups {NO_GROUPS} has no effect: {reason}. Remove it.")
    is_same = os.path.realpath(given.source) == os.path.realpath(given.out)
    if os.path.isdir(given.source) and is_same:
        raise UsageError(f"{given.out} is the source itself. Choose another folder to write.")
    from tf_image_classification.conversion.images import ImageOptions
    from tf_image_classification.dataset.split import Split
    from tf_image_classification.workflows.convert import ConvertOptions, convert

    options = ConvertOptions(
        split=Split(_fractions(given.split), given.group_column, given.stratify, given.seed),
        groups_are_found=given.groups != NO_GROUPS,
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
        beam_options=given.beam_options,
    )
    with screen.progress("convert", "shards") as show:
        done = itertools.count(1)
        summary = convert(
            given.source, given.out, options, on_shard=lambda _, count: show(next(done), count)
        )
    print(_text(given.out, given.suffix, summary))
    return 0


def _lines(path: str) -> list[str]:
    """The class names of a file, in order.

    Raises:
        ConfigError: the file does not exist or is empty, or contains a class twice.
    """
    if not path:
        return []
    if not files.exists(path):
        raise ConfigError(f"--labels {path}: no such file.")
    names = [line.strip() for line in files.read_text(path).splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--labels {path}: expected one class per line, each once.")
    return names


def _fractions(entries: Sequence[str]) -> dict[str, float]:
    fractions = {}
    for entry in entries:
        name, equals, fraction = entry.partition("=")
        try:
            fractions[name.strip()] = float(fraction)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(
                f"--split: {entry!r} is not of the form name=fraction, e.g. train=0.8."
            )
    return fractions


def _text(out: str, suffix: str, summary: Summary) -> str:
    lines = [f"{summary.num_rows} rows of the source"]
    lines += [f"  {part}: {count} images" for part, count in summary.num_examples.items()]
    if summary.groups:
        lines.append(f"  groups: {summary.groups}, each in one part (--groups none: divide them)")
    if summary.refused:
        lines.append(f"  refused: {len(summary.refused)}, listed in {out}/refused{suffix}.csv")
        lines += [f"    {r.where}: {r.reason}" for r in summary.refused[:_MAX_SHOWN]]
    if summary.classes:
        lines.append(f"{len(summary.classes)} classes, in {out}/labels{suffix}.txt")
    train = "train" if "train" in summary.num_examples else next(iter(summary.num_examples))
    lines.append(f"train with: --train_metadata '{out}/{train}-*'")
    return "\n".join(lines)
