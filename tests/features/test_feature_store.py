"""The cache of features: damage, a full disk and other processes."""

import logging
import multiprocessing
import os

import numpy as np
import pytest

from tf_image_classification.errors import DataError
from tf_image_classification.features import store as store_module
from tf_image_classification.features.store import FeatureStore
from tf_image_classification.system import files


def key(number):
    return number.to_bytes(16, "big")


def filled(cache_dir, numbers, identity="one"):
    store = FeatureStore(str(cache_dir), identity, {"network": "tiny"})
    for number in numbers:
        store.add(key(number), np.full(3, number, np.float32))
    store.flush()
    return store


def known(cache_dir, numbers, identity="one"):
    store = FeatureStore(str(cache_dir), identity, {})
    return [number for number in numbers if store.get(key(number)) is not None]


def parts(cache_dir, identity="one"):
    return sorted((cache_dir / "features" / identity).glob("*.npz"))


def test_what_was_added_is_there_in_another_process(tmp_path):
    filled(tmp_path, [3, 5])
    found = FeatureStore(str(tmp_path), "one", {})
    np.testing.assert_array_equal(found.get(key(5)), np.full(3, 5, np.float32))
    assert found.get(key(4)) is None
    assert known(tmp_path, [3, 5], identity="another") == []


def test_two_processes_add_to_one_store(tmp_path):
    context = multiprocessing.get_context("spawn")
    given = [(tmp_path, range(40)), (tmp_path, range(20, 60))]
    running = [context.Process(target=filled, args=each) for each in given]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0]
    assert known(tmp_path, range(60)) == list(range(60))


@pytest.mark.parametrize("place", ["end", "middle", "all"])
def test_a_damaged_part_is_dropped_and_the_others_are_kept(tmp_path, caplog, place):
    filled(tmp_path, range(10))
    [first] = parts(tmp_path)
    filled(tmp_path, range(10, 20))
    data = bytearray(first.read_bytes())
    middle = data.find(np.full(3, 4, np.float32).tobytes())
    assert middle > 0
    data[middle] ^= 1
    first.write_bytes({"end": data[:-100], "middle": bytes(data), "all": b"not a part"}[place])
    with caplog.at_level(logging.WARNING):
        assert known(tmp_path, range(20)) == list(range(10, 20))
    assert "is damaged" in caplog.text and first.name in caplog.text
    assert not first.exists()


def test_leftovers_of_a_killed_process_are_no_parts(tmp_path):
    filled(tmp_path, [1])
    (tmp_path / "features" / "one" / ".0123.npz.abc.tmp").write_bytes(b"half a part")
    assert known(tmp_path, [1]) == [1] and len(parts(tmp_path)) == 1


def test_a_full_disk_is_a_warning_once(tmp_path, caplog, monkeypatch):
    def full(path, data):
        raise DataError(f"{path!r} cannot be written: No space left on device. Make room.")

    monkeypatch.setattr(files, "write_bytes", full)
    with caplog.at_level(logging.WARNING):
        store = filled(tmp_path, [1])
        store.add(key(2), np.zeros(3, np.float32))
        store.flush()
    assert caplog.text.count("not cached") == 1 and "No space left" in store.problem


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path, caplog):
    (tmp_path / "features").write_text("a file")
    with caplog.at_level(logging.WARNING):
        assert filled(tmp_path, [1]).problem
    assert "not cached" in caplog.text


def test_the_stores_that_were_not_used_for_longest_make_room(tmp_path, monkeypatch):
    for time, identity in ((30, "one"), (10, "two"), (20, "three")):
        filled(tmp_path, range(100), identity)
        os.utime(tmp_path / "features" / identity, (time, time))
    size = sum(part.stat().st_size for part in parts(tmp_path, "two"))
    monkeypatch.setattr(store_module, "MAX_BYTES", int(2.5 * size))
    filled(tmp_path, range(100), "four")
    assert {path.name for path in (tmp_path / "features").iterdir()} == {"one", "three", "four"}


def test_a_store_over_the_limit_gets_no_more(tmp_path, monkeypatch, caplog):
    filled(tmp_path, range(100))
    monkeypatch.setattr(store_module, "MAX_BYTES", 1000)
    with caplog.at_level(logging.WARNING):
        filled(tmp_path, range(100, 110))
    assert "limited to" in caplog.text
    assert known(tmp_path, range(110)) == list(range(100))
