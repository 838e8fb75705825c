"""``tfic example``: the images that it draws, the same ones every time, without TensorFlow."""

import csv
import io
import subprocess
import sys

import pytest
from PIL import Image

from tf_image_classification.cli.main import main
from tf_image_classification.errors import ConfigError
from tf_image_classification.workflows.example_data import write_example


def test_the_folders_and_the_table_of_the_tutorial_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["example"]) == 0
    assert "next: tfic inspect ./pets" in capsys.readouterr().out
    folders = ("pets/cat", "pets/dog", "new")
    assert [len(list((tmp_path / name).glob("*.jpg"))) for name in folders] == [100, 62, 4]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "pets.csv").read_text())))
    assert len(rows) == 160 and {row["pet"] for row in rows} == {"cat", "dog"}
    with Image.open(tmp_path / rows[0]["path"]) as image:
        assert image.size == (240, 180)
    assert {int(row["age"]) for row in rows} <= set(range(2, 22))


def test_two_calls_draw_the_same_images_in_different_folders(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    write_example(str(one))
    write_example(str(two))
    names = [path.relative_to(one) for path in one.rglob("*.*")]
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


@pytest.mark.parametrize("name", ["pets", "pets.csv", "new"])
def test_nothing_is_overwritten(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=name):
        write_example(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_tensorflow_is_not_imported(tmp_path):
    program = (
        "import sys; from tf_image_classification.cli.main import main; main(['example']); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == 0
