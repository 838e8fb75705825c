"""Which kind of source a path is, and which parts of a data set it holds.

find_source(["pets"], "train_metadata")   # Source("folder", ["pets/train", "pets/val"], ...)
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from tf_image_classification.dataset.readers import names
from tf_image_classification.dataset.readers.kinds import (
    CIFAR,
    CSV,
    FOLDER,
    IDX,
    PARQUET,
    TAR,
    TFDS,
    TFRECORD,
    Source,
    advice_for,
    kind_of_name,
)
from tf_image_classification.dataset.readers.shard_checks import check_shards
from tf_image_classification.errors import DataError, counted
from tf_image_classification.system import files

_TFDS_PREFIX = "tfds:"
_OF_IMAGES = frozenset({"image", "images", "img", "imgs", "jpegimages"})
_OF_ANNOTATIONS = frozenset({"annotations", "annotation", "labels", "masks", "segmentations"})


def find_source(patterns: Sequence[str], option: str) -> Source:
    """The files or folders that patterns name, and their kind.

    Args:
        patterns: paths, or patterns with ``*``, ``?``, ``[...]``, ``{000..012}`` or ``{a,b}``; or
            ``tfds:NAME``.
        option: the setting that names them, for messages.

    Raises:
        DataError: nothing is named, shards are missing, or things of different kinds are named.
    """
    if not patterns:
        raise DataError(
            f"No examples are named. Give {option}: TFRecord files, a .csv or a folder."
        )
    if any(pattern.startswith(_TFDS_PREFIX) for pattern in patterns):
        return Source(TFDS, [pattern.removeprefix(_TFDS_PREFIX) for pattern in patterns])
    expanded = [
        each
        for pattern in patterns
        for each in (expand_braces(pattern) if _has_braces(pattern) else [pattern])
    ]
    paths = files.expand_patterns(expanded, option=option)
    found = [_source_at(path) for path in paths]
    kinds = {source.kind for source in found}
    if len(kinds) > 1:
        raise DataError(f"{option} mixes {' and '.join(sorted(kinds))}. Give one kind of source.")
    whole = Source(
        kinds.pop(),
        [path for source in found for path in source.paths],
        [part for source in found for part in source.parts],
        found[0].root if len(found) == 1 else "",
    )
    check_shards(whole, option)
    return whole


def _has_braces(pattern: str) -> bool:
    return "{" in pattern and not files.exists(os.path.expanduser(pattern))


def expand_braces(pattern: str) -> list[str]:
    """The patterns that braces stand for, as in a shell and in WebDataset's names of shards.

    Example:
        >>> expand_braces("set-{08..10}.tar")
        ['set-08.tar', 'set-09.tar', 'set-10.tar']
        >>> expand_braces("{a,b}.csv")
        ['a.csv', 'b.csv']
    """
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if match is None:
        return [pattern]
    first, last, words = match.groups()
    choices = (
        [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
        if words is None
        else words.split(",")
    )
    start, end = pattern[: match.start()], pattern[match.end() :]
    return [each for choice in choices for each in expand_braces(f"{start}{choice}{end}")]


def _source_at(path: str) -> Source:
    if not files.is_folder(path):
        return Source(_kind_of_file(path), [path])
    path = path.rstrip("/") or path
    inside = [entry for entry in files.scan_folder(path) if not _is_system(entry.name)]
    names_inside = [entry.name for entry in inside if not entry.is_folder]
    folders = [entry.name for entry in inside if entry.is_folder]
    of_kind: dict[str, list[str]] = {}
    for name in names_inside:
        of_kind.setdefault(kind_of_name(name), []).append(name)
    for kind in (IDX, CIFAR):
        if kind in of_kind:
            return Source(kind, [path])
    if folders:
        return _source_of_folders(path, folders, names_inside)
    for kind in (TFRECORD, PARQUET, TAR):
        if kind in of_kind:  # labels.txt and the like may lie beside them
            return _source_of_files(kind, path, of_kind[kind])
    tables = list(filter(names.part_of_file_name, of_kind.get(CSV, ())))
    if len(tables) > 1:
        return _source_of_files(CSV, path, tables)
    sharded = [name for name in names_inside if re.search(r"-\d+-of-\d+", name)]
    if sharded and _is_record_file(files.join(path, sharded[0])):
        return _source_of_files(TFRECORD, path, sharded)
    return Source(FOLDER, [path])


def _is_system(name: str) -> bool:
    # Ultralytics writes train.cache beside train.
    return name.startswith(".") or name.endswith(".cache") or files.is_junk(name)


def _source_of_folders(path: str, folders: Sequence[str], beside: Sequence[str]) -> Source:
    """Class folders; or folders that are parts of the data set, each a source by itself."""
    of_parts = [name for name in folders if names.part_role(name)]
    roles = [names.part_role(name) for name in of_parts]
    is_divided = names.TRAIN in roles and len(set(roles)) > 1
    if not is_divided:
        if len(folders) == 1 and not of_parts:
            _refuse_wrapped(path, folders[0])
        _refuse_annotated(path, folders)
        _refuse_parts_inside(path, folders)
        of_tables = [
            name for name in beside if kind_of_name(name) == CSV and names.part_of_file_name(name)
        ]
        if len(of_tables) > 1 and not _has_class_folders(path, folders):
            return _source_of_files(CSV, path, of_tables)
        return Source(FOLDER, [path])
    others = [name for name in folders if name not in of_parts]
    repeated = next((role for role in roles if roles.count(role) > 1), "")
    tables = [name for name in beside if names.part_of_file_name(name)]
    if others or repeated or tables:
        same = [name for name in of_parts if names.part_role(name) == repeated]
        also = others or (same if repeated else tables)
        train = files.join(path, of_parts[roles.index(names.TRAIN)])
        evaluation = next(n for n in of_parts if names.part_role(n) != names.TRAIN)
        raise DataError(
            f"{path} holds {' and '.join(of_parts)}, parts of a data set, but also "
            f"{', '.join(also[:3])}, so it may mean different things. Name the parts, e.g. "
            f"--train_metadata {train} --eval_metadata {files.join(path, evaluation)}."
        )
    inner = [_source_at(files.join(path, name)) for name in of_parts]
    kinds = {source.kind for source in inner}
    if len(kinds) > 1:
        raise DataError(f"{path}: its parts are {' and '.join(sorted(kinds))}. Give one kind.")
    return Source(
        kinds.pop(),
        [inside for source in inner for inside in source.paths],
        [name.lower() for name, s in zip(of_parts, inner, strict=True) for _ in s.paths],
        path,
    )


def _has_class_folders(path: str, folders: Sequence[str]) -> bool:
    """Whether two folders or more hold files; a single one may hold the images of tables."""
    return sum(1 for name in folders if files.list_folder(files.join(path, name))) > 1


def _refuse_wrapped(path: str, folder: str) -> None:
    """Refuse a folder whose data set lies one folder deeper, as in unpacked archives."""
    inner = files.join(path, folder)
    inside = [entry for entry in files.scan_folder(inner) if not _is_system(entry.name)]
    folders = [entry.name for entry in inside if entry.is_folder]
    packed = [
        entry.name for entry in inside if kind_of_name(entry.name) in (TFRECORD, PARQUET, TAR)
    ]
    for found, what in ((folders, "folder"), (packed, "file")):
        if len(found) > (found is folders):
            raise DataError(
                f"{path} holds only the folder {folder}, which holds {counted(len(found), what)} "
                f"({', '.join(found[:3])}{', ...' if len(found) > 3 else ''}). Name {inner}."
            )


def _refuse_annotated(path: str, folders: Sequence[str]) -> None:
    """Refuse sets for detection and segmentation, whose folders are no classes."""
    annotations = [name for name in folders if name.lower() in _OF_ANNOTATIONS]
    if not annotations:
        return
    of_images = [name for name in folders if name.lower() in _OF_IMAGES]
    inside = files.list_folder(files.join(path, annotations[0]))
    are_texts = inside and all(name.lower().endswith((".json", ".xml", ".txt")) for name in inside)
    if of_images or are_texts:
        others = [name for name in folders if name not in annotations]
        raise DataError(
            f"{path} holds {', '.join([*annotations[:1], *others[:2]])}, as data sets for "
            "detection or segmentation do: boxes or masks, no class for each image. Expected a "
            "folder of images for each class, or a CSV with a header of URIs and label: write one "
            f"from the files in {annotations[0]}."
        )


def _refuse_parts_inside(path: str, folders: Sequence[str]) -> None:
    """Refuse class folders that are divided into parts themselves, which would be mixed."""
    for name in folders:
        inside = [e.name for e in files.scan_folder(files.join(path, name)) if e.is_folder]
        roles = {names.part_role(inner) for inner in inside}
        if names.TRAIN in roles and len(roles - {""}) > 1:
            raise DataError(
                f"{files.join(path, name)} is divided into {', '.join(inside[:3])}, so that "
                f"training on {path} would mix them. Expected {path}/train/{name} and "
                f"{path}/val/{name}; move the folders so, or write a CSV with a column split."
            )


def _source_of_files(kind: str, folder: str, found: Sequence[str]) -> Source:
    parts = [names.part_of_file_name(name) for name in found]
    are_parts = len(set(map(names.part_role, parts))) > 1
    if are_parts and not all(parts):
        known = ", ".join(sorted(set(filter(None, parts))))
        raise DataError(
            f"{folder}: the names of some files name the part of the data set that they hold "
            f"({known}), but not that of {found[parts.index('')]}. Rename it, or name the files "
            "with a pattern."
        )
    paths = [files.join(folder, name) for name in found]
    return Source(kind, paths, parts if are_parts else (), folder)


def _kind_of_file(path: str) -> str:
    folder, _, name = path.rpartition("/")
    kind = kind_of_name(name)
    if kind == IDX or (kind == CIFAR and not _is_record_file(path)):
        raise DataError(
            f"{path} is one file of {kind.upper()} data. Name the folder that holds all of them: "
            f"{folder or '.'}."
        )
    if kind:
        return TFRECORD if kind == CIFAR else kind
    if names.is_image_name(path):
        raise DataError(
            f"{path} is a single image. Name the folder that holds a folder for each class, or a "
            "CSV of images."
        )
    advice = advice_for(name)
    if advice:
        raise DataError(f"{path} cannot be read as a source of examples. {advice}")
    return TFRECORD  # by its content, which its reader checks


def _is_record_file(path: str) -> bool:
    from tf_image_classification.dataset import tfrecord  # late: TensorFlow

    try:
        tfrecord.compression(path)
    except DataError:
        return False
    return True
