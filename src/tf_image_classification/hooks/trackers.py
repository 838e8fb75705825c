"""Experiment trackers: losses and evaluations logged to MLflow or Weights & Biases.

Unless their own environment variables (``MLFLOW_TRACKING_URI``, ``WANDB_MODE``) are set, both write
below the model folder and send nothing. A resumed training continues the same tracked run.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any

from tf_image_classification.errors import ConfigError
from tf_image_classification.hooks.base import Hook, Run
from tf_image_classification.hooks.cadence import Every
from tf_image_classification.system import files

TRACKERS = ("mlflow", "wandb")
_PROJECT = "tf_image_classification"


class _TrackerHook(Hook):
    """Logs settings once, then losses every N steps and every evaluation.

    Attributes:
        every: when losses are logged.
    """

    package = ""

    def __init__(self, every: Every) -> None:
        self.every = every
        self._id = ""

    def begin(self, run: Run) -> None:
        """Open the tracked run, or continue it.

        Raises:
            ConfigError: the package is not installed.
        """
        try:
            library = importlib.import_module(self.package)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"--trackers {self.package} needs {self.package}. Install it with: "
                f"pip install 'tf_image_classification[{self.package}]'."
            ) from error
        self.every.start(run.step)
        self._open(library, run)

    def after_step(self, run: Run) -> None:
        """Log the loss and the learning rate."""
        if self.every.is_due(run.step):
            self._send({"loss": run.loss(), "learning_rate": run.learning_rate()}, run.step)

    def after_evaluation(self, run: Run, evaluation: Any) -> None:
        """Log every scalar metric of the evaluation."""
        self._send({f"eval_{n}": v for n, v in evaluation.scalars().items()}, run.step)

    def state(self) -> dict[str, Any]:
        """The tracked run's id, by which a resumed training finds it."""
        return {"id": self._id}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore that id."""
        self._id = str(state["id"])

    def _open(self, library: Any, run: Run) -> None:
        raise NotImplementedError

    def _send(self, values: Mapping[str, float], step: int) -> None:
        raise NotImplementedError


class MlflowHook(_TrackerHook):
    """Logs to MLflow: ``MLFLOW_TRACKING_URI``, or ``mlflow/mlflow.db`` in the model folder."""

    package = "mlflow"

    def _open(self, library: Any, run: Run) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (
            f"sqlite:///{_folder(run, 'mlflow') / 'mlflow.db'}"
        )
        self._client = library.MlflowClient(tracking_uri=uri)
        if self._id:
            self._client.update_run(self._id, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name(_PROJECT)
        number = (
            experiment.experiment_id if experiment else self._client.create_experiment(_PROJECT)
        )
        name = os.path.basename(os.path.abspath(run.model_dir))
        self._id = self._client.create_run(number, run_name=name).info.run_id
        for key, value in run.settings.values().items():
            self._client.log_param(self._id, key, str(value)[:6000])

    def _send(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, float(value), step=step)

    def on_stop(self, run: Run, reason: str) -> None:
        """Mark the tracked run as killed; a resumed training continues it."""
        self._client.set_terminated(self._id, "KILLED")

    def end(self, run: Run) -> None:
        """Mark the tracked run as finished."""
        self._client.set_terminated(self._id, "FINISHED")


class WandbHook(_TrackerHook):
    """Logs to Weights & Biases: by default offline, in ``wandb/`` of the model folder."""

    package = "wandb"

    def __init__(self, every: Every) -> None:
        super().__init__(every)
        self._run: Any = None

    def _open(self, library: Any, run: Run) -> None:
        self._id = self._id or uuid.uuid4().hex[:12]
        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = library.init(
            project=_PROJECT,
            id=self._id,
            resume="allow",
            dir=None if mode == "online" else str(_folder(run, "")),
            mode=mode,
            config={name: str(value) for name, value in run.settings.values().items()},
            settings=library.Settings(silent=True, console="off"),
        )

    def _send(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({name: float(value) for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Write all pending values."""
        if self._run is not None:
            self._run.finish()


def _folder(run: Run, name: str) -> pathlib.Path:
    """A local folder in the model folder, created.

    Raises:
        ConfigError: the model folder is remote.
    """
    if files.is_remote(run.model_dir):
        raise ConfigError(
            f"trackers write below model_dir, but {run.model_dir} is remote. Set "
            "MLFLOW_TRACKING_URI or WANDB_MODE=online, or leave trackers out."
        )
    path = pathlib.Path(run.model_dir, name).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def tracker_hook(name: str, every: Every) -> Hook:
    """The hook of a tracker.

    Raises:
        ConfigError: the name is none of ``TRACKERS``.
    """
    if name not in TRACKERS:
        raise ConfigError(f"trackers: found {name!r}, expected {' or '.join(TRACKERS)}.")
    return MlflowHook(every) if name == "mlflow" else WandbHook(every)
