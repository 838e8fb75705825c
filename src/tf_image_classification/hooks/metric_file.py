"""Reports evaluations to Vertex AI's hyperparameter tuning, which reads them from a file."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from tf_image_classification.hooks.base import Hook, Run
from tf_image_classification.system import files

_MOST_LINES = 100


class MetricFileHook(Hook):
    """Writes every number of every evaluation as a line of JSON.

    Attributes:
        path: the file, which the machine's own service reads.
        trial: the trial's name.
    """

    def __init__(self, path: str, trial: str) -> None:
        self.path = path
        self.trial = trial
        self._lines: list[dict[str, str | float]] = []

    def after_evaluation(self, run: Run, evaluation: Any) -> None:
        """Write the newest lines; older ones than the last hundred have been read."""
        for name, value in evaluation.scalars().items():
            line: dict[str, str | float] = {
                "timestamp": time.time(),
                "trial": self.trial,
                name: str(value),
                "global_step": str(run.step),
                "checkpoint_path": "",
            }
            self._lines = [*self._lines, line][-_MOST_LINES:]
        folder = os.path.dirname(self.path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in self._lines)
        files.write_bytes(self.path, text.encode())
