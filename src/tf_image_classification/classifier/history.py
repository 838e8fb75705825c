"""The history of a training: its curves and its evaluations, by step.

history = model.history
history["accuracy"], history.to_pandas(), history.plot().savefig("curves.png")
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tf_image_classification.classifier import html
from tf_image_classification.classifier.frames import data_frame
from tf_image_classification.errors import did_you_mean
from tf_image_classification.model_folder import ModelFolder

_TRAIN = "train_"
_UNPLOTTED = ("step", "time", "num_examples")
_MAX_PLOTS, _PLOTS_IN_A_ROW = 9, 3


class History(Mapping[str, list[Any]]):
    """Columns of a training by name, with a value for each step that has any.

    "step" and the metrics of the evaluations have their own names; the training's curves begin with
    "train_", e.g. "train_loss". A value that a step lacks is None.

    Example:
        >>> history = History([{"step": 10, "accuracy": 0.5}, {"step": 20, "accuracy": 0.75}])
        >>> history["accuracy"]
        [0.5, 0.75]
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = [dict(row) for row in rows]
        self._names = list(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._names:
            raise KeyError(f"There is no column {name!r}. {did_you_mean(name, self._names)}")
        return [row.get(name) for row in self.rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each step.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame(dict(self))

    def plot(self, names: Sequence[str] = ()) -> Any:
        """A matplotlib figure with a chart of each column against the step.

        Args:
            names: columns; empty: the training's loss and the metrics of the evaluations, at most
                nine.

        Raises:
            KeyError: there is no such column.
        """
        from matplotlib.figure import Figure  # late: matplotlib takes a second to load

        chosen = [names] if isinstance(names, str) else list(names) or self._plotted()
        num_rows = -(-max(len(chosen), 1) // _PLOTS_IN_A_ROW)
        num_columns = min(max(len(chosen), 1), _PLOTS_IN_A_ROW)
        figure = Figure(figsize=(3.4 * num_columns, 2.4 * num_rows), layout="constrained")
        axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
        for axis, name in zip(axes, chosen, strict=False):
            points = [
                (step, value)
                for step, value in zip(self["step"], self[name], strict=True)
                if value is not None
            ]
            axis.plot(*zip(*points, strict=True), marker="o" if len(points) < 30 else None)
            axis.set_title(name.replace("_", " "), fontsize="medium", parse_math=False)
            axis.set_xlabel("step")
        for axis in axes[len(chosen) :]:
            axis.set_axis_off()
        return figure

    def _plotted(self) -> list[str]:
        """The columns of a plot: of the evaluations' metrics and the training's loss."""
        metrics = [
            name
            for name in self._names
            if name not in _UNPLOTTED
            and not name.startswith(_TRAIN)
            and any(isinstance(value, (int, float)) for value in self[name])
        ]
        loss = [f"{_TRAIN}loss"] if f"{_TRAIN}loss" in self._names else []
        return [*loss, *metrics][:_MAX_PLOTS]

    def __repr__(self) -> str:
        return f"History({len(self.rows)} steps; {', '.join(self._names)})"

    def _repr_html_(self) -> str:
        if not self._plotted():
            return html.text(repr(self))
        png = io.BytesIO()
        self.plot().savefig(png, format="png", dpi=100)
        return html.image(png.getvalue(), "curves of the training")


def read_history(model_dir: str) -> History:
    """The history of the run in a model folder; empty for a folder without evaluations and logs.

    Raises:
        CheckpointError: the folder is not a run's.
    """
    folder = ModelFolder(model_dir)
    manifest = folder.known_manifest()
    from tf_image_classification.report import training_log  # late: it needs TensorFlow

    rows: dict[int, dict[str, Any]] = {}
    log_folder = training_log.training_log_folder(folder, manifest)
    for name, points in training_log.read_training_curves(log_folder).items():
        for step, value in points:
            rows.setdefault(int(step), {"step": int(step)})[f"{_TRAIN}{name}"] = value
    for line in folder.evaluations():
        numbers = {n: v for n, v in line.items() if v is None or isinstance(v, (int, float))}
        rows.setdefault(line["step"], {}).update(numbers)
    return History([rows[step] for step in sorted(rows)])
