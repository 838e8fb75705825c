"""The checkpoints of one folder: written atomically, verified when read.

A checkpoint is a pair of TensorBundle files, ``step-00000123.index`` and ``.data-00000-of-00001``,
that ``tf.train.load_checkpoint`` reads; its tensors have plain names, e.g. ``model/conv/kernel``.
A step that is saved again gets files of its own, ``step-00000123-2.index``, before the first ones
are removed: a pair of files cannot be replaced atomically.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.errors import CheckpointError, DataError, short_message
from tf_image_classification.system import files

log = logging.getLogger("tf_image_classification")

_NOTES = "notes"  # the tensor with everything that is no tensor, as JSON
_NAME = re.compile(r"^step-(\d+)(?:-(\d+))?\.index$")
_UNFINISHED = ".unfinished-"
_DATA_SUFFIX = ".data-00000-of-00001"


@dataclasses.dataclass(frozen=True)
class Saved:
    """The content of a checkpoint.

    Attributes:
        step: steps done when it was written.
        tensors: values by name.
        notes: everything that is no tensor.
    """

    step: int
    tensors: Mapping[str, npt.NDArray[Any]]
    notes: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of a folder.

    Attributes:
        folder: local or remote; created by the first save.
        keep: number of the newest checkpoints to keep; -1: all.
    """

    folder: str
    keep: int = 5

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted({step for step, _ in self._found()})

    def prefix(self, step: int) -> str:
        """The path of a checkpoint, as TensorFlow names it: without ``.index``."""
        return self._path(step, _times_saved(step, self._found()))

    def _path(self, step: int, number: int) -> str:
        again = f"-{number}" if number > 1 else ""
        return files.join(self.folder, f"step-{step:08d}{again}")

    def _names(self) -> list[str]:
        """Every name in the folder; in a bucket each call is a request."""
        return files.list_folder(self.folder, with_hidden=True, missing_ok=True)

    def _found(self) -> list[tuple[int, int]]:
        """Step and save count of every checkpoint in the folder."""
        return _checkpoints_among(self._names())

    def save(
        self,
        step: int,
        tensors: Mapping[str, Any],
        notes: Mapping[str, Any],
        *,
        also_keep: Collection[int] = (),
    ) -> str:
        """Write a checkpoint; remove surplus ones and those of later steps.

        A later step exists when its checkpoint was damaged, or an earlier process went on from here
        and was killed; the run will reach that step again.

        Both files are written under a hidden name and moved, or uploaded to a bucket, when they are
        complete, the index last; a process killed at any time leaves the older ones usable.

        Args:
            step: steps done.
            tensors: values by name.
            notes: JSON values.
            also_keep: earlier steps whose checkpoints are kept beside the newest ones.

        Returns:
            The checkpoint's path.

        Raises:
            CheckpointError: it cannot be written, e.g. because the disk is full.
        """
        is_remote = files.is_remote(self.folder)
        place = tempfile.mkdtemp(prefix="tfic-") if is_remote else self.folder
        unfinished = os.path.join(place, _UNFINISHED + uuid.uuid4().hex)
        try:
            if not is_remote:  # a bucket has no folders
                files.make_folder(self.folder)
            names = self._names()
            self._remove_leftovers(names)
            before = _checkpoints_among(names)
            path = self._path(step, _times_saved(step, before) + 1)
            tf.raw_ops.SaveV2(
                prefix=os.path.join(unfinished, "step"),
                tensor_names=[*tensors, _NOTES],
                shape_and_slices=[""] * (len(tensors) + 1),
                tensors=[*map(tf.convert_to_tensor, tensors.values()), json.dumps(dict(notes))],
            )
            for suffix in (_DATA_SUFFIX, ".index"):
                written = os.path.join(unfinished, "step" + suffix)
                _flush_to_disk(written)
                move = files.upload if is_remote else files.rename
                move(written, path + suffix)
        except (OSError, tf.errors.OpError, DataError) as error:
            with contextlib.suppress(OSError, DataError):  # the first error is the one to report
                self._remove_leftovers(self._names())
            raise CheckpointError(
                f"The checkpoint of step {step} cannot be written to {self.folder}: "
                f"{short_message(error)}. "
                "Older checkpoints are untouched; free some space or correct the folder, and start "
                "the same command again to resume."
            ) from error
        finally:
            files.remove(place if is_remote else unfinished)
        kept = sorted({other for other, _ in before if other < step} | {step})
        if self.keep >= 0:
            newest = kept[-max(self.keep, 1) :]
            kept = [other for other in kept if other in newest or other in also_keep]
        for other, number in before:
            if other == step or other not in kept:
                self._remove(other, number)
        return path

    def load(self, step: int) -> Saved:
        """Read a checkpoint; every tensor's checksum is verified.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        return _load(self.prefix(step), step)

    def newest(self) -> Saved | None:
        """The newest readable checkpoint, or None when the folder has no checkpoint.

        Raises:
            CheckpointError: the folder has checkpoints, but none is readable.
        """
        found = self._found()
        for step in sorted({step for step, _ in found}, reverse=True):
            try:
                return _load(self._path(step, _times_saved(step, found)), step)
            except CheckpointError as error:
                before = "" if step == min(s for s, _ in found) else " The one before is used."
                log.warning("%s.%s", str(error).rstrip("."), before)
        if found:
            raise CheckpointError(
                f"None of the checkpoints in {self.folder} can be read. Restore one from a copy, "
                "or remove that folder; training then makes new ones."
            )
        return None

    def _remove(self, step: int, number: int) -> None:
        """Remove a checkpoint, its index first, so that it is never incomplete."""
        for suffix in (".index", _DATA_SUFFIX):
            files.remove_file(self._path(step, number) + suffix)

    def _remove_leftovers(self, names: Iterable[str]) -> None:
        """Remove the leftovers of a process that was killed during a save or a removal."""
        whole = {name.removesuffix(".index") for name in names if name.endswith(".index")}
        for name in names:
            if name.startswith(_UNFINISHED):
                files.remove(files.join(self.folder, name))
            elif name.endswith(_DATA_SUFFIX) and name.removesuffix(_DATA_SUFFIX) not in whole:
                files.remove_file(files.join(self.folder, name))


def _checkpoints_among(names: Iterable[str]) -> list[tuple[int, int]]:
    found = (_NAME.match(name) for name in names)
    return [(int(match[1]), int(match[2] or 1)) for match in found if match]


def _times_saved(step: int, found: Iterable[tuple[int, int]]) -> int:
    return max((number for other, number in found if other == step), default=0)


def _load(prefix: str, step: int) -> Saved:
    tensors = read_tensors(prefix)
    try:
        notes = json.loads(tensors.pop(_NOTES).item())
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"The checkpoint {prefix} holds no notes of a run.") from error
    return Saved(step, tensors, notes)


def read_tensors(prefix: str) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of a TensorFlow checkpoint by name; checksums are verified.

    Args:
        prefix: the checkpoint's path without ``.index``.

    Raises:
        CheckpointError: a file is missing or damaged.
        DataError: the bucket cannot be read, so the state of the checkpoint is unknown.
    """
    try:
        with _local_copy(prefix) as local:
            reader = tf.train.load_checkpoint(local)
            names = reader.get_variable_to_shape_map()
            return {name: _as_array(reader.get_tensor(name)) for name in names}
    except (tf.errors.OpError, OSError, ValueError, RuntimeError, IndexError) as error:
        reason = str(error).partition("\n")[0]  # an IndexError when the data end too early
        raise CheckpointError(f"The checkpoint {prefix} cannot be read: {reason}") from error


def _as_array(value: Any) -> npt.NDArray[Any]:
    """A value as an array; bytes as objects, since NumPy's bytes lose zeros at their end."""
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


@contextlib.contextmanager
def _local_copy(prefix: str) -> Iterator[str]:
    """A local prefix: of a remote checkpoint a copy, to avoid a request per tensor."""
    if not files.is_remote(prefix):
        yield prefix
        return
    folder, _, name = prefix.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="tfic-") as place:
        for part in files.list_folder(folder, missing_ok=True):
            if part == name or part.startswith((f"{name}.index", f"{name}.data-")):
                files.download(files.join(folder, part), os.path.join(place, part))
        yield os.path.join(place, name)


def _flush_to_disk(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
