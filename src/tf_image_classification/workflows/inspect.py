"""``inspect``: one pass over the images of a source, and every finding about them.

inspection = inspect("train.csv", "eval.csv")
inspection.worst        # "error", "warning", "note" or ""
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tf_image_classification.config import DEFAULT_MAX_PIXELS
from tf_image_classification.dataset.readers import LeftOut, Row, find_examples
from tf_image_classification.dataset.readers.columns import typed_columns
from tf_image_classification.dataset.readers.names import TRAIN as TRAIN_PART
from tf_image_classification.dataset.readers.names import part_role
from tf_image_classification.errors import CheckpointError, ConfigError, DataError, did_you_mean
from tf_image_classification.inspection.checks import Limits, run_checks
from tf_image_classification.inspection.features import features_of, judge_features
from tf_image_classification.inspection.findings import EVALUATION, TRAIN, Inspection, class_of
from tf_image_classification.inspection.image_stats import Facts, look_at
from tf_image_classification.inspection.label_columns import label_columns
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files
from tf_image_classification.system.process_pool import process_pool

_AT_ONCE = 32  # images that a process takes at a time
_FEWEST_FOR_A_POOL = 256


def inspect(
    source: str,
    evaluation: str = "",
    *,
    label: str = "",
    group: str = "",
    limits: Limits | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    num_processes: int = 0,
    backbone: str = "",
    weights: str = "",
    for_clean_csv: bool = False,
    on_images: Callable[[int, int], None] = lambda done, count: None,
) -> Inspection:
    """Look at every image of a source, and of another one beside it.

    Args:
        source: as ``tfic convert`` takes it; nothing of it is changed.
        evaluation: a second source, for what must not be in both; where it is "" and the source has
            parts of its own, these.
        label: columns of classes, separated by commas; "": all that are found, see
            ``label_columns``.
        group: column whose values must not be in both sets, e.g. a person.
        limits: thresholds of the findings.
        max_pixels: larger images are broken.
        num_processes: 0: one a core.
        backbone: network whose frozen features find outliers and likely wrong labels, or "".
        weights: its weights: a file, or ``imagenet``.
        for_clean_csv: whether ``write_clean_csv`` is to follow, for which each training image must
            be a file of its own.
        on_images: called with how many images were looked at, and how many there are.

    Raises:
        DataError: a source is missing, empty, malformed, or a model folder.
        ConfigError: a number is too small, there is no such column, or a CSV could not name the
            images.
    """
    for name, number, least in (
        ("processes", num_processes, 0),
        ("max_image_pixels", max_pixels, 1),
    ):
        if number < least:
            raise ConfigError(f"--{name} is {number}, expected {least} or more.")
    rows, left_out, labels, not_judged = _rows_of(source, "SOURCE", label, group)
    sets = [TRAIN if part_role(row.split) in ("", TRAIN_PART) else EVALUATION for row in rows]
    if evaluation:
        others, also_left_out, _, _ = _rows_of(evaluation, "--eval", label, group)
        sets = [TRAIN] * len(rows) + [EVALUATION] * len(others)
        rows, left_out = [*rows, *others], [*left_out, *also_left_out]
    columns = {name for row in rows for name in row.columns}
    if group and group not in columns:
        raise ConfigError(
            f"--group_column {group}: no image has such a column. {did_you_mean(group, columns)}"
        )
    if for_clean_csv:
        _check_files(rows, sets)
    facts = []
    for one in _looked_at(rows, max_pixels, num_processes):
        facts.append(one)
        on_images(len(facts), len(rows))
    found = run_checks(
        facts,
        sets,
        labels=labels,
        group=group,
        limits=limits,
        left_out=left_out,
        not_judged=not_judged,
    )
    if backbone:
        features = features_of(facts, backbone, weights, max_pixels=max_pixels)
        found = found.with_findings(judge_features(found, features))
    return found


def _rows_of(
    source: str, option: str, label: str, group: str
) -> tuple[list[Row], list[LeftOut], list[str], dict[str, str]]:
    """The images of a source, what is left out, columns of classes, and the others with reasons."""
    _refuse_model_folder(source, option)
    listing = find_examples([source], option=option)
    labels, not_judged = label_columns(listing, label, group)
    columns = typed_columns(listing, texts=labels)
    rows = dataclasses.replace(listing, columns=columns).rows()
    return list(rows), list(listing.left_out), labels, not_judged


def _refuse_model_folder(source: str, option: str) -> None:
    """A model folder holds folders too, and would be told to hold no images.

    Raises:
        DataError: it is one.
    """
    if not files.is_folder(source):
        return
    try:
        record = ModelFolder(source).read_manifest()
    except CheckpointError:
        return
    if record is None:
        return
    trained_on = " ".join(map(str, record.settings.get("train_metadata") or ()))
    images = f" Its training images: tfic inspect {trained_on}." if trained_on else ""
    raise DataError(
        f"{option} {source} is a model folder (it holds run.json), not images.{images} "
        f"Its evaluation: tfic report {source}."
    )


def _check_files(rows: Sequence[Row | Facts], sets: Sequence[str]) -> None:
    for row, name in zip(rows, sets, strict=True):
        if name == TRAIN and (row.place is None or row.place.kind != "file"):
            raise ConfigError(
                f"--write_csv names files of images, and {row.where or row.key} is none. Leave it "
                "out, or inspect a folder or a CSV of images."
            )


def _looked_at(rows: Sequence[Row], max_pixels: int, num_processes: int) -> Iterator[Facts]:
    look = functools.partial(look_at, max_pixels=max_pixels)
    processes = num_processes or os.cpu_count() or 1
    if processes == 1 or len(rows) < _FEWEST_FOR_A_POOL:
        yield from map(look, rows)
        return
    with process_pool(processes) as pool:
        yield from pool.map_in_order(look, rows, at_once=_AT_ONCE)


def as_json(inspection: Inspection) -> dict[str, Any]:
    """Findings and counts as plain values."""
    facts = inspection.facts
    return {
        "worst": inspection.worst,
        "num_images": len(facts),
        "labels": {label: inspection.classes(label) for label in inspection.labels},
        "columns_not_judged": dict(inspection.not_judged),
        "findings": [
            dataclasses.asdict(finding)
            | {"members": [[facts[i].where for i in group] for group in finding.members]}
            for finding in inspection.findings
        ],
        "left_out": [dataclasses.asdict(each) for each in inspection.left_out],
    }


def write_clean_csv(path: str, inspection: Inspection) -> int:
    """A CSV of the training images without those that errors are about; returns how many it has.

    Of broken files and of pictures under different labels none is kept; of those in both sets the
    evaluation keeps its own.

    Raises:
        ConfigError: a training image is no file of its own.
    """
    import csv
    import io

    _check_files(inspection.facts, inspection.sets)
    out = {
        i
        for finding in inspection.findings
        if finding.kind in ("broken", "conflicts", "leak")
        for group in finding.members
        for i in group
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = sorted({name for facts in inspection.facts for name in facts.columns})
    labels = list(inspection.labels)
    others = [name for name in columns if name not in labels]
    # The only label has the name that training and the old programs expect.
    writer.writerow(["URIs", *(["labels"] if len(labels) == 1 else labels), *others])
    count = 0
    for i, (facts, name) in enumerate(zip(inspection.facts, inspection.sets, strict=True)):
        if i in out or name != TRAIN:
            continue
        own = [class_of(facts, label) for label in labels]
        image = facts.place.path  # type: ignore[union-attr]  # as _check_files has seen
        uri = image if files.is_remote(image) else os.path.abspath(image)
        writer.writerow([uri, *own, *(facts.columns.get(column, "") for column in others)])
        count += 1
    files.write_bytes(path, text.getvalue().encode())
    return count
