"""The score of unknown pictures: fitted, stored, and the same in every engine and file."""

import base64
import hashlib
import json
import os
import shutil
import types

import light_run
import numpy as np
import pytest
import tensorflow as tf

from serving.test_server import serving
from tf_image_classification.dataset.image.decode import decoder
from tf_image_classification.evaluation.unknown import NEIGHBOURS
from tf_image_classification.export.formats import FORMATS, load_file, write_file
from tf_image_classification.export.inference_module import ExportPlan
from tf_image_classification.export.names import FEATURES, LITERT, ONNX, UNKNOWN_SCORE
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving import predictor
from tf_image_classification.serving.prediction_rows import PredictionRows, row_of
from tf_image_classification.workflows import unknown

pytestmark = pytest.mark.as_installed
SCHEMA = LabelSchema(light_run.LABELS)


def source(encoded, fingerprint):
    """A set of examples by number."""
    table = types.SimpleNamespace(
        num_examples=len(encoded),
        fetch=lambda numbers: tf.constant([encoded[i] for i in numbers.numpy()]),
        columns={},
        fingerprint=fingerprint,
    )
    return types.SimpleNamespace(table=table)


def tinted(count, colour, seed):
    """Encoded pictures around a colour."""
    random = np.random.default_rng(seed)
    pixels = random.normal(colour, 25, [count, 30, 40, 3]).clip(0, 255).astype(np.uint8)
    return [tf.io.encode_png(one).numpy() for one in pixels]


KNOWN, EVALUATION = tinted(60, (200, 80, 80), 1), tinted(40, (200, 80, 80), 2)
UNKNOWN = tinted(20, (40, 60, 220), 3)


