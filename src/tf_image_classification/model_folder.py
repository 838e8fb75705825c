"""The folder of a run: what lies where, and the record that describes it without pickle.

run.json            spec, labels, data fingerprints, settings with their origins, versions
labels.json         the label schema with its vocabularies
metrics.jsonl       every evaluation of the training, a line each
evaluations.jsonl   every later evaluation of the folder's model, a line each
predictions.parquet what the last of them said of every example
judgement.json      what follows from that: measures with intervals, calibration, slices
calibration.json    what makes the model's probabilities believable
bad_images.jsonl    images that were skipped; those that worker 1 found in bad_images-1.jsonl, ...
warm_start.json     what was loaded from another model
checkpoints/        the newest states; best/ holds the best one
tensorboard/        TensorBoard logs
saved_model/        the exported model
exports/            the same for other runtimes, each compared with the evaluation
report.html         all of it to look at; model_card.md the same numbers to hand on
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import math
import os
import platform
import socket
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

import tf_image_classification
from tf_image_classification.config import OPTIONS, Settings
from tf_image_classification.errors import CheckpointError, RunMismatchError, SpecError
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.schema import with_kinds_named
from tf_image_classification.system import files

log = logging.getLogger("tf_image_classification")

_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy")


@dataclasses.dataclass(frozen=True)
class RunManifest:
    """What makes a run what it is.

    Attributes:
        spec: the spec's class, with the file or module it comes from.
        spec_source: SHA-256 of that file, or "".
        schema: the labels with their vocabularies.
        train_data: fingerprint of the training set.
        num_train_examples: its examples, or None when a spec's own input gives them.
        eval_data: fingerprint of the evaluation set, or "" without one.
        settings: all settings by name.
        origins: where each setting that was given came from.
    """

    spec: str
    spec_source: str
    schema: LabelSchema
    train_data: str
    num_train_examples: int | None
    eval_data: str
    settings: Mapping[str, Any]
    origins: Mapping[str, str]

    def digest(self) -> int:
        """A number that stands for all that keeps another run from continuing this one."""
        settings = {
            name: _comparable(name, self.settings[name])
            for name, o in OPTIONS.items()
            if o.resume == "same"
        }
        parts = (
            self.spec.rpartition(":")[2],
            self.spec_source,
            self.schema.to_json(),
            self.train_data,
            self.eval_data,
            settings,
        )
        return zlib.crc32(json.dumps(parts, sort_keys=True).encode())

    def differences(self, other: RunManifest) -> list[str]:
        """What would keep another run from continuing this one, in sentences."""
        found = []
        if self.spec.rpartition(":")[2] != other.spec.rpartition(":")[2]:
            found.append(f"spec: {self.spec} there, {other.spec} now")
        elif self.spec_source != other.spec_source:
            found.append(f"spec: the source of {self.spec} there, other code in {other.spec} now")
        if self.schema != other.schema:
            found.append(f"labels: {_brief(self.schema)} there, {_brief(other.schema)} now")
        if self.train_data != other.train_data:
            found.append(
                f"training set: {self.num_train_examples} examples ({self.train_data[:12]}) there, "
                f"{other.num_train_examples} ({other.train_data[:12]}) now"
            )
        if self.eval_data and other.eval_data and self.eval_data != other.eval_data:
            found.append(
                f"evaluation set: {self.eval_data[:12]} there, {other.eval_data[:12]} now, so that "
                "the best checkpoint would be chosen between different sets"
            )
        for name, option in OPTIONS.items():
            if option.resume != "same":
                continue
            there = _comparable(name, self.settings.get(name, option.default))
            now = _comparable(name, other.settings[name])
            if there != now:
                found.append(f"{name}: {there!r} there, {now!r} now")
        return found


_WEIGHT_FILES = (".keras", ".h5", ".hdf5", ".weights", ".ckpt", ".tflite", ".onnx", ".pb", ".pt")
_MOST_LISTED = 200  # names in a folder that are looked at


def _instead_of_a_model_folder(path: str) -> str:
    """What a path is that is no model folder, and what to do, after its name."""
    expected = "Give the folder that tfic train wrote (--model_dir)"
    above = path.rstrip("/").rpartition("/")[0]
    if above and files.exists(files.join(above, "run.json")):
        return f"is a part of a model folder. Give the folder itself: {above}."
    if not files.exists(path):
        return f"is not there. {expected}."
    if not files.is_folder(path):
        kind = "a file of weights" if path.lower().endswith(_WEIGHT_FILES) else "a file"
        advice = "; weights of elsewhere are for --checkpoint_path of tfic train"
        return f"is {kind}, not a model folder. {expected}{advice if kind != 'a file' else ''}."
    names = files.list_folder(path)
    if not names:
        return f"is an empty folder. {expected}, or train into it first."
    inner = [
        files.join(path, name)
        for name in names[:_MOST_LISTED]
        if files.exists(files.join(path, name, "run.json"))
    ]
    if inner:
        more = " and others" if len(inner) > 3 else ""
        return f"holds model folders, but is none. Give one of them: {', '.join(inner[:3])}{more}."
    if "saved_model.pb" in names:
        return (
            "is a SavedModel without the record of its training (run.json), which has the class "
            f"names. {expected}."
        )
    return f"is not a model folder: it has no run.json. {expected}."


def _comparable(name: str, value: Any) -> Any:
    """A setting's value as JSON has it, with the current names of label kinds."""
    if name == "label_kinds":
        return with_kinds_named(value)
    return list(value) if isinstance(value, tuple) else value


