"""Checks that no shard of a set is missing, by names and by the ``dataset.json`` beside them.

check_shards(source, "train_metadata")   # DataError: ... train-00002-of-00005.tfrecord is missing
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from tf_image_classification.dataset.readers.kinds import PARQUET, TAR, TFRECORD, Source
from tf_image_classification.dataset.readers.listing import Listing
from tf_image_classification.errors import DataError
from tf_image_classification.system import files


@dataclasses.dataclass(frozen=True)
class _Description:
    """The content of a ``dataset.json``, as ``tfic convert`` writes it.

    Attributes:
        path: the file.
        paths: names of the shards beside it.
        num_examples: by part its number of examples.
    """

    path: str
    paths: Sequence[str]
    num_examples: Mapping[str, int]


def check_shards(source: Source, option: str) -> None:
    """Refuse a set of shards of which some are missing.

    Shards that are there and were not named are no error: they may be skipped on purpose.

    Raises:
        DataError: files that the names of others promise are not there.
    """
    if source.kind not in (TFRECORD, TAR, PARQUET):
        return
    of_folder: dict[str, list[str]] = collections.defaultdict(list)
    for path in source.paths:
        folder, _, name = path.rpartition("/")
        of_folder[folder].append(name)
    for folder, found in of_folder.items():
        groups = {_group(name) for name in found}
        promised = [
            name
            for described in _descriptions(folder)
            for name in described.paths
            if _group(name) in groups
        ]
        if not promised and not missing_shards(found):
            continue
        there = files.list_folder(folder or ".")
        # A conversion writes no shard whose images are all refused, and lists those it has written.
        missing = {*promised} - {*there} if promised else missing_shards(there)
        gone = sorted(name for name in missing if _group(name) in groups)
        if gone:
            more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
            raise DataError(
                f"{option}: {len(gone)} of the shards in {folder or '.'} are missing: "
                f"{', '.join(gone[:3])}{more}. Bring them back; to go on without them, rename the "
                "others so that their names promise no more files."
            )


def check_counts(listing: Listing, option: str) -> None:
    """Refuse TFRecords whose number differs from the ``dataset.json`` beside them.

    Raises:
        DataError: there are more or fewer.
    """
    of_path = dict(zip(listing.places.paths, listing.num_rows, strict=True))
    for folder in {path.rpartition("/")[0] for path in of_path}:
        for described in _descriptions(folder):
            for part, promised in described.num_examples.items():
                names = [name for name in described.paths if name.startswith(f"{part}-")]
                shards = [files.join(folder, name) for name in names]
                found = sum(of_path.get(shard, 0) for shard in shards)
                if shards and of_path.keys() >= {*shards} and found != promised:
                    raise DataError(
                        f"{option}: {described.path} promises {promised} images in {part}, but its "
                        f"{len(shards)} files hold {found}. Bring back the files that were "
                        "converted, or convert the source again."
                    )


def missing_shards(names: Iterable[str]) -> list[str]:
    """Names of shards that others promise (``x-00003-of-00005``) and that are not among them.

    Example:
        >>> missing_shards(["a-0-of-3.tfrecord", "a-2-of-3.tfrecord", "labels.txt"])
        ['a-1-of-3.tfrecord']
    """
    groups: dict[tuple[str, str, str], list[str]] = collections.defaultdict(list)
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)-of-(\d+)(?!.*-of-\d)(.*)", name)
        if match is not None:
            groups[match[1], match[3], match[4]].append(match[2])
    missing = []
    for (start, count, end), found in groups.items():
        first = int(max(map(int, found)) == int(count))  # some programs count from 1
        width = len(found[0])
        promised = {f"{number:0{width}d}" for number in range(first, first + int(count))}
        missing += [f"{start}{number}-of-{count}{end}" for number in promised - set(found)]
    return sorted(missing)


def _group(shard: str) -> str:
    """The part of a shard's name that all shards of its set have."""
    return re.sub(r"\d+-of-", "-of-", shard)


def _descriptions(folder: str) -> list[_Description]:
    """The files ``dataset.json`` of a folder, but for those of other programs."""
    found = []
    for name in files.list_folder(folder or ".", missing_ok=True):
        if not re.fullmatch(r"dataset.*\.json", name):
            continue
        path = files.join(folder, name)
        try:
            content = files.read_json(path)
            described = _Description(path, list(content["paths"]), dict(content["num_examples"]))
        except (KeyError, TypeError, ValueError):
            continue
        found.append(described)
    return found
