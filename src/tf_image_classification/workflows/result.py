"""The result of a training or an evaluation, as programs see it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from tf_image_classification.errors import did_you_mean


@dataclasses.dataclass(frozen=True)
class TrainResult(Mapping[str, Any]):
    """The result of a training or an evaluation; also a mapping from metric names to values.

    As a mapping it has the numbers, the arrays, and ``global_step``, the steps done.

    Attributes:
        model_dir: the model folder.
        step: steps done.
        metrics: the last evaluation's numbers by name; empty without evaluation.
        arrays: its arrays by name, e.g. a confusion matrix that ``metric_ops`` gives.
        analysis: the metrics of each label with their intervals, of an evaluation.

    Example:
        >>> TrainResult("./models", 10, {"accuracy": 0.5})["accuracy"]
        0.5
    """

    model_dir: str
    step: int
    metrics: Mapping[str, float]
    arrays: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    analysis: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values; undefined numbers are null."""
        metrics = {n: v if math.isfinite(v) else None for n, v in self.metrics.items()}
        found = {"model_dir": self.model_dir, "step": self.step, "metrics": metrics}
        return found | ({"analysis": dict(self.analysis)} if self.analysis else {})

    def __getitem__(self, name: str) -> Any:
        values = {"global_step": self.step, **self.arrays, **self.metrics}
        if name not in values:
            raise KeyError(f"There is no metric {name!r}. {did_you_mean(name, values)}")
        return values[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self.metrics, *self.arrays, "global_step"])

    def __len__(self) -> int:
        return len(self.metrics) + len(self.arrays) + 1
