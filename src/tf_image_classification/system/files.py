"""Local and gs:// paths behind one set of functions: list, read, write whole or not at all.

Local paths never import TensorFlow; other schemes go through ``tf.io.gfile``.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import json
import os
import posixpath
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple

from tf_image_classification.errors import DataError, TficError

_TEMPORARY_BYTES = 1 << 18
_MOST_OPEN_FILES = 1 << 16
_JUNK_NAMES = frozenset(
    {
        *("thumbs.db", ".ds_store", "desktop.ini", "icon\r"),
        *("__macosx", "@eadir", "@recycle", "@tmp", "#recycle", "#snapshot"),
        *("lost+found", "$recycle.bin", "system volume information", "__pycache__"),
    }
)
"""Files and folders that operating systems, archivers and network storage put beside people's own,
in lower case.
"""


def is_junk(name: str) -> bool:
    """Whether a name is that of a file or folder of the operating system, not of the user."""
    return name.lower() in _JUNK_NAMES


def is_remote(path: str) -> bool:
    """Whether the path names a scheme, such as gs://."""
    return re.match(r"^[a-z][a-z0-9+.-]*://", path) is not None


_SIGN_IN = (
    "Give the account that runs this the role Storage Object User on the bucket, or sign in: "
    "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=key.json."
)


@contextlib.contextmanager
def remote_errors(path: str) -> Iterator[None]:
    """Inside the block an error of TensorFlow is one of ours, which names the path.

    Raises:
        DataError: access is denied, there is no such bucket, or it cannot be reached.
    """
    import tensorflow as tf  # late: local paths must not pay for it

    try:
        yield
    except tf.errors.OpError as error:
        message = " ".join(error.message.split())
        if isinstance(error, (tf.errors.PermissionDeniedError, tf.errors.UnauthenticatedError)):
            raise DataError(f"{path}: access is denied. {_SIGN_IN}") from error
        if "bucket does not exist" in message:
            raise DataError(f"{path}: there is no such bucket. Correct its name.") from error
        raise DataError(f"{path}: {message[:300]}") from error


class _Remote:
    """TensorFlow's functions for files on one remote path."""

    def __init__(self, path: str) -> None:
        import tensorflow as tf  # late: local paths must not pay for it

        scheme = path.partition("://")[0]
        if scheme not in tf.io.gfile.get_registered_schemes():
            known = "This TensorFlow has no access to gs://, as on Windows and macOS: run on Linux"
            raise DataError(
                f"{path}: {known}, or copy the files with gcloud storage cp."
                if scheme == "gs"
                else f"{path}: {scheme}:// cannot be read. Use gs:// or local files."
            )
        self._path = path
        self._gfile = tf.io.gfile
        self._not_found = tf.errors.NotFoundError

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._gfile, name)

        def call(*arguments: Any, **more: Any) -> Any:
            with remote_errors(self._path):
                return function(self._path, *arguments, **more)

        return call

    def make_folder(self) -> None:
        """Create the folder, and see that it can be written."""
        scheme, _, rest = self._path.partition("://")
        bucket = f"{scheme}://{rest.partition('/')[0]}/"
        probe = join(self._path, _probe_name())
        with remote_errors(self._path):
            if scheme == "gs" and not self._gfile.exists(
                bucket
            ):  # TensorFlow would look for it without an end
                raise DataError(f"{self._path}: there is no such bucket. Create it, or correct it.")
            self._gfile.makedirs(self._path)
            with self._gfile.GFile(probe, "wb") as stream:
                stream.write(b"")
            self._gfile.remove(probe)

    def upload(self, local_path: str) -> None:
        """Copy a local file here."""
        with remote_errors(self._path):
            self._gfile.copy(local_path, self._path, overwrite=True)

    def download(self, local_path: str) -> None:
        """Copy this file to the machine."""
        with remote_errors(self._path):
            try:
                self._gfile.copy(self._path, local_path, overwrite=True)
            except self._not_found as error:
                raise FileNotFoundError(f"There is no file {self._path}.") from error

    def names(self, *, missing_ok: bool) -> list[str]:
        """What is in the folder."""
        with remote_errors(self._path):
            try:
                return list(self._gfile.listdir(self._path))
            except self._not_found:
                # TensorFlow says that of other failures too; the path itself tells the truth.
                if missing_ok and not self._gfile.exists(self._path):
                    return []
                raise

    def matches(self, pattern: str) -> list[str]:
        """The files below this folder whose paths match a pattern with ``**``."""
        with remote_errors(self._path):
            found = [
                join(folder, name)
                for folder, _, names in self._gfile.walk(self._path)
                for name in names
            ]
        expression = _pattern_expression(pattern)
        return [path for path in found if expression.fullmatch(path)]

    def remove_file(self) -> None:
        """Remove a file, or nothing."""
        with remote_errors(self._path), contextlib.suppress(self._not_found):
            self._gfile.remove(self._path)

    @contextlib.contextmanager
    def open(self, mode: str) -> Iterator[Any]:
        """A stream; it may fail when it is closed and not before."""
        with remote_errors(self._path), self._gfile.GFile(self._path, mode) as stream:
            yield stream


