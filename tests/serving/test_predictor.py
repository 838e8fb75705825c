"""Predicting with a model folder: what the evaluation said, whatever form the images come in."""

import csv
import io
import json
import os
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from pyarrow import parquet

from serving.shipped_run import NAMES, TinyMaps
from tf_image_classification import load_model
from tf_image_classification.cli import predict as predict_verb
from tf_image_classification.errors import BadImageError, CheckpointError, ConfigError, DataError
from tf_image_classification.evaluation.predictions import read_predictions
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving import predictor


@pytest.fixture(scope="module")
def model(shipped_run):
    return load_model(shipped_run.model_dir)


def test_every_form_of_an_image_gives_what_the_evaluation_said(shipped_run, model):
    kept = read_predictions(ModelFolder(shipped_run.model_dir).predictions)
    images = shipped_run.images[:5]
    paths = [str(shipped_run.folder / f"{i}.png") for i in range(5)]
    for path, data in zip(paths, images, strict=True):
        with open(path, "wb") as stream:
            stream.write(data)
    pixels = [tf.io.decode_png(data).numpy() for data in images]
    for form in (paths, images, pixels):
        found = model.predict(form, is_calibrated=False)
        probabilities = np.array([one.labels["kind"].probabilities for one in found])
        np.testing.assert_allclose(
            probabilities, kept.labels["kind"].probabilities[:5], rtol=1e-5, atol=1e-6
        )
        assert [one.labels["kind"].name for one in found] == [
            NAMES[k] for k in kept.labels["kind"].predicted[:5]
        ]
    assert [one.uri for one in model.predict(paths)] == paths
    assert model.predict(images[0])[0].labels["kind"].name in NAMES


def test_calibrated_probabilities_and_sets(model, shipped_run):
    calibration = model.calibrations["kind"]
    plain = model.predict(shipped_run.images[:8], is_calibrated=False)
    calibrated = model.predict(shipped_run.images[:8])
    for before, after in zip(plain, calibrated, strict=True):
        expected = calibration.apply(np.array([before.labels["kind"].probabilities]))
        np.testing.assert_allclose([after.labels["kind"].probabilities], expected, rtol=1e-9)
        inside = [NAMES[k] for k in np.flatnonzero(calibration.conformal_set(expected)[0])]
        assert after.labels["kind"].conformal_set == inside
        above = [
            n for n, p, t in zip(NAMES, expected[0], calibration.thresholds, strict=True) if p >= t
        ]
        assert after.labels["kind"].above_threshold == above
        assert before.labels["kind"].conformal_set is before.labels["kind"].above_threshold is None
        assert after.labels["kind"].name == before.labels["kind"].name


def test_rejection_and_top(model, shipped_run):
    none = model.predict(shipped_run.images[:20])
    assert not any(one.labels["kind"].is_rejected for one in none)
    limit = np.median([one.labels["kind"].probability for one in none])
    some = [
        one.labels["kind"] for one in model.predict(shipped_run.images[:20], reject_below=limit)
    ]
    assert [one.is_rejected for one in some] == [one.probability < limit for one in some]
    assert 0 < sum(one.is_rejected for one in some) < 20
    top = model.predict(shipped_run.images[0], top_k=2)[0].labels["kind"].top
    assert len(top) == 2 and top[0][1] >= top[1][1]
    with pytest.raises(ConfigError, match="top_k"):
        model.predict(shipped_run.images[0], top_k=0)


def test_bad_images_are_listed_in_their_place(model, shipped_run, tmp_path):
    images = [shipped_run.images[0], b"no image", shipped_run.images[1], str(tmp_path / "none.png")]
    images += [np.zeros([4, 4, 5], np.uint8), np.zeros([4, 4], np.uint8)]
    found = model.predict(images, batch_size=2)
    assert [bool(one.error) for one in found] == [False, True, False, True, True, False]
    assert found[1].labels == {} and found[3].error == "there is no such file"
    with pytest.raises(BadImageError, match="uint8"):
        model.prepare(np.zeros([4, 4, 3], np.float32))


def test_a_model_shows_where_it_looks(model, shipped_run):
    prepared = tf.stack([model.prepare(data) for data in shipped_run.images[:3]])
    heat = model.explain(prepared)["kind"]
    assert heat.shape == (3, 8, 8) and heat.min() >= 0
    np.testing.assert_allclose(heat.max(axis=(1, 2))[heat.max(axis=(1, 2)) > 0], 1.0, rtol=1e-5)


