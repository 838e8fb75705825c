"""Files of raw pixels: MNIST's idx files and CIFAR's binary files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from tf_image_classification.dataset.readers.listing import LABEL, Listing, unpacked
from tf_image_classification.dataset.readers.names import clean
from tf_image_classification.dataset.readers.packed import Packed
from tf_image_classification.errors import DataError
from tf_image_classification.system import files

_IDX = re.compile(r"(\w+)-images[.-]idx3-ubyte(\.gz)?")
_CIFAR = re.compile(r"(data_batch_\d|test_batch|train|test)\.bin")


def has_idx(names: Sequence[str]) -> bool:
    """Whether a folder with these files is one of idx files."""
    return any(_IDX.fullmatch(name) for name in names)


def has_cifar(names: Sequence[str]) -> bool:
    """Whether a folder with these files is one of CIFAR's binary files."""
    return any(_CIFAR.fullmatch(name) for name in names)


def read_idx(folder: str) -> Listing:
    """The images of idx files (yann.lecun.com/exdb/mnist describes the format).

    Raises:
        DataError: labels are missing, or a file is cut short.
    """
    found = Packed()
    for name in files.list_folder(folder):
        match = _IDX.fullmatch(name)
        if match is None:
            continue
        path, prefix = files.join(folder, name), match[1]
        labels_name = name.replace("-images", "-labels").replace("idx3", "idx1")
        labels_path = files.join(folder, labels_name)
        if not files.exists(labels_path):
            raise DataError(f"{path} has no labels: expected {labels_name} beside it.")
        data, labels = unpacked(path), unpacked(labels_path)
        if (
            min(len(data) - 16, len(labels) - 8) < 0
            or bytes(data[:4]) != b"\0\0\x08\x03"
            or bytes(labels[:4]) != b"\0\0\x08\x01"
        ):
            raise DataError(f"{path} or its labels do not begin like an idx file of bytes.")
        count, height, width = np.frombuffer(data[4:16], ">i4").tolist()
        if len(labels) != 8 + count or len(data) != 16 + count * height * width:
            raise DataError(f"{path}: it or its labels are cut short; {count} images are declared.")
        part = {"train": "train", "t10k": "test"}.get(prefix, prefix)
        content = hashlib.sha256(data)
        content.update(labels)
        found.begin(path, shape=(height, width), content=content.hexdigest())
        for i in range(count):
            label = {LABEL: int(labels[8 + i])}
            size = height * width
            found.add(16 + i * size, size, label, where=f" image {i}", split=part)
    return found.listing("idx", "pixels")


def read_cifar(folder: str) -> Listing:
    """The images of CIFAR's binary files (cs.toronto.edu/~kriz/cifar.html describes the format).

    Raises:
        DataError: a file is cut short, or holds a class that has no name.
    """
    names = files.list_folder(folder)
    is_hundred = "train.bin" in names
    names_file = "fine_label_names.txt" if is_hundred else "batches.meta.txt"
    class_names = _cifar_names(folder, names_file)
    num_labels, pixels = (2 if is_hundred else 1), 3 * 32 * 32
    size = num_labels + pixels
    found = Packed()
    for name in names:
        if not _CIFAR.fullmatch(name):
            continue
        path = files.join(folder, name)
        data = unpacked(path)
        if len(data) % size:
            raise DataError(f"{path} has {len(data)} bytes, not a multiple of {size}.")
        found.begin(path, shape=(3, 32, 32), content=hashlib.sha256(data).hexdigest())
        part = "test" if name.startswith("test") else "train"
        for i in range(len(data) // size):
            number = data[i * size + num_labels - 1]
            if class_names and number >= len(class_names):
                raise DataError(
                    f"{path} image {i} is of class {number}, but {names_file} names only "
                    f"{len(class_names)} classes. Complete it, or look whether the file is damaged."
                )
            label = {LABEL: class_names[number] if class_names else int(number)}
            found.add(i * size + num_labels, pixels, label, where=f" image {i}", split=part)
    return found.listing("cifar", "pixels")


def _cifar_names(folder: str, name: str) -> list[str]:
    path = files.join(folder, name)
    text = files.read_text(path) if files.exists(path) else ""
    return [clean(line) for line in text.splitlines() if line.strip()]