def fit(folder, rate=0.05, paths=(), **sets):
    given = {"train": KNOWN, "evaluation": EVALUATION} | sets
    made = {k: v and source(v, k if v is not KNOWN else "train") for k, v in given.items()}
    return unknown.fit_detector(
        folder,
        unknown.Request(rate, paths),
        schema=SCHEMA,
        train=lambda: made["train"],
        evaluation=made["evaluation"],
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    there = tmp_path_factory.mktemp("unknown")
    folder = light_run.make(there / "model", has_linear_head=True)
    (there / "blue").mkdir()
    for number, data in enumerate([*UNKNOWN, KNOWN[0]]):
        (there / "blue" / f"{number}.png").write_bytes(data)
    light_run.write_light_file(folder, light_run.pictures())
    line = fit(folder, paths=[str(there / "blue")])
    return folder, line


@pytest.fixture
def copied(fitted, tmp_path):
    shutil.copytree(fitted[0].path, tmp_path / "copy")
    return ModelFolder(str(tmp_path / "copy"))


def test_the_line_has_limit_interval_and_detection_rate(fitted):
    _, line = fitted
    assert "limit for at most 0.05 of known pictures, by 40 evaluation examples" in line
    assert "(refused of new ones: 0.006 to 0.132)" in line  # Beta(2, 39)
    assert "10 unknown examples, not those that chose the distance: AUROC 1.000 [0.741" in line
    assert "fraction above the limit 1.000 [0.722, 1.000]" in line
    assert "1 picture of 21 left out: the same file is in the training or evaluation set" in line


def test_labels_of_several_kinds_have_the_distance_that_needs_no_classes(fitted):
    detector = predictor.load_model(fitted[0].path).detector
    assert list(detector.distances) == [NEIGHBOURS] and detector.num_train == 60
    assert (detector.known_scores > 1).sum() == 1 and len(detector.ids) == 40
    assert os.path.getsize(fitted[0].unknown_arrays) < 50_000


@pytest.fixture(scope="module")
def expected(fitted):
    """Scores of some pictures by the TensorFlow engine."""
    model = predictor.load_model(fitted[0].path)
    found = model.predict([*EVALUATION[:5], *UNKNOWN[:5]])
    scores = np.array([one.unknown_score for one in found])
    assert [one.is_unknown for one in found] == (scores > 1).tolist()
    assert all(one.is_unknown for one in found[5:]) and not any(one.is_unknown for one in found[:5])
    return scores


@pytest.mark.parametrize("engine", ["auto", "litert"])
def test_an_engine_without_tensorflow_gives_the_same_score(fitted, expected, engine):
    model = predictor.load_model(fitted[0].path, engine=engine)
    assert model.engine.name == "litert"
    found = [one.unknown_score for one in model.predict([*EVALUATION[:5], *UNKNOWN[:5]])]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.exhaustive_after(1)
@pytest.mark.parametrize("kind", [ONNX, LITERT])
def test_a_file_computes_the_score_itself_and_the_engine_that_runs_it_takes_it(
    copied, expected, kind
):
    """Not that of another fit: it would have another limit."""
    model = predictor.load_model(copied.path)
    exported = ExportedModel(copied.saved_model).load()
    description = {"unknown": model.detector.described(), "saved_model": exported.fingerprint()}
    description |= {"step": 0, "input": {"dtype": "float32"}}
    plan = ExportPlan(SCHEMA, {}, description, detector=model.detector)
    parent = os.path.join(copied.path, "exports", kind)
    os.makedirs(parent)
    path = os.path.join(parent, FORMATS[kind].file_name)
    write_file(FORMATS[kind], exported, plan, path)
    prepared = np.stack([model.prepare(data) for data in [*EVALUATION[:5], *UNKNOWN[:5]]])
    outputs = load_file(FORMATS[kind], path)(prepared)
    np.testing.assert_allclose(outputs[UNKNOWN_SCORE], expected, rtol=1e-4)
    assert FEATURES not in outputs

    shutil.rmtree(copied.light)
    with open(path, "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    for name, notes in (("model", description), ("parity", {"largest": 0.0, "sha256": digest})):
        with open(os.path.join(parent, f"{name}.json"), "w", encoding="utf-8") as stream:
            json.dump(notes, stream)
    found = predictor.load_model(copied.path, engine=kind).predict(UNKNOWN[:5])
    np.testing.assert_allclose([one.unknown_score for one in found], expected[5:], rtol=1e-4)
    fit(copied, rate=0.2)
    [found] = predictor.load_model(copied.path, engine=kind).predict(UNKNOWN[:1])
    assert found.unknown_score is None and found.is_unknown is None


@pytest.mark.slow
def test_a_savedmodel_of_encoded_images_gives_the_score(copied, expected, tmp_path):
    model = predictor.load_model(copied.path)
    exported = ExportedModel(copied.saved_model).load()
    plan = ExportPlan(SCHEMA, {}, {}, decode=decoder(10**6), detector=model.detector)
    path = str(tmp_path / "saved_model")
    write_file(FORMATS["saved_model"], exported, plan, path)
    images = np.array([*EVALUATION[:5], *UNKNOWN[:5]], object)
    found = load_file(FORMATS["saved_model"], path)(images)
    np.testing.assert_allclose(found[UNKNOWN_SCORE], expected, rtol=1e-4)
    assert {"kind_class_name", "tags_class_names"} < found.keys()


@pytest.mark.slow
def test_the_server_answers_it_in_every_protocol(fitted, expected):
    model = predictor.load_model(fitted[0].path)
    text = base64.b64encode(UNKNOWN[0]).decode()
    with serving(model) as client:
        rows = client.post("/v1/models/tiny:predict", json={"instances": [{"b64": text}]}).json()
        row = rows["predictions"][0]
        assert row["unknown_score"] == pytest.approx(expected[5], rel=1e-5)
        assert row["is_unknown"] is True
        tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [text]}
        outputs = client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).json()["outputs"]
        by_name = {one["name"]: one for one in outputs}
        assert by_name["is_unknown"]["datatype"] == "BOOL" and by_name["is_unknown"]["data"] == [
            True
        ]
        assert by_name["unknown_score"]["data"][0] == pytest.approx(expected[5], rel=1e-5)
        described = client.get("/v2/models/tiny").json()["outputs"]
        assert {"unknown_score", "is_unknown"} <= {one["name"] for one in described}
        metadata = client.get("/v1/models/tiny/metadata").json()["metadata"]["signature_def"]
        dtype = metadata["signature_def"]["serving_default"]["outputs"]["is_unknown"]["dtype"]
        assert dtype == "DT_BOOL"
        assert client.post("/explain", content=UNKNOWN[0]).json()["unknown"]["is_unknown"] is True
        facts = client.get("/about").json()["facts"]
        assert facts["refused as unknown"] == "at most 5% of known ones"


