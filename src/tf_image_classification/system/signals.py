"""SIGTERM, Ctrl-C and a closed terminal as one exception, ``Stopped``.

with signals.handled():                      # here a signal raises Stopped
    with signals.stage("while exporting", again="Start the same command again.", resumes=True):
        export()
    with signals.deferred():                 # here it is only recorded
        while not signals.received():
            step()

Needs no TensorFlow, so that it can be active before TensorFlow is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tf_image_classification.errors import RunInterrupted

NUMBERS = tuple(
    number for name in ("SIGTERM", "SIGINT", "SIGHUP") if (number := getattr(signal, name, None))
)
_REPEAT_SECS = 5.0  # a signal is often sent twice: to a process and to its group


@dataclasses.dataclass(frozen=True)
class Stage:
    """The current activity of the process, for the message of a signal.

    Attributes:
        doing: continues the sentence "Stopped by SIGTERM ...", or "".
        again: the next action for the user, as a sentence; or "".
        resumes: whether the same command resumes.
    """

    doing: str = ""
    again: str = ""
    resumes: bool = False


class Stopped(KeyboardInterrupt):
    """A signal asked this process to stop; the text is the message for the user.

    A KeyboardInterrupt, because libraries do not catch it and clean up.

    Attributes:
        name: the signal's name.
        exit_code: 75 when the same command resumes, else 128 plus the signal's number.
    """

    def __init__(self, number: int, stage: Stage) -> None:
        self.name = signal.Signals(number).name
        self.exit_code = RunInterrupted.exit_code if stage.resumes else 128 + number
        begin = f"Stopped by {self.name}{' ' if stage.doing else ''}{stage.doing}."
        super().__init__(f"{begin} {stage.again}".rstrip())


class _State:
    """The state of the handler, which runs in the main thread only."""

    def __init__(self) -> None:
        self.depth = 0
        self.deferrals: list[Callable[[], None] | None] = []
        self.stages = [Stage()]
        self.stopped: Stopped | None = None
        self.raised_at: float | None = None
        self.was_lost = False
        self.is_over = False


_state = _State()


def _handle(number: int, frame: Any) -> None:
    state = _state
    if state.is_over:
        return
    is_first = state.stopped is None
    if state.stopped is None or number == signal.SIGINT:
        state.stopped = Stopped(number, state.stages[-1])
    if state.deferrals and (is_first or number != signal.SIGINT):
        then = state.deferrals[-1]
        if is_first and then is not None:
            then()
        return
    now = time.monotonic()
    is_cleaning_up = state.raised_at is not None and now - state.raised_at < _REPEAT_SECS
    if is_cleaning_up and number != signal.SIGINT and not state.was_lost:
        return
    state.raised_at, state.was_lost = now, False
    raise state.stopped


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Inside the block the signals raise ``Stopped``; may be nested.

    A signal that was ignored when the process started stays ignored: ``nohup`` ignores SIGHUP, and
    a shell without job control ignores SIGINT for background jobs. Does nothing outside the main
    thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    state = _state
    state.depth += 1
    before: dict[int, Any] = {}
    hook = sys.unraisablehook
    try:
        if state.depth == 1:
            state.stopped, state.raised_at, state.is_over = None, None, False
            for number in NUMBERS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, _handle)
            sys.unraisablehook = _raise_again(hook)
        yield
    finally:
        state.depth -= 1
        if state.depth == 0:
            sys.unraisablehook = hook
            for number, handler in before.items():
                # None: it was set outside Python and cannot be restored.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _raise_again(hook: Any) -> Any:
    """A hook for exceptions that cannot be caught, as in ``__del__``: raises ``Stopped`` again."""

    def unraisable(lost: Any) -> None:
        if not isinstance(lost.exc_value, Stopped):
            hook(lost)
            return
        _state.was_lost = True
        number = getattr(signal, lost.exc_value.name)
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()

    return unraisable


@contextlib.contextmanager
def stage(doing: str, *, again: str, resumes: bool) -> Iterator[None]:
    """Inside the block signals have this message; arguments as the attributes of ``Stage``."""
    _state.stages.append(Stage(doing, again, resumes))
    try:
        yield
    finally:
        _state.stages.pop()


@contextlib.contextmanager
def deferred(then: Callable[[], None] | None = None) -> Iterator[None]:
    """Inside the block a signal is only recorded, for ``received``; a second Ctrl-C raises.

    ``then`` is called at the first signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with handled():
        _state.deferrals.append(then)
        try:
            yield
        finally:
            _state.deferrals.pop()


def received() -> str:
    """The name of the received signal, or ""."""
    return _state.stopped.name if _state.depth and _state.stopped else ""


def check() -> None:
    """Raise ``Stopped``, with the message of the current stage, if a signal was received."""
    if received():
        assert _state.stopped is not None
        _state.stopped = Stopped(getattr(signal, _state.stopped.name), _state.stages[-1])
        _state.raised_at = time.monotonic()
        raise _state.stopped


def cause_of(error: BaseException | None) -> Stopped | None:
    """The ``Stopped`` that caused an error, or None.

    C++ code that calls Python may turn the exception of a signal into another error, so every
    error after a signal counts.
    """
    if error is None or isinstance(error, (SystemExit, RunInterrupted)):
        return None
    if isinstance(error, Stopped):
        return error
    return _state.stopped if _state.depth and _state.raised_at is not None else None


@contextlib.contextmanager
def resumable(doing: str, *, again: str) -> Iterator[None]:
    """Inside the block signals are handled; they raise ``RunInterrupted`` at its end.

    Args:
        doing: as ``Stage``.
        again: as ``Stage``.
    """
    with handled(), stage(doing, again=again, resumes=True):
        try:
            yield
        except BaseException as error:
            stopped = cause_of(error)
            if stopped is None:
                raise
            raise RunInterrupted(str(stopped)) from None


def tell_last(text: str) -> None:
    """Print the last message of a process to standard error; further signals are ignored.

    Errors of a closed terminal are ignored.
    """
    _state.is_over = True
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def ending_with(status: int) -> int:
    """From now on a signal ends the process with this status; returns the status.

    For a process whose work is done.
    """

    def end(number: int, frame: Any) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(status)

    _set_all(end)
    return status


def ignore() -> None:
    """Ignore the signals from now on."""
    _set_all(signal.SIG_IGN)


def _set_all(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in NUMBERS:
            signal.signal(number, handler)
