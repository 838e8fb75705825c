"""TFRecord files: damage, caches, threads, whole writes."""

import gzip
import os
import resource
import threading
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tiny_sources import PICTURES, write

from tf_image_classification.dataset import spans, tfrecord
from tf_image_classification.errors import BadRecordError, DataError
from tf_image_classification.system import files

DATA = [bytes([i]) * size for i, size in enumerate((0, 1, 70, 3, 1000))]
PACK = {"": lambda data: data, "GZIP": gzip.compress, "ZLIB": zlib.compress}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with open(write(tmp_path_factory.mktemp("plain") / "r", DATA), "rb") as stream:
        return stream.read()


def read_all(path, cache):
    index = tfrecord.index_file(str(path), str(cache))
    return index.reader().read(range(len(index.offsets)))


def never(*args, **kwargs):
    raise AssertionError("the data is read a second time")


@pytest.mark.parametrize("kind", PACK)
def test_records_are_read_by_number_whatever_the_name_says(kind, plain, tmp_path):
    for name in ("a.tfrecord", "b.tfrecord.gz", "c"):
        path = tmp_path / name
        path.write_bytes(PACK[kind](plain))
        assert tfrecord.compression(str(path)) == kind
        assert read_all(path, tmp_path / "cache") == DATA
        assert tfrecord.count_records(str(path), str(tmp_path / "cache"))[0] == len(DATA)


def test_gzip_members_count_as_one_stream(plain, tmp_path):
    parts = [plain[:5], plain[5:100], b"", plain[100:]]
    (tmp_path / "r").write_bytes(b"".join(gzip.compress(part) for part in parts))
    assert read_all(tmp_path / "r", tmp_path / "cache") == DATA


def test_a_compressed_file_may_hold_no_records(tmp_path):
    path = write(tmp_path / "r", [], "GZIP")
    assert read_all(path, tmp_path / "cache") == []
    assert tfrecord.count_records(path, str(tmp_path / "cache"))[0] == 0


# Damage


def ends_of_records():
    ends = [0]
    for data in DATA:
        ends.append(ends[-1] + 12 + len(data) + 4)
    return ends


@pytest.mark.parametrize("kind", PACK)
def test_a_file_cut_anywhere_is_named_unless_it_ends_with_a_record(kind, plain, tmp_path):
    path, packed = tmp_path / "r", PACK[kind](plain)
    ends = ends_of_records() if not kind else [len(packed)]
    for length in range(1, len(packed) + 1):
        path.write_bytes(packed[:length])
        cache = str(tmp_path / "cache")
        if length in ends:
            assert tfrecord.count_records(str(path), cache)[0] == max(
                ends.index(length), 5 * bool(kind)
            )
        else:
            with pytest.raises(BadRecordError, match=f"^{path} "):
                tfrecord.count_records(str(path), cache)


@given(st.data())
def test_any_flipped_bit_of_a_plain_file_is_found(plain, tmp_path_factory, data):
    place = data.draw(st.integers(0, len(plain) - 1))
    changed = bytearray(plain)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("flip") / "r"
    path.write_bytes(changed)
    with pytest.raises(BadRecordError, match=f"^{path} "):
        tfrecord.index_file(str(path), str(path.parent / "cache"))


def test_damage_names_its_record(plain, tmp_path):
    starts = ends_of_records()
    for offset, message in ((3, "checksum of its length"), (12, "checksum of its data")):
        changed = bytearray(plain)
        changed[starts[2] + offset] ^= 1
        (tmp_path / "r").write_bytes(changed)
        with pytest.raises(BadRecordError, match=rf"r record 2.*{message}"):
            tfrecord.index_file(str(tmp_path / "r"), str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty .0 bytes"), (b"a,b\n", "not a TFRecord file: its first bytes are b'a,b")],
)
def test_what_is_no_tfrecord_file_is_said_to_be_none(content, message, tmp_path):
    (tmp_path / "r.tfrecord").write_bytes(content)
    with pytest.raises(BadRecordError, match=f"r.tfrecord .*{message}"):
        tfrecord.compression(str(tmp_path / "r.tfrecord"))


def test_compressed_data_that_turns_to_rubbish_is_named(plain, tmp_path):
    (tmp_path / "r").write_bytes(gzip.compress(plain) + b"rubbish")
    with pytest.raises(BadRecordError, match=r"r is damaged: its compressed data"):
        tfrecord.index_file(str(tmp_path / "r"), str(tmp_path / "cache"))


