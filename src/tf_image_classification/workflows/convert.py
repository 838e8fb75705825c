"""``convert``: any source as sharded TFRecords with splits, class names and counts.

summary = convert("pictures", "records", ConvertOptions(shares={"train": 0.9, "eval": 0.1}))
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import hashlib
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tf_image_classification.conversion import classes, engines
from tf_image_classification.conversion.images import ImageOptions
from tf_image_classification.conversion.shards import SCHEMAS, Shard, ShardResult
from tf_image_classification.dataset import label_discovery
from tf_image_classification.dataset.readers import LABEL, LeftOut, Listing, Row, find_examples
from tf_image_classification.dataset.readers.columns import typed_columns
from tf_image_classification.dataset.split import Split, divide, place_of
from tf_image_classification.errors import ConfigError, DataError
from tf_image_classification.inspection.example_groups import Groups
from tf_image_classification.inspection.listing_groups import groups_of_listing
from tf_image_classification.labels import split_classes
from tf_image_classification.labels.schema import REGRESSION
from tf_image_classification.system import files

PROGRESS = ".progress"
_BYTES_OF_UNKNOWN = 100_000  # of an image whose size is unknown


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Options of a conversion.

    Attributes:
        split: the parts and their fractions.
        groups_are_found: whether copies, frames of one video and bursts stay in one part; not with
            a group column.
        images: the stored form of images.
        schema: "ours" or "legacy" (one float a label, GZIP).
        label: column whose classes are listed and numbered; "": the column ``label``, or else the
            only column of texts.
        feature: name of the classes' feature in the records; "": as in the source.
        class_names: the classes in the order of their numbers; rows of others are refused; ():
            those of the source, sorted.
        suffix: of the names of the files beside the shards, if the parts of a folder are converted
            one after the other.
        num_shards: of each part; 0: by ``shard_mb``.
        shard_mb: megabytes of source images in a shard, about.
        shuffle: whether the rows of a part are shuffled.
        seed: of the shuffling.
        runner: one of ``engines.RUNNERS``.
        num_processes: of the pool; 0: one per core.
        beam_options: further arguments for Beam.
    """

    split: Split = dataclasses.field(default_factory=Split)
    groups_are_found: bool = True
    images: ImageOptions = dataclasses.field(default_factory=ImageOptions)
    schema: str = "ours"
    label: str = ""
    feature: str = ""
    class_names: Sequence[str] = ()
    suffix: str = ""
    num_shards: int = 0
    shard_mb: int = 128
    shuffle: bool = True
    seed: int = 0
    runner: str = "pool"
    num_processes: int = 0
    beam_options: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("schema", self.schema, SCHEMAS),
            ("runner", self.runner, engines.RUNNERS),
        ):
            if value not in choices:
                raise ConfigError(f"--{name} is {value!r}, expected one of {', '.join(choices)}.")
        for name, number, least in (
            ("num_shards", self.num_shards, 0),
            ("shard_mb", self.shard_mb, 1),
            ("processes", self.num_processes, 0),
        ):
            if number < least:
                raise ConfigError(f"--{name} is {number}, expected {least} or more.")
        if self.num_processes and self.runner != "pool":
            raise ConfigError(
                f"--processes is {self.num_processes}, but --runner {self.runner} starts no pool. "
                "Leave one of them out."
            )


@dataclasses.dataclass(frozen=True)
class Summary:
    """The result of a conversion.

    Attributes:
        num_rows: rows of the source, including skipped ones.
        num_examples: by part, the number of images written.
        refused: the rows that were not written, with reasons.
        classes: by class, its number of images in each part.
        fingerprint: digest of all shards, hexadecimal.
        paths: the shards that were written; each has images.
        groups: the videos and bursts that stayed together in one phrase, or "".
    """

    num_rows: int
    num_examples: Mapping[str, int]
    refused: Sequence[LeftOut]
    classes: Mapping[str, Mapping[str, int]]
    fingerprint: str
    paths: Sequence[str]
    groups: str = ""


