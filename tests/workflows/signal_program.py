"""Runs ``tfic`` in processes that get a signal at a chosen moment; for tests of how they end.

A moment is the call of a function, "module:name" or "module:Class.name", or the import of a module,
"import:module": there the process sends the signal to itself. Importing TensorFlow takes seconds,
forking milliseconds, so a ``Server`` imports it once and forks a child for each attempt.

    with Server() as server:
        ended = server.run(["train", ...], (OPEN_RUN, 15))
    ended.status, ended.stderr
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
HERE = os.path.dirname(os.path.abspath(__file__))
SPEC = os.path.join(HERE, "signal_spec.py") + ":Spec"


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended: its status, or minus the signal that killed it, and what it printed."""

    status: int
    stdout: str
    stderr: str


class Server:
    """Forks processes from one that has imported TensorFlow and never used it."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)

    def run(self, arguments, *moments, **surroundings):
        """Run ``tfic`` with these arguments.

        Args:
            arguments: of ``tfic``; one without a verb is an error of the test.
            moments: where, which signal, and optionally at which call from 1 on.
            surroundings: as ``surround`` takes them.
        """
        with tempfile.TemporaryDirectory() as folder:
            request = {"arguments": arguments, "moments": moments, "folder": folder}
            print(json.dumps(request | surroundings), file=self._process.stdin, flush=True)
            status = json.loads(self._process.stdout.readline())
            return Ended(status, *(read(os.path.join(folder, n)) for n in ("out", "err")))


def read(path):
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def trap(where, number, at=1, put=setattr):
    """Send the signal to this process when it comes to a place for the n-th time."""
    left = [at]

    def passes():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), number)

    module, _, name = where.partition(":")
    if module == "import":
        sys.meta_path.insert(0, _Finder(name, passes))
        return
    before_call(where, passes, put)


def before_call(where, action, put=setattr):
    """Do something before each call of a function, "module:name" or "module:Class.name"."""
    module, _, name = where.partition(":")
    *classes, name = name.split(".")
    holder = functools.reduce(getattr, classes, importlib.import_module(module))
    function = getattr(holder, name)

    def call(*positional, **named):
        action()
        return function(*positional, **named)

    put(holder, name, call)


class _Finder:
    def __init__(self, name, passes):
        self.name, self.passes = name, passes

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            self.passes()


def surround(*, full_at="", most_files=0):
    """Make the machine a bad one.

    Args:
        full_at: a moment from which on no file may grow beyond some bytes, as on a full disk.
        most_files: files that the process may have open.
    """
    if most_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    if full_at:
        full = (256, resource.RLIM_INFINITY)
        before_call(full_at, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, full))


def act(arguments, moments, **surroundings):
    """Be the process ``tfic`` with these arguments; returns its status."""
    sys.argv = ["tfic", *arguments]
    for moment in moments:
        trap(*moment)
    surround(**surroundings)
    try:
        from tf_image_classification.cli import main

        return main.main()
    except SystemExit as ended:
        return ended.code
    except BaseException:
        traceback.print_exc()
        return 1


def serve():
    import keras
    import tensorflow as tf

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            folder = request.pop("folder")
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT), number)
            sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
            if not os.environ.get("TFIC_ALL_TESTS"):
                tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
            status = act(**request)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps(status), flush=True)
    del keras


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(act(**json.loads(sys.argv[1])))
    serve()
