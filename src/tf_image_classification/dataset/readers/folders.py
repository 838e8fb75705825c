"""Class folders: the name of a folder is the class of all images below it.

Links are followed, but no image is read twice under one class: links back into the source are
skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from tf_image_classification.dataset.readers import names
from tf_image_classification.dataset.readers.kinds import (
    FOLDER,
    ReadOptions,
    Source,
    advice_for,
)
from tf_image_classification.dataset.readers.listing import LABEL, LeftOut, Listing, Places
from tf_image_classification.errors import DataError, counted
from tf_image_classification.system import files


def read(source: Source, options: ReadOptions) -> Listing:
    """The images of class folders, in order of their paths.

    Raises:
        DataError: a folder has no class folders, or these hold no images.
    """
    found = _Found()
    for path, part in source.paths_with_parts():
        before = len(found.paths)
        prefix = f"{os.path.basename(path.rstrip('/'))}/" if source.parts else ""
        found.add_folder(path, prefix, part)
        if len(found.paths) == before:
            raise DataError(_without_images(path, found.left_out))
    return found.listing()


class _Found:
    """Gathers images and skipped files folder by folder."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.left_out: list[LeftOut] = []
        self._names: list[str] = []
        self._classes: list[str] = []
        self._sizes: list[int] = []
        self._splits: list[str] = []
        self._declared: dict[str, None] = {}

    def add_folder(self, path: str, prefix: str, part: str) -> None:
        walk = _Walk(path, self.left_out)
        for entry in files.scan_folder(path):
            if not entry.is_folder:
                self.left_out.append(LeftOut(entry.path, _why_beside(entry.name)))
                continue
            is_utf_8 = entry.name == entry.name.encode("utf-8", "replace").decode()
            reason = walk.why_not(entry) if is_utf_8 else "its name is not UTF-8: rename it"
            if reason:
                self.left_out.append(LeftOut(entry.path, reason, is_damaged=not is_utf_8))
                continue
            class_name = names.clean(entry.name)
            self._declared[class_name] = None
            for file, num_bytes in walk.images_below(entry.path):
                self.paths.append(file)
                self._names.append(prefix + file[len(path) :].lstrip("/"))
                self._classes.append(class_name)
                self._sizes.append(num_bytes)
                self._splits.append(part)

    def listing(self) -> Listing:
        paths = self.paths
        return Listing(
            FOLDER,
            self._names,
            Places("file", paths, np.array(self._sizes, np.int64)),
            {LABEL: self._classes},
            lambda i: os.fsencode(paths[i]).decode("utf-8", "backslashreplace"),
            self._splits if any(self._splits) else (),
            self.left_out,
            {LABEL: tuple(self._declared)},
            frozenset({LABEL}),
        )


class _Walk:
    """Goes through the folders of a source, each real folder once."""

    def __init__(self, root: str, left_out: list[LeftOut]) -> None:
        self._real_root = "" if files.is_remote(root) else f"{os.path.realpath(root)}/"
        self._left_out = left_out

    def why_not(self, folder: files.Entry) -> str:
        """Why a folder is not entered, or ""."""
        if folder.is_link:
            target = f"{os.path.realpath(folder.path)}/"
            if target.startswith(self._real_root) or self._real_root.startswith(target):
                return "a link to a folder of this source, which is read under its own name"
        return why_system(folder.name)

    def images_below(self, class_folder: str) -> Iterator[tuple[str, int]]:
        """The images of a class with their sizes in bytes, 0 for remote ones."""
        own = "" if files.is_remote(class_folder) else f"{os.path.realpath(class_folder)}/"
        return self._below(class_folder, own, set())

    def _below(self, folder: str, own: str, seen: set[str]) -> Iterator[tuple[str, int]]:
        """As ``images_below``; own is the class's real folder, seen are the targets of links."""
        for entry in files.scan_folder(folder):
            reason = self._why_left_out(entry, own, seen)
            if reason:
                self._left_out.append(LeftOut(entry.path, reason))
            elif entry.is_folder:
                yield from self._below(entry.path, own, seen)
            elif not own:
                yield entry.path, 0
            else:
                try:
                    yield entry.path, os.stat(entry.path).st_size
                except OSError as error:  # e.g. a link to a file that is gone
                    why = f"cannot be read: {error.strerror or error}"
                    self._left_out.append(LeftOut(entry.path, why, is_damaged=True))

    def _why_left_out(self, entry: files.Entry, own: str, seen: set[str]) -> str:
        if entry.is_folder:
            reason = self.why_not(entry)
        else:
            reason = why_system(entry.name) or names.why_no_image(entry.name)
        if reason or not (entry.is_link or (entry.is_folder and seen)):
            return reason
        real = os.path.realpath(entry.path)
        if real in seen or (not entry.is_folder and real.startswith(own)):
            return "a link to a file or folder that the class has under another name"
        seen.add(real)
        return ""


def why_system(name: str) -> str:
    """Why a file or folder is not one of the user's, or ""."""
    if name.startswith("."):
        return "hidden"
    return "a file or folder of the operating system" if files.is_junk(name) else ""


def _why_beside(name: str) -> str:
    reason = why_system(name)
    if reason:
        return reason
    if names.is_image_name(name):
        return "lies beside the class folders and so has no class"
    return "lies beside the class folders"


def _without_images(path: str, left_out: Sequence[LeftOut]) -> str:
    """The message for a folder that is no source of examples."""
    there = files.list_folder(path)
    inside = [name for name in there if files.is_folder(files.join(path, name))]
    example = files.join(path, "cat", "1.jpg")
    if inside:
        found = f"holds no images in its class folders ({', '.join(inside[:5])})"
    else:
        found = "has no class folders"
        tables = [name for name in there if name.lower().endswith((".csv", ".tsv"))]
        if tables:
            return f"{path} {found}. Name its table instead: {files.join(path, tables[0])}."
        foreign = next(filter(advice_for, there), "")
        if foreign:
            return f"{path} {found}, but {foreign}, which is not read. {advice_for(foreign)}"
        if any(map(names.is_image_name, there)):
            return (
                f"{path} {found}: its images have no class. Expected a folder of images for each "
                f"class, e.g. {example}; or write a CSV of images and labels, and name it."
            )
    if left_out:
        count = counted(len(left_out), "file or folder is", "files or folders are")
        found += f"; {count} skipped, e.g. {left_out[0]}"
    return f"{path} {found}. Expected a folder of images for each class, e.g. {example}."
