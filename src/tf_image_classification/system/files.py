"""File functions for local and gs:// paths: list, read, and write atomically.

Local paths never import TensorFlow.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple

from tf_image_classification.errors import DataError
from tf_image_classification.system import faults
from tf_image_classification.system.remote import RemotePath

_JUNK_NAMES = frozenset(
    {
        *("thumbs.db", ".ds_store", "desktop.ini", "icon\r"),
        *("__macosx", "@eadir", "@recycle", "@tmp", "#recycle", "#snapshot"),
        *("lost+found", "$recycle.bin", "system volume information", "__pycache__"),
    }
)
"""Names of files and folders that operating systems, archivers and network storage create, in lower
case.
"""


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name was created by the system, not by the user."""
    return name.lower() in _JUNK_NAMES


def is_remote(path: str) -> bool:
    """Whether the path has a scheme, e.g. gs://."""
    return re.match(r"^[a-z][a-z0-9+.-]*://", path) is not None


def join(folder: str, *parts: str) -> str:
    """One path from its parts; an absolute or gs:// part replaces all before it.

    In a bucket ``.`` and ``..`` are resolved, because object names have no such parts.

    >>> join("gs://bucket/a", "../b"), join("a", "/b")
    ('gs://bucket/b', '/b')
    """
    for part in parts:
        if is_remote(part) or os.path.isabs(part):
            folder = part
        elif is_remote(folder) and {".", ".."} & set(part.split("/")):
            scheme, _, rest = folder.partition("://")
            bucket, _, inside = rest.partition("/")
            folder = f"{scheme}://{bucket}" + posixpath.normpath(
                f"/{inside}".rstrip("/") + f"/{part}"
            )
        elif is_remote(folder):
            folder = f"{folder.rstrip('/')}/{part}"
        else:
            folder = os.path.join(folder, part)
    return folder


def exists(path: str) -> bool:
    """Whether a file or folder exists."""
    return bool(RemotePath(path).exists()) if is_remote(path) else os.path.exists(path)


def is_folder(path: str) -> bool:
    """Whether the path is a folder."""
    return bool(RemotePath(path).isdir()) if is_remote(path) else os.path.isdir(path)


def list_folder(path: str, *, with_hidden: bool = False, missing_ok: bool = False) -> list[str]:
    """Sorted names in a folder, by default without hidden and system files.

    Args:
        path: the folder.
        with_hidden: whether hidden and system files are included.
        missing_ok: whether a folder that does not exist counts as empty.
    """
    if is_remote(path):
        names = RemotePath(path).names(missing_ok=missing_ok)
    elif missing_ok and not os.path.isdir(path):
        return []
    else:
        names = os.listdir(path)
    names = sorted(filter(None, (name.rstrip("/") for name in names)))
    if with_hidden:
        return names
    return [name for name in names if not name.startswith(".") and not is_junk(name)]


class Entry(NamedTuple):
    """A file or folder inside a folder.

    Attributes:
        name: its name in the folder.
        path: folder and name.
        is_folder: whether it is a folder, or a link to one.
        is_link: whether it is a symbolic link.
    """

    name: str
    path: str
    is_folder: bool
    is_link: bool


def scan_folder(path: str) -> list[Entry]:
    """All files and folders of a folder by name, hidden and system files included."""
    if is_remote(path):
        names = list_folder(path, with_hidden=True)
        return [Entry(name, join(path, name), is_folder(join(path, name)), False) for name in names]
    with os.scandir(path) as entries:
        found = [Entry(e.name, join(path, e.name), e.is_dir(), e.is_symlink()) for e in entries]
    return sorted(found)


def expand_patterns(patterns: Iterable[str], *, option: str) -> list[str]:
    """The files that match patterns, sorted within each pattern, each file once.

    A path that exists is used as it is, even when its name holds ``[``, ``*`` or ``?``.

    Args:
        patterns: paths or glob patterns.
        option: the setting they came from, for the message.

    Raises:
        DataError: a pattern or path matches nothing.
    """
    files: dict[str, str] = {}
    for pattern in patterns:
        pattern = os.path.expanduser(pattern)
        if exists(pattern):
            found = [pattern]
        elif is_remote(pattern):
            found = sorted(_matching(pattern))
        else:
            found = sorted(glob.glob(pattern, recursive=True))
        if not found:
            slashes = pattern.replace("\\", "/")
            meant = f" Did you mean {slashes!r}?" if os.path.exists(slashes) else ""
            raise DataError(
                f"{option}: no file matches {pattern!r}.{meant} Check the path; quote a pattern "
                "only if the shell should not expand it."
            )
        for path in found:
            files.setdefault(path if is_remote(path) else os.path.abspath(path), path)
    return list(files.values())


def _matching(pattern: str) -> list[str]:
    """The remote files that match a pattern."""
    if "**" not in pattern:  # TensorFlow treats it as a single star
        return list(RemotePath(pattern).glob())
    folder = re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0]
    return RemotePath(folder).matches(pattern)


def make_folder(path: str) -> None:
    """Create a folder and its parents; one that exists is fine.

    Raises:
        DataError: the folder cannot be created or written to.
    """
    if is_remote(path):
        RemotePath(path).make_folder()
        return
    try:
        os.makedirs(path, exist_ok=True)
        probe = os.path.join(path, _probe_name())
        with open(probe, "wb"):
            pass
        os.remove(probe)
    except OSError as error:
        raise DataError(
            f"The folder {path!r} cannot be written: {error.strerror or error}. "
            "Choose another folder or change its permissions."
        ) from error