def test_a_record_that_changes_after_indexing_is_named(plain, tmp_path):
    (tmp_path / "r").write_bytes(plain)
    reader = tfrecord.index_file(str(tmp_path / "r"), str(tmp_path / "cache")).reader()
    changed = bytearray(plain)
    changed[-5] ^= 1
    (tmp_path / "r").write_bytes(changed)
    assert reader.read([2]) == [DATA[2]]
    with pytest.raises(BadRecordError, match="r record 4: the checksum of its data"):
        reader.read([4])


# Caches


@pytest.mark.parametrize("kind", PACK)
def test_a_second_look_reads_no_record(kind, plain, tmp_path, monkeypatch):
    path, cache = tmp_path / "r", str(tmp_path / "cache")
    path.write_bytes(PACK[kind](plain))
    first, count = tfrecord.index_file(str(path), cache), tfrecord.count_records(str(path), cache)
    with monkeypatch.context() as patched:
        patched.setattr(tfrecord.index, "scan_records", never)
        again = tfrecord.index_file(str(path), cache)
        assert again.fingerprint == first.fingerprint == count[1]
        assert tfrecord.count_records(str(path), cache) == count
    assert again.reader().read(range(5)) == DATA


@pytest.mark.parametrize("kind", PACK)
def test_a_file_of_the_same_name_and_length_is_read_anew(kind, tmp_path):
    cache = str(tmp_path / "cache")
    fingerprints = set()
    for content in (b"one", b"two"):
        path = write(tmp_path / "r", [content], kind)
        index = tfrecord.index_file(path, cache)
        assert index.reader().read([0]) == [content]
        fingerprints |= {index.fingerprint, tfrecord.count_records(path, cache)[1]}
    assert len(fingerprints) == 2


def test_the_same_records_have_one_fingerprint_wherever_and_however_they_lie(plain, tmp_path):
    found = set()
    for kind, pack in PACK.items():
        path = tmp_path / f"r{kind}"
        path.write_bytes(pack(plain))
        found.add(tfrecord.index_file(str(path), str(tmp_path / "cache")).fingerprint)
        found.add(tfrecord.count_records(str(path), str(tmp_path / "cache"))[1])
    assert len(found) == 1


def test_an_unpacking_that_is_cut_off_leaves_nothing_to_be_taken_for_whole(tmp_path, monkeypatch):
    path, cache = write(tmp_path / "r", DATA, "GZIP"), tmp_path / "cache"
    scan = tfrecord.scan_records

    def killed(*args, **kwargs):
        for number, found in enumerate(scan(*args, **kwargs)):
            if number == 3:
                raise KeyboardInterrupt
            yield found

    with monkeypatch.context() as patched:
        patched.setattr(tfrecord.index, "scan_records", killed)
        with pytest.raises(KeyboardInterrupt):
            tfrecord.index_file(path, str(cache))
    assert os.listdir(cache) == []
    assert read_all(path, cache) == DATA


@pytest.mark.parametrize("left", ["records", "index"])
def test_half_a_cache_is_made_whole(left, tmp_path):
    path, cache = write(tmp_path / "r", DATA, "GZIP"), tmp_path / "cache"
    assert read_all(path, cache) == DATA
    for name in os.listdir(cache):
        if left not in name:
            os.remove(cache / name)
    assert len(os.listdir(cache)) == 1
    assert read_all(path, cache) == DATA


def test_unpacked_records_that_were_cut_are_unpacked_again(tmp_path):
    path, cache = write(tmp_path / "r", DATA, "GZIP"), tmp_path / "cache"
    index = tfrecord.index_file(path, str(cache))
    os.truncate(index.plain_path, 500)
    assert read_all(path, cache) == DATA


@pytest.mark.parametrize(
    "harm",
    [b"", b"PK\x03\x04", bytes(500), b"[]", b"{}"],
    ids=["empty", "zip", "zeros", "list", "object"],
)
def test_a_damaged_index_is_made_anew(tmp_path, harm):
    path, cache = write(tmp_path / "r", DATA), tmp_path / "cache"
    expected = tfrecord.index_file(path, str(cache)), tfrecord.count_records(path, str(cache))
    for name in os.listdir(cache):
        (cache / name).write_bytes(harm)
    found = tfrecord.index_file(path, str(cache)), tfrecord.count_records(path, str(cache))
    assert found[0].fingerprint == expected[0].fingerprint and found[1] == expected[1]


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path):
    path = write(tmp_path / "r", DATA, "GZIP")
    for find in (tfrecord.index_file, tfrecord.count_records):
        with pytest.raises(DataError, match="folder '.*r/cache' cannot be written.*--cache_dir"):
            find(path, str(tmp_path / "r" / "cache"))


