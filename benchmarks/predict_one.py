"""One picture from the command line: seconds and memory of each engine, and of a script.

    python benchmarks/predict_one.py MODEL_DIR IMAGE [--onnx MODEL.onnx] [--rounds 5]
        [--engines auto onnx]

Each round starts every program once, in turn; printed are medians, the minimum seconds of computing
(user and system, which other processes of the machine disturb least) and the ratios to the script:
a hand-written one with ONNX Runtime (``peers/onnx_script.py``), which runs the file of
``tfic export --format onnx``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
"""Modules are compiled once, as ``pip`` does it for a package that is installed."""

SCRIPT = os.path.join(os.path.dirname(__file__), "peers", "onnx_script.py")


def measured(command):
    """Wall seconds, seconds of computing and peak memory in MB of a process."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}\n{errors.decode()}")
    computed = usage.ru_utime + usage.ru_stime
    return time.monotonic() - began, computed, usage.ru_maxrss / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("image")
    parser.add_argument("--onnx", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", nargs="+", default=["auto", "onnx", "tensorflow"])
    given = parser.parse_args()
    onnx = given.onnx or os.path.join(given.model_dir, "exports", "onnx", "model.onnx")
    predict = [sys.executable, "-m", "tf_image_classification", "predict", given.model_dir]
    programs = {
        f"tfic predict --engine {engine}": [*predict, given.image, "--engine", engine]
        for engine in given.engines
    }
    programs["script with ONNX Runtime"] = [sys.executable, SCRIPT, onnx, given.image]
    found = {name: [] for name in programs}
    for number in range(given.rounds + 1):
        for name, command in programs.items():
            numbers = measured(command)
            if number:  # the first round fills the caches of the file system
                found[name].append(numbers)
    of_script = _figures(found["script with ONNX Runtime"])
    for name, numbers in found.items():
        secs, computed, memory = _figures(numbers)
        print(
            f"{name:<34} {secs:6.2f} s, {computed:5.2f} s of computing, {memory:4.0f} MB, "
            f"ratios {secs / of_script[0]:5.2f}, {computed / of_script[1]:5.2f}"
        )


def _figures(numbers):
    """Median seconds, minimum seconds of computing and median memory of the rounds."""
    secs, computed, memory = zip(*numbers, strict=True)
    return statistics.median(secs), min(computed), statistics.median(memory)


if __name__ == "__main__":
    main()
