"""The digits example, which ``make demo`` runs: it learns, and a second start says that it has."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mnist" / "train_mnist.py"


@pytest.mark.slow
def test_the_example_learns_and_a_second_start_finds_it_complete(tmp_path):
    def start(*more):
        command = [sys.executable, str(EXAMPLE), "--model_dir", str(tmp_path / "digits"),
                   "--records_dir", str(tmp_path / "records"), "--epochs", "4", *more]  # fmt: skip
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first, second = start(), start()
    assert "new run in" in first and "The run is complete: 79 steps are done" in second
    for part in ("model folder:", "TensorBoard:", "evaluate:", "resume:"):
        assert part in first
    of_test = [
        re.search(r"test set.*accuracy +(\S+)", text, re.DOTALL)[1] for text in (first, second)
    ]
    assert of_test[0] == of_test[1] and float(of_test[0]) > 0.9
