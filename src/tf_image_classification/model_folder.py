"""``ModelFolder``, the files of a run.

run.json            run manifest: spec, labels, data fingerprints, settings, versions
labels.json         the label schema with its vocabularies
metrics.jsonl       one evaluation during training per line
evaluations.jsonl   one later evaluation of the folder's model per line
predictions.parquet the predictions of the last evaluation
judgement.json      its analysis: metrics with confidence intervals, calibration, slices
calibration.json    temperature scaling and the like, fitted to the evaluation
unknown.json        the limit of the score for pictures of none of the classes; unknown.npz: centres
held_out.json       the examples held out from training, where the run has no other evaluation set
data.json           counts of the data before the first step
bad_images.jsonl    skipped images; those of worker 1 are in bad_images-1.jsonl, ...
warm_start.json     the variables that a warm start loaded
checkpoints/        the newest checkpoints
best/               the best checkpoint
tensorboard/        TensorBoard logs
saved_model/        the exported model
light/              the same model for prediction without TensorFlow, where it was verified
exports/            exports for other runtimes, each compared with the evaluation
cross_validation.json  in the folder of a cross-validation, which has the folder of each fold in it
final_model.txt     beside it: the command that trains one model on all examples
fold.json           of such a fold: it is complete
report.html         the report; model_card.md has the same numbers as text
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

from tf_image_classification.config import Settings
from tf_image_classification.errors import CheckpointError, RunMismatchError, SpecError
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.system import faults, files

log = logging.getLogger("tf_image_classification")

_WEIGHT_SUFFIXES = (".keras", ".h5", ".hdf5", ".weights", ".ckpt", ".tflite", ".onnx", ".pb", ".pt")
_MAX_LISTED = 200  # names in a folder that are looked at


def tensorboard_folder(settings: Settings) -> str:
    """Where a run writes its TensorBoard logs."""
    return settings.checkpoints.tensorboard_dir or ModelFolder(settings.run.model_dir).tensorboard


_MAX_EXPORT_SECS = 600.0

FINAL_COMMAND = "final_model.txt"
"""File of a cross-validation with the command that trains the model on all examples."""


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """The files of a run.

    Attributes:
        path: the folder, local or remote.
    """

    path: str

    @property
    def manifest(self) -> str:
        """JSON file of the run manifest."""
        return files.join(self.path, "run.json")

    @property
    def checkpoints(self) -> str:
        """Folder of the newest checkpoints."""
        return files.join(self.path, "checkpoints")

    @property
    def best(self) -> str:
        """Folder of the best checkpoint."""
        return files.join(self.path, "best")

    @property
    def tensorboard(self) -> str:
        """Folder of the TensorBoard logs."""
        return files.join(self.path, "tensorboard")

    @property
    def saved_model(self) -> str:
        """Folder of the exported model."""
        return files.join(self.path, "saved_model")

    @property
    def light(self) -> str:
        """Folder of the exported model's file for prediction without TensorFlow."""
        return files.join(self.path, "light")

    @property
    def predictions(self) -> str:
        """Parquet file of the last evaluation's predictions."""
        return files.join(self.path, "predictions.parquet")

    @property
    def analysis(self) -> str:
        """JSON file of the analysis of the last evaluation."""
        return files.join(self.path, "judgement.json")

    @property
    def calibration(self) -> str:
        """JSON file of the labels' calibrations."""
        return files.join(self.path, "calibration.json")

    @property
    def unknown(self) -> str:
        """JSON file of the score for pictures of none of the classes."""
        return files.join(self.path, "unknown.json")

    @property
    def unknown_arrays(self) -> str:
        """File of its arrays."""
        return files.join(self.path, "unknown.npz")

    @property
    def held_out(self) -> str:
        """JSON file that lists the examples held out from training."""
        return files.join(self.path, "held_out.json")

    @property
    def cross_validation(self) -> str:
        """JSON file of the folds and settings, in the folder of a cross-validation."""
        return files.join(self.path, "cross_validation.json")

    @property
    def is_cross_validation(self) -> bool:
        """Whether the folder is that of a cross-validation: it has folds and no model."""
        return files.exists(self.cross_validation) and not self.has_manifest

    @property
    def fold(self) -> str:
        """JSON file that marks a fold of a cross-validation as complete."""
        return files.join(self.path, "fold.json")

    @property
    def data_counts(self) -> str:
        """JSON file of the data's counts before the first step."""
        return files.join(self.path, "data.json")

    @property
    def is_being_exported(self) -> bool:
        """Whether a training writes ``saved_model`` and ``light`` now, one after the other.

        A process that was killed in between is forgotten after ten minutes.
        """
        if files.is_remote(self.path):  # it gets no ``light``
            return False
        try:
            _, began = files.size_and_time(self._export_mark)
        except OSError:
            return False
        return time.time() - began / 1e9 < _MAX_EXPORT_SECS

    @contextlib.contextmanager
    def exporting(self) -> Iterator[None]:
        """Inside the block ``is_being_exported`` is true, for servers that reload the model."""
        if files.is_remote(self.path):
            yield
            return
        files.write_bytes(self._export_mark, b"")
        try:
            yield
        finally:
            files.remove_file(self._export_mark)

    @property
    def _export_mark(self) -> str:
        return files.join(self.path, ".exporting")

    @contextlib.contextmanager
    def locked(self, doing: str = "training", option: str = "model_dir") -> Iterator[None]:
        """Inside the block no other process of this machine trains in the folder.

        The lock is released when the process ends. Buckets, and file systems without locks, are
        not locked.

        Args:
            doing: the action of the processes, for the message.
            option: the option that names the folder.

        Raises:
            RunMismatchError: another process holds it.
        """
        if files.is_remote(self.path) or fcntl is None:
            yield
            return
        path = files.join(self.path, ".lock")
        with faults.system_errors(f"{path} cannot be locked"):
            opened = open(path, "a+b")  # noqa: SIM115 (closed below; its errors are its own)
        with opened as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                stream.seek(0)
                holder = stream.read(200).decode(errors="replace").strip()
                raise RunMismatchError(
                    f"Another process ({holder or 'of unknown number'}) is {doing} "
                    f"in {self.path}. Wait until it ends, or choose another {option}."
                ) from error
            except OSError:  # a file system without locks
                yield
                return
            stream.truncate(0)
            stream.write(f"{os.getpid()} on {socket.gethostname()}\n".encode())
            stream.flush()
            yield

    @property
    def is_locked(self) -> bool:
        """Whether a process holds the lock of ``locked``, as far as this machine knows."""
        path = files.join(self.path, ".lock")
        if files.is_remote(self.path) or fcntl is None or not files.exists(path):
            return False
        try:
            with open(path, "rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
        return False

    @property
    def has_manifest(self) -> bool:
        """Whether the folder is a model folder: a run was begun in it."""
        return files.exists(self.manifest)

    def read_manifest(self) -> RunManifest | None:
        """The manifest of the run in this folder, or None when the folder is new.

        Raises:
            CheckpointError: the manifest is damaged.
        """
        if not self.has_manifest:
            return None
        try:
            return RunManifest.from_json(files.read_json(self.manifest))
        except (ValueError, KeyError, TypeError, AttributeError, SpecError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise CheckpointError(
                f"{self.manifest} is damaged: {reason}. Restore it from a copy; or remove it and "
                "start the training's command again, which resumes from the newest checkpoint and "
                "writes it again."
            ) from error

    def known_manifest(self) -> RunManifest:
        """The manifest of a folder that must be a model folder.

        Raises:
            CheckpointError: it is not one, or its manifest is damaged; suggests the right folder.
        """
        manifest = self.read_manifest()
        if manifest is None:
            raise _not_a_model_folder(self.path)
        return manifest

    def write_manifest(self, manifest: RunManifest) -> None:
        """Write the manifest and the label schema."""
        values = manifest.to_json()
        files.write_json(files.join(self.path, "labels.json"), values["labels"])
        files.write_json(self.manifest, values)

    def put_back(self, manifest: RunManifest) -> None:
        """Write the manifest again if the folder was removed or emptied during the training."""
        if self.has_manifest:
            return
        log.warning(
            "%s was removed while the run trains in it. It is written again, without the earlier "
            "checkpoints, evaluations and logs.",
            self.path,
        )
        files.make_folder(self.path)
        self.write_manifest(manifest)

    def check_same_run(self, manifest: RunManifest, *, allow_changes: bool) -> list[str]:
        """The differences between the folder's run and this one.

        Raises:
            RunMismatchError: they differ, and that is not allowed.
            CheckpointError: the folder is that of a cross-validation.
        """
        if self.is_cross_validation:
            raise _not_a_model_folder(self.path)
        before = self.read_manifest()
        if before is not None and before.combined:
            raise RunMismatchError(
                f"{self.path} was written by tfic combine and cannot be trained further. Use "
                "another model_dir"
                + (
                    "."
                    if before.combined["how"] == "ensemble"
                    else f", and --checkpoint_path {self.path} to start from its weights."
                )
            )
        differences = before.differences(manifest) if before else []
        if differences and not allow_changes:
            raise RunMismatchError(
                f"{self.path} belongs to another run:\n  "
                + "\n  ".join(differences)
                + "\nUse another model_dir for a new run, repeat the settings to resume, or add "
                "--allow_changes to resume with these differences."
                + (_going_on(self.path) if _may_go_on(before, manifest) else "")
            )
        return differences

    def evaluations(self) -> list[dict[str, Any]]:
        """Every evaluation of the training, oldest first; damaged lines cause a warning."""
        return self._lines("metrics.jsonl", {"step": int})

    def last_metrics(self) -> dict[str, float]:
        """The scalar metrics of the last evaluation by name; empty without one."""
        lines = self.evaluations()
        numbers = lines[-1] if lines else {}
        left_out = ("step", "time", "num_examples")
        return {k: v for k, v in numbers.items() if isinstance(v, float) and k not in left_out}

    def write_evaluations(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write all evaluations."""
        files.write_json_lines(files.join(self.path, "metrics.jsonl"), lines)

    def add_later_evaluation(self, line: Mapping[str, Any]) -> None:
        """Add an evaluation that was made after the training."""
        path = files.join(self.path, "evaluations.jsonl")
        files.write_json_lines(path, [*self.later_evaluations(), line])

    def later_evaluations(self) -> list[dict[str, Any]]:
        """The evaluations made after the training, oldest first."""
        keys = {"step": int, "eval_metadata": list, "eval_data": str}
        return self._lines("evaluations.jsonl", keys)

    @staticmethod
    def bad_images_name(rank: int) -> str:
        """The file name of a worker's list of skipped images."""
        return f"bad_images-{rank}.jsonl" if rank else "bad_images.jsonl"

    def write_bad_images(self, lines: Iterable[Mapping[str, Any]], rank: int = 0) -> None:
        """Write a worker's list of skipped images."""
        files.write_json_lines(files.join(self.path, self.bad_images_name(rank)), lines)

    def read_bad_images(self, rank: int = 0) -> list[dict[str, Any]]:
        """A worker's list of skipped images."""
        return self._lines(self.bad_images_name(rank), {"where": str, "reason": str})

    def _lines(self, name: str, keys: Mapping[str, type]) -> list[dict[str, Any]]:
        """The lines of a file that have these keys, with values of these types."""
        path = files.join(self.path, name)

        def is_whole(value: Any) -> bool:
            return isinstance(value, dict) and all(
                isinstance(value.get(key), kind) for key, kind in keys.items()
            )

        lines, damaged = files.read_whole_json_lines(path, is_whole)
        if damaged:
            shown = f"{damaged[0]}{f' (and {len(damaged) - 1} more)' if damaged[1:] else ''}"
            log.warning("%s is damaged and is used without %s", path, shown)
        return lines


def _not_a_model_folder(path: str) -> CheckpointError:
    """The error of a path without run.json: the kind of path, and the model folder that is near."""
    return CheckpointError(f"{path!r} {_kind_and_advice(path)}")


def _kind_and_advice(path: str) -> str:
    expected = "Give the folder that tfic train wrote (--model_dir)"
    above = path.rstrip("/")
    for _ in range(3):  # exports/onnx/model.onnx
        above = above.rpartition("/")[0]
        if above and ModelFolder(above).has_manifest:
            return f"is a part of a model folder. Give the folder itself: {above}."
    if not files.exists(path):
        return f"is not there. {expected}."
    if not files.is_folder(path):
        if path.lower().endswith(_WEIGHT_SUFFIXES):
            advice = "Weights from elsewhere are for --checkpoint_path of tfic train"
            return f"is a file of weights, not a model folder. {expected}. {advice}."
        return f"is a file, not a model folder. {expected}."
    if ModelFolder(path).is_cross_validation:
        return (
            "is the folder of a cross-validation: it has the models of its folds and none of its "
            f"own. Train the final model on all examples into another --model_dir, with the line "
            f"in {files.join(path, FINAL_COMMAND)}; or give the folder of a fold, e.g. "
            f"{files.join(path, 'fold-1')}."
        )
    names = files.list_folder(path)
    if not names:
        return f"is an empty folder. {expected}, or train into it first."
    paths = [files.join(path, name) for name in names[:_MAX_LISTED]]
    inner = [path for path in paths if ModelFolder(path).has_manifest]
    if inner:
        more = " and others" if len(inner) > 3 else ""
        return f"contains model folders. Give one of them: {', '.join(inner[:3])}{more}."
    if "saved_model.pb" in names:
        return f"is a SavedModel without the run's manifest (run.json) and class names. {expected}."
    return f"is not a model folder: it has no run.json. {expected}."


def evaluation_line(step: int, num_examples: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """One line of ``metrics.jsonl``."""
    values = {n: _json_value(v) for n, v in metrics.items()}
    return {"step": step, "num_examples": num_examples, "time": round(time.time(), 3), **values}


def _json_value(value: Any) -> Any:
    """A number or array as JSON values; numbers that are not finite become null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_json_value(part) for part in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _may_go_on(before: RunManifest | None, now: RunManifest) -> bool:
    """Whether another training set is given to a built-in backbone, e.g. with corrected labels."""
    return before is not None and before.is_of_backbone and before.train_data != now.train_data


def _going_on(path: str) -> str:
    return (
        f"\nTo go on from this model with the other data (more classes, corrected labels), add "
        f"--from {path} and give another model_dir, or none."
    )
