"""``tfic inspect``: one pass over the images of a source, and all findings.

inspection = inspect("train.csv", "eval.csv")
inspection.worst        # "error", "warning", "note" or ""
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.config import DEFAULT_MAX_PIXELS
from tf_image_classification.dataset.readers import LeftOut, Row, find_examples, for_role
from tf_image_classification.dataset.readers.columns import typed_columns
from tf_image_classification.dataset.readers.names import EVAL as EVAL_PART
from tf_image_classification.dataset.readers.names import TRAIN as TRAIN_PART
from tf_image_classification.dataset.readers.names import part_role
from tf_image_classification.errors import CheckpointError, ConfigError, DataError, did_you_mean
from tf_image_classification.inspection.checks import Limits, check_images
from tf_image_classification.inspection.csv_rows import CsvRows
from tf_image_classification.inspection.features import extract_features, feature_findings
from tf_image_classification.inspection.findings import EVALUATION, TRAIN, Inspection
from tf_image_classification.inspection.image_stats import ImageStats, measure_image
from tf_image_classification.inspection.label_columns import label_columns
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files, screen
from tf_image_classification.system.process_pool import process_pool

_CHUNK = 32  # images that a process takes at a time
_MIN_FOR_POOL = 1000  # below, starting TensorFlow in each process takes longer than it saves


def inspect(
    source: str,
    evaluation: str = "",
    *,
    label: str = "",
    group: str = "",
    groups_are_found: bool = True,
    limits: Limits | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    num_processes: int = 0,
    backbone: str = "",
    weights: str = "",
    cache_dir: str = "",
    for_clean_csv: bool = False,
    on_images: Callable[[int, int], None] = lambda done, count: None,
) -> Inspection:
    """Findings on the images and labels of a source, and of its evaluation set.

    Args:
        source: any source that ``tfic convert`` reads; it is not changed. With ``evaluation``
            only the training split of a divided source is inspected.
        evaluation: source of the evaluation set; "": the evaluation split of ``source``, if it has
            one.
        label: columns of classes, separated by commas; "": those found by ``label_columns``.
        group: column whose values must not occur in both sets, e.g. a person.
        groups_are_found: whether videos and bursts are looked for; not with ``group``.
        limits: thresholds of the findings.
        max_pixels: larger images count as broken.
        num_processes: 0: one per core.
        backbone: name of a backbone whose features find outliers and likely label errors, or "".
        weights: weights of the backbone: a file, or ``imagenet``.
        cache_dir: folder of the cache of features; "": they are not kept.
        for_clean_csv: check that each training image is a file, as ``write_clean_csv`` needs.
        on_images: called with the number of images processed and their total.

    Raises:
        DataError: a source is missing, empty, malformed, or a model folder.
        ConfigError: a number is too small, a column does not exist, or a training image is not a
            file and ``for_clean_csv`` is set.
    """
    for name, number, least in (
        ("processes", num_processes, 0),
        ("max_image_pixels", max_pixels, 1),
    ):
        if number < least:
            raise ConfigError(f"--{name} is {number}, expected {least} or more.")
    role = TRAIN_PART if evaluation else ""
    rows, left_out, labels, skipped_columns = _rows_of(source, "SOURCE", role, label, group)
    sets = [TRAIN if part_role(row.split) in ("", TRAIN_PART) else EVALUATION for row in rows]
    if evaluation:
        others, also_left_out, _, _ = _rows_of(evaluation, "--eval", EVAL_PART, label, group)
        sets = [TRAIN] * len(rows) + [EVALUATION] * len(others)
        rows, left_out = [*rows, *others], [*left_out, *also_left_out]
    columns = {name for row in rows for name in row.columns}
    if group and group not in columns:
        raise ConfigError(f"--group_column {group}: no such column. {did_you_mean(group, columns)}")
    if for_clean_csv:
        _check_files(rows, sets)
    images = []
    for image in _measured(rows, max_pixels, num_processes):
        images.append(image)
        on_images(len(images), len(rows))
    found = check_images(
        images,
        sets,
        labels=labels,
        group=group,
        groups_are_found=groups_are_found,
        limits=limits,
        left_out=left_out,
        skipped_columns=skipped_columns,
    )
    if backbone:
        features = _features(images, backbone, weights, cache_dir, max_pixels)
        found = found.with_findings(feature_findings(found, features))
    return found


def _features(
    images: Sequence[ImageStats], backbone: str, weights: str, cache_dir: str, max_pixels: int
) -> npt.NDArray[np.float32]:
    with screen.progress("features", "img") as show:
        found = extract_features(
            *(images, backbone, weights), cache_dir=cache_dir, max_pixels=max_pixels, on_images=show
        )
    screen.say(found.note())
    return found.values


def _rows_of(
    source: str, option: str, role: str, label: str, group: str
) -> tuple[list[Row], list[LeftOut], list[str], dict[str, str]]:
    """Images of a source, files left out, label columns, and skipped columns with reasons.

    With a role, a divided source gives the split of that role.
    """
    _refuse_model_folder(source, option)
    listing = find_examples([source], option=option)
    if role:
        listing = for_role(listing, role, f"{option} {source}")
    labels, skipped_columns = label_columns(listing, label, group)
    columns = typed_columns(listing, texts=labels)
    rows = dataclasses.replace(listing, columns=columns).rows()
    return list(rows), list(listing.left_out), labels, skipped_columns


def _refuse_model_folder(source: str, option: str) -> None:
    """Reject a model folder, which would be reported as a folder without images.

    Raises:
        DataError: the source is a model folder.
    """
    if not files.is_folder(source):
        return
    try:
        manifest = ModelFolder(source).read_manifest()
    except CheckpointError:
        return
    if manifest is None:
        return
    trained_on = " ".join(map(str, manifest.settings.get("train_metadata") or ()))
    images = f" Its training images: tfic inspect {trained_on}." if trained_on else ""
    raise DataError(
        f"{option} {source} is a model folder (it holds run.json), not images.{images} "
        f"Its evaluation: tfic report {source}."
    )


def _check_files(rows: Sequence[Row | ImageStats], sets: Sequence[str]) -> None:
    for row, name in zip(rows, sets, strict=True):
        if name == TRAIN and (row.place is None or row.place.kind != "file"):
            raise ConfigError(
                f"--write_csv needs image files; {row.where or row.key} is not a file. Remove "
                "--write_csv, or inspect a folder or a CSV of images."
            )


def _measured(rows: Sequence[Row], max_pixels: int, num_processes: int) -> Iterator[ImageStats]:
    measure = functools.partial(measure_image, max_pixels=max_pixels)
    processes = num_processes or os.cpu_count() or 1
    if processes == 1 or len(rows) < _MIN_FOR_POOL:
        yield from map(measure, rows)
        return
    with process_pool(processes) as pool:
        yield from pool.map_in_order(measure, rows, at_once=_CHUNK)


def as_json(inspection: Inspection) -> dict[str, Any]:
    """Findings and counts as JSON values."""
    images = inspection.images
    return {
        "worst": inspection.worst,
        "num_images": len(images),
        "labels": {label: inspection.classes(label) for label in inspection.labels},
        "columns_not_judged": dict(inspection.skipped_columns),
        "findings": [
            dataclasses.asdict(finding)
            | {
                "members": [[images[i].where for i in group] for group in finding.members],
                "suggestions": [
                    dataclasses.asdict(one) | {"nearest": images[one.nearest].where}
                    for one in finding.suggestions
                ],
            }
            for finding in inspection.findings
        ],
        "left_out": [dataclasses.asdict(each) for each in inspection.left_out],
    }


def write_clean_csv(path: str, inspection: Inspection) -> int:
    """Write a CSV of the training images without errors; returns their number.

    Left out are broken images, images with conflicting labels, and images that are also in the
    evaluation set.

    Raises:
        ConfigError: a training image is not a file.
    """
    import csv
    import io

    _check_files(inspection.images, inspection.sets)
    out = {
        i
        for finding in inspection.findings
        if finding.kind in ("broken", "conflicts", "leak")
        for group in finding.members
        for i in group
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = CsvRows.of(inspection)
    writer.writerow(rows.header)
    count = 0
    for i, (image, name) in enumerate(zip(inspection.images, inspection.sets, strict=True)):
        if i in out or name != TRAIN:
            continue
        writer.writerow(rows.cells(image, i))
        count += 1
    files.write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))
    return count
