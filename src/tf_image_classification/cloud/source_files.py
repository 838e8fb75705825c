"""The source files of an application that are uploaded to a cloud, without secrets and caches.

    sources = source_files("pets")
    print(sources.text())
    sources.read("train.py")

Only files in the folder itself are uploaded, never targets of symbolic links elsewhere. A hard link
is an ordinary file.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterator, Mapping, Sequence

from tf_image_classification.cloud.secret_patterns import Secret, find_secret
from tf_image_classification.errors import ConfigError, counted

_MAX_BYTES = 100 * 2**20
_CACHE = "a cache of Python"
_LEFT_OUT_FOLDERS = {
    "__pycache__": _CACHE,
    "node_modules": "packages of Node.js",
    "site-packages": "installed packages",
}
_MODEL = {"run.json", "labels.json"}
_IMAGE = {"Dockerfile", "application", "framework"}
_ENVIRONMENTS = {"pyvenv.cfg", "conda-meta"}


@dataclasses.dataclass(frozen=True)
class SourceFiles:
    """The files of a folder to upload.

    Attributes:
        folder: its real path.
        sizes: bytes of each file, by its path in the folder.
        left_out: why a file or folder is excluded, by its path in the folder.
        allowed: files that are included although they seem to hold a secret.
    """

    folder: str
    sizes: Mapping[str, int]
    left_out: Mapping[str, str]
    allowed: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        """The paths of the files."""
        return iter(self.sizes)

    def path(self, name: str) -> str:
        """The full path of a file."""
        return os.path.join(self.folder, name)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        with open(self.path(name), "rb") as stream:
            return stream.read()

    def text(self) -> str:
        """The list, for people."""
        total = sum(self.sizes.values())
        count = counted(len(self.sizes), "file")
        lines = [f"{count} of {self.folder}, {_size(total)} in all, will be sent:"]
        lines += [
            f"  {_size(size):>9}  {name}{'  (allowed)' if name in self.allowed else ''}"
            for name, size in self.sizes.items()
        ]
        if set(self.left_out.values()) - {_CACHE}:
            lines.append("left out:")
            lines += [f"  {name}: {why}" for name, why in self.left_out.items() if why != _CACHE]
        return "\n".join(lines)


def _size(num_bytes: int) -> str:
    if num_bytes < 1000:
        return f"{num_bytes} B"
    if num_bytes < 1_000_000:
        return f"{num_bytes / 1000:.1f} kB"
    return f"{num_bytes / 1_000_000:.1f} MB"


def source_files(folder: str, *, allowed: Sequence[str] = ()) -> SourceFiles:
    """The files of a folder to upload.

    Excluded are hidden files, virtual environments, caches, model folders, and links out of the
    folder.

    Args:
        folder: the local folder.
        allowed: files in it that are included although they seem to hold a secret; ``ARGUMENTS``,
            which stands for the job's command, is ignored.

    Raises:
        ConfigError: they are too large to be a program, or one of them holds a key or a token; or
            an allowed file is missing or holds none.
    """
    root = os.path.realpath(folder)
    sizes: dict[str, int] = {}
    left_out: dict[str, str] = {}
    for name, why, size in _walk(root, ""):
        if why:
            left_out[name] = why
        else:
            sizes[name] = size
    total = sum(sizes.values())
    if total > _MAX_BYTES:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        shown = ", ".join(f"{name} ({_size(sizes[name])})" for name in largest)
        raise ConfigError(
            f"{root} holds {_size(total)}, which would all be sent, the largest files: {shown}. "
            "Put the script into a folder of its own, and data into a bucket."
        )
    names = tuple(dict.fromkeys(_relative(root, each) for each in allowed if each != ARGUMENTS))
    found = SourceFiles(root, sizes, left_out, names)
    _refuse_secrets(found)
    return found


ARGUMENTS = "arguments"
"""Stands for the job's command among the allowed files."""


def _relative(root: str, name: str) -> str:
    """A path in the folder, given relative to it, to the working directory or in full."""
    for path in (os.path.join(root, name), name):
        inner = os.path.relpath(os.path.abspath(path), root)
        if os.path.exists(path) and not inner.startswith(os.pardir):
            return inner
    return name


def _refuse_secrets(sources: SourceFiles) -> None:
    unused = set(sources.allowed)
    for name in sources:
        secret = find_secret(sources.read(name))
        if secret is None:
            continue
        if name not in sources.allowed:
            raise ConfigError(
                f"{sources.path(name)}, line {secret.line}, holds {secret.kind}, and would be "
                f"sent. Move it out of {sources.folder}: the job needs no key, it runs as an "
                f"account (service_account). If it is not a secret, add --allow_secret {name}."
            )
        unused.discard(name)
    if unused:
        raise ConfigError(
            f"--allow_secret {min(unused)}: no key or token was found in a file of that name in "
            f"{sources.folder}. Remove the option, or correct the name."
        )


def secret_argument(arguments: Sequence[str]) -> Secret | None:
    """The first key or token among the arguments of a command, or None."""
    return find_secret("\n".join(arguments).encode("utf-8", "surrogateescape"))


def _walk(root: str, inside: str) -> Iterator[tuple[str, str, int]]:
    """Every file as (path in the folder, "", bytes), or if excluded as (path, why, 0)."""
    with os.scandir(os.path.join(root, inside)) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    held = {entry.name for entry in listed}
    if inside and (why := _why_folder(held)):
        yield inside, why, 0
        return
    for entry in listed:
        name = os.path.join(inside, entry.name)
        if why := _why_not(root, entry):
            yield name, why, 0
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(root, name)
        else:
            yield name, "", entry.stat().st_size


def _why_folder(held: set[str]) -> str:
    """Why a folder with these entries is excluded, or ""."""
    if held & _ENVIRONMENTS:
        return "a virtual environment"
    if held >= _MODEL:
        return "a model folder"
    return "a folder for docker build" if held >= _IMAGE else ""


def _why_not(root: str, entry: os.DirEntry[str]) -> str:
    """Why a file or folder is excluded, or ""."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_symlink():
        return _why_link(root, entry.path)
    if entry.is_dir():
        return _LEFT_OUT_FOLDERS.get(entry.name, "")
    if entry.name.endswith(".pyc"):
        return _CACHE
    return "" if entry.is_file() else "neither a file nor a folder"


def _why_link(root: str, path: str) -> str:
    target = os.path.realpath(path)
    inside = os.path.relpath(target, root)
    if inside.split(os.sep)[0] == os.pardir:
        return f"a link out of the folder, to {target}"
    if any(part.startswith(".") and part != os.curdir for part in inside.split(os.sep)):
        return f"a link to a hidden file, {inside}"
    try:
        is_file = stat.S_ISREG(os.stat(target).st_mode)
    except OSError:
        return f"a link to {target}, which is not there"
    return "" if is_file else f"a link to a folder of it, {inside}"
