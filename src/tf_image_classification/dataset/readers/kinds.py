"""The kinds of sources: how each is recognised by name, and the interface of their readers.

kind_of_name("train-00000-of-00004.tfrecord")   # TFRECORD
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from tf_image_classification.dataset.readers.csv_text import SUFFIXES
from tf_image_classification.dataset.readers.listing import Listing

FOLDER, CSV, TFRECORD, TAR, PARQUET, IDX, CIFAR, TFDS = (
    *("folder", "csv", "tfrecord", "tar", "parquet", "idx", "cifar", "tfds"),
)

IDX_IMAGES = re.compile(r"(?:.*-)?(\w+)-images[.-]idx3-ubyte(\.gz)?")
"""Names of MNIST's files of images; the group is the part of the data set."""

CIFAR_FILES = re.compile(r"(data_batch_\d|test_batch|train|test)\.bin")
"""Names of CIFAR's binary files."""

EXPECTED = {
    FOLDER: "Expected a folder of images for each class, or a CSV of images and labels.",
    CSV: "Expected rows of path,label, or a header with URIs and the name of each label.",
    TFRECORD: (
        "Expected a tf.train.Example with an encoded image (image_bytes, image/encoded or image) "
        "and a feature for each label."
    ),
    TAR: (
        "Expected WebDataset's members: 1.jpg with its class in 1.cls or 1.json. Unpack an archive "
        "of another form, e.g. of class folders, and name the folder."
    ),
    PARQUET: "Expected a column of images (bytes, or structs with bytes) and one for each label.",
    IDX: "Expected files of images and of labels.",
    CIFAR: "Expected CIFAR's binary version.",
    TFDS: "Expected a feature with an image and one for each label.",
}
"""By kind, a sentence about the form that is read."""

_WRITE_FILES = "Write its images as PNG files into a folder for each class, or as TFRecords."
_ADVICE = {
    (".zip", ".7z", ".rar", ".tar.bz2", ".tar.xz"): "Unpack it and name the folder.",
    (".xlsx", ".xls", ".ods"): "Save it as CSV.",
    (".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml"): (
        "Write a CSV of images and labels, with a header of URIs and label."
    ),
    (".npz", ".npy", ".mat", ".h5", ".hdf5", ".pkl", ".pickle", ".pt", ".mdb", ".lmdb", ".rec"): (
        _WRITE_FILES
    ),
    (".arrow", ".feather"): "Save it as Parquet, e.g. with Dataset.to_parquet of Hugging Face.",
    ("data_batch_1", "test_batch", "batches.meta"): (
        "Pickles can run any code and are not read. Download CIFAR's binary version and unpack it."
    ),
}


@dataclasses.dataclass(frozen=True)
class Source:
    """The files or folders that patterns name.

    Attributes:
        kind: kind of source, e.g. FOLDER.
        paths: its files or folders.
        parts: by path, the part of the data set that it holds; empty if their names name no parts.
        root: the folder that holds the parts, if one path named them all; else "".
    """

    kind: str
    paths: Sequence[str]
    parts: Sequence[str] = ()
    root: str = ""

    def paths_with_parts(self) -> Iterator[tuple[str, str]]:
        """Each path with the part of the data set that it holds, or ""."""
        return zip(self.paths, self.parts or [""] * len(self.paths), strict=True)


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """Settings of readers.

    Attributes:
        cache_dir: folder for indexes of TFRecords; "": none are kept.
        image_feature: name of the records' feature with the image; "" finds it.
    """

    cache_dir: str = ""
    image_feature: str = ""


class Reader(Protocol):
    """Lists the examples of one kind of source; each module of a kind has one, called ``read``."""

    def __call__(self, source: Source, options: ReadOptions) -> Listing:
        """The examples in a fixed order, and skipped files and rows with reasons; decodes nothing.

        Raises:
            DataError: a file cannot be read as its kind; names it.
        """


def kind_of_name(name: str) -> str:
    """The kind of source that a file's name announces, or "".

    Example:
        >>> kind_of_name("set-train.tfrecord-00000-of-00001"), kind_of_name("00-192x192.tfrec")
        ('tfrecord', 'tfrecord')
        >>> kind_of_name("train-images-idx3-ubyte.gz"), kind_of_name("a.tgz"), kind_of_name("1.jpg")
        ('idx', 'tar', '')
    """
    lower = name.lower()
    if lower.endswith((".tar", ".tar.gz", ".tgz")):
        return TAR
    if lower.endswith(".parquet"):
        return PARQUET
    if ".tfrec" in lower:
        return TFRECORD
    if lower.endswith(SUFFIXES):
        return CSV
    if IDX_IMAGES.fullmatch(name):
        return IDX
    return CIFAR if CIFAR_FILES.fullmatch(name) else ""


def advice_for(name: str) -> str:
    """The advice for a file of a form that is not read, by its name, or "".

    Example:
        >>> advice_for("pets.zip")
        'Unpack it and name the folder.'
    """
    lower = name.lower()
    return next((what for endings, what in _ADVICE.items() if lower.endswith(endings)), "")
