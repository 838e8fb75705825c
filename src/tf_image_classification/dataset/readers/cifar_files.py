"""CIFAR's binary files: raw pixels, each image after its label or labels."""

from __future__ import annotations

import hashlib

from tf_image_classification.dataset.readers.kinds import CIFAR, CIFAR_FILES, ReadOptions, Source
from tf_image_classification.dataset.readers.listing import LABEL, Listing, unpacked
from tf_image_classification.dataset.readers.names import clean
from tf_image_classification.dataset.readers.packed import Packed, only_folder
from tf_image_classification.errors import DataError
from tf_image_classification.system import files


def read(source: Source, options: ReadOptions) -> Listing:
    """The images of CIFAR's binary files (cs.toronto.edu/~kriz/cifar.html describes the format).

    Raises:
        DataError: a file is cut short, a class has no name, or two folders are named.
    """
    folder = only_folder(source)
    names = files.list_folder(folder)
    is_hundred = "train.bin" in names
    names_file = "fine_label_names.txt" if is_hundred else "batches.meta.txt"
    class_names = _cifar_names(folder, names_file)
    num_labels, pixels = (2 if is_hundred else 1), 3 * 32 * 32
    size = num_labels + pixels
    found = Packed()
    for name in names:
        if not CIFAR_FILES.fullmatch(name):
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
    return found.listing(CIFAR, "pixels")


def _cifar_names(folder: str, name: str) -> list[str]:
    path = files.join(folder, name)
    text = files.read_text(path) if files.exists(path) else ""
    return [clean(line) for line in text.splitlines() if line.strip()]
