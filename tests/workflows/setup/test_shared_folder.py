"""Workers that do not have the same model folder are told before the first step.

Here they are threads; real processes do the same in the tests of several workers.
"""

import concurrent.futures
import os
import threading

import numpy as np

from tf_image_classification.errors import RunMismatchError
from tf_image_classification.workflows.setup import shared_folder


class Worker:
    """One of several threads, with the part of ``Workers`` that is asked for."""

    def __init__(self, rank, count, barrier, rows):
        self.rank, self.count, self._barrier, self._rows = rank, count, barrier, rows

    @property
    def is_writer(self):
        return self.rank == 0

    def name(self, rank):
        return f"worker {rank}"

    def exchange(self, numbers):
        self._rows[self.rank] = numbers
        self._barrier.wait(30)
        found = np.array(self._rows, np.float64)
        self._barrier.wait(30)
        return found

    def wait_for_all(self):
        self.exchange([0.0])


def check(folders):
    """What each worker's check ends with, and what is left in the folders."""
    barrier, rows = threading.Barrier(len(folders)), [None] * len(folders)
    for folder in folders:
        folder.mkdir(exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(len(folders)) as pool:
        workers = [Worker(rank, len(folders), barrier, rows) for rank in range(len(folders))]
        futures = [
            pool.submit(shared_folder.check_shared, str(folder), worker)
            for folder, worker in zip(folders, workers, strict=True)
        ]
        errors = [future.exception() for future in futures]
    return errors, [os.listdir(folder) for folder in folders]


def test_one_folder_is_accepted_and_left_as_it_was(tmp_path):
    assert check([tmp_path / "a"] * 3) == ([None] * 3, [[]] * 3)


def test_another_folder_is_refused_by_every_worker_with_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_folder, "_LOOK_SECS", 0.0)
    errors, left = check([tmp_path / name for name in "aba"])
    assert left == [[], [], []]
    for error, name in zip(errors, "aba", strict=True):
        assert isinstance(error, RunMismatchError)
        assert str(error).startswith(
            "worker 1 did not find the file that worker 0 has just written"
        )
        assert f"this worker's is {tmp_path / name}." in str(error)


def test_a_file_that_appears_late_is_waited_for(tmp_path, monkeypatch):
    """As on a network file system."""
    looks = []

    def exists(path):
        looks.append(path)
        return len(looks) > 2

    monkeypatch.setattr(shared_folder.files, "exists", exists)
    monkeypatch.setattr(shared_folder, "_RETRY_SECS", 0.01)
    assert shared_folder._appears("x")
    assert len(looks) == 3


def test_one_worker_alone_writes_nothing(tmp_path):
    shared_folder.check_shared(str(tmp_path / "none"), Worker(0, 1, None, None))
    assert not (tmp_path / "none").exists()
