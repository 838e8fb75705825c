"""Tar files in WebDataset's convention: members of one key form one example."""

from __future__ import annotations

import json
import tarfile
import zlib
from typing import Any

from tf_image_classification.dataset.readers import names
from tf_image_classification.dataset.readers.columns import whole_number
from tf_image_classification.dataset.readers.kinds import TAR, ReadOptions, Source
from tf_image_classification.dataset.readers.listing import (
    LABEL,
    LeftOut,
    Listing,
    unpacked_stream,
)
from tf_image_classification.dataset.readers.packed import Packed, damaged
from tf_image_classification.errors import DataError

_TEXTS = ("cls", "txt", "json")


def read(source: Source, options: ReadOptions) -> Listing:
    """The images of tar files, with classes (``.cls``), texts (``.txt``) and columns (``.json``).

    Raises:
        DataError: a file is no tar file, or a class or column of an image cannot be read.
    """
    found = Packed()
    for path, part in source.paths_with_parts():
        try:
            _read_tar(path, part, found)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise damaged(path, "a tar file", error) from error
    return found.listing(TAR, "bytes", texts=("text",))


def _read_tar(path: str, part: str, found: Packed) -> None:
    images: dict[str, tuple[str, tarfile.TarInfo]] = {}
    columns: dict[str, dict[str, Any]] = {}
    contents: dict[str, tarfile.TarInfo] = {}  # a hard link shares that of an earlier member
    with unpacked_stream(path) as stream, tarfile.open(fileobj=stream) as tar:
        for member in tar:
            if member.isdir():
                continue
            where = f"{path}: {member.name}"
            content = contents.get(member.linkname) if member.islnk() else member
            if content is None or not content.isfile():
                reason = "neither a file nor a hard link to one before it"
                found.left_out.append(LeftOut(where, reason, is_damaged=True))
                continue
            contents[member.name] = content
            folder, _, base = member.name.rpartition("/")
            stem, _, ending = base.partition(".")
            key, ending = f"{folder}/{stem}".lstrip("/"), ending.lower()
            if not names.is_image_name(f".{ending}"):
                if ending not in _TEXTS:
                    found.left_out.append(LeftOut(where, _why_not(base)))
                    continue
                data = tar.extractfile(content).read()  # type: ignore[union-attr]
                columns.setdefault(key, {}).update(_columns_of_member(ending, data, where))
            elif key in images:
                reason = f"its key has an image already, {images[key][0]}"
                found.left_out.append(LeftOut(where, reason, is_damaged=True))
            else:
                images[key] = (member.name, content)
        stream.seek(tar.offset)
        if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):  # it ends where no member begins
            raise tarfile.ReadError(f"no member begins at byte {tar.offset}")
    found.begin(path)
    for key, (name, content) in images.items():
        found.add(
            content.offset_data,
            content.size,
            columns.get(key, {}),
            where=f": {name}",
            name=key,
            split=part,
        )
    for key in sorted(set(columns) - set(images)):
        found.left_out.append(LeftOut(f"{path}: {key}", "has no image", is_damaged=True))


def _why_not(name: str) -> str:
    reason = names.why_no_image(name)
    return "neither image, class nor JSON" if "not the name" in reason else reason


def _columns_of_member(ending: str, data: bytes, where: str) -> dict[str, Any]:
    """The columns that a member of a tar file adds to the image of its key."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    if ending == "json":
        return _columns_of_json(text, where)
    if ending == "txt":
        return {"text": text}
    number = whole_number(text)
    return {LABEL: text if number is None else number}


def _columns_of_json(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON ({error}). Correct or remove it.") from error
    if not isinstance(found, dict):
        raise DataError(
            f'{where} holds {text[:40]!r}, expected names with values, as {{"label": "cat"}}.'
        )
    return {name: value for name, value in found.items() if isinstance(value, (str, int, float))}
