"""What an inspection reports on videos and bursts, and the column with which they are corrected."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.cli import inspect as inspect_verb
from tf_image_classification.dataset.label_columns import label_columns
from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.inspection.csv_rows import removable
from tf_image_classification.workflows.inspect import inspect

VIDEOS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "groups.py"))


def noise(*seed):
    return tf.io.encode_png(
        np.random.default_rng(seed).integers(0, 256, [40, 40, 3], np.uint8)
    ).numpy()


@pytest.fixture
def named(tmp_path):
    """Frames of three videos of each of two classes, by name; those of another in both sets."""
    for k, kind in enumerate(("run", "walk")):
        for video in range(3):
            for frame in range(5):
                part = "val" if video == 2 and frame > 2 else "train"
                path = tmp_path / part / kind / f"clip{video}_frame_{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(noise(k, video, frame))
    return tmp_path


def kinds(found):
    return {finding.kind: finding for finding in found.findings}


def test_videos_are_a_note_and_those_in_both_sets_an_error(named):
    both = inspect(str(named / "train"), str(named / "val"), num_processes=1)
    found = kinds(both)
    assert "4 of 4 evaluation images are of the same 2 videos" in found["group_leak"].text
    assert found["group_leak"].severity == "error"
    assert found["groups"].text.startswith("30 images in 6 videos: ")
    assert "and 3 more" in found["groups"].text
    of_train = [i for i, name in enumerate(both.sets) if name == "train"]
    leaked = [i for group in found["group_leak"].members for i in group]
    offered = [removable(both, "group_leak", group) for group in found["group_leak"].members]
    assert sorted(i for some in offered for i in some) == sorted(set(leaked) & set(of_train))
    assert removable(both, "groups", found["groups"].members[0]) == []  # frames are no mistakes
    none = inspect(
        str(named / "train"), str(named / "val"), groups_are_found=False, num_processes=1
    )
    assert {"groups", "group_leak"}.isdisjoint(kinds(none))


def test_the_column_group_is_written_corrected_and_read(named, capsys):
    table = named / "clean.csv"
    inspect_verb.main([str(named / "train"), "--page", "", "--write_csv", str(table)])
    lines = table.read_text().splitlines()
    assert lines[0] == "URIs,labels,group"
    assert {line.split(",")[2] for line in lines[1:]} == {
        f"{kind}/clip{video}_frame_0.png" for kind in ("run", "walk") for video in range(3)
    }
    listing = find_examples([str(table)], option="train_metadata")
    assert label_columns(listing) == ["label"]  # the column is no second label
    table.write_text("\n".join([lines[0], *(f"{line}x" for line in lines[1:5]), *lines[5:]]))
    capsys.readouterr()
    flags = ["--page", "", "--group_column", "group", "--eval", str(table)]
    assert inspect_verb.main([str(table), *flags]) == 1
    assert "values of group in both sets" in capsys.readouterr().out


def test_a_class_of_one_video_is_a_note(tmp_path):
    for i in range(8):
        for kind, name in (("a", f"clip1_frame_{i}.png"), ("b", f"{i}.png")):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / name).write_bytes(noise(i, kind == "a"))
    found = kinds(inspect(str(tmp_path), num_processes=1))
    assert "All images of a seem to be of one video" in found["one_video"].text
    assert "groups" not in found


def test_groups_none_has_no_effect_beside_a_column(named, capsys):
    with pytest.raises(SystemExit):
        inspect_verb.main([str(named / "train"), "--groups", "none", "--group_column", "x"])
    assert "--groups none has no effect" in capsys.readouterr().err
