"""Damaged files end no process, take no minutes and no gigabytes, and give the same bits always.

The files are decoded in a process of its own, since what is looked for are aborts and hangs, under
the checking allocator of glibc where there is one: it ends the process at the first byte that was
written outside a block.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dataset import mutants
from dataset.image.test_decode import assert_close, decode, pillow
from dataset.mutants import KINDS

PROGRAM = Path(mutants.__file__)
_STUCK_SECS = 300  # without a line: far beyond any file here, also on a busy machine
_MOST_KIB = 150_000  # more than all copies of 1,000,000 pixels that one file can need


def checked_environment(*, perturb=0):
    """The environment of a process whose allocator checks every block that it frees."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    debugging = [
        path
        for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")
        if (path := Path(folder) / "libc_malloc_debug.so.0").exists()
    ]
    if debugging:
        environment["LD_PRELOAD"] = str(debugging[0])
        tunables = ["glibc.malloc.check=3", *([f"glibc.malloc.perturb={perturb}"] * bool(perturb))]
        environment["GLIBC_TUNABLES"] = ":".join(tunables)
    return environment


def decoded_in_a_child(folder, kinds, count=0, **options):
    """What became of each file, by kind and name; fails where one ends or stops the process."""
    progress = folder / "progress.txt"
    progress.write_text("")
    command = [sys.executable, str(PROGRAM), str(progress), ",".join(kinds), "0", str(count)]
    with open(folder / "stderr.txt", "wb") as errors:
        child = subprocess.Popen(command, env=checked_environment(**options), stderr=errors)
        seen, since = -1, time.monotonic()
        try:
            while child.poll() is None:
                time.sleep(0.05)
                if (size := progress.stat().st_size) != seen:
                    seen, since = size, time.monotonic()
                stands_still = time.monotonic() - since > _STUCK_SECS
                assert not stands_still, f"stuck at {progress.read_text().splitlines()[-1:]}"
        finally:
            child.kill()
            child.wait()
    lines = progress.read_text().splitlines()
    said = (folder / "stderr.txt").read_bytes()[-2000:].decode(errors="replace")
    assert lines and json.loads(lines[-1]) == "done", (child.returncode, lines[-1:], said)
    return [row for line in lines[:-1] if "decode" in (row := json.loads(line))]


def check(rows):
    """Each is an image within the limit or refused with a reason, and not to be told apart."""
    for row in rows:
        is_refused = row["decode"] == "refused"
        assert bool(row["reason"]) == bool(row["problem"]) == is_refused, row
        if not is_refused:
            # The other way round a part may be sound where the damage lies behind it.
            assert "refused" not in (row["evaluation"], row["training"]), row
            assert 0 < np.prod(row["shape"][:2]) <= mutants.LIMIT, row
        assert row["peak_kib"] <= _MOST_KIB, row


@pytest.mark.slow
def test_some_damaged_files_of_every_format_are_images_or_refused(tmp_path):
    rows = decoded_in_a_child(tmp_path, (*KINDS, "heavy"), 12)
    assert [row["kind"] for row in rows if row["kind"] != "heavy"] == [
        kind for kind in KINDS for _ in range(12)
    ]
    check(rows)
    found = {row["name"]: row["decode"] for row in rows if row["kind"] == "heavy"}
    for name, (expected, _) in mutants.HEAVY.items():
        assert expected in (found[name], "either"), name
    reasons = {row["name"]: row["reason"] for row in rows if row["kind"] == "heavy"}
    for name in ("a JPEG of many scans", "a JPEG of many sequential scans"):
        assert "scans, more than the 2651 that" in reasons[name]
    assert "more than 16 compressed texts" in reasons["a PNG of many zTXt"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_damaged_files_are_images_or_refused(kind, tmp_path):
    """Twice, with other bytes in memory that is fresh: so no pixel comes from there."""
    rows = decoded_in_a_child(tmp_path, [kind], 3000, perturb=85)
    check(rows)
    assert 100 < sum(row["decode"] == "refused" for row in rows) < 2900
    again = decoded_in_a_child(tmp_path, [kind], 3000, perturb=170)
    doors = ("decode", "evaluation", "training")
    assert [[row[d] for d in doors] for row in rows] == [[row[d] for d in doors] for row in again]


@pytest.mark.parametrize("number", range(len(mutants.undamaged("webp"))))
def test_the_first_frame_of_a_webp_is_what_pillow_sees(number):
    """Six of them are animated, three without the flag of alpha that TensorFlow relies on."""
    data = mutants.undamaged("webp")[number]
    assert_close(decode(data), pillow(data), 1)


_LOADS_AND_DECODES = """
import sys, tensorflow as tf
decode = tf.saved_model.load(sys.argv[1]).decode
data = tf.constant(open(sys.argv[2], "rb").read())
for _ in range(20):
    image = decode(data)
print(image.shape, int(tf.reduce_sum(tf.cast(image, tf.int64))))
"""


@pytest.mark.slow
def test_an_exported_graph_decodes_an_animated_webp_without_touching_foreign_memory(tmp_path):
    data = mutants._animation("RGB", "WEBP", quality=80)
    assert data[12:16] == b"VP8X" and data[20] & 0x12 == 0x02  # animated, and no alpha declared
    (tmp_path / "moves.webp").write_bytes(data)
    module = tf.Module()
    module.decode = tf.function(decoder_of_any_size, input_signature=[tf.TensorSpec([], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    command = [sys.executable, "-c", _LOADS_AND_DECODES, str(tmp_path / "saved")]
    ended = subprocess.run(
        [*command, str(tmp_path / "moves.webp")],
        env=checked_environment(),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.split()[-1] == str(decode(data).sum(dtype=np.int64))


def decoder_of_any_size(data):
    from tf_image_classification.dataset.image.decode import decode_image

    return decode_image(data, max_pixels=mutants.LIMIT)
