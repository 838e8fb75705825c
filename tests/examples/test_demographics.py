"""The demographics example: drawn faces, labels from names and CSVs, errors by slice."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tf_image_classification.errors import DataError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "demographics"
sys.path.insert(0, str(EXAMPLE))
import drawn_faces  # noqa: E402
import face_table  # noqa: E402
import slices  # noqa: E402
from demographics_spec import DemographicsSpec, age_group  # noqa: E402


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return drawn_faces.write_faces(str(folder), num_people=40)


def test_the_same_seed_draws_the_same_faces(drawn, tmp_path):
    again = drawn_faces.write_faces(str(tmp_path), num_people=3)
    names = [name for name in os.listdir(tmp_path) if name.endswith(".jpg")]
    assert len(names) == 3 * 3 + 3 + 3
    for name in names:
        assert (tmp_path / name).read_bytes() == (Path(drawn).parent / name).read_bytes()
    rows = [path.read_text().splitlines() for path in (Path(again), Path(drawn))]
    assert rows[0] == rows[1][: len(rows[0])]


def test_file_names_give_labels_and_malformed_ones_are_named(drawn, tmp_path):
    faces, problems = face_table.read_folder(os.path.dirname(drawn))
    assert len(faces) == 40 * 3 + 5
    assert len(problems) == 3 and all("age_gender_group_date" in text for text in problems)
    by_name = {os.path.basename(face.path): face for face in faces}
    name, face = next(iter(by_name.items()))
    age, gender, tone, _ = name.split("_")
    assert (face.age, face.gender) == (age, face_table.GENDERS[int(gender)])
    assert face.slices == {"group": tone} and face.person == ""
    (tmp_path / "130_0_1_5.jpg").write_bytes(b"x")
    (tmp_path / "118_1_1_20170109.jpg.chip.jpg").write_bytes(b"x")
    faces, problems = face_table.read_folder(str(tmp_path))
    assert [face.age for face in faces] == ["100"] and "nobody is 130" in problems[0]
    with pytest.raises(DataError, match="holds no file called"):
        face_table.read_folder(str(EXAMPLE))


def test_a_csv_gives_people_and_slices_and_bad_rows_are_named(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(
        "URIs,age,gender,person,light\na.jpg,30,Male,x,dim\nb.jpg,,,x,\nc.jpg,old,male,y,dim\n"
        "d.jpg,3,man,y,dim\n"
    )
    faces, problems = face_table.read_csv(str(table))
    assert [(f.age, f.gender, f.person) for f in faces] == [("30", "male", "x"), ("", "", "x")]
    assert faces[0].slices == {"light": "dim"}
    assert "line 4: age is 'old'" in problems[0] and "line 5: gender is 'man'" in problems[1]
    table.write_text("URIs,age\na,3\n")
    with pytest.raises(DataError, match="no column 'gender'"):
        face_table.read_csv(str(table))


def test_nobody_is_in_two_parts_and_adding_faces_moves_none(drawn):
    faces, _ = face_table.read_csv(drawn)
    parts = face_table.split(faces)
    people = {name: {face.person for face in part} for name, part in parts.items()}
    assert not people["train"] & people["holdout"] and not people["train"] & people["test"]
    assert not people["holdout"] & people["test"]
    assert sum(map(len, parts.values())) == len(faces)
    few = face_table.split(faces[:50])
    for name, part in few.items():
        assert {face.path for face in part} <= {face.path for face in parts[name]}


def test_slices_measure_those_whose_label_is_known():
    face = face_table.Face
    faces = [
        face("a", "30", "male", "x", {"light": "dim"}),
        face("b", "40", "", "y", {"light": "dim"}),
        face("c", "", "female", "z", {"light": "bright"}),
    ]
    predictions = {"age_expected": np.array([33.0, 52.0, 20.0]), "gender": np.array([0, 1, 0])}
    found = slices.by_slice(DemographicsSpec(), faces, predictions)
    assert found["everyone"]["age error"].value == pytest.approx(7.5)
    assert found["everyone"]["within 5"].value == 0.5
    assert found["everyone"]["gender"].value == 0.5
    assert found["light bright"]["gender"].value == 0.0
    assert found["light bright"]["age error"].count == 0
    text = slices.table(found)
    assert "| light bright | 1 | not known |" in text
    assert age_group([0, 2.4, 2.6, 9, 10, 69.6, 100]).tolist() == [0, 0, 1, 1, 2, 8, 8]


def start(tmp_path, *more):
    command = [sys.executable, str(EXAMPLE / "train_demographics.py"), "--noprogress", *more]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.exhaustive
def test_age_alone_is_trained_and_measured_by_slice(tmp_path):
    card = tmp_path / "card.md"
    card.write_text("before\n<!-- measured -->\nold\n<!-- end of measured -->\nafter\n")
    printed = start(
        tmp_path, "--num_people", "60", "--epochs", "4", "--tasks", "age", "--age_coding",
        "thresholds", "--image_size", "32", "--batch_size", "16", "--card", str(card),
    )  # fmt: skip
    assert "185 faces of 60 people" in printed
    assert "5 images occur twice with contradicting labels" in printed
    assert "label age: 101 classes, ordinal (thresholds)" in printed and "gender/" not in printed
    text = card.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    header, *rows = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    assert "perceived gender" not in header and header.count("|") == 7
    assert any(row.startswith("| tone dark |") for row in rows)
    assert (tmp_path / "models" / "demographics" / "slices.md").read_text().strip() in text


def test_the_card_holds_a_measured_table():
    text = (EXAMPLE / "README.md").read_text()
    table = text.partition("<!-- measured -->")[2].partition("<!-- end of measured -->")[0]
    assert "| everyone |" in table and "perceived gender right" in table