def convert(
    source: str,
    out: str,
    options: ConvertOptions | None = None,
    *,
    on_shard: Callable[[ShardResult, int], None] = lambda result, count: None,
) -> Summary:
    """Convert a source; shards that a killed run has finished are kept.

    Also writes ``labels.txt`` (one class per line), ``dataset.json`` (counts, classes, fingerprint,
    options) and, if rows are refused, ``refused.csv``.

    Args:
        source: as ``find_examples`` takes it.
        out: the folder to write, local or ``gs://``; new, or that of the same conversion.
        options: its options.
        on_shard: called with each finished shard and the number of shards.

    Raises:
        DataError: the source is unusable, the folder holds something else, or all images of a part
            are refused.
        ConfigError: the options do not fit one another or the source.
    """
    options = options or ConvertOptions()
    _check_source(_beside(out, options, "dataset.json"), source)
    listing = find_examples([source], option="SOURCE")
    label = classes.label_column(listing, options.label)
    columns = typed_columns(listing, texts=(label or LABEL,))
    rows = list(dataclasses.replace(listing, columns=columns).rows())
    refused = list(listing.left_out)
    num_rows = len(rows) + len(refused)
    if options.schema == "legacy" and not label:
        classes.check_numbers(rows)
    if options.class_names:
        rows = classes.of_classes(rows, label, options.class_names, refused)
    names = list(options.class_names)
    if label and not names and not _holds_real_values(listing, label):
        names, are_numbers = classes.class_names(row.columns.get(label, "") for row in rows)
        rows = classes.with_classes(rows, label, int if are_numbers else str)
    groups = _find_groups(listing, label, options)
    of = dict(zip(map(listing.locate, range(len(listing))), groups.of, strict=True))
    classes_of = [str(row.columns.get(label, "")) if label else "" for row in rows]
    parts = divide(rows, options.split, [of[row.where] for row in rows], classes_of)
    if options.feature:
        parts = {
            p: classes.renamed(members, label, options.feature) for p, members in parts.items()
        }
        label = options.feature
    numbers = {label: {name: i for i, name in enumerate(names)}} if label else {}
    shards = _plan(parts, out, options, numbers)
    _check_folder(out, shards, takes_other_parts=bool(options.suffix))
    files.make_folder(files.join(out, PROGRESS))
    results = {}
    for result in engines.run(
        [shard for each in shards.values() for shard in each],
        runner=options.runner,
        num_processes=options.num_processes,
        beam_options=options.beam_options,
    ):
        results[result.path] = result
        refused += result.refused
        on_shard(result, sum(map(len, shards.values())))
    summary = dataclasses.replace(
        _summary(num_rows, shards, results, refused, label, names), groups=groups.summary()
    )
    _write_beside(out, source, summary, options, names)
    empty = [part for part, count in summary.num_examples.items() if not count]
    if empty:
        raise DataError(
            f"{out}: the part {empty[0]} has no image, since all its rows are refused; see "
            f"{_beside(out, options, 'refused.csv')}."
        )
    return summary


def _holds_real_values(listing: Listing, column: str) -> bool:
    """Whether a column holds real numbers; texts may be names of classes."""
    return (
        column not in listing.texts
        and label_discovery.kind_of(listing.columns[column]) == REGRESSION
    )


def _check_source(path: str, source: str) -> None:
    """Refuse a folder with the conversion of another source, whose shards would be lost.

    Raises:
        DataError: its ``dataset.json`` names another source.
    """
    if not files.exists(path):
        return
    try:
        known = dict(files.read_json(path)).get("source", _absolute(source))
    except (TypeError, ValueError):
        known = "something else"
    if known != _absolute(source):
        raise DataError(
            f"{path}: this folder holds the conversion of {known}, not of {_absolute(source)}. "
            "Name a new folder, or remove it."
        )


def _absolute(source: str) -> str:
    if source.startswith("tfds:") or files.is_remote(source):
        return source
    return os.path.abspath(os.path.expanduser(source))


def _find_groups(listing: Listing, label: str, options: ConvertOptions) -> Groups:
    """The groups of the examples that are divided; none where they are not to be found."""
    split = options.split
    if not split.shares or split.group or not options.groups_are_found:
        return Groups([""] * len(listing), {})
    values = listing.columns.get(label, [""] * len(listing))
    return groups_of_listing(listing, ["" if isinstance(v, tuple) else str(v) for v in values])


