"""One pass over images: what is computed, what comes from the cache, and what errors leave."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.features import store as store_module
from tf_image_classification.features.compute import compute_features
from tf_image_classification.features.network import BATCH_SIZE, FeatureNetwork, content_key


def network(identity="one", computed=None, factor=1.0):
    """A network whose features are the length and the first byte of an image."""
    computed = [] if computed is None else computed

    def prepare(contents, numbers):
        if b"bad" in contents:
            raise tf.errors.InvalidArgumentError(None, None, "no image")
        computed.extend(contents)
        rows = [[len(content), content[0]] for content in contents]
        return tf.reshape(tf.constant(rows, tf.float32), [-1, 1, 1, 2])

    def forward(images):
        assert len(images) == BATCH_SIZE
        return factor * images[:, 0, 0]

    return FeatureNetwork(prepare=prepare, forward=forward, identity=identity)


def images(*names):
    return list(enumerate(name.encode() for name in names))


def run(given, cache_dir, **changes):
    computed = []
    found = compute_features(
        network(computed=computed, **changes), given, len(given), cache_dir=str(cache_dir)
    )
    return found, sorted(set(computed))


def test_the_second_pass_computes_nothing_and_gives_the_same_bits(tmp_path):
    given = images(*map(str, range(100, 170)))
    first, computed = run(given, tmp_path)
    assert first.num_computed == 70 and len(computed) == 70
    again, computed = run(given, tmp_path)
    assert again.num_computed == 0 and computed == []
    np.testing.assert_array_equal(first.values, again.values)
    assert "70 images, 0 computed" in again.note() and str(tmp_path) in again.note()
    assert again.num_bytes > 70 * 2 * 4


def test_only_new_contents_are_computed(tmp_path):
    run(images("ant", "bee", "cat"), tmp_path)
    found, computed = run(images("dog", "cat", "ant", "ant", "dog"), tmp_path)
    assert computed == [b"dog"] and found.num_computed == 1
    np.testing.assert_array_equal(found.values[:, 1], [ord(c) for c in "dcaad"])


def test_another_network_computes_its_own(tmp_path):
    run(images("ant"), tmp_path)
    found, computed = run(images("ant"), tmp_path, identity="two", factor=2.0)
    assert computed == [b"ant"] and found.values.tolist() == [[6.0, 2.0 * ord("a")]]


def test_without_an_identity_or_a_folder_nothing_is_kept(tmp_path):
    found, _ = run(images("ant"), tmp_path, identity="")
    assert not os.listdir(tmp_path) and found.note() == "features: 1 image, not cached"
    assert compute_features(network(), images("ant"), 1).path == ""


def test_bad_images_have_zeros_and_a_reason(tmp_path):
    given = [*images("ant", "bad", "bee", "bad"), (4, OSError("gone"))]
    found, _ = run(given, tmp_path)
    assert sorted(found.problems) == [1, 3, 4] and not found.values[[1, 3, 4]].any()
    assert found.values[2, 0] == 3 and "no image" in str(found.problems[3])
    again, computed = run(given, tmp_path)
    assert computed == [] and sorted(again.problems) == [1, 3, 4]


def test_what_was_computed_before_an_error_is_kept(tmp_path):
    def broken():
        yield from images(*map(str, range(BATCH_SIZE * 8)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_features(network(), broken(), BATCH_SIZE * 9, cache_dir=str(tmp_path))
    found, computed = run(images(*map(str, range(BATCH_SIZE * 9))), tmp_path)
    assert found.num_computed == len(computed) < BATCH_SIZE * 5


_KILLED = """
import os, signal, sys
from tf_image_classification.features import store
from features.test_compute import BATCH_SIZE, compute_features, images, network
store._ROWS_OF_PART = BATCH_SIZE
def until_killed(done, count):
    if done == 4 * BATCH_SIZE:
        os.kill(os.getpid(), signal.SIGKILL)
given = images(*map(str, range(BATCH_SIZE * 9)))
compute_features(network(), given, len(given), cache_dir=sys.argv[1], on_images=until_killed)
"""


@pytest.mark.slow
def test_after_a_kill_only_the_rest_is_computed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == -9
    found, _ = run(images(*map(str, range(BATCH_SIZE * 9))), tmp_path)
    assert found.num_computed == 6 * BATCH_SIZE  # the part of the fourth batch was not written
    assert found.values[:, 0].all()


def test_parts_are_written_while_a_pass_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_ROWS_OF_PART", BATCH_SIZE)
    seen = []

    def show(done, count):
        seen.append(len(list(tmp_path.rglob("*.npz"))))

    given = images(*map(str, range(BATCH_SIZE * 4)))
    compute_features(network(), given, len(given), cache_dir=str(tmp_path), on_images=show)
    assert 0 < seen[-1] < 5 and len(list(tmp_path.rglob("*.npz"))) == 4


def test_numbers_are_a_part_of_the_key_where_they_decide(tmp_path):
    by_number = dataclasses.replace(network(), key_of=lambda c, n: content_key(c, n))
    found = compute_features(by_number, images("ant", "ant"), 2, cache_dir=str(tmp_path))
    assert found.num_computed == 2
