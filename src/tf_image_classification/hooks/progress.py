"""The progress of a training: epoch, rate, remaining time and loss, and a table of evaluations.

Without a terminal, e.g. in a log file, these are a line every 30 seconds and one per evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tf_image_classification.hooks.base import Hook, Run
from tf_image_classification.hooks.cadence import Every
from tf_image_classification.system.screen import Progress

_WIDTH = 78
"""Characters of a row of the table of evaluations."""


class ProgressHook(Hook):
    """Shows a bar on standard error while the training runs, and a row for each evaluation.

    Attributes:
        every: when the loss is read for display; reading makes the host wait for the device.
    """

    def __init__(self, secs: float = 1.0) -> None:
        self.every = Every(secs=secs)
        self._progress: Progress | None = None
        self._loss = float("nan")
        self._columns: list[str] = []

    def begin(self, run: Run) -> None:
        """Open the bar at the resumed step."""
        first = run.step * run.batch_size
        self._progress = Progress(_epoch(run), "img", first, has_counts=False)
        self.every.start(run.step)

    def after_step(self, run: Run) -> None:
        """Move the bar; now and then read the loss."""
        if self.every.is_due(run.step):
            self._loss = run.loss()
        self._show(run)

    def after_evaluation(self, run: Run, evaluation: Any) -> None:
        """One row or line with the evaluation's numbers."""
        assert self._progress is not None
        scalars = evaluation.scalars()
        if not self._progress.is_live:
            numbers = "  ".join(f"{name} {value:.4f}" for name, value in scalars.items())
            self._progress.write(f"evaluation at step {run.step}: {numbers}")
            return
        if not self._columns:
            self._columns = _that_fit(["epoch", "train loss", *scalars])
            self._progress.write("".join(name.rjust(_width(name)) for name in self._columns))
        shown = {
            "epoch": f"{run.step / run.steps_per_epoch:.3g}",
            "train loss": f"{self._loss:.4f}",
        }
        shown |= {name: f"{value:.4f}" for name, value in scalars.items()}
        cells = (shown.get(name, "").rjust(_width(name)) for name in self._columns)
        self._progress.write("".join(cells))

    def on_stop(self, run: Run, reason: str) -> None:
        """Show the last step."""
        self.end(run)

    def end(self, run: Run) -> None:
        """Show the last step."""
        self._loss = run.loss()
        self._show(run, at_once=True)

    def close(self) -> None:
        """Close the bar."""
        if self._progress is not None:
            self._progress.close()

    def _show(self, run: Run, *, at_once: bool = False) -> None:
        assert self._progress is not None
        self._progress.title = _epoch(run)
        note = f"loss {self._loss:.4f}"
        if not self._progress.is_live:
            wait = run.wait_secs / run.step_secs if run.step_secs else 0.0
            note = f"step {run.step}/{run.train_steps}, {note}, input wait {wait:.0%}"
        images, of_all = run.step * run.batch_size, run.train_steps * run.batch_size
        self._progress(images, of_all, note, at_once=at_once)


def _epoch(run: Run) -> str:
    epochs = max(1, round(run.train_steps / run.steps_per_epoch))
    return f"epoch {min(int(run.step / run.steps_per_epoch) + 1, epochs)}/{epochs}"


def _width(name: str) -> int:
    return max(len(name), 6) + 2


def _that_fit(names: Sequence[str]) -> list[str]:
    """As many columns of a table, from the first, as fit into a row."""
    fitting: list[str] = []
    for name in names:
        if sum(map(_width, [*fitting, name])) <= _WIDTH:
            fitting.append(name)
    return fitting