def test_a_full_cache_folder_is_named_and_left_clean(tmp_path):
    path, cache = write(tmp_path / "r", [b"x" * 100_000], "GZIP"), tmp_path / "cache"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DataError, match="cache/r.* cannot be written: .*Make room"):
            tfrecord.index_file(path, str(cache))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(cache) == []


def test_a_long_name_in_another_script_can_be_cached(tmp_path):
    path = write(tmp_path / ("数" * 70 + ".tfrecord.gz"), DATA, "GZIP")
    assert read_all(path, tmp_path / "cache") == DATA


# Many threads, many files


def test_many_threads_read_many_files_with_few_open(tmp_path, monkeypatch):
    monkeypatch.setattr(spans, "_MAX_OPEN_FILES", 3)
    paths = [write(tmp_path / f"r{i}", [b"%d %d" % (i, j) for j in range(20)]) for i in range(8)]
    indexed = [tfrecord.index_file(path, str(tmp_path / "cache")) for path in paths]
    reader = spans.SpanReader(
        [index.plain_path for index in indexed],
        np.repeat(np.arange(8), 20),
        np.concatenate([index.offsets for index in indexed]),
        np.concatenate([index.lengths for index in indexed]),
        str,
    )
    before, wrong = len(os.listdir("/proc/self/fd")), []

    def read(seed, reader):
        for k in range(400):
            number = (seed * 37 + k * 23) % 160
            if reader.read([number]) != [b"%d %d" % divmod(number, 20)]:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(seed, reader)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    del reader, threads, thread
    assert len(os.listdir("/proc/self/fd")) <= before


# Writing


def test_written_examples_are_read_by_tensorflow_itself(tmp_path):
    labels = [{"kind": 2, "name": "cat"}, {"kind": 0.5, "name": None}]
    examples = [(PICTURES[i], f"gs://a/{i}é", labels[i]) for i in range(2)]
    paths = tfrecord.write_shards(str(tmp_path / "out"), "eval", examples)
    assert paths == [str(tmp_path / "out" / "eval-00000-of-00001.tfrecord.gz")]
    found = [
        tf.train.Example.FromString(data.numpy()).features.feature
        for data in tf.data.TFRecordDataset(paths, compression_type="GZIP")
    ]
    assert [f["image_bytes"].bytes_list.value[0] for f in found] == PICTURES[:2]
    assert found[1]["image_uri"].bytes_list.value[0].decode() == "gs://a/1é"
    assert [f["kind"].float_list.value[0] for f in found] == [2.0, 0.5]
    assert found[0]["name"].bytes_list.value[0] == b"cat" and "name" not in found[1]


def test_no_pattern_finds_shards_before_they_are_whole(tmp_path):
    def examples():
        for i in range(4):
            assert not list(tmp_path.glob("train*"))
            assert files.list_folder(str(tmp_path)) == []
            yield PICTURES[i], str(i), {"kind": i}

    paths = tfrecord.write_shards(str(tmp_path), "train", examples(), num_shards=3)
    counts = [tfrecord.count_records(path, str(tmp_path / "cache"))[0] for path in paths]
    assert counts == [2, 1, 1]


def test_a_failing_write_keeps_the_shards_of_before(tmp_path):
    def failing():
        yield PICTURES[0], "0", {"kind": 0}
        raise KeyError("no more")

    tfrecord.write_shards(str(tmp_path), "train", [(PICTURES[0], "", {"kind": 1})] * 3)
    with pytest.raises(KeyError, match="no more"):
        tfrecord.write_shards(str(tmp_path), "train", failing())
    assert os.listdir(tmp_path) == ["train-00000-of-00001.tfrecord.gz"]
    path = str(tmp_path / "train-00000-of-00001.tfrecord.gz")
    assert tfrecord.count_records(path, str(tmp_path / "cache"))[0] == 3


@pytest.mark.parametrize("name", ["image_bytes", "image_uri"])
def test_a_label_cannot_take_the_name_of_the_image(name):
    with pytest.raises(DataError, match=f"cannot be called '{name}'"):
        tfrecord.make_example(b"", "", {name: 1.0})