def _brief(schema: LabelSchema) -> str:
    return ", ".join(
        f"{label.name} ({' '.join(label.named_classes()[:10]) or 'real'})" for label in schema
    )


def tensorboard_folder(settings: Settings) -> str:
    """Where a run writes its TensorBoard logs."""
    return settings.checkpoints.tensorboard_dir or ModelFolder(settings.run.model_dir).tensorboard


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """The files of a run.

    Attributes:
        path: the folder, local or remote.
    """

    path: str

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
    def predictions(self) -> str:
        """Parquet file of the last evaluation's predictions."""
        return files.join(self.path, "predictions.parquet")

    @property
    def analysis(self) -> str:
        """JSON file of what follows from the predictions."""
        return files.join(self.path, "judgement.json")

    @property
    def calibration(self) -> str:
        """JSON file of the labels' calibrations."""
        return files.join(self.path, "calibration.json")

    @property
    def data_counts(self) -> str:
        """JSON file of what was counted of the data before the first step."""
        return files.join(self.path, "data.json")

    @contextlib.contextmanager
    def locked(self, doing: str = "training", option: str = "model_dir") -> Iterator[None]:
        """Inside the block no other process of this machine trains in the folder.

        The lock ends with the process, however that ends. Buckets, and file systems without locks,
        have none.

        Args:
            doing: what the processes do in the folder, for the message.
            option: the option that names the folder.

        Raises:
            RunMismatchError: another process holds it.
        """
        if files.is_remote(self.path) or fcntl is None:
            yield
            return
        path = files.join(self.path, ".lock")
        with files.system_errors(f"{path} cannot be locked"):
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

    def read_manifest(self) -> RunManifest | None:
        """The record of the run that the folder belongs to, or None when it is new.

        Raises:
            CheckpointError: the record cannot be read.
        """
        path = files.join(self.path, "run.json")
        if not files.exists(path):
            return None
        try:
            value = files.read_json(path)
            return RunManifest(
                value["spec"],
                value["spec_source"],
                LabelSchema.from_json(value["labels"]),
                value["train_data"],
                value["num_train_examples"],
                value["eval_data"],
                dict(value["settings"]),
                dict(value["origins"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, SpecError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise CheckpointError(
                f"{path} is damaged: {reason}. Restore it from a copy; or remove it and start the "
                "training's command again, which goes on from the newest checkpoint and writes it "
                "anew."
            ) from error

    def known_manifest(self) -> RunManifest:
        """The record of a folder that must be one of a run.

        Raises:
            CheckpointError: it is not, or the record cannot be read; says what it is instead, and
                where a model folder is near.
        """
        record = self.read_manifest()
        if record is None:
            raise CheckpointError(f"{self.path!r} {_instead_of_a_model_folder(self.path)}")
        return record

    def write_manifest(self, record: RunManifest) -> None:
        """Write the record and the label schema."""
        value = {
            "spec": record.spec,
            "spec_source": record.spec_source,
            "labels": record.schema.to_json(),
            "train_data": record.train_data,
            "num_train_examples": record.num_train_examples,
            "eval_data": record.eval_data,
            "settings": dict(record.settings),
            "origins": dict(record.origins),
            "versions": versions(),
        }
        files.write_json(files.join(self.path, "labels.json"), value["labels"])
        files.write_json(files.join(self.path, "run.json"), value)

    def put_back(self, record: RunManifest) -> None:
        """Write the record again if the folder was removed or emptied while a run trains in it."""
        if files.exists(files.join(self.path, "run.json")):
            return
        log.warning(
            "%s was removed while the run trains in it. It is written again, without the earlier "
            "checkpoints, evaluations and logs.",
            self.path,
        )
        files.make_folder(self.path)
        self.write_manifest(record)

    def check_same_run(self, record: RunManifest, *, allow_changes: bool) -> list[str]:
        """The differences between the folder's run and this one.

        Raises:
            RunMismatchError: there are some, and they are not allowed.
        """
        before = self.read_manifest()
        differences = before.differences(record) if before else []
        if differences and not allow_changes:
            raise RunMismatchError(
                f"{self.path} belongs to another run:\n  "
                + "\n  ".join(differences)
                + "\nUse another model_dir for a new run, repeat the settings to resume, or add "
                "--allow_changes to go on with these differences."
            )
        return differences

    def evaluations(self) -> list[dict[str, Any]]:
        """Every evaluation of the run, oldest first; a damaged line is left out, with a warning."""
        return self._lines("metrics.jsonl", {"step": int})

    def last_metrics(self) -> dict[str, float]:
        """The numbers of the last evaluation by name; empty without one."""
        lines = self.evaluations()
        numbers = lines[-1] if lines else {}
        left_out = ("step", "time", "num_examples")
        return {k: v for k, v in numbers.items() if isinstance(v, float) and k not in left_out}

    def write_evaluations(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write all evaluations."""
        files.write_json_lines(files.join(self.path, "metrics.jsonl"), lines)

    def add_later_evaluation(self, line: Mapping[str, Any]) -> None:
        """Keep an evaluation that was made after the training."""
        path = files.join(self.path, "evaluations.jsonl")
        files.write_json_lines(path, [*self.later_evaluations(), line])

    def later_evaluations(self) -> list[dict[str, Any]]:
        """Those evaluations, in the order in which they were made."""
        keys = {"step": int, "eval_metadata": list, "eval_data": str}
        return self._lines("evaluations.jsonl", keys)

    @staticmethod
    def bad_images_name(rank: int) -> str:
        """The file of the skipped images that a worker found."""
        return f"bad_images-{rank}.jsonl" if rank else "bad_images.jsonl"

    def write_bad_images(self, lines: Iterable[Mapping[str, Any]], rank: int = 0) -> None:
        """Write the list of the images that were skipped."""
        files.write_json_lines(files.join(self.path, self.bad_images_name(rank)), lines)

    def read_bad_images(self, rank: int = 0) -> list[dict[str, Any]]:
        """The images that were skipped."""
        return self._lines(self.bad_images_name(rank), {"where": str, "reason": str})

    def _lines(self, name: str, keys: Mapping[str, type]) -> list[dict[str, Any]]:
        """The lines of a file that have these keys, with values of these types.

        Whoever adds a line writes the file anew, without those that are damaged.
        """
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


def make_manifest(
    *,
    spec: str,
    spec_source: str,
    schema: LabelSchema,
    train_data: str,
    num_train_examples: int | None,
    eval_data: str,
    settings: Settings,
) -> RunManifest:
    """The record of a run that is about to start; arguments as the attributes of the record."""
    values = {name: _comparable(name, value) for name, value in settings.values().items()}
    return RunManifest(
        spec=spec,
        spec_source=spec_source,
        schema=schema,
        train_data=train_data,
        num_train_examples=num_train_examples,
        eval_data=eval_data,
        settings=values,
        origins=dict(settings.origins),
    )


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that decide the numbers."""
    found = {"tf_image_classification": tf_image_classification.__version__}
    found["python"] = platform.python_version()
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def evaluation_line(step: int, num_examples: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """One line of ``metrics.jsonl``."""
    values = {n: _json_value(v) for n, v in metrics.items()}
    return {"step": step, "num_examples": num_examples, "time": round(time.time(), 3), **values}


def _json_value(value: Any) -> Any:
    """A number or array as JSON knows it: what is not finite becomes null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_json_value(part) for part in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
