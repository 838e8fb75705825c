"""A run that is killed again and again ends as one that was never stopped."""

import json
import os
import subprocess
import sys

import kill_server
import pytest

import tiny_runs
from tf_image_classification.checkpoints.store import CheckpointStore

SERVER = kill_server.__file__


@pytest.mark.slow
@pytest.mark.parametrize(
    "places",
    [["rename"], pytest.param(kill_server.ALL_PLACES, marks=pytest.mark.exhaustive)],
    ids=["rename", "all"],
)
def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path, places):
    tiny_runs.write_records(tmp_path)
    tiny_runs.write_records(tmp_path, "eval", count=16, seed=1)
    done = subprocess.run(
        [sys.executable, SERVER, str(tmp_path), *places],
        capture_output=True,
        text=True,
    )
    print(done.stdout, done.stderr[-2000:])
    if done.returncode:
        print((tmp_path / "log.txt").read_text()[-5000:])
    assert done.returncode == 0
    attempts = [json.loads(line) for line in done.stdout.splitlines()]
    kills = [a for a in attempts if a["plan"]]
    assert {a["status"] for a in kills} <= {-9, 0}, (tmp_path / "log.txt").read_text()[-5000:]
    assert sum(a["status"] == -9 for a in kills) >= max(1, len(kills) - 2)
    assert attempts[-1]["status"] == 0

    expected = tiny_runs.last_checkpoint(tmp_path / "reference")
    found = tiny_runs.last_checkpoint(tmp_path / "killed")
    assert found.step == kill_server.TRAIN_STEPS
    tiny_runs.assert_same_bits(found, expected)
    assert found.notes == expected.notes
    prefixes = {name.partition("/")[0] for name in found.tensors}
    assert prefixes == {"average", "loss_count", "loss_sum", "model", "optimizer", "step"}

    lines = tiny_runs.evaluations(tmp_path / "killed")
    assert [line["step"] for line in lines] == [*range(7, found.step, 7), found.step]
    assert lines == tiny_runs.evaluations(tmp_path / "reference")

    stores = [CheckpointStore(str(tmp_path / run / "best")) for run in ("killed", "reference")]
    best = [store.load(store.steps()[-1]) for store in stores]
    tiny_runs.assert_same_bits(*best)
    names = os.listdir(tmp_path / "killed" / "checkpoints")
    before = (found.step - 1) // 3 * 3  # the save before the last
    assert sorted(n for n in names if n.endswith(".index")) == [
        f"step-{step:08d}.index" for step in (before, found.step)
    ]
    assert not [name for name in names if name.startswith(".")]