def check_writable(path: str) -> None:
    """Check that a local folder can be created or written, without doing it.

    Raises:
        DataError: it cannot.
    """
    if is_remote(path):
        return
    nearest = os.path.abspath(path)
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    if os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK):
        return
    reason = "no permission" if os.path.isdir(nearest) else "it is not a folder"
    raise DataError(
        f"The folder {path!r} cannot be written: {nearest!r}: {reason}. Choose another folder or "
        "change its permissions."
    )


def _probe_name() -> str:
    return f".writable-{os.urandom(16).hex()}"


@contextlib.contextmanager
def open_for_reading(path: str) -> Iterator[IO[bytes]]:
    """The file's bytes as a stream."""
    with RemotePath(path).open("rb") if is_remote(path) else open(path, "rb") as stream:
        yield stream


def read_bytes(path: str) -> bytes:
    """The whole file."""
    with open_for_reading(path) as stream:
        return stream.read()


def read_text(path: str) -> str:
    """The whole file as UTF-8, without a byte-order mark.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[IO[bytes]]:
    """A stream whose content appears at ``path`` only when the block ends without an error.

    Locally: written under a temporary name in the same folder, flushed to the disk, renamed.
    In a bucket: buffered in memory, and written as one object at the end.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    if is_remote(path):
        buffer = io.BytesIO()
        yield buffer
        with RemotePath(path).open("wb") as stream:
            stream.write(buffer.getvalue())
        return
    folder, name = os.path.split(path)
    # Hidden, so that no pattern, e.g. train-*, matches the leftovers of a killed process.
    temporary = os.path.join(folder, f".{name}.{os.urandom(16).hex()}.tmp")
    try:
        try:
            stream = open(temporary, "wb")  # noqa: SIM115 (its errors are not those of the block)
        except OSError as error:
            raise faults.unwritable(path, error) from error
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError) and faults.is_of_writing(error):
            raise faults.unwritable(path, error) from error
        raise


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole file, atomically."""
    with atomic_write(path) as stream:
        stream.write(data)


def write_json(path: str, value: Any) -> None:
    """Write a value as readable JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: str) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is not JSON.
    """
    return json.loads(read_bytes(path).decode("utf-8-sig"))


def write_json_lines(path: str, values: Iterable[Any]) -> None:
    """Write values as JSON Lines, atomically."""
    lines = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    write_bytes(path, lines.encode())


def read_json_lines(path: str) -> list[Any]:
    """The values of a JSON Lines file; empty when the file does not exist.

    Raises:
        DataError: a line is damaged.
    """
    values, damaged = read_whole_json_lines(path, lambda value: True)
    if damaged:
        raise DataError(f"{path} is damaged: {damaged[0]}. Restore it from a copy, or remove it.")
    return values


def read_whole_json_lines(
    path: str, is_whole: Callable[[Any], bool]
) -> tuple[list[Any], list[str]]:
    r"""The values of a JSON Lines file, and a text for each damaged line.

    Both are empty when the file does not exist. A line may be damaged because the machine or its
    disk failed during a write; the lines around it are still usable.

    Args:
        path: the file.
        is_whole: whether a value has the expected form.

    Example:
        >>> write_bytes("metrics.jsonl", b'{"step": 100}\n{"step": 20')
        >>> read_whole_json_lines("metrics.jsonl", lambda value: "step" in value)
        ([{'step': 100}], ['line 2: {"step": 20'])
    """
    values: list[Any] = []
    damaged: list[str] = []
    if not exists(path):
        return values, damaged
    for number, line in enumerate(read_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode())
            if not is_whole(value):
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            start = line[:40].decode(errors="replace")
            damaged.append(f"line {number}: {start if start.isprintable() else repr(line[:12])}")
        else:
            values.append(value)
    return values, damaged


def remove(path: str) -> None:
    """Remove a file, or a folder with its content; one that does not exist is fine."""
    if is_remote(path):
        there = RemotePath(path)
        if there.isdir():
            there.rmtree()
        else:
            there.remove_file()
    elif os.path.isdir(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def copy_folder(source: str, target: str) -> None:
    """Copy a folder with its subfolders, replacing files of the same names."""
    make_folder(target)
    for name in list_folder(source, with_hidden=True):
        path = join(source, name)
        if is_folder(path):
            copy_folder(path, join(target, name))
        else:
            write_bytes(join(target, name), read_bytes(path))


def remove_file(path: str) -> None:
    """Remove a file; one that does not exist is fine. In a bucket faster than ``remove``."""
    if is_remote(path):
        RemotePath(path).remove_file()
    else:
        remove(path)


def upload(source: str, target: str) -> None:
    """Upload a local file, replacing one of the same name; it appears only when complete."""
    RemotePath(target).upload(source)


def download(source: str, target: str) -> None:
    """Copy a remote file to this machine.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    RemotePath(source).download(target)


def rename(source: str, target: str) -> None:
    """Rename a file or folder, replacing a file of the new name."""
    if is_remote(source):
        RemotePath(source).rename(target, overwrite=True)
    else:
        os.replace(source, target)


def size_and_time(path: str) -> tuple[int, int]:
    """Size of a file in bytes, and its modification time in nanoseconds."""
    stat = RemotePath(path).stat() if is_remote(path) else os.stat(path)
    if isinstance(stat, os.stat_result):
        return stat.st_size, stat.st_mtime_ns
    return int(stat.length), int(stat.mtime_nsec)