def _plan(
    parts: Mapping[str, Sequence[Row]],
    out: str,
    options: ConvertOptions,
    numbers: Mapping[str, Mapping[str, int]],
) -> dict[str, list[Shard]]:
    """The shards to write, by part."""
    ending = ".tfrecord.gz" if options.schema == "legacy" else ".tfrecord"
    plan = {}
    for part, members in parts.items():
        if not members:
            count = sum(map(len, parts.values()))
            raise DataError(
                f"--split: none of {count} images falls into {part}. Give it a larger fraction."
            )
        if options.shuffle:
            members = sorted(members, key=lambda row: place_of(row.key, options.seed + 1))
        count = options.num_shards or _num_shards(members, options.shard_mb)
        count = min(count, len(members))
        plan[part] = [
            Shard(
                files.join(out, f"{part}-{i:05d}-of-{count:05d}{ending}"),
                tuple(members[i * len(members) // count : (i + 1) * len(members) // count]),
                options.images,
                options.schema,
                numbers if options.schema == "legacy" else {},
                files.join(out, PROGRESS),
            )
            for i in range(count)
        ]
    return plan


def _num_shards(rows: Sequence[Row], shard_mb: int) -> int:
    sizes = [files.size_and_time(r.place.path)[0] for r in rows[:100] if _is_local_file(r)]
    mean = sum(sizes) / len(sizes) if sizes else _BYTES_OF_UNKNOWN
    known = [row.place.length or mean for row in rows]
    return max(1, math.ceil(sum(known) / (shard_mb * 1e6)))


def _is_local_file(row: Row) -> bool:
    path = row.place.path
    return row.place.kind == "file" and not files.is_remote(path) and files.exists(path)


def _check_folder(
    out: str, shards: Mapping[str, Sequence[Shard]], *, takes_other_parts: bool
) -> None:
    """Refuse a folder with other records, which a pattern would read together with the new ones.

    Records of other parts may stay if the files beside them have names of their own.
    """
    if not files.is_folder(out):
        return
    expected = {shard.path.rpartition("/")[2] for each in shards.values() for shard in each}
    patterns = tuple(f"{part}-" for part in shards)
    others = [
        name
        for name in files.list_folder(out)
        if ".tfrecord" in name
        and name not in expected
        and (name.startswith(patterns) or not takes_other_parts)
    ]
    if others:
        raise DataError(
            f"{out} holds other records, e.g. {others[0]}, which the same pattern would read. "
            "Name a new folder, or remove them."
        )


def _summary(
    num_rows: int,
    shards: Mapping[str, Sequence[Shard]],
    results: Mapping[str, ShardResult],
    refused: Sequence[LeftOut],
    label: str,
    names: Sequence[str],
) -> Summary:
    left_out = {each.where for each in refused}
    counts: dict[str, dict[str, int]] = {name: dict.fromkeys(shards, 0) for name in names}
    for part, each in shards.items():
        tally = collections.Counter(
            name
            for shard in each
            for row in shard.rows
            if names and row.where not in left_out
            for name in split_classes(str(row.columns.get(label, "")))
        )
        for name, count in tally.items():
            counts[name][part] = count
    paths = [shard.path for each in shards.values() for shard in each]
    ordered = [path for path in paths if results[path].num_examples]
    digest = hashlib.sha256("".join(results[path].sha256 for path in ordered).encode())
    return Summary(
        num_rows,
        {p: sum(results[s.path].num_examples for s in each) for p, each in shards.items()},
        sorted(refused, key=lambda each: each.where),
        counts,
        digest.hexdigest(),
        ordered,
    )


def _beside(out: str, options: ConvertOptions, name: str) -> str:
    stem, ending = os.path.splitext(name)
    return files.join(out, f"{stem}{options.suffix}{ending}")


def _write_beside(
    out: str, source: str, summary: Summary, options: ConvertOptions, names: Sequence[str]
) -> None:
    labels, refused = (_beside(out, options, name) for name in ("labels.txt", "refused.csv"))
    if names:
        files.write_bytes(labels, "".join(f"{n}\n" for n in names).encode())
    else:
        files.remove_file(labels)
    if summary.refused:
        _write_refused(refused, summary.refused)
    else:
        files.remove_file(refused)
    described: dict[str, Any] = {"source": _absolute(source), **dataclasses.asdict(summary)}
    described["refused"] = len(summary.refused)
    described["paths"] = [path.rpartition("/")[2] for path in summary.paths]
    described["options"] = dataclasses.asdict(options)
    files.write_json(_beside(out, options, "dataset.json"), described)


def _write_refused(path: str, refused: Sequence[LeftOut]) -> None:
    """A CSV of the rows that were not converted, with reasons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "reason"])
    writer.writerows([each.where, each.reason] for each in refused)
    files.write_bytes(path, text.getvalue().encode())
