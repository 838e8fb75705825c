"""Which kind of source a path is, and which parts of a data set it holds.

find_source(["pets"], "train_metadata")   # Source("folder", ["pets/train", "pets/val"], ...)
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from tf_image_classification.dataset.readers import names
from tf_image_classification.dataset.readers.csv_text import SUFFIXES
from tf_image_classification.dataset.readers.pixel_files import has_cifar, has_idx
from tf_image_classification.errors import DataError
from tf_image_classification.system import files

FOLDER, CSV, TFRECORD, TAR, PARQUET, IDX, CIFAR, TFDS = (
    *("folder", "csv", "tfrecord", "tar", "parquet", "idx", "cifar", "tfds"),
)
_TFDS_PREFIX = "tfds:"
_TARS = (".tar", ".tar.gz", ".tgz")


@dataclasses.dataclass(frozen=True)
class Source:
    """What patterns name.

    Attributes:
        kind: kind of source, such as FOLDER.
        paths: its files or folders.
        parts: by path the part of the data set that it holds; empty where the paths say nothing.
        root: the folder that holds the parts, if one path named them all; else "".
    """

    kind: str
    paths: Sequence[str]
    parts: Sequence[str] = ()
    root: str = ""


def find_source(patterns: Sequence[str], option: str) -> Source:
    """The files or folders that patterns name, and of which kind they are.

    Raises:
        DataError: nothing is named, shards are missing, or things of different kinds are named.
    """
    if not patterns:
        raise DataError(
            f"No examples are named. Give {option}: TFRecord files, a .csv or a folder."
        )
    if any(pattern.startswith(_TFDS_PREFIX) for pattern in patterns):
        return Source(TFDS, [pattern.removeprefix(_TFDS_PREFIX) for pattern in patterns])
    paths = files.expand_patterns(patterns, option=option)
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
    _check_shards(whole, option)
    return whole


def _source_at(path: str) -> Source:
    if not files.is_folder(path):
        return Source(_kind_of_file(path), [path])
    path = path.rstrip("/") or path
    inside = [entry for entry in files.scan_folder(path) if not _is_system(entry.name)]
    names_inside = [entry.name for entry in inside if not entry.is_folder]
    folders = [entry.name for entry in inside if entry.is_folder]
    if has_idx(names_inside):
        return Source(IDX, [path])
    if has_cifar(names_inside):
        return Source(CIFAR, [path])
    if folders:
        return _source_of_folders(path, folders, names_inside)
    for kind, is_of_kind in (
        (TFRECORD, lambda name: ".tfrecord" in name.lower()),
        (PARQUET, lambda name: name.lower().endswith(".parquet")),
        (TAR, lambda name: name.lower().endswith(_TARS)),
    ):
        chosen = [name for name in names_inside if is_of_kind(name)]
        if chosen:  # labels.txt and the like may lie beside them
            return _source_of_files(kind, path, chosen)
    tables = [
        n for n in names_inside if n.lower().endswith(SUFFIXES) and names.part_of_file_name(n)
    ]
    if len(tables) > 1:
        return _source_of_files(CSV, path, tables)
    sharded = [name for name in names_inside if re.search(r"-\d+-of-\d+", name)]
    if sharded and _is_record_file(files.join(path, sharded[0])):
        return _source_of_files(TFRECORD, path, sharded)
    return Source(FOLDER, [path])


def _is_system(name: str) -> bool:
    return name.startswith(".") or files.is_junk(name)


def _source_of_folders(path: str, folders: Sequence[str], beside: Sequence[str]) -> Source:
    """Class folders; or folders that are parts of the data set, each a source by itself."""
    of_parts = [name for name in folders if names.part_role(name)]
    roles = [names.part_role(name) for name in of_parts]
    is_divided = names.TRAIN in roles and len(set(roles)) > 1
    if not is_divided:
        if len(folders) == 1 and not of_parts:
            _refuse_wrapped(path, folders[0])
        _refuse_parts_inside(path, folders)
        tables = [name for name in beside if name.lower().endswith(SUFFIXES)]
        of_tables = [name for name in tables if names.part_of_file_name(name)]
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
            f"{', '.join(also[:3])}, so it may mean different things. Name what is meant, such as "
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
    """Whether several folders hold images, or folders: one of images may be what tables name."""
    return sum(1 for name in folders if files.list_folder(files.join(path, name))) > 1


def _refuse_wrapped(path: str, folder: str) -> None:
    """Say so where the data set lies one folder deeper, as unpacked archives have it."""
    inner = files.join(path, folder)
    inside = [e.name for e in files.scan_folder(inner) if e.is_folder and not _is_system(e.name)]
    if len(inside) > 1:
        raise DataError(
            f"{path} holds only the folder {folder}, which holds {len(inside)} folders "
            f"({', '.join(inside[:3])}{', ...' if len(inside) > 3 else ''}). Name {inner} instead."
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
            f"{folder}: the names of some files say which part of the data set they hold "
            f"({known}), but not that of {found[parts.index('')]}. Rename it, or name the files "
            "with a pattern."
        )
    paths = [files.join(folder, name) for name in found]
    return Source(kind, paths, parts if are_parts else (), folder)


def _kind_of_file(path: str) -> str:
    lower = path.lower()
    if lower.endswith(_TARS):
        return TAR
    if lower.endswith(".parquet"):
        return PARQUET
    if ".tfrecord" in lower:
        return TFRECORD
    if lower.endswith(SUFFIXES):
        return CSV
    if names.is_image_name(path):
        raise DataError(
            f"{path} is a single image. Name the folder that holds a folder for each class, or a "
            "CSV of images."
        )
    advice = {
        (".zip", ".7z", ".rar"): "Unpack it and name the folder",
        (".xlsx", ".xls", ".ods"): "Save it as CSV",
        (".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml"): "Write a CSV of images and labels",
        (".npz", ".npy", ".mat", ".h5", ".hdf5", ".pkl"): "Write the images as files or records",
    }
    for endings, what in advice.items():
        if lower.endswith(endings):
            raise DataError(f"{path} cannot be read as a source of examples. {what}.")
    return TFRECORD  # by its content, which its reader checks


def _is_record_file(path: str) -> bool:
    from tf_image_classification.dataset import tfrecord  # late: TensorFlow

    try:
        tfrecord.compression(path)
    except DataError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Description:
    """What ``dataset.json`` says of the records beside it.

    Attributes:
        path: the file.
        paths: names of the records' files.
        num_examples: by part its number of examples.
    """

    path: str
    paths: Sequence[str]
    num_examples: Mapping[str, int]


def read_descriptions(folder: str) -> list[Description]:
    """What the files ``dataset.json`` of a folder promise, as ``tfic convert`` has written them."""
    found = []
    for name in files.list_folder(folder or ".", missing_ok=True):
        if not re.fullmatch(r"dataset.*\.json", name):
            continue
        path = files.join(folder, name)
        try:
            told = files.read_json(path)
            found.append(Description(path, list(told["paths"]), dict(told["num_examples"])))
        except (KeyError, TypeError, ValueError):
            continue  # of another program
    return found


def _group(shard: str) -> str:
    """What the names of the shards of one set have in common."""
    return re.sub(r"\d+-of-", "-of-", shard)


def _check_shards(source: Source, option: str) -> None:
    """Refuse sets of shards of which some are gone.

    Those that are there and were not named may be left out on purpose.

    Raises:
        DataError: files that the names of others promise are not there.
    """
    if source.kind not in (TFRECORD, TAR, PARQUET):
        return
    of_folder: dict[str, list[str]] = {}
    for path in source.paths:
        folder, _, name = path.rpartition("/")
        of_folder.setdefault(folder, []).append(name)
    for folder, found in of_folder.items():
        groups = {_group(name) for name in found}
        told = [d.paths for d in read_descriptions(folder)]
        promised = [name for paths in told for name in paths if _group(name) in groups]
        if not promised and not names.missing_shards(found):
            continue
        there = files.list_folder(folder or ".")
        # A conversion writes no shard whose images are all refused, and lists those it has written.
        missing = {*promised} - {*there} if promised else names.missing_shards(there)
        gone = sorted(name for name in missing if _group(name) in groups)
        if gone:
            more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
            raise DataError(
                f"{option}: {len(gone)} of the shards in {folder or '.'} are missing: "
                f"{', '.join(gone[:3])}{more}. Bring them back; to go on without them, rename the "
                "others so that their names promise no more files."
            )
