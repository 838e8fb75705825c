"""Finding the examples that paths and patterns name, whatever kind of source they are.

    listing = find_examples(["records/train-*"], option="train_metadata", cache_dir="cache")

A source may be divided into parts: a folder with ``train`` and ``val`` below it, files whose names
say so, or a column of a CSV. ``PATH:PART`` names one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tf_image_classification.dataset.readers import names
from tf_image_classification.dataset.readers.csv_files import parts_in_table, read_csvs
from tf_image_classification.dataset.readers.folders import read_folders
from tf_image_classification.dataset.readers.listing import Listing
from tf_image_classification.dataset.readers.parquet_files import read_parquets
from tf_image_classification.dataset.readers.pixel_files import read_cifar, read_idx
from tf_image_classification.dataset.readers.sources import (
    CIFAR,
    CSV,
    FOLDER,
    IDX,
    PARQUET,
    TAR,
    TFDS,
    TFRECORD,
    Source,
    find_source,
    read_descriptions,
)
from tf_image_classification.dataset.readers.tar_files import read_tars
from tf_image_classification.errors import DataError, counted, did_you_mean
from tf_image_classification.system import files


def find_examples(
    patterns: Sequence[str], *, option: str, cache_dir: str = "", image_feature: str = ""
) -> Listing:
    """The examples of a source, and what of it is left out.

    Args:
        patterns: folders of class folders; CSV files; TFRecord, tar or Parquet files; a folder of
            such files, of MNIST's idx files or CIFAR's binary files; patterns of these;
            ``tfds:NAME``; each with ``:PART`` after it to read one part only. Local or ``gs://``.
        option: the setting that names them, for messages.
        cache_dir: folder for indexes of records; "": none are kept.
        image_feature: name of the records' feature with the image; "" finds it.

    Raises:
        DataError: nothing is there, it is malformed, shards are missing, or it has no such part.
        ConfigError: it needs an extra that is not installed.
    """
    plain, wanted = _without_parts(patterns)
    source = find_source(plain, option)
    listing = _read(source, cache_dir, image_feature)
    if source.kind == TFRECORD:
        _check_counts(listing, option)
    if not len(listing):
        raise DataError(_why_nothing(plain, listing))
    return of_part(listing, wanted, ", ".join(plain)) if wanted else listing


def source_kind(patterns: Sequence[str], option: str) -> str:
    """The kind of source that patterns name.

    Raises:
        DataError: as ``find_source``.
    """
    return find_source(_without_parts(patterns)[0], option).kind


def of_part(listing: Listing, part: str, source: str) -> Listing:
    """The examples of one part of a listing.

    Args:
        listing: all examples.
        part: its name in the source, or its role: "train", "eval" or "test".
        source: what to call it in a message.

    Raises:
        DataError: there is no such part, or several have the role.
    """
    parts = listing.parts
    chosen = [p for p in parts if p == part] or [p for p in parts if names.part_role(p) == part]
    if len(chosen) != 1:
        known = f"It has {', '.join(chosen)}: name one." if chosen else did_you_mean(part, parts)
        raise DataError(f"{source} has {len(chosen)} parts called {part!r}. {known}")
    return listing.select([i for i, p in enumerate(listing.splits) if p == chosen[0]])


def for_role(listing: Listing, role: str, source: str) -> Listing:
    """The examples that serve a role; all of them where the source is not divided.

    An evaluation takes the validation part, or else the test part.

    Args:
        listing: all examples.
        role: "train" or "eval".
        source: what to call it in a message.

    Raises:
        DataError: no part has the role, or several have it.
    """
    if len(listing.parts) < 2:
        return listing
    roles = [names.part_role(part) for part in listing.parts]
    if role == names.EVAL and role not in roles:
        role = names.TEST
    return of_part(listing, role, source)


def has_evaluation_part(patterns: Sequence[str], option: str) -> bool:
    """Whether a source that is named for training has a part for evaluation.

    Raises:
        DataError: as ``find_source``.
    """
    plain, wanted = _without_parts(patterns)
    if wanted:
        return False
    source = find_source(plain, option)
    parts = list(source.parts)
    if source.kind == CSV and not parts:
        parts = [part for path in source.paths for part in parts_in_table(path)]
    elif source.kind in (IDX, CIFAR, TFDS):
        parts = _read(source, "", "").parts
    return len({names.part_role(part) for part in parts} - {""}) > 1


def _without_parts(patterns: Sequence[str]) -> tuple[list[str], str]:
    """Patterns without ``:PART`` after them, and the part.

    Raises:
        DataError: several parts are named.
    """
    plain, wanted = [], set()
    for pattern in patterns:
        path, colon, part = pattern.rpartition(":")
        # "gs://" and "tfds:NAME" have a colon of their own, and so may a file's name.
        if colon and names.part_role(part) and path != "tfds" and not files.exists(pattern):
            plain.append(path)
            wanted.add(part.lower())
        else:
            plain.append(pattern)
            wanted.add("")
    if len(wanted) > 1:
        raise DataError(f"{', '.join(patterns)}: expected the same part after each path.")
    return plain, wanted.pop() if wanted else ""


def _read(source: Source, cache_dir: str, image_feature: str) -> Listing:
    if source.kind == TFRECORD:
        from tf_image_classification.dataset.readers.record_files import (
            read_records,
        )

        return read_records(
            source.paths, source.parts, cache_dir=cache_dir, image_feature=image_feature
        )
    if source.kind == TFDS:
        from tf_image_classification.dataset.readers.tfds import read_tfds  # late: TensorFlow

        return read_tfds(source.paths)
    if source.kind in (IDX, CIFAR):
        if len(source.paths) > 1:
            raise DataError(f"Expected one folder of {source.kind} files, not {len(source.paths)}.")
        return {IDX: read_idx, CIFAR: read_cifar}[source.kind](source.paths[0])
    readers: dict[str, Callable[[Sequence[str], Sequence[str]], Listing]] = {
        FOLDER: read_folders,
        CSV: read_csvs,
        TAR: read_tars,
        PARQUET: read_parquets,
    }
    return readers[source.kind](source.paths, source.parts)


def _check_counts(listing: Listing, option: str) -> None:
    """Refuse records that are not as many as the ``dataset.json`` beside them says.

    Raises:
        DataError: there are more or fewer.
    """
    of_path = dict(zip(listing.places.paths, listing.num_rows, strict=True))
    for folder in {path.rpartition("/")[0] for path in of_path}:
        for told in read_descriptions(folder):
            for part, promised in told.num_examples.items():
                shards = [files.join(folder, n) for n in told.paths if n.startswith(f"{part}-")]
                found = sum(of_path.get(shard, 0) for shard in shards)
                if shards and of_path.keys() >= {*shards} and found != promised:
                    raise DataError(
                        f"{option}: {told.path} promises {promised} images in {part}, but its "
                        f"{len(shards)} files hold {found}. Bring back the files that were "
                        "converted, or convert the source again."
                    )


def _why_nothing(patterns: Sequence[str], listing: Listing) -> str:
    source = ", ".join(patterns)
    if not listing.left_out:
        return f"{source} holds no images."
    count = counted(len(listing.left_out), "file or row is", "files or rows are")
    return (
        f"{source} gives no images: {count} left out, such as "
        f"{str((listing.damaged or list(listing.left_out))[0]).rstrip('.')}. Expected a folder of "
        "images for each class, a CSV or records."
    )
