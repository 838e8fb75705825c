"""Standard input, output and error of a process, also when they are closed.

prepare()                        first of all: opens closed streams, escapes unencodable characters
with may_end(): ...              a long run goes on when its output is closed
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

_CLOSED = (errno.EPIPE, errno.EIO)  # a pipe whose reader ended; a terminal that was closed
_closed: set[str] = set()


def prepare() -> None:
    """Open missing streams (``>&-``) to the null device.

    Otherwise the next opened file would get the number of the stream, and with it the output of
    libraries. Characters that a stream's encoding lacks are written as escapes.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            _closed.add(name)
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            stream = os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def was_closed(name: str) -> bool:
    """Whether the process was started without this stream: "stdin" or "stdout"."""
    return name in _closed


def input_lines() -> Iterator[str]:
    """The lines of standard input without their ends; bytes that are not UTF-8 are kept."""
    source = getattr(sys.stdin, "buffer", None)
    if source is None:  # replaced by another program
        yield from (line.rstrip("\r\n") for line in sys.stdin)
        return
    for number, line in enumerate(source):
        text = line.rstrip(b"\r\n")
        yield os.fsdecode(text.removeprefix(b"\xef\xbb\xbf") if number == 0 else text)


def flush_output() -> str:
    """Flush standard output; returns the reason of a failure, or "".

    A reader that has closed the pipe is no failure.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        discard_output()  # or Python would try again at its end
        return "" if isinstance(error, BrokenPipeError) else str(error.strerror)
    return ""


def discard_output() -> None:
    """Discard the buffered and all later standard output."""
    _discard(sys.stdout)


def _discard(stream: Any) -> None:
    """Redirect the descriptor, since Python flushes the stream's buffer at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def may_end() -> Iterator[None]:
    """Inside the block standard output and error may be closed by their reader, e.g. ``tee``.

    Later output is discarded, and the block goes on.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _Stream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Stream:
    """A text stream that discards its output once its reader has closed it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        if error.errno not in _CLOSED:
            raise error
        _discard(self._stream)
