"""Faults and limits of this machine: full disks, missing permissions, too many open files."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from tf_image_classification.errors import DataError, TficError, short_message

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None  # type: ignore[assignment]

_FULL = "Make room, or choose another folder."
_REFUSED = "Change its permissions, or choose another folder."
_OPEN_FILES = "Raise the limit of open files (ulimit -n 4096)."
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "Make room, or raise the limit of a file's size (ulimit -f).",
    errno.EROFS: _REFUSED,
    errno.EACCES: _REFUSED,
    errno.EPERM: _REFUSED,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
    errno.ENOENT: "Correct the path, or restore the removed file.",
    errno.EISDIR: "A folder has the name of a file: remove or rename it.",
    errno.EIO: "Check the disk and its connection.",
    errno.ESTALE: "Check the disk and its connection.",
}
_WHILE_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_OF_THE_MACHINE = (*_WHILE_WRITING, errno.EMFILE, errno.ENFILE, errno.EIO)
_TEMPORARY_BYTES = 1 << 18
_MAX_OPEN_FILES = 1 << 16


def unwritable(path: str, error: OSError) -> DataError:
    """The error of a file that cannot be written, with the remedy."""
    return DataError(
        f"{path!r} cannot be written: {error.strerror or error}. "
        + _REMEDIES.get(error.errno or 0, _REFUSED)
    )


def is_of_writing(error: BaseException) -> bool:
    """Whether an error comes from a full or read-only disk."""
    return isinstance(error, OSError) and error.errno in _WHILE_WRITING


def system_problem(error: BaseException) -> str:
    """The fault of a disk or the limit of this machine that caused an error, and its remedy; or "".

    Libraries often hide the error number: then the messages of the error and its causes are
    searched for the reason.

    Example:
        >>> system_problem(OSError(errno.ENOSPC, "No space left on device", "a.npy"))
        "'a.npy': No space left on device. Make room, or choose another folder."
    """
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        name = f"{error.filename!r}: " if error.filename else ""
        return f"{name}{error.strerror}. {_REMEDIES[error.errno]}"
    is_of_files = isinstance(error, OSError) or type(error).__module__.startswith("tensorflow.")
    for number, remedy in _REMEDIES.items():
        reason = os.strerror(number)
        if (is_of_files or number in _OF_THE_MACHINE) and reason in str(error):
            text = short_message(error)
            return f"{text if reason in text else reason}. {remedy}"
    return system_problem(error.__cause__) if error.__cause__ is not None else ""


@contextlib.contextmanager
def system_errors(doing: str) -> Iterator[None]:
    """Inside the block a fault of the machine becomes a DataError with its remedy.

    Args:
        doing: the failed action, for the message: "The model cannot be exported to x".

    Raises:
        DataError: with the reason.
    """
    try:
        yield
    except Exception as error:
        problem = "" if isinstance(error, TficError) else system_problem(error)
        if not problem:
            raise
        raise DataError(f"{doing}: {problem}") from error


def check_temporary() -> None:
    """Check that temporary files can be written.

    Raises:
        DataError: they cannot, e.g. because the disk is full.
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


def peak_memory() -> int | None:
    """The largest memory of this process so far in bytes; None where it is not known."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def allow_open_files() -> None:
    """Raise the limit of open files as far as it may go: a reader keeps each shard open."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
