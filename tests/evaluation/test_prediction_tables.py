"""Predictions of any program as a CSV: names of columns, matching of images, counts."""

import dataclasses
import json

import numpy as np
import pytest

from evaluation.test_analysis import predictions, stored
from tf_image_classification.errors import DataError
from tf_image_classification.evaluation.pairing import pair
from tf_image_classification.evaluation.prediction_tables import read_prediction_table
from tf_image_classification.labels import Label

PET = Label("pet", depth=2, class_names=("cat", "dog"))
URIS = ["set/cat/1.jpg", "set/cat/2.jpg", "set/dog/1.jpg", "set/dog/3.jpg"]
TRUTH = np.array([0, 0, 1, 1])


def reference(label=PET, uris=URIS, truth=TRUTH):
    probabilities = np.eye(2, dtype=np.float32)[truth]
    found = stored(truth, np.ones(len(truth), bool), truth, probabilities)
    return dataclasses.replace(predictions(found, label=label), uris=uris)


def read(tmp_path, text, encoding="utf-8", name="other.csv"):
    (tmp_path / name).write_text(text, encoding=encoding)
    return read_prediction_table(str(tmp_path / name))


ROWS = "set/cat/1.jpg,cat\nset/cat/2.jpg,dog\nset/dog/1.jpg,dog\nset/dog/3.jpg,dog\n"


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        "file,prediction\n" + ROWS,
        "path,pet\n" + ROWS,
        ("image;predicted_class\n" + ROWS.replace(",", ";")),
        "image,truth,label\n" + ROWS.replace(",", ",cat,"),
        "\ufefffilename,pred\n" + ROWS,
        "filename,cat,dog\n" + ROWS.replace(",cat", ",0.9,0.1").replace(",dog", ",0.2,0.8"),
        "filename,dog,cat\n" + ROWS.replace(",cat", ",10,90").replace(",dog", ",80,20"),
        "filename;prob_cat;prob_dog\n"
        + ROWS.replace(",cat", ";0,9;0,1").replace(",dog", ";0,2;0,8"),
        "filename,p cat,p dog\n" + ROWS.replace(",cat", ",90%,10%").replace(",dog", ",20%,80%"),
    ],
)
def test_columns_are_found_by_usual_names(tmp_path, text):
    found = read(tmp_path, text).predictions(reference())
    assert found.predictions.labels["pet"].predicted.tolist() == [0, 1, 1, 1]
    assert not found.notes
    has_probabilities = text.splitlines()[0].count("cat") and "dog" in text.splitlines()[0]
    assert bool(found.is_without) != bool(has_probabilities)
    if has_probabilities:
        probabilities = found.predictions.labels["pet"].probabilities
        assert probabilities[0] == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize(
    ("name", "row"),
    [("/data/set/cat/2.jpg", 1), ("cat/2.jpg", 1), ("2.jpg", 1), ("./set/cat/2.jpg", 1),
     (r"D:\set\cat\2.jpg", 1), ("2", 1), ("elsewhere/cat/1.jpg", 0)],
)  # fmt: skip
def test_images_are_matched_by_the_end_of_their_path(tmp_path, name, row):
    found = read(tmp_path, f"file,prediction\n{name},dog\nother.jpg,cat\n")
    assert found.predictions(reference()).predictions.ids.tolist() == [row]


def test_unmatched_ambiguous_and_repeated_rows_are_counted(tmp_path):
    text = "file,prediction\n1.jpg,cat\n3.jpg,dog\n3.jpg,dog\n2.jpg,cat\n2.jpg,dog\nx.jpg,cat\n"
    found = read(tmp_path, text).predictions(reference())
    assert found.predictions.ids.tolist() == [3]
    notes = " ".join(found.notes)
    assert "3 examples of the evaluation are not in" in notes
    assert "1 row names no example, e.g. x.jpg" in notes
    assert "1 row names several examples, e.g. 1.jpg" in notes
    assert "2 rows repeat images; 1 with different predictions left out" in notes


