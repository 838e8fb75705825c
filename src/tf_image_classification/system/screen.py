"""The screen: one style for all lines, and the progress of long work.

    with progress("convert", "shards") as show:
        show(3, 10)                          # done, of all
    say("train: 299 examples")               # aligned and wrapped on a terminal; else as it is

Lines go to standard output, progress to standard error. Without a terminal, progress is a plain
line every 30 seconds. ``NO_COLOR`` is respected.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from tf_image_classification.system.notebook import is_notebook

_KEY = re.compile(r"([a-zA-Z][a-zA-Z_ ]{1,16}): +(\S.*)")
_PLAIN_SECS = 30.0
_LIVE_SECS = 0.1

_state = {"is_quiet": False}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside the block ``say`` and ``progress`` show nothing."""
    _state["is_quiet"] = True
    try:
        yield
    finally:
        _state["is_quiet"] = False


def say(text: str, *, is_result: bool = False) -> None:
    """Print lines on standard output; when quiet, only those that are the result of a command.

    On a terminal, the key of a line like ``train: 299 examples`` is emphasised, and long lines are
    wrapped below their value.
    """
    if _state["is_quiet"] and not is_result:
        return
    if not is_terminal(sys.stdout):
        print(text)
        return
    from rich.console import Console  # late: help is instant without it
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    for line in text.splitlines():
        if (found := _KEY.fullmatch(line)) is not None:
            grid = Table.grid(padding=(0, 1))
            grid.add_column(width=max(12, len(found[1])), style="bold")
            grid.add_column(overflow="fold")
            grid.add_row(Text(found[1]), Text(found[2]))
            console.print(grid)
        else:
            indent = len(line) - len(line.lstrip())
            console.print(Padding(Text(line.lstrip()), (0, 0, 0, indent)))


class Progress:
    """The progress of some work; made by ``progress``."""

    def __init__(
        self,
        title: str,
        unit: str,
        first: int = 0,
        *,
        has_counts: bool = True,
        is_shown: bool = True,
    ) -> None:
        self.title = title
        self._unit = unit
        self._first = first
        self._began = self._shown = time.monotonic()
        self._is_begun = False
        self._done, self._total = first, 0
        self._bar: Any = None
        self._is_silent = _state["is_quiet"] or not is_shown
        if not self._is_silent and _is_live(sys.stderr):
            self._bar = _bar(has_counts=has_counts)
            self._task = self._bar.add_task(title, completed=first, total=None, note="", rate="")
            self._bar.start()

    def __call__(self, done: int, total: int, note: str = "", *, at_once: bool = False) -> None:
        """Show that ``done`` of ``total`` units are done, with a short note.

        Args:
            done: units done.
            total: units in all; 0: not known.
            note: text behind the bar, e.g. the loss.
            at_once: whether it is shown even if the last time was just now.
        """
        self._done, self._total = done, total
        now = time.monotonic()
        if not self._is_begun:  # what the first units wait for is not their own time
            self._is_begun, self._began, self._first = True, now, done
        if self._bar is not None:
            if now - self._shown >= _LIVE_SECS or at_once:
                self._shown = now
                self._bar.update(
                    self._task,
                    description=self.title,
                    completed=done,
                    total=total or None,
                    note=note,
                    rate=f"{self._speed():.3g} {self._unit}/s",
                )
                self._bar.refresh()
        elif not self._is_silent and (now - self._shown >= _PLAIN_SECS or at_once):
            self._shown = now
            of_all = f" of {total}" if total else ""
            facts = [f"{done}{of_all} {self._unit}", f"{self._speed():.3g} {self._unit}/s"]
            if total and done > self._first:
                facts.append(f"{_time(self._left())} left")
            print(
                f"{self.title}: {', '.join([*facts, *([note] if note else [])])}",
                file=sys.stderr,
                flush=True,
            )

    def write(self, text: str) -> None:
        """Print a line above the bar, on standard error."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif not self._is_silent:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is now."""
        if self._bar is not None:
            total = self._total or self._done or None
            self._bar.update(self._task, completed=self._done, total=total)
            self._bar.stop()
            self._bar = None

    @property
    def is_live(self) -> bool:
        """Whether it is a bar, and not plain lines or nothing."""
        return self._bar is not None

    def _speed(self) -> float:
        return (self._done - self._first) / max(time.monotonic() - self._began, 1e-9)

    def _left(self) -> float:
        return max(self._total - self._done, 0) / self._speed()


@contextlib.contextmanager
def progress(title: str, unit: str, first: int = 0, *, is_shown: bool = True) -> Iterator[Progress]:
    """Yields a function that shows how much of some work is done.

    Args:
        title: the work, in one word.
        unit: of the numbers, e.g. "images".
        first: units that were done before.
        is_shown: False: the function shows nothing.
    """
    shown = Progress(title, unit, first, is_shown=is_shown)
    try:
        yield shown
    finally:
        shown.close()


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Show on a terminal, while the block runs, what takes so long."""
    if _state["is_quiet"] or not _is_live(sys.stderr):
        yield
        return
    from rich.console import Console  # late: help is instant without it
    from rich.live import Live
    from rich.text import Text

    console = Console(file=sys.stderr)
    with Live(Text(f"{text} ..."), console=console, transient=True, auto_refresh=False) as live:
        live.refresh()
        yield


def _bar(*, has_counts: bool) -> Any:
    from rich import progress as parts  # late: help is instant without it
    from rich.console import Console

    counts = (parts.MofNCompleteColumn(),) if has_counts else ()
    return parts.Progress(
        parts.TextColumn("{task.description}", style="bold"),
        parts.BarColumn(bar_width=None),
        *counts,
        parts.TaskProgressColumn(),
        parts.TextColumn("{task.fields[rate]}", style="dim"),
        parts.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        parts.TextColumn("{task.fields[note]}"),
        console=Console(file=sys.stderr),
        auto_refresh=False,  # no thread: it is shown when there is something new
        expand=True,
    )


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; False for one that was replaced or closed."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def _is_live(stream: Any) -> bool:
    """Whether a bar can be drawn: on a terminal, or as a widget of a notebook."""
    has_widgets = is_notebook() and importlib.util.find_spec("ipywidgets") is not None
    return has_widgets or is_terminal(stream)


def _time(secs: float) -> str:
    minutes, seconds = divmod(round(secs), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
