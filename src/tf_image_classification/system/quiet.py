"""Hides what TensorFlow and other libraries write to standard error.

hide_libraries()                      hides the import of TensorFlow, and the blocks below
with hidden(): load_model()           an unexpected error shows the text after all
with captured() as text: convert()    hides it, and the code of the block decides: text()

Libraries in C++ write to file descriptor 2, so the descriptor itself is redirected to a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.abc
import importlib.machinery
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tf_image_classification.errors import TficError
from tf_image_classification.system import signals

if TYPE_CHECKING:
    import subprocess

_STDERR = 2
_LEVEL, _ALL, _FATAL = "TF_CPP_MIN_LOG_LEVEL", "0", "3"
# Its errors are noise too: a line for each damaged image, each machine without a GPU, each worker
# that ends before another one. Python gets them as exceptions.

_SHOW_IF_KILLED = 'trap "" INT HUP TERM; read -r line || cat "$0" >&2; rm -f "$0"'
"""A shell program: shows the file if its input ends without a line, because the process died."""


@dataclasses.dataclass
class _State:
    is_hiding: bool = True
    busy: threading.Lock = dataclasses.field(default_factory=threading.Lock)


_state = _State()


def hide_libraries(is_hiding: bool = True) -> None:
    """Hide the messages of libraries from now on, or show all of them.

    Args:
        is_hiding: False: all messages are shown. TensorFlow's log level is that which the user has
            set in the environment, or else the lowest or the highest.
    """
    _state.is_hiding = is_hiding
    if not any(isinstance(finder, _HiddenImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _HiddenImport())


def is_hiding() -> bool:
    """Whether the messages of libraries are hidden."""
    return _state.is_hiding


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Inside the block, text that is written to descriptor 2 is hidden, unless the block fails.

    An error that is neither of this package nor of a signal shows the text, and so does a process
    that is killed inside the block. What Python writes to ``sys.stderr`` is not hidden.
    """
    if not _state.is_hiding or not _state.busy.acquire(blocking=False):  # another block hides it
        yield
        return
    text: Callable[[], str] = str
    try:
        with captured(shows_python=True) as text:
            yield
    except BaseException as error:
        is_expected = isinstance(error, (TficError, SystemExit, KeyboardInterrupt))
        if not is_expected and signals.cause_of(error) is None:
            _show(text())
        raise
    finally:
        _state.busy.release()


@contextlib.contextmanager
def captured(*, shows_python: bool = False) -> Iterator[Callable[[], str]]:
    """Redirects standard error, also that of C++, into a file.

    The text is shown at the end of the block if the messages of libraries are not hidden, and by
    another process if this one is killed inside the block.

    Args:
        shows_python: whether what Python writes to ``sys.stderr`` is shown as usual.

    Yields:
        Function that returns the text; call it after the block.
    """
    text = ""
    own = file = -1
    path = ""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        own = os.dup(_STDERR)
        file, path = tempfile.mkstemp(prefix="tfic_stderr_")
    except (OSError, ValueError):  # standard error is closed, or no file can be written
        if own >= 0:
            os.close(own)
        yield str
        return
    watcher = _watcher(path, own)
    before = sys.stderr
    around = _Around(before, own) if shows_python and _is_descriptor_2(before) else None
    try:
        os.dup2(file, _STDERR)
        if around is not None:
            sys.stderr = around
        yield lambda: text
    finally:
        if around is not None:
            around.end()
            if sys.stderr is around:
                sys.stderr = before
        elif sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
        os.dup2(own, _STDERR)
        os.close(own)
        with open(file, "rb") as stream:
            stream.seek(0)
            text = stream.read().decode(errors="replace")
        _end(watcher)
        if not _state.is_hiding:
            _show(text)
        with contextlib.suppress(OSError):  # the watcher has removed it
            os.remove(path)


def _show(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)


class _Around:
    """``sys.stderr`` inside a block: writes to the real standard error; afterwards the original.

    A handler that a library makes inside the block keeps this stream.
    """

    def __init__(self, original: Any, descriptor: int) -> None:
        self._original = original
        self._stream: Any = os.fdopen(
            os.dup(descriptor),
            "w",
            encoding=original.encoding,
            errors=original.errors,
            buffering=1,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def end(self) -> None:
        own, self._stream = self._stream, self._original
        with contextlib.suppress(OSError, ValueError):
            own.close()


def _is_descriptor_2(stream: Any) -> bool:
    """Whether a stream writes to the redirected descriptor; not that of a notebook or a test."""
    try:
        return bool(stream.fileno() == _STDERR)
    except (AttributeError, OSError, ValueError):
        return False


def _watcher(path: str, stderr: int) -> subprocess.Popen[bytes] | None:
    """A process that shows a file if this one dies; None where it cannot be started."""
    if os.name != "posix":
        return None
    import subprocess  # late: few processes hide messages

    with contextlib.suppress(OSError):
        return subprocess.Popen(
            ["/bin/sh", "-c", _SHOW_IF_KILLED, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,  # a Ctrl-C is not for it
        )
    return None


def _end(watcher: subprocess.Popen[bytes] | None) -> None:
    if watcher is not None:
        with contextlib.suppress(OSError):
            watcher.communicate(b"\n")


class _HiddenImport(importlib.abc.MetaPathFinder):
    """Hides the import of TensorFlow, whoever imports it first."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of ``tensorflow``; None for other modules."""
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            setattr(spec.loader, "exec_module", _hiding(spec.loader.exec_module))  # noqa: B010
        return spec


def _hiding(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def execute_hidden(module: ModuleType) -> None:
        os.environ.setdefault(_LEVEL, _FATAL if _state.is_hiding else _ALL)
        with hidden():
            execute(module)

    return execute_hidden
