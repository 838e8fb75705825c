"""Reports evaluations to Vertex AI's hyperparameter tuning, which reads them from a file."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from tf_image_classification.hooks.base import EvaluatedRun, EvaluationHook
from tf_image_classification.system import files

_MAX_LINES = 100


class MetricFileHook(EvaluationHook):
    """Writes every scalar metric of every evaluation as a line of JSON.

    Attributes:
        path: the file that Vertex AI's service on the machine reads.
        trial: the trial's name.
    """

    def __init__(self, path: str, trial: str) -> None:
        self.path = path
        self.trial = trial
        self._lines: list[dict[str, str | float]] = []

    def after_evaluation(self, run: EvaluatedRun, evaluation: Any) -> None:
        """Write the newest lines; the service has read all but the last hundred."""
        for name, value in evaluation.scalars().items():
            line: dict[str, str | float] = {
                "timestamp": time.time(),
                "trial": self.trial,
                name: str(value),
                "global_step": str(run.step),
                "checkpoint_path": "",
            }
            self._lines = [*self._lines, line][-_MAX_LINES:]
        folder = os.path.dirname(self.path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in self._lines)
        files.write_bytes(self.path, text.encode())