def _pattern_expression(pattern: str) -> re.Pattern[str]:
    """A glob pattern as a regular expression; ``**/`` stands for any number of folders."""
    words = {"**/": "(?:[^/.][^/]*/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^]]*\])", pattern)
    return re.compile(
        "".join(
            words.get(part, part.replace("[!", "[^") if part.startswith("[") else re.escape(part))
            for part in parts
        )
    )


def join(folder: str, *parts: str) -> str:
    """One path from its parts; an absolute or gs:// part replaces what came before it.

    A bucket knows no ``.`` and ``..``, so there they are resolved.
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
    """Whether a file or folder is there."""
    return bool(_Remote(path).exists()) if is_remote(path) else os.path.exists(path)


def is_folder(path: str) -> bool:
    """Whether the path is a folder."""
    return bool(_Remote(path).isdir()) if is_remote(path) else os.path.isdir(path)


def list_folder(path: str, *, with_hidden: bool = False, missing_ok: bool = False) -> list[str]:
    """Sorted names in a folder, without hidden and system files unless they are wanted.

    Args:
        path: the folder.
        with_hidden: whether those are wanted.
        missing_ok: whether a folder that is not there counts as an empty one.
    """
    if is_remote(path):
        names = _Remote(path).names(missing_ok=missing_ok)
    elif missing_ok and not os.path.isdir(path):
        return []
    else:
        names = os.listdir(path)
    names = sorted(filter(None, (name.rstrip("/") for name in names)))
    if with_hidden:
        return names
    return [name for name in names if not name.startswith(".") and not is_junk(name)]


class Entry(NamedTuple):
    """A file or folder of a folder.

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
    """All files and folders of a folder by name, hidden ones and those of the system as well."""
    if is_remote(path):
        names = list_folder(path, with_hidden=True)
        return [Entry(name, join(path, name), is_folder(join(path, name)), False) for name in names]
    with os.scandir(path) as entries:
        found = [Entry(e.name, join(path, e.name), e.is_dir(), e.is_symlink()) for e in entries]
    return sorted(found)


def expand_patterns(patterns: Iterable[str], *, option: str) -> list[str]:
    """The files that patterns name, sorted within each pattern, each file once.

    A path that exists is taken as it is, even when its name holds ``[``, ``*`` or ``?``.

    Args:
        patterns: paths or glob patterns.
        option: the setting they came from, for the message.

    Raises:
        DataError: a pattern or path names nothing.
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
    """The remote files that a pattern names."""
    if "**" not in pattern:  # which TensorFlow takes for a single star
        return list(_Remote(pattern).glob())
    folder = re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0]
    return _Remote(folder).matches(pattern)


def make_folder(path: str) -> None:
    """Create a folder and its parents; one that exists is fine.

    Raises:
        DataError: the folder cannot be created or written to.
    """
    if is_remote(path):
        _Remote(path).make_folder()
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
    """See that a local folder can be created or written, without doing it.

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


def check_temporary() -> None:
    """See that there is room for temporary files.

    Raises:
        DataError: there is not.
    """
    import tempfile  # late: most commands write none

    try:
        with tempfile.TemporaryFile() as stream:
            stream.write(bytes(_TEMPORARY_BYTES))
    except OSError as error:
        place = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"
        raise DataError(
            f"Temporary files cannot be written: {error.strerror or error}. Make room in {place}, "
            "or set TMPDIR to another folder."
        ) from error


def allow_open_files() -> None:
    """Raise this process's limit of open files as far as it may: a reader keeps each shard open."""
    try:
        import resource  # not on Windows
    except ModuleNotFoundError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _probe_name() -> str:
    return f".writable-{uuid.uuid4().hex}"


