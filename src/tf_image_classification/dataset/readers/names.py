"""Meanings of names: images, parts of a data set, image formats that are not read.

is_image_name("cats/1.JPG")      # True
part_role("validation")          # "eval"
"""

from __future__ import annotations

import re
import unicodedata

from tf_image_classification.dataset.file_kinds import kind_of

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    *(".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".ppm", ".pgm"),
)
"""Endings of image files; hidden and system files are never images."""

TRAIN, EVAL, TEST = "train", "eval", "test"
"""Roles of the parts of a data set: training, evaluation while training, final test."""

_ROLES = {
    **dict.fromkeys(("train", "training", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev"), EVAL),
    **dict.fromkeys(("test", "testing", "holdout"), TEST),
}

PART_COLUMNS = ("split", "part", "subset", "partition", "set", "phase", "data_set", "dataset")
"""Columns that may hold the part of the data set that an example belongs to."""


def clean(text: str) -> str:
    r"""A name without surrounding spaces and in Unicode's composed form (NFC).

    File systems and programs write the same letters composed or decomposed; both are one name.

    Example:
        >>> clean(" cafe\u0301 ") == "caf\u00e9"
        True
    """
    text = text.strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def is_image_name(name: str) -> bool:
    """Whether a file's ending is that of an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def foreign_format(name: str) -> str:
    """The format of an image file that is not read, e.g. "HEIC", by its ending; else "".

    Example:
        >>> foreign_format("IMG_0001.HEIC")
        'HEIC'
    """
    kind = kind_of(b"", name)
    return kind.name if kind.is_image and not kind.is_decoded else ""


def why_no_image(name: str) -> str:
    """Why a file is not read as an image, by its name; "" if it is.

    Example:
        >>> why_no_image("scan.psd")
        'PSD is not read: convert it to JPEG or PNG'
        >>> why_no_image("notes.txt"), why_no_image("1.jpg")
        ('not the name of an image', '')
    """
    if is_image_name(name):
        return ""
    if not foreign_format(name):
        return "not the name of an image"
    kind = kind_of(b"", name)
    return f"{kind.name} is not read: {kind.advice}"


def part_role(name: str) -> str:
    """The role of the part of a data set with this name: TRAIN, EVAL, TEST, or "" for any other.

    Example:
        >>> part_role("Valid"), part_role("cats")
        ('eval', '')
    """
    return _ROLES.get(name.strip().lower(), "")


def part_of_file_name(name: str) -> str:
    """The part of the data set in a file's name, in lower case, or "".

    Example:
        >>> part_of_file_name("mnist-train.tfrecord-00000-of-00001")
        'train'
        >>> part_of_file_name("pets_val_0001.tar"), part_of_file_name("pets.csv")
        ('val', '')
    """
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word in _ROLES]
    return words[0] if len(words) == 1 else ""