class InAClass(keras.Model):
    """A model inside a ``call`` that somebody wrote."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return [self.inner(x)]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model,
        lambda model: keras.Sequential([keras.Input([8, 8, 3]), model]),
        lambda model: keras.Sequential([keras.layers.Rescaling(0.5), model]),
        lambda model: keras.Model(inputs := keras.Input([8, 8, 3]), model(inputs[:, ::1])),
        InAClass,
    ],
    ids=["functional", "in Sequential", "without Input", "in functional", "in a class"],
)
def test_heat_lies_where_the_class_is(wrap):
    """A model that looks at the brightness of each place, one class a corner."""
    from tf_image_classification.export.grad_cam import heat_maps_of
    from tf_image_classification.labels import Label, LabelSchema

    schema = LabelSchema((Label("kind", depth=2),))
    model = wrap(TinyMaps.looking_at_corners())
    images = np.zeros([2, 8, 8, 3], np.float32)
    images[0, :2, :2], images[1, -2:, -2:] = 255.0, 255.0
    heat = tf.function(heat_maps_of(model, schema))(tf.constant(images))["kind"].numpy()
    assert heat[0, 0, 0] == 1.0 and heat[0, -1, -1] == 0.0
    assert heat[1, -1, -1] == 1.0 and heat[1, 0, 0] == 0.0


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is an empty folder. Give the folder that"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"step": 1}', '{"step": 1, "labels": [2]}'])
def test_a_damaged_calibration_is_named(tmp_path, content):
    folder = ModelFolder(str(tmp_path))
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(DataError, match=r"calibration\.json.*Evaluate the model again"):
        predictor.read_calibrations(folder, 1)


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_a_damaged_model_is_named(tmp_path, content):
    (tmp_path / "step.json").write_text('{"step": 1}')
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read.*exports it anew"):
        ExportedModel(str(tmp_path)).load()


# --- the verb ----------------------------------------------------------------------------------


@pytest.fixture
def pictures(shipped_run, tmp_path):
    folder = tmp_path / "pictures" / "inner"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.png").write_bytes(shipped_run.images[i])
    (folder / "3.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image, and not named like one")
    return tmp_path / "pictures"


@pytest.mark.slow
def test_the_verb_writes_every_format(shipped_run, pictures, tmp_path, capsys):
    outputs = [str(tmp_path / f"out.{kind}") for kind in ("csv", "jsonl", "parquet")]
    for output in outputs:
        assert predict_verb.main([shipped_run.model_dir, str(pictures), "--output", output]) == 1
    with open(outputs[0], encoding="utf-8") as stream:
        of_csv = list(csv.DictReader(stream))
    with open(outputs[1], encoding="utf-8") as stream:
        of_json = [json.loads(line) for line in stream]
    of_parquet = parquet.read_table(outputs[2]).to_pylist()
    assert [row["uri"][-5:] for row in of_csv] == ["0.png", "1.png", "2.png", "3.png"]
    assert of_csv[3]["error"] and not of_csv[3]["kind"]
    for rows in (of_json, of_parquet):
        assert [row.get("kind") or "" for row in rows] == [row["kind"] for row in of_csv]
    assert of_json[0]["kind_top"][0]["class"] == of_json[0]["kind"]
    assert "images/s" in capsys.readouterr().err


@pytest.mark.slow
def test_the_verb_reads_lists_records_and_patterns(
    shipped_run, pictures, tmp_path, capsys, monkeypatch
):
    listed = [str(pictures / "inner" / f"{i}.png") for i in range(2)]
    (tmp_path / "list.csv").write_text("URIs,labels\n" + "".join(f"{p},cat\n" for p in listed))
    monkeypatch.setattr(sys, "stdin", io.StringIO(listed[0] + "\n\n"))
    sources = [
        str(tmp_path / "list.csv"),
        shipped_run.evaluation,
        "-",
        str(pictures / "*" / "[01].png"),
    ]
    assert predict_verb.main([shipped_run.model_dir, *sources]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 2 + len(shipped_run.images) + 1 + 2
    assert rows[0]["kind"] == rows[2]["kind"]  # the record that the first file was made from


def test_a_name_that_is_not_utf8_is_escaped_and_the_folder_is_made(shipped_run, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"a\xff.png")
    with open(path, "wb") as stream:
        stream.write(shipped_run.images[0])
    for kind in ("csv", "parquet"):
        output = str(tmp_path / kind / f"out.{kind}")
        arguments = [shipped_run.model_dir, os.fsdecode(path), "--output", output]
        assert predict_verb.main(arguments) == 0
    [row] = parquet.read_table(output).to_pylist()
    assert row["uri"].endswith("a\\udcff.png") and row["kind"]
    assert row["uri"] in (tmp_path / "csv" / "out.csv").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_made_is_told_before_the_work(shipped_run, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "load_model", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        output = str(tmp_path / "file" / "out.csv")
        predict_verb.main([shipped_run.model_dir, "x.png", "--output", output])


def test_an_output_of_unknown_kind_is_refused(shipped_run, capsys):
    with pytest.raises(SystemExit):
        predict_verb.main([shipped_run.model_dir, "x.png", "--output", "out.xls"])
    assert ".parquet" in capsys.readouterr().err
