"""Faces and their labels as CSV tables: from file names or another CSV, split by person.

A file name says ``age_gender_group_date.jpg``, as in UTKFace: age in years, gender 0 (male) or 1
(female), and a number for the group that somebody has put the face into, which is never a label
here, only a slice that errors are looked at by.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import hashlib
import io
import os
import re

from tf_image_classification.errors import DataError
from tf_image_classification.system import files

GENDERS = ("male", "female")
OLDEST = 100  # the last class means this age or more
PARTS = ("train", "holdout", "test")
_SHARES = (0.70, 0.15, 0.15)
_NAME = re.compile(r"(\d{1,3})_([01])_(\d+)_(\d+)(\..+)?\.(jpe?g|png)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Face:
    """One image and what is known of it; "" where a label is missing.

    Attributes:
        path: of the image.
        age: in years, at most ``OLDEST``, as a text.
        gender: one of ``GENDERS``, as somebody has perceived it.
        person: who it is, or "" where that is not known.
        slices: further columns by name, such as a group or the light.
    """

    path: str
    age: str
    gender: str
    person: str
    slices: dict[str, str]


def read_folder(folder: str) -> tuple[list[Face], list[str]]:
    """The faces of a folder by their file names, and a sentence about each name that says nothing.

    Raises:
        DataError: not one name has the form.
    """
    faces, problems = [], []
    for name in files.list_folder(folder):
        path = files.join(folder, name)
        match = _NAME.fullmatch(name)
        if match is None:
            if name.lower().endswith((".jpg", ".jpeg", ".png")):
                problems.append(f"{path}: the name is not of the form age_gender_group_date.jpg")
            continue
        age, gender, group = (int(text) for text in match.groups()[:3])
        if age > 120:
            problems.append(f"{path}: nobody is {age} years old")
            continue
        slices = {"group": str(group)}
        faces.append(Face(path, str(min(age, OLDEST)), GENDERS[gender], "", slices))
    if not faces:
        raise DataError(f"{folder} holds no file called age_gender_group_date.jpg.")
    return faces, problems


def read_csv(path: str) -> tuple[list[Face], list[str]]:
    """The faces of a CSV with the columns URIs, age and gender, and what is wrong with its rows.

    A column ``person`` says who it is; every other column becomes a slice.

    Raises:
        DataError: a column is missing.
    """
    faces, problems = [], []
    reader = csv.DictReader(io.StringIO(files.read_text(path)))
    columns = reader.fieldnames or []
    for needed in ("URIs", "age", "gender"):
        if needed not in columns:
            raise DataError(f"{path} has no column {needed!r}, only {', '.join(columns)}.")
    others = [c for c in columns if c not in ("URIs", "age", "gender", "person")]
    for row in reader:
        where = f"{path} line {reader.line_num}"
        age, gender = (row["age"] or "").strip(), (row["gender"] or "").strip().lower()
        if age and not (age.isdecimal() and int(age) <= 120):
            problems.append(f"{where}: age is {age!r}, expected whole years")
            continue
        if gender not in ("", *GENDERS):
            problems.append(f"{where}: gender is {gender!r}, expected {' or '.join(GENDERS)}")
            continue
        faces.append(
            Face(
                files.join(os.path.dirname(path), row["URIs"]),
                str(min(int(age), OLDEST)) if age else "",
                gender,
                (row.get("person") or "").strip(),
                {name: (row[name] or "").strip() for name in others},
            )
        )
    return faces, problems


def split(faces: list[Face]) -> dict[str, list[Face]]:
    """The faces by part: nobody is in two of them, and adding faces moves none.

    Where it is not known who somebody is, each picture counts as a person of its own, and pictures
    of one person may come into several parts.
    """
    parts: dict[str, list[Face]] = {name: [] for name in PARTS}
    for face in faces:
        who = face.person or os.path.basename(face.path)
        place = int(hashlib.sha256(who.encode()).hexdigest()[:8], 16) / 16**8
        part = PARTS[(place >= _SHARES[0]) + (place >= _SHARES[0] + _SHARES[1])]
        parts[part].append(face)
    return parts


def write_tables(faces: list[Face], folder: str) -> dict[str, str]:
    """A CSV for each part; returns their paths by part.

    Raises:
        DataError: a part has no face.
    """
    files.make_folder(folder)
    paths = {}
    for name, part in split(faces).items():
        if not part:
            raise DataError(f"{len(faces)} faces are too few: none is left for {name}.")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        slices = sorted({column for face in part for column in face.slices})
        writer.writerow(["URIs", "age", "gender", "person", *slices])
        for face in part:
            path = face.path if files.is_remote(face.path) else os.path.abspath(face.path)
            more = [face.slices.get(column, "") for column in slices]
            writer.writerow([path, face.age, face.gender, face.person, *more])
        paths[name] = files.join(folder, f"{name}.csv")
        files.write_bytes(paths[name], text.getvalue().encode())
    return paths


def describe(faces: list[Face], problems: list[str]) -> str:
    """What was read, in a few lines."""
    missing = {name: sum(not getattr(face, name) for face in faces) for name in ("age", "gender")}
    people = len({face.person for face in faces if face.person})
    genders = collections.Counter(face.gender for face in faces if face.gender)
    lines = [
        f"{len(faces)} faces of {people or 'an unknown number of'} people; gender of "
        + ", ".join(f"{genders[name]} {name}" for name in GENDERS)
        + f"; missing: {missing['age']} ages, {missing['gender']} genders"
    ]
    if problems:
        lines.append(f"left out: {len(problems)}")
        lines += [f"  {problem}" for problem in problems[:5]]
    return "\n".join(lines)
