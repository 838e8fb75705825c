"""A file of predictions that is written row by row and can be resumed.

    with PredictionFile("out.csv", rows, identity, resume=True, cache_dir=folder) as output:
        for uri in output.written_uris(): ...          # the rows of an interrupted process
        output.add(row)
        output.complete()

Until it is complete, the rows are in ``out.csv.part`` (JSON lines for Parquet), and
``out.csv.part.json`` holds the number of complete rows and bytes, and the identity: the model and
the settings of the rows. However the process ends, these two are enough to continue. The last step
renames them to ``out.csv`` and ``out.csv.json``. A file for a bucket is written on this machine and
uploaded when it is complete.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

from tf_image_classification.errors import ConfigError, DataError, RunMismatchError
from tf_image_classification.serving.prediction_rows import PredictionRows, Row, as_json
from tf_image_classification.system import files

KINDS = ("csv", "jsonl", "parquet")
_STATE_INTERVAL_SECS = 0.5
_ROW_GROUP_SIZE = 10_000  # of Parquet


class PredictionFile:
    """One file of predictions, new or continued.

    Attributes:
        path: the complete file.
        part_path: the rows so far.
        num_rows: rows so far.
        num_bad: those of images that could not be used.
        is_complete: whether all rows are written.
    """

    def __init__(
        self,
        path: str,
        rows: PredictionRows,
        identity: Mapping[str, Any],
        *,
        resume: bool,
        cache_dir: str,
    ) -> None:
        """Nothing is read or written before the ``with`` block.

        Args:
            path: the file to write; its suffix decides the format.
            rows: the columns.
            identity: everything that the rows depend on besides the images; plain JSON.
            resume: whether rows of an interrupted process are kept.
            cache_dir: folder of this machine for the rows of a file in a bucket.
        """
        self.path = path
        self.kind = path.rpartition(".")[2].lower()
        local = path
        if files.is_remote(path):
            digest = hashlib.sha256(path.encode()).hexdigest()[:16]
            local = os.path.join(cache_dir, "predictions", f"{digest}.{self.kind}")
        self.part_path = f"{local}.part"
        self._state_path = f"{local}.part.json"
        self._rows, self._identity, self._resume = rows, dict(identity), resume
        self._stream: IO[bytes] | None = None
        self.num_rows = self.num_bad = self._num_bytes = 0
        self._state_written_at = 0.0
        self.is_complete = False

    def __enter__(self) -> PredictionFile:
        """Begin or continue.

        Raises:
            ConfigError: rows of an interrupted process exist and ``resume`` is False; or another
                process writes the file.
            RunMismatchError: the existing rows come from another model or other settings.
            DataError: the file cannot be written, or was changed.
        """
        files.make_folder(os.path.dirname(self.part_path) or ".")
        is_begun = files.exists(self.part_path)
        if not is_begun and files.exists(self.path):
            files.remove(self._state_path)  # killed after the last step but one of ``complete``
            if self._resume:
                self._resume_complete()
                return self
        try:
            stream = open(self.part_path, "ab", buffering=0)
        except OSError as error:
            raise DataError(
                f"{self.part_path} cannot be written: {error.strerror or error}. Choose another "
                "output."
            ) from error
        try:
            self._lock(stream)
            self._resume_part(stream)
        except BaseException:
            stream.close()
            if not is_begun:
                files.remove(self.part_path)
            raise
        return self

    def _resume_complete(self) -> None:
        state = self._read_state(f"{self.path}.json")
        if state is None:
            raise ConfigError(
                f"{self.path} cannot be continued: {self.path}.json, with the model and settings "
                "of its rows, is missing. Choose another output, or leave --resume out."
            )
        self._check_same(state)
        self.num_rows, self.num_bad = state["rows"], state["bad"]
        self.is_complete = True

    def _resume_part(self, stream: IO[bytes]) -> None:
        """Keep the complete rows of an interrupted process, or begin a new file."""
        state = self._read_state(self._state_path)
        if state is not None and not self._resume and state["rows"]:
            raise ConfigError(
                f"{self.part_path} holds {state['rows']:,} rows of an interrupted run. Add "
                f"--resume to continue it, or remove {self.part_path} and {self._state_path}."
            )
        if state is not None and self._resume:
            self._check_same(state)
            self.num_rows, self.num_bad = state["rows"], state["bad"]
            self._num_bytes = state["bytes"]
        if os.fstat(stream.fileno()).st_size < self._num_bytes:
            raise DataError(
                f"{self.part_path} is shorter than {self._state_path} says. Restore it, or remove "
                "both."
            )
        stream.truncate(self._num_bytes)  # without a row that was cut in two
        self._stream = stream
        if not self._num_bytes and self.kind == "csv":
            self._write(self._rows.csv_header())
        self._write_state()

    def _lock(self, stream: IO[bytes]) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"Another process is writing {self.part_path}. Wait until it ends, or choose "
                "another output."
            ) from error
        except OSError:  # a file system without locks
            return

    def _check_same(self, state: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(self._identity))
        different = [
            f"{name}: {state['identity'].get(name)!r} there, {value!r} now"
            for name, value in now.items()
            if state["identity"].get(name) != value
        ]
        if different:
            raise RunMismatchError(
                f"{self.path} was begun with something else: {'; '.join(different)}. Repeat the "
                "command as it was, or choose another output."
            )

    @staticmethod
    def _read_state(path: str) -> dict[str, Any] | None:
        if not files.exists(path):
            return None
        try:
            found = files.read_json(path)
            if {"identity", "rows", "bad", "bytes"} <= set(found):
                return dict(found)
        except (ValueError, TypeError):
            pass
        raise DataError(f"{path} is damaged. Remove or restore it.")

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Close the file and keep its rows."""
        if self._stream is None:
            return
        try:
            if self.num_rows and not self.is_complete:
                with contextlib.suppress(DataError):  # a full disk: the earlier state is valid
                    self._write_state()
        finally:
            self._stream.close()
            self._stream = None
        if not self.num_rows and not self.is_complete:
            files.remove(self.part_path)
            files.remove(self._state_path)

    def written_uris(self) -> Iterator[str]:
        """The ``uri`` of every row that an interrupted process has written, in order."""
        if self.is_complete:
            yield from _uris(self.path, self.kind)
        else:
            kind = "csv" if self.kind == "csv" else "jsonl"
            yield from itertools.islice(_uris(self.part_path, kind), self.num_rows)

    def add(self, row: Row) -> None:
        """Write a row; from then on it survives any end of the process."""
        self._write(self._rows.as_csv(row) if self.kind == "csv" else as_json(row))
        self.num_rows += 1
        self.num_bad += bool(row["error"])
        if time.monotonic() - self._state_written_at > _STATE_INTERVAL_SECS:
            self._write_state()

    def _write(self, text: str) -> None:
        assert self._stream is not None
        data = memoryview(text.encode())
        try:
            while data:
                data = data[self._stream.write(data) :]
        except OSError as error:
            raise DataError(
                f"{self.part_path} cannot be written: {error.strerror or error}. Its "
                f"{self.num_rows:,} rows are kept: make room, and continue with --resume."
            ) from error
        self._num_bytes += len(text.encode())

    def _write_state(self) -> None:
        self._state_written_at = time.monotonic()
        value = {
            "identity": self._identity,
            "rows": self.num_rows,
            "bad": self.num_bad,
            "bytes": self._num_bytes,
        }
        files.write_json(self._state_path, value)

    def complete(self) -> None:
        """Move the file to its final name."""
        assert self._stream is not None
        os.fsync(self._stream.fileno())
        self._write_state()
        made = self.part_path
        if self.kind == "parquet":
            made = f"{self.part_path}.parquet"
            self._write_parquet(made)
        files.write_bytes(f"{self.path}.json", files.read_bytes(self._state_path))
        if files.is_remote(self.path):
            files.upload(made, self.path)
            files.remove(made)
        else:
            files.rename(made, self.path)
        files.remove(self.part_path)
        files.remove(self._state_path)
        self.is_complete = True

    def _write_parquet(self, path: str) -> None:
        from pyarrow import parquet  # late: it takes half a second

        schema = self._rows.as_table([]).schema
        with (
            files.atomic_write(path) as stream,
            open(self.part_path, encoding="utf-8") as lines,
            parquet.ParquetWriter(stream, schema, compression="zstd") as writer,
        ):
            while group := list(map(json.loads, itertools.islice(lines, _ROW_GROUP_SIZE))):
                writer.write_table(self._rows.as_table(group))


def _uris(path: str, kind: str) -> Iterator[str]:
    """The column ``uri`` of a file, row by row.

    Raises:
        DataError: it is not a file of predictions.
    """
    try:
        with files.open_for_reading(path) as stream:
            if kind == "parquet":
                from pyarrow import parquet  # late, as above

                source = io.BytesIO(stream.read()) if files.is_remote(path) else stream
                for batch in parquet.ParquetFile(source).iter_batches(columns=["uri"]):
                    yield from batch.column(0).to_pylist()
                return
            text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
            if kind == "csv":
                for row in csv.DictReader(text):
                    yield row["uri"]
            else:
                for line in text:
                    yield json.loads(line)["uri"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} holds something else than predictions ({error!r}). Restore or remove it."
        ) from error
