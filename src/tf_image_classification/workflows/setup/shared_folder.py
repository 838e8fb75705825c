"""Checks that all workers see the same model folder."""

from __future__ import annotations

import time
import uuid

from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import RunMismatchError
from tf_image_classification.system import files

_LOOK_SECS = 10.0  # a network file system may show a new file late
_RETRY_SECS = 0.5
_NUM_BITS = 48  # of the token, which travels as a float64


def check_shared(path: str, workers: Workers) -> None:
    """Check that all workers see the same model folder; a collective call.

    The first worker writes a file with a random name, which the others look for. Only the first one
    writes a model folder, so folders of their own would not be noticed before the run is resumed.

    Raises:
        RunMismatchError: names the workers that do not see the file.
    """
    if workers.count == 1:
        return
    own = uuid.uuid4().int >> (128 - _NUM_BITS)
    token = int(workers.exchange([own])[0, 0])
    file = files.join(path, f".shared-{token:012x}")
    if workers.is_writer:
        files.write_bytes(file, b"")
    try:
        workers.wait_for_all()  # until it is written
        sees = workers.exchange([_appears(file)])[:, 0]
    finally:
        if workers.is_writer:
            files.remove_file(file)
    blind = [workers.name(rank) for rank in range(workers.count) if not sees[rank]]
    if blind:
        raise RunMismatchError(
            f"{' and '.join(blind)} did not find the file that {workers.name(0)} has just written "
            f"to its model folder; this worker's is {path}. Every worker needs the same folder: "
            "name one on a shared disk or in a bucket (gs://) with --model_dir."
        )


def _appears(file: str) -> bool:
    """Whether a file is there, or comes within some seconds."""
    deadline = time.monotonic() + _LOOK_SECS
    while not files.exists(file):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_RETRY_SECS)
    return True
