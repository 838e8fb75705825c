"""What is sent of a folder: nothing from elsewhere, no secrets, no environments."""

import os

import pytest

import tf_image_classification
from tf_image_classification.cloud.source_files import source_files
from tf_image_classification.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "train.py").write_text("print('ran')\n")
    return folder


def test_nothing_from_outside_the_folder_is_sent(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("root:x:0:0")
    (folder / "inner").mkdir()
    (folder / "absolute.txt").symlink_to(outside / "passwd")
    (folder / "inner" / "relative.txt").symlink_to("../../outside/passwd")
    (folder / "folder").symlink_to(outside)
    (folder / "parent").symlink_to("..")
    (folder / "first").symlink_to("second")
    (folder / "second").symlink_to(outside / "passwd")
    sent = source_files(str(folder))
    assert list(sent) == ["train.py"]
    to = f"a link out of the folder, to {outside}"
    assert sent.left_out == {
        "absolute.txt": f"{to}/passwd", "inner/relative.txt": f"{to}/passwd", "folder": to,
        "parent": f"a link out of the folder, to {tmp_path}", "first": f"{to}/passwd",
        "second": f"{to}/passwd",
    }  # fmt: skip
    assert all(f"  {name}: {why}" in sent.text() for name, why in sent.left_out.items())


def test_links_inside_the_folder_are_sent_as_files_but_not_what_is_hidden(folder):
    (folder / ".env").write_text("x")
    (folder / "hidden.txt").symlink_to(".env")
    (folder / "again.py").symlink_to("train.py")
    (folder / "package").mkdir()
    (folder / "package" / "loop").symlink_to("../package")
    (folder / "broken").symlink_to("nowhere")
    (folder / "itself").symlink_to("itself")
    sent = source_files(str(folder))
    assert list(sent) == ["again.py", "train.py"]
    assert sent.read("again.py") == sent.read("train.py")
    assert sent.left_out["hidden.txt"] == "a link to a hidden file, .env"
    assert sent.left_out["package/loop"] == "a link to a folder of it, package"
    assert "not there" in sent.left_out["broken"] and "not there" in sent.left_out["itself"]


def test_a_folder_that_is_a_link_itself_is_sent(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert list(source_files(str(tmp_path / "link"))) == ["train.py"]


def test_environments_caches_models_and_what_is_no_file_are_left_out(folder):
    for path in (
        "my-environment/pyvenv.cfg", "my-environment/lib/python3/site.py", "conda/conda-meta/x",
        ".git/config", "__pycache__/a.pyc", "b.pyc", "node_modules/x.js", ".pytest_cache/x",
        "deep/down/env/pyvenv.cfg", "runs/pets/run.json", "runs/pets/labels.json",
        "image/Dockerfile", "image/application/x", "image/framework/x",
    ):  # fmt: skip
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")
    os.mkfifo(folder / "pipe")
    sent = source_files(str(folder))
    assert list(sent) == ["train.py"]
    assert sent.left_out["my-environment"] == sent.left_out["deep/down/env"]
    assert sent.left_out["my-environment"] == sent.left_out["conda"] == "a virtual environment"
    assert sent.left_out["runs/pets"] == "a model folder"
    assert sent.left_out["image"] == "a folder for docker build"
    assert "__pycache__" not in sent.text() and "b.pyc" not in sent.text()


def test_an_allowed_secret_is_named_from_the_folder_or_from_here(folder, tmp_path, monkeypatch):
    (folder / "keys").mkdir()
    (folder / "keys" / "a.txt").write_text("-----BEGIN " + "PRIVATE KEY-----")
    with pytest.raises(ConfigError, match=r"keys/a.txt, line 1, holds a private key.*--allow"):
        source_files(str(folder))
    monkeypatch.chdir(tmp_path)
    for name in ("keys/a.txt", "application/keys/a.txt", str(folder / "keys" / "a.txt")):
        assert source_files(str(folder), allowed=[name]).allowed == ("keys/a.txt",)


def test_a_folder_that_is_too_large_names_its_largest_files(folder, monkeypatch):
    monkeypatch.setattr("tf_image_classification.cloud.source_files._MAX_BYTES", 10_000)
    (folder / "data.bin").write_bytes(bytes(20_000))
    with pytest.raises(ConfigError, match=r"20.0 kB.*largest files: data.bin \(20.0 kB\), train"):
        source_files(str(folder))


def test_this_package_itself_holds_nothing_that_looks_like_a_secret():
    root = os.path.dirname(tf_image_classification.__file__)
    assert "cloud/secret_patterns.py" in source_files(root)
