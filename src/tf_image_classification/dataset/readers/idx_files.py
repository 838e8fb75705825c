"""MNIST's idx files: raw pixels in one file, labels in another beside it."""

from __future__ import annotations

import hashlib

import numpy as np

from tf_image_classification.dataset.readers.kinds import IDX, IDX_IMAGES, ReadOptions, Source
from tf_image_classification.dataset.readers.listing import LABEL, Listing, unpacked
from tf_image_classification.dataset.readers.packed import Packed, only_folder
from tf_image_classification.errors import DataError
from tf_image_classification.system import files


def read(source: Source, options: ReadOptions) -> Listing:
    """The images of idx files (yann.lecun.com/exdb/mnist describes the format).

    Raises:
        DataError: labels are missing, a file is cut short, or two folders are named.
    """
    folder = only_folder(source)
    found = Packed()
    for name in files.list_folder(folder):
        match = IDX_IMAGES.fullmatch(name)
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
    return found.listing(IDX, "pixels")
