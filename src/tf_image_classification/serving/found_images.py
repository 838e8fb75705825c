"""The images that a command line names: files, folders, patterns, CSV, records, standard input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tf_image_classification import files
from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.dataset.readers.csv_text import SUFFIXES
from tf_image_classification.dataset.readers.names import is_image_name
from tf_image_classification.errors import DataError

Found = tuple[str, str | bytes | npt.NDArray[np.uint8]]
"""What an image is called, and its path or what was read."""


def images_of(paths: Sequence[str], lines: Iterable[str] = ()) -> Iterator[Found]:
    """Every image that paths name, in order.

    Args:
        paths: images; folders, with all that is below them; patterns; CSV files, TFRecord, tar or
            Parquet files; "-" for the paths in ``lines``. Local or ``gs://``.
        lines: a path each.

    Raises:
        DataError: a pattern matches nothing, or a CSV or a record is malformed.
    """
    for path in paths:
        if path == "-":
            for line in lines:
                if line.strip():
                    yield line.strip(), line.strip()
            continue
        if not files.exists(path) and not any(mark in path for mark in "*?["):
            yield path, path  # told as a bad image
            continue
        for found in files.expand_patterns([path], option="PATHS"):
            yield from _below(found)


def _below(path: str) -> Iterator[Found]:
    if files.is_folder(path):
        for name in files.list_folder(path):
            inner = files.join(path, name)
            if files.is_folder(inner) or is_image_name(name):
                yield from _below(inner)
    elif is_image_name(path):
        yield path, path
    elif path.lower().endswith((*SUFFIXES, ".tar", ".tar.gz", ".tgz", ".parquet")) or (
        ".tfrecord" in path.lower()
    ):
        listing = find_examples([path], option="PATHS")
        if listing.damaged:
            raise DataError(f"{str(listing.damaged[0]).rstrip('.')}. Correct or remove it.")
        for i in range(len(listing)):
            place = listing.places[i]
            if place.kind == "file":
                yield place.path, place.path
            else:
                yield listing.locate(i), place.read()
    else:
        yield path, path  # an image of another name, or none, which is told then
