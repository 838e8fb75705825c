"""How good a model is on whom: errors on the test set by slice, with 95 % intervals."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from demographics_spec import GROUP_NAMES, age_group, encoded
from face_table import GENDERS

from tf_image_classification.evaluation.intervals import mean_with_interval

_AT_ONCE = 64
_MOST_VALUES = 12  # a column with more of them is no slice
HEADINGS = {
    "age error": "age: mean absolute error, years",
    "within 5": "age: within 5 years",
    "group": "age group exact",
    "one off": "age group exact or one off",
    "gender": "perceived gender right",
}


def predict(saved_model, faces):
    """The exported model's predictions for faces, by name, float or int [n, ...]."""
    model = tf.saved_model.load(saved_model)
    parts = []
    for start in range(0, len(faces), _AT_ONCE):
        paths = [face.path for face in faces[start : start + _AT_ONCE]]
        parts.append(model.serve(encoded(paths)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measures(spec, faces, predictions):
    """By measure a number for each face, NaN where its label is missing."""
    found = {}
    if any(label.name == "age" for label in spec.class_dict):
        age = np.array([float(face.age or "nan") for face in faces])
        years, known = spec.years(predictions), ~np.isnan(age)
        off = np.where(known, np.abs(age_group(np.nan_to_num(age)) - age_group(years)), np.nan)
        found["age error"] = np.abs(age - years)
        found["within 5"] = np.where(known, found["age error"] <= 5, np.nan)
        found["group"] = np.where(known, off == 0, np.nan)
        found["one off"] = np.where(known, off <= 1, np.nan)
    if any(label.name == "gender" for label in spec.class_dict):
        gender = np.array([GENDERS.index(f.gender) if f.gender else -1 for f in faces])
        found["gender"] = np.where(gender < 0, np.nan, predictions["gender"] == gender)
    return found


def slices_of(faces):
    """By slice whether each face is in it, bool [n]: everyone, age groups, genders, columns."""
    found = {"everyone": np.ones(len(faces), bool)}
    groups = np.array([GROUP_NAMES[age_group(float(f.age))] if f.age else "" for f in faces])
    found |= {f"age {name}": groups == name for name in GROUP_NAMES}
    found |= {f"gender {g}": np.array([f.gender == g for f in faces]) for g in GENDERS}
    for column in sorted({column for face in faces for column in face.slices}):
        cells = np.array([face.slices.get(column, "") for face in faces])
        values = sorted(set(cells) - {""})
        if len(values) <= _MOST_VALUES:
            found |= {f"{column} {value}": cells == value for value in values}
    return {name: rows for name, rows in found.items() if rows.any()}


def by_slice(spec, faces, predictions):
    """By slice and measure the mean with its interval; pictures of one person go together."""
    people = np.array([face.person or face.path for face in faces])
    each = measures(spec, faces, predictions)
    return {
        name: {
            measure: mean_with_interval(values[rows], people[rows])
            for measure, values in each.items()
        }
        for name, rows in slices_of(faces).items()
    }


def table(results):
    """A Markdown table of what ``by_slice`` gives."""
    columns = list(next(iter(results.values())))
    lines = ["| slice | faces | " + " | ".join(HEADINGS[c] for c in columns) + " |"]
    lines.append("|---|---|" + "---|" * len(columns))
    for name, found in results.items():
        count = max(interval.count for interval in found.values())
        cells = [_cell(measure, found[measure]) for measure in columns]
        lines.append(f"| {name} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(measure, interval):
    if not interval.count:
        return "not known"
    factor, digits, unit = (1, 2, "") if measure == "age error" else (100, 1, " %")
    value, low, high = (f"{factor * x:.{digits}f}" for x in
                        (interval.value, interval.low, interval.high))  # fmt: skip
    return f"{value}{unit} ({low} to {high})"