def test_equal_base_names_in_other_folders_are_not_taken_for_each_other(tmp_path):
    text = "file,prediction\nset/cat/3.jpg,cat\nset/dog/3.jpg,dog\n"
    found = read(tmp_path, text).predictions(reference())
    assert found.predictions.ids.tolist() == [3]


def test_files_of_predict_are_read_in_each_format(tmp_path):
    lines = [{"uri": uri, "error": "", "pet": "cat", "pet_probability": 0.7} for uri in URIS]
    lines[1] |= {"error": "damaged", "pet": None}
    text = "".join(f"{json.dumps(one)}\n" for one in lines)
    found = read(tmp_path, text, name="out.jsonl").predictions(reference())
    assert found.predictions.labels["pet"].predicted.tolist() == [0, 0, 0]
    assert "1 row has an error instead of a prediction" in found.notes[-1]
    header = "uri,error,pet,pet_probability,pet_rejected,pet_top\n"
    rows = "".join(f"{uri},,dog,0.8,False,dog:0.8|cat:0.2\n" for uri in URIS)
    found = read(tmp_path, header + rows).predictions(reference())
    assert found.predictions.labels["pet"].predicted.tolist() == [1, 1, 1, 1]


def test_new_classes_are_kept_and_wrong_ones_explained(tmp_path):
    found = read(tmp_path, "file,prediction\n" + ROWS.replace("2.jpg,dog", "2.jpg,emu"))
    other = found.predictions(reference()).predictions
    assert other.schema["pet"].class_names == ("cat", "dog", "emu")
    assert pair(reference(), other)["pet"].b.is_right.tolist() == [True, False, True, True]
    for text, match in (
        ("file,prediction\na.jpg,cat\n", "names no image"),
        ("file,prediction\nset/cat/1.jpg,0\nset/cat/2.jpg,1\n", "names, not numbers"),
        ("file,prediction\nset/cat/1.jpg,Katze\nset/cat/2.jpg,Hund\n", "expected classes"),
        ("file,prediction\nset/cat/1.jpg,CAT\nset/cat/2.jpg,DOG\n", "upper and lower case"),
        ("file,colour,size\nset/cat/1.jpg,red,big\nset/cat/2.jpg,red,big\n", "expected one with"),
    ):
        with pytest.raises(DataError, match=match):
            read(tmp_path, text).predictions(reference())


def test_two_files_are_compared_with_a_column_of_true_classes(tmp_path):
    rows = "".join(
        f"{i}.jpg,{'cat' if i % 2 else 'dog'},{'cat' if i % 3 else 'dog'}\n" for i in range(40)
    )
    found = read(tmp_path, "file,truth,prediction\n" + rows)
    truth = found.truth()
    assert truth.schema["label"].class_names == ("cat", "dog")
    both = pair(truth, found.predictions(truth).predictions)["label"]
    assert both.a.is_right.all() and not both.b.is_right.all()
    with pytest.raises(DataError, match="no column with the true classes"):
        read(tmp_path, "file,prediction\n" + ROWS).truth()


def test_values_of_a_regression(tmp_path):
    label = Label("size", kind="regression")
    truth = np.array([1.5, 2.0, 3.0, 4.0])
    nothing = np.zeros([4, 0], np.float32)
    found = stored(truth, np.ones(4, bool), truth, nothing)
    evaluation = dataclasses.replace(predictions(found, label=label), uris=URIS)
    text = "file;predicted\n" + "".join(f"{uri};{i},5\n" for i, uri in enumerate(URIS))
    other = read(tmp_path, text).predictions(evaluation).predictions
    assert other.labels["size"].predicted.tolist() == [0.5, 1.5, 2.5, 3.5]
    with pytest.raises(DataError, match="expected a number"):
        read(tmp_path, text.replace("1,5", "large")).predictions(evaluation)
