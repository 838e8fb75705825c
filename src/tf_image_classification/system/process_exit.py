"""The message and the exit status of a process that ends with an error or a signal.

with ends_the_process():
    work()
"""

from __future__ import annotations

import sys
from typing import Any

from tf_image_classification.errors import ConfigError, RunInterrupted, TficError
from tf_image_classification.system import faults, packages, quiet, signals


class ends_the_process:
    """Inside the block a TficError or a signal ends the process with a message and its status."""

    def __enter__(self) -> None:
        """Start to handle signals."""
        self._signals = signals.handled()
        self._signals.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        """Turn an error into a message and a status."""
        try:
            if (ending := _ending(error)) is not None:
                signals.tell_last(ending[0])
                raise SystemExit(ending[1])
            if error is not None and _is_of_tensorflow(error) and quiet.is_hiding():
                print("TensorFlow failed; --verbose shows its own messages.", file=sys.stderr)
        finally:
            self._signals.__exit__(None, None, None)


def _ending(error: BaseException | None) -> tuple[str, int] | None:
    """The message and status for an error; None: those of Python."""
    if (stopped := signals.cause_of(error)) is not None:
        return str(stopped), stopped.exit_code
    if isinstance(error, TficError):
        name = "" if isinstance(error, RunInterrupted) else f"{type(error).__name__}: "
        return f"{name}{error}", error.exit_code
    if isinstance(error, ModuleNotFoundError):
        module = (error.name or "").partition(".")[0]
        if module in (*packages.OF_TRAININGS, "tensorflow"):
            return f"ConfigError: {packages.advice(module)}", ConfigError.exit_code
    if isinstance(error, KeyboardInterrupt):  # outside the main thread
        return "Stopped by SIGINT.", 130
    if error is not None and _is_of_a_bucket(error):
        return f"DataError: {' '.join(str(error).split())[:500]}", 1
    if error is not None and (problem := faults.system_problem(error)):
        return f"DataError: {problem}", 1
    return None


def _is_of_a_bucket(error: BaseException) -> bool:
    """Whether TensorFlow failed to read or write a bucket."""
    return _is_of_tensorflow(error) and "gs://" in str(error)


def _is_of_tensorflow(error: BaseException) -> bool:
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(error, tensorflow.errors.OpError)
