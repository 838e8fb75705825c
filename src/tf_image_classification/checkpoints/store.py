"""Checkpoints of one folder: written whole or not at all, found by name, verified when read.

A checkpoint is a pair of TensorBundle files, ``step-00000123.index`` and ``.data-00000-of-00001``,
that ``tf.train.load_checkpoint`` reads; its tensors have plain names such as ``model/conv/kernel``.
A step that is saved again gets files of its own, ``step-00000123-2.index``, before the first ones
go: a pair of files cannot be replaced in one instant.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification import files
from tf_image_classification.errors import CheckpointError, DataError

log = logging.getLogger("tf_image_classification")

_NOTES = "notes"  # the tensor that holds everything that is no tensor, as JSON
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
        folder: where they lie, local or remote; created by the first save.
        keep: how many of the newest remain; -1 for all.
    """

    folder: str
    keep: int = 5

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted({step for step, _ in self._found()})

    def prefix(self, step: int) -> str:
        """The path of a checkpoint, as TensorFlow names it: without ``.index``."""
        return self._path(step, max((n for s, n in self._found() if s == step), default=1))

    def _path(self, step: int, number: int) -> str:
        again = f"-{number}" if number > 1 else ""
        return files.join(self.folder, f"step-{step:08d}{again}")

    def _found(self) -> list[tuple[int, int]]:
        """Step and how many times it had been saved, of every checkpoint that is there."""
        if not files.exists(self.folder):
            return []
        found = (_NAME.match(name) for name in files.list_folder(self.folder))
        return [(int(match[1]), int(match[2] or 1)) for match in found if match]

    def save(self, step: int, tensors: Mapping[str, Any], notes: Mapping[str, Any]) -> str:
        """Write a checkpoint and remove those that are too many, or of later steps.

        A later step is there when it was damaged, or of a life of the run that went on from here
        and was cut off; the run will come to it anew.

        Both files are written where no reader looks, and moved, or uploaded to a bucket, when they
        are complete, the index last; a process killed at any instant leaves the older ones usable.

        Args:
            step: steps done.
            tensors: values by name.
            notes: values that JSON can hold.

        Returns:
            The checkpoint's path.

        Raises:
            CheckpointError: it cannot be written, for instance because the disk is full.
        """
        is_remote = files.is_remote(self.folder)
        place = tempfile.mkdtemp(prefix="tfic-") if is_remote else self.folder
        unfinished = os.path.join(place, _UNFINISHED + uuid.uuid4().hex)
        try:
            if not is_remote:  # a bucket has no folders to make
                files.make_folder(self.folder)
            self._remove_leftovers()
            before = self._found()
            number = max((n + 1 for s, n in before if s == step), default=1)
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
                move(written, self._path(step, number) + suffix)
        except (OSError, tf.errors.OpError, DataError) as error:
            self._remove_leftovers()
            message = getattr(error, "message", str(error)).splitlines()[0]
            raise CheckpointError(
                f"The checkpoint of step {step} cannot be written to {self.folder}: {message}. "
                "Older checkpoints are untouched; free some space or correct the folder, and start "
                "the same command again to resume."
            ) from error
        finally:
            files.remove(place if is_remote else unfinished)
        for other, times in before:
            if other >= step:
                self._remove(other, times)
        self._remove_old()
        return self._path(step, number)

    def load(self, step: int) -> Saved:
        """Read a checkpoint; every tensor's checksum is verified.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        prefix = self.prefix(step)
        tensors = read_tensors(prefix)
        try:
            notes = json.loads(tensors.pop(_NOTES).item())
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"The checkpoint {prefix} holds no notes of a run.") from error
        return Saved(step, tensors, notes)

    def newest(self) -> Saved | None:
        """The newest checkpoint that can be read, or None when the folder has none.

        Raises:
            CheckpointError: the folder has checkpoints, and not one of them can be read.
        """
        for step in reversed(self.steps()):
            try:
                return self.load(step)
            except CheckpointError as error:
                log.warning("%s. Falling back to the one before.", error)
        if self.steps():
            raise CheckpointError(
                f"None of the checkpoints in {self.folder} can be read. Remove the folder to start "
                "again."
            )
        return None

    def remove(self, step: int) -> None:
        """Remove a checkpoint, its index first, so that it is never half there."""
        for other, number in self._found():
            if other == step:
                self._remove(step, number)

    def _remove(self, step: int, number: int) -> None:
        for suffix in (".index", _DATA_SUFFIX):
            files.remove_file(self._path(step, number) + suffix)

    def _remove_old(self) -> None:
        if self.keep >= 0:
            for step in self.steps()[: -max(self.keep, 1)]:
                self.remove(step)

    def _remove_leftovers(self) -> None:
        """What a process left behind that was killed while it saved or removed a checkpoint."""
        if not files.exists(self.folder):
            return
        names = files.list_folder(self.folder, with_hidden=True)
        whole = {name.removesuffix(".index") for name in names if name.endswith(".index")}
        for name in names:
            is_orphan = name.endswith(_DATA_SUFFIX) and name.removesuffix(_DATA_SUFFIX) not in whole
            if is_orphan or name.startswith(_UNFINISHED):
                files.remove(files.join(self.folder, name))


def read_tensors(prefix: str) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of a TensorFlow checkpoint by name; each one's checksum is verified.

    Args:
        prefix: the checkpoint's path without ``.index``.

    Raises:
        CheckpointError: a file is missing or damaged.
        DataError: a bucket refuses to give it, so that nothing is known of its state.
    """
    try:
        reader = tf.train.load_checkpoint(prefix)
        names = reader.get_variable_to_shape_map()
        return {name: np.asarray(reader.get_tensor(name)) for name in names}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        _check_access(prefix)
        reason = str(error).partition("\n")[0]  # an IndexError when the data end too early
        raise CheckpointError(f"The checkpoint {prefix} cannot be read: {reason}") from error


def _check_access(prefix: str) -> None:
    """See that a bucket gives the files of a checkpoint: one that it refuses is not damaged.

    Raises:
        DataError: it does not.
    """
    for suffix in (".index", _DATA_SUFFIX) if files.is_remote(prefix) else ():
        if files.exists(prefix + suffix):
            with files.open_for_reading(prefix + suffix) as stream:
                stream.read(1)


def _flush_to_disk(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