@contextlib.contextmanager
def open_for_reading(path: str) -> Iterator[IO[bytes]]:
    """The file's bytes as a stream."""
    with _Remote(path).open("rb") if is_remote(path) else open(path, "rb") as stream:
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
    """A stream whose content appears under ``path`` only when the block ends without an error.

    Locally: written under a temporary name in the same folder, flushed to the disk, renamed.
    For a bucket: gathered in memory, and written as one object at the end.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    if is_remote(path):
        gathered = io.BytesIO()
        yield gathered
        with _Remote(path).open("wb") as stream:
            stream.write(gathered.getvalue())
        return
    folder, name = os.path.split(path)
    # Hidden, so that no pattern such as train-* finds what a killed process left behind.
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            stream = open(temporary, "wb")  # noqa: SIM115 (its errors are told from the block's)
        except OSError as error:
            raise _unwritable(path, error) from error
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.errno in _OF_WRITING:
            raise _unwritable(path, error) from error
        raise


_FULL = "Make room, or choose another folder."
_REFUSED = "Change its permissions, or choose another folder."
_OPEN_FILES = "Raise the limit of open files (ulimit -n 4096)."
_SYSTEM_ERRORS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "Make room, or raise the limit of a file's size (ulimit -f).",
    errno.EROFS: _REFUSED,
    errno.EACCES: _REFUSED,
    errno.EPERM: _REFUSED,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
    errno.ENOENT: "Correct the path, or put back what was removed.",
    errno.EISDIR: "A folder has the name of a file: remove or rename it.",
    errno.EIO: "Check the disk and its connection.",
    errno.ESTALE: "Check the disk and its connection.",
}
"""What the machine and not the program is to blame for, with what to do about it."""

_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_LIMITS = (*_OF_WRITING, errno.EMFILE, errno.ENFILE, errno.EIO)


def _unwritable(path: str, error: OSError) -> DataError:
    return DataError(
        f"{path!r} cannot be written: {error.strerror or error}. "
        + _SYSTEM_ERRORS.get(error.errno or 0, _REFUSED)
    )


def plain_reason(error: BaseException) -> str:
    """An error's message in a line, without what TensorFlow puts around it.

    Example:
        >>> plain_reason(ValueError("{{function_node f}} a; No space left on device [Op:SaveV2]"))
        'a; No space left on device'
    """
    text = re.sub(r"\{\{[^}]*\}\} *|\[Op:\w+\]", "", str(getattr(error, "message", error)))
    return " ".join(text.split())[:300].rstrip(".")


def system_problem(error: BaseException) -> str:
    """What is wrong with a disk or a limit of this machine, if an error comes from that; or "".

    Libraries often hide it: then the message of the error or of its cause names it.

    Example:
        >>> system_problem(OSError(errno.ENOSPC, "No space left on device", "a.npy"))
        "'a.npy': No space left on device. Make room, or choose another folder."
    """
    if isinstance(error, OSError) and error.errno in _SYSTEM_ERRORS:
        name = f"{error.filename!r}: " if error.filename else ""
        return f"{name}{error.strerror}. {_SYSTEM_ERRORS[error.errno]}"
    is_of_files = isinstance(error, OSError) or type(error).__module__.startswith("tensorflow.")
    text = plain_reason(error)
    for number, advice in _SYSTEM_ERRORS.items():
        if (is_of_files or number in _LIMITS) and os.strerror(number) in text:
            return f"{text}. {advice}"
    return system_problem(error.__cause__) if error.__cause__ is not None else ""


@contextlib.contextmanager
def system_errors(doing: str, then: str = "") -> Iterator[None]:
    """Inside the block a full disk and the like is an error of ours.

    Args:
        doing: what fails, for the message: "The model cannot be exported to x".
        then: what to do once that is repaired, as a sentence.

    Raises:
        DataError: with the reason.
    """
    try:
        yield
    except Exception as error:
        problem = "" if isinstance(error, TficError) else system_problem(error)
        if not problem:
            raise
        raise DataError(f"{doing}: {problem} {then}".rstrip()) from error


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
        ValueError: it holds something else.
    """
    return json.loads(read_bytes(path).decode("utf-8-sig"))  # without a guess at other codings


def write_json_lines(path: str, values: Iterable[Any]) -> None:
    """Write values as JSON, a line each, atomically."""
    lines = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    write_bytes(path, lines.encode())


def read_json_lines(path: str) -> list[Any]:
    """The values of a file of JSON lines; empty when there is no such file.

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
    """The values of a file of JSON lines, and its damaged lines as texts that name them.

    Both are empty when there is no such file. A line may be damaged because the machine or its disk
    failed while it was written; those around it can be used all the same.

    Args:
        path: the file.
        is_whole: whether a value is one that belongs there.

    Example:
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
    """Remove a file or a folder with its content; one that is not there is fine."""
    if is_remote(path):
        there = _Remote(path)
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
    """Copy the files of a folder and of its sub-folders, replacing those that have their names."""
    make_folder(target)
    for name in list_folder(source, with_hidden=True):
        path = join(source, name)
        if is_folder(path):
            copy_folder(path, join(target, name))
        else:
            write_bytes(join(target, name), read_bytes(path))


def remove_file(path: str) -> None:
    """Remove a file; one that is not there is fine. In a bucket it spares a look for a folder."""
    if is_remote(path):
        _Remote(path).remove_file()
    else:
        remove(path)


def upload(source: str, target: str) -> None:
    """Upload a local file, replacing what has the name; it appears there when it is whole."""
    _Remote(target).upload(source)


def download(source: str, target: str) -> None:
    """Copy a remote file to this machine.

    Raises:
        FileNotFoundError: it is not there, or no longer.
    """
    _Remote(source).download(target)


def rename(source: str, target: str) -> None:
    """Give a file or folder another name, replacing a file that has it."""
    if is_remote(source):
        _Remote(source).rename(target, overwrite=True)
    else:
        os.replace(source, target)


def size_and_time(path: str) -> tuple[int, int]:
    """Length of a file in bytes, and when it was changed, in nanoseconds."""
    stat = _Remote(path).stat() if is_remote(path) else os.stat(path)
    if isinstance(stat, os.stat_result):
        return stat.st_size, stat.st_mtime_ns
    return int(stat.length), int(stat.mtime_nsec)
