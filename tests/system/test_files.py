"""Paths, patterns and whole writes, on the disk and in a file system of TensorFlow's."""

import os
import resource
import tempfile

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tf_image_classification.errors import DataError
from tf_image_classification.system import faults, files


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    """A folder on the disk, and one that is reached through tf.io.gfile only."""
    path = str(tmp_path) if request.param == "local" else f"ram://{tmp_path.name}"
    files.make_folder(path)
    return path


def test_what_is_written_is_read_again(folder):
    path = files.join(folder, "a.json")
    files.write_json(path, {"é": [1, 2.5, None]})
    assert files.exists(path) and files.read_json(path) == {"é": [1, 2.5, None]}
    assert files.size_and_time(path)[0] == len(files.read_bytes(path))
    path = files.join(folder, "a.jsonl")
    files.write_json_lines(path, [{"a": 1}, "zwei\nlines\u2028in one"])
    assert files.read_json_lines(path) == [{"a": 1}, "zwei\nlines\u2028in one"]
    assert files.read_json_lines(files.join(folder, "none.jsonl")) == []


def test_what_is_not_utf_8_is_named(folder):
    path = files.join(folder, "names.csv")
    files.write_bytes(path, "größe".encode("latin-1"))
    with pytest.raises(DataError, match=r"names\.csv is not UTF-8 text .*Save it as UTF-8"):
        files.read_text(path)


def test_a_failing_write_leaves_the_old_content(folder):
    path = files.join(folder, "a")
    files.write_bytes(path, b"old")
    with pytest.raises(KeyError), files.atomic_write(path) as stream:
        stream.write(b"half of the new")
        raise KeyError
    assert files.read_bytes(path) == b"old" and files.list_folder(folder) == ["a"]


def test_files_are_renamed_and_removed(folder):
    one, two = files.join(folder, "one"), files.join(folder, "two")
    files.write_bytes(one, b"1")
    files.write_bytes(two, b"2")
    files.rename(one, two)
    assert files.read_bytes(two) == b"1" and not files.exists(one)
    files.remove(two)
    files.remove(two)
    assert files.list_folder(folder) == []
    files.make_folder(files.join(folder, "deep", "er"))
    files.write_bytes(files.join(folder, "deep", "er", "x"), b"")
    files.remove(files.join(folder, "deep"))
    assert not files.exists(files.join(folder, "deep", "er", "x"))


def test_patterns_name_files_sorted_and_each_once(folder):
    for name in ("train-2", "train-1", "eval-1"):
        files.write_bytes(files.join(folder, name), b"")
    found = files.expand_patterns(
        [files.join(folder, "eval-1"), files.join(folder, "train*"), files.join(folder, "train-1")],
        option="train_metadata",
    )
    assert [os.path.basename(p) for p in found] == ["eval-1", "train-1", "train-2"]
    with pytest.raises(DataError, match=r"train_metadata: no file matches '.*test\*'"):
        files.expand_patterns([files.join(folder, "test*")], option="train_metadata")


def test_a_file_spelt_in_two_ways_is_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_bytes(b"")
    found = files.expand_patterns(["a", "./a", str(tmp_path / "a"), "[a]"], option="o")
    assert found == ["a"]


def test_a_name_that_exists_is_no_pattern(tmp_path):
    for name in ("[1]*.csv", "1x.csv", "1y.csv"):
        (tmp_path / name).write_bytes(b"")
    assert files.expand_patterns([str(tmp_path / "[1]*.csv")], option="o") == [
        str(tmp_path / "[1]*.csv")
    ]


def test_hidden_and_system_files_are_not_listed(folder):
    for name in (".hidden", "._a.jpg", "Thumbs.db", ".DS_Store", "desktop.ini", "b", "a"):
        files.write_bytes(files.join(folder, name), b"")
    assert files.list_folder(folder) == ["a", "b"]


def test_paths_are_joined_on_the_disk_and_in_a_bucket():
    assert files.join("a", "b", "c") == "a/b/c"
    assert files.join("a/", "b") == "a/b"
    assert files.join("a", "/b") == "/b"
    assert files.join("gs://bucket/a/", "b", "c") == "gs://bucket/a/b/c"
    assert files.join("a", "gs://bucket/b") == "gs://bucket/b"
    assert files.join("gs://bucket/a", "/b") == "/b"
    assert files.join("gs://bucket/a/b", "../c.png") == "gs://bucket/a/c.png"
    assert files.join("gs://bucket/a", "./b", "../../../c") == "gs://bucket/c"
    assert files.join("gs://bucket", "a..b/.c") == "gs://bucket/a..b/.c"


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1))
def test_any_file_name_joins_behind_its_folder(name):
    assert files.join("/folder", name) == f"/folder/{name}"
    assert files.is_remote(name) is False


def test_a_folder_under_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"folder '.*file/cache' cannot be written"):
        files.make_folder(str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"'.*no/a' cannot be written: No such file"):
        files.write_bytes(str(tmp_path / "no" / "a"), b"1")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot be written: Permission denied"):
        files.make_folder(str(tmp_path))
    with pytest.raises(DataError, match="cannot be written: Permission denied"):
        files.write_bytes(str(tmp_path / "a"), b"1")


@pytest.fixture
def full_disk():
    """No file may grow beyond 1,000 bytes, which fails like a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, full_disk):
    with pytest.raises(DataError, match="'.*big' cannot be written: .*Make room"):
        files.write_bytes(str(tmp_path / "big"), b"x" * 100_000)
    assert os.listdir(tmp_path) == []


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
    faults.allow_open_files()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    assert (soft, hard) == (most, before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_place_without_room_for_temporary_files_is_named(tmp_path, full_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DataError, match=f"Temporary files cannot be written.*room in {tmp_path}"):
        faults.check_temporary()


def test_a_text_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "t").write_bytes("\ufeffé".encode())
    assert files.read_text(str(tmp_path / "t")) == "é"


def test_local_paths_do_not_need_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(tf.io, "gfile", None)
    files.write_bytes(str(tmp_path / "a"), b"1")
    assert files.expand_patterns([str(tmp_path / "*")], option="o") == [str(tmp_path / "a")]
