"""The progress bar: rate, remaining time, loss and the fraction of time spent waiting for input.

Without a terminal, e.g. in a log file, it is a line every 30 seconds.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from tf_image_classification.hooks.base import Hook, Run
from tf_image_classification.hooks.cadence import Every

_PLAIN = (
    "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
)


class ProgressHook(Hook):
    """Shows a bar on standard error while the training runs.

    Attributes:
        every: when the loss is read for display; reading makes the host wait for the device.
    """

    def __init__(self, secs: float = 1.0) -> None:
        self.every = Every(secs=secs)
        self._bar: Any = None
        self._loss = float("nan")

    def begin(self, run: Run) -> None:
        """Open the bar at the resumed step."""
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=run.train_steps * run.batch_size,
            initial=run.step * run.batch_size,
            unit="img",
            unit_scale=True,
            desc="train",
            file=sys.stderr if is_terminal else _PlainLines(sys.stderr),
            dynamic_ncols=is_terminal,
            mininterval=0.5 if is_terminal else 30.0,
            bar_format=None if is_terminal else _PLAIN,
        )
        self.every.start(run.step)

    def after_step(self, run: Run) -> None:
        """Move the bar; now and then read the loss."""
        if self.every.is_due(run.step):
            self._loss = run.loss()
        self._describe(run)
        self._bar.update(run.step * run.batch_size - self._bar.n)

    def after_evaluation(self, run: Run, evaluation: Any) -> None:
        """One line with the evaluation's numbers."""
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in evaluation.scalars().items())
        tqdm.write(f"evaluation at step {run.step}: {numbers}", file=sys.stderr)

    def on_stop(self, run: Run, reason: str) -> None:
        """Show the last step."""
        self.end(run)

    def end(self, run: Run) -> None:
        """Show the last step."""
        self._loss = run.loss()
        self._describe(run)

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _describe(self, run: Run) -> None:
        wait = run.wait_secs / run.step_secs if run.step_secs else 0.0
        self._bar.set_postfix_str(
            f"step {run.step}/{run.train_steps} loss {self._loss:.4f} input wait {wait:.0%}",
            refresh=False,
        )


class _PlainLines:
    """A stream that gets each state of the bar as a line, without control characters."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        self._stream.flush()