def test_rows_have_the_columns_and_a_line_for_people_says_unknown(fitted):
    model = predictor.load_model(fitted[0].path)
    rows = PredictionRows(model.schema, model.calibrations, model.added_outputs)
    assert rows.columns[-2:] == ["unknown_score", "is_unknown"]
    [far, near] = model.predict([UNKNOWN[0], EVALUATION[0]])
    assert rows.as_csv(row_of(far)).rstrip().endswith(",True")
    assert "  unknown, nearest: " in rows.as_text(row_of(far))
    assert "unknown" not in rows.as_text(row_of(near))
    assert rows.as_table([row_of(far)]).column("is_unknown").to_pylist() == [True]


@pytest.mark.slow
@pytest.mark.exhaustive_after(1)
@pytest.mark.parametrize(
    ("sets", "rate", "text"),
    [
        ({"evaluation": EVALUATION[:10]}, 0.05, "needs 19 examples, there are 10"),
        ({"evaluation": None}, 0.05, "there is no evaluation set"),
        ({"evaluation": KNOWN}, 0.05, "the evaluation set is the training set"),
        (
            {"evaluation": EVALUATION[:30] + KNOWN[:10]},
            0.05,
            "about 25% of the evaluation examples are training examples",
        ),
    ],
)
def test_without_a_valid_limit_there_is_a_score_and_no_verdict(copied, sets, rate, text):
    assert f"score without a limit: {'a rate of 0.05 ' * ('needs' in text)}{text}" in fit(
        copied, rate, **sets
    )
    model = predictor.load_model(copied.path)
    [found] = model.predict(UNKNOWN[:1])
    assert found.unknown_score > 2 and found.is_unknown is None
    assert model.added_outputs == ("unknown_score",)


@pytest.mark.slow
@pytest.mark.exhaustive_after(1)
@pytest.mark.parametrize(
    ("sets", "rate", "line"),
    [
        ({"train": None}, 0.05, "no score: the training set cannot be read"),
        ({"train": [b"no image"]}, 0.05, "no score: no training example can be used"),
        ({"train": KNOWN[:1] * 9}, 0.05, "almost the same features for all pictures"),
        ({}, 0.0, ""),
    ],
)
def test_where_there_is_no_score_the_folder_says_why(copied, sets, rate, line):
    found = fit(copied, rate, **sets)
    assert line in found and bool(line) == bool(found)
    assert unknown.is_fitted(copied) and not os.path.exists(copied.unknown_arrays)
    model = predictor.load_model(copied.path)
    assert model.detector is None and model.added_outputs == ()
    [one] = model.predict(UNKNOWN[:1])
    assert one.unknown_score is None and "unknown_score" not in row_of(one)


def test_a_detector_of_another_model_is_not_used(copied):
    with open(copied.unknown, encoding="utf-8") as stream:
        facts = json.load(stream)
    with open(copied.unknown, "w", encoding="utf-8") as stream:
        json.dump(facts | {"saved_model": "another"}, stream)
    assert not unknown.is_fitted(copied)
    assert predictor.load_model(copied.path).detector is None


@pytest.mark.slow
def test_a_damaged_detector_is_an_error_that_an_evaluation_repairs(copied):
    with open(copied.unknown_arrays, "ab") as stream:
        stream.write(b"x")
    with pytest.raises(Exception, match=r"unknown.json is damaged .*tfic evaluate"):
        predictor.load_model(copied.path)
    assert "limit for at most" in fit(copied)
    assert predictor.load_model(copied.path).detector is not None


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing", "no such file"), ("empty", "holds no images"), ("x.csv", "cannot be used")],
)
def test_unknown_examples_that_cannot_be_used_are_an_error_at_once(tmp_path, path, reason):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(Exception, match=rf"unknown_examples: .*{path} cannot be used: .*{reason}|"
                       rf"unknown_examples: .*{path} {reason}"):  # fmt: skip
        unknown.check_examples([str(tmp_path / path)])
