"""Heat maps without TensorFlow: those of TensorFlow's Grad-CAM, or a reason."""

import base64
import io
import json
import os
import shutil

import light_run
import numpy as np
import pytest
from PIL import Image

import tf_image_classification as tfic
from serving.running_server import serving
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving import predictor
from tf_image_classification.serving.light import files

pytestmark = pytest.mark.as_installed

LABELS = {label.name for label in light_run.LABELS}


@pytest.fixture(scope="module")
def encoded():
    return light_run.pictures()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoded):
    """A model with average pooling and one linear layer for each label."""
    folder = light_run.make(tmp_path_factory.mktemp("heat") / "model", has_linear_head=True)
    assert "/model/light (litert" in light_run.write_light_file(folder, encoded)
    return folder


@pytest.fixture(scope="module")
def expected(folder, encoded):
    """Grad-CAM of TensorFlow."""
    model = predictor.load_model(folder.path)
    found = model.explain([model.prepare(data) for data in encoded])
    assert all(heat.std() > 0.1 and heat.max() == 1 for heat in found.values())
    return found


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copytree(folder.path, tmp_path / "copy")
    return ModelFolder(str(tmp_path / "copy"))


def assert_same_heat(model, expected, encoded):
    assert model.no_heat_maps == ""
    images = [model.prepare(data) for data in encoded]
    found = model.explain(images)
    assert found.keys() == expected.keys() == LABELS
    for name, heat in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], heat, rtol=0, atol=1e-4, err_msg=name)
    [alone] = model.explain(images[:1])["kind"]
    np.testing.assert_allclose(alone, expected["kind"][0], rtol=0, atol=1e-4)


def test_litert_explains_as_tensorflow_does(folder, expected, encoded):
    model = predictor.load_model(folder.path, engine="litert")
    assert_same_heat(model, expected, encoded)
    outputs = model.engine._infer(np.stack([model.prepare(data) for data in encoded]))
    assert "feature_maps" not in outputs
    [notes] = [files.read_parity(folder.light)]
    assert notes[files.HEAD]["largest"] <= 1e-4 and "no_heat_maps" not in notes
    assert os.path.getsize(os.path.join(folder.light, files.HEAD)) < 10_000


@pytest.mark.slow
def test_onnx_and_openvino_explain_as_tensorflow_does(copied, expected, encoded, monkeypatch):
    shutil.rmtree(copied.light)
    monkeypatch.setattr(files, "CONVERTERS", {"onnx": ()})
    assert "(onnx, max difference" in light_run.write_light_file(copied, encoded)
    assert_same_heat(predictor.load_model(copied.path, engine="onnx"), expected, encoded)
    pytest.importorskip("openvino", reason="OpenVINO is not installed; ONNX Runtime passed")
    assert_same_heat(predictor.load_model(copied.path, engine="openvino"), expected, encoded)


def test_a_file_of_an_export_is_explained_by_the_light_file(copied, expected, encoded):
    exported = os.path.join(copied.path, "exports", "litert")
    shutil.copytree(copied.light, exported)
    own = os.path.join(copied.light, "model.tflite")
    os.rename(own, own + "_")
    model = predictor.load_model(copied.path, engine="litert")
    os.rename(own + "_", own)
    assert model.engine._heat_maps._loaded[0] is not model.engine._infer
    assert_same_heat(model, expected, encoded)


def test_the_page_and_python_explain_without_tensorflow(folder, expected, encoded):
    model = tfic.load_model(folder.path)
    assert model.predictor.engine.name == "litert" and model.no_heat_maps == ""
    heat = model.explain([model.prepare(encoded[0])])
    assert heat.keys() == LABELS and "_explaining" in vars(model)
    assert model._explaining is model.predictor
    served = predictor.load_model(folder.path, engine="auto")
    with serving(served) as client:
        assert "heat maps" not in client.get("/about").json()["facts"]
        labels = client.post("/explain", content=encoded[0]).json()["labels"]
    assert labels.keys() == LABELS
    picture = base64.b64decode(labels["kind"]["heat"].partition(",")[2])
    size = expected["kind"].shape[1:]
    assert Image.open(io.BytesIO(picture)).size == size[::-1]


def test_a_head_with_another_layer_has_none_and_a_reason(tmp_path, encoded):
    folder = light_run.make(tmp_path / "model")
    assert "/model/light (litert" in light_run.write_light_file(folder, encoded)
    model = predictor.load_model(folder.path, engine="litert")
    assert "not linear (Relu)" in model.no_heat_maps
    assert model.no_heat_maps.endswith("use the engine tensorflow")
    assert model.explain([model.prepare(encoded[0])]) == {}
    assert not os.path.exists(os.path.join(folder.light, files.HEAD))


@pytest.mark.parametrize("damage", ["changed", "missing", "earlier", "exported anew"])
def test_weights_that_cannot_be_trusted_are_not_used(copied, encoded, damage):
    head = os.path.join(copied.light, files.HEAD)
    parity = os.path.join(copied.light, files.PARITY)
    model = predictor.load_model(copied.path, engine="litert")
    reason = "missing or damaged"
    if damage == "changed":
        with open(head, "r+b") as stream:
            stream.seek(200)
            stream.write(b"\xff")
    elif damage == "missing":
        os.remove(head)
    elif damage == "earlier":  # a folder of a version without heat maps
        with open(parity) as stream:
            values = json.load(stream)
        del values[files.HEAD]
        with open(parity, "w") as stream:
            json.dump(values, stream)
        reason = "has no file for them"
    else:
        with open(os.path.join(copied.saved_model, "saved_model.pb"), "ab") as stream:
            stream.write(b"\x12\x00")
        reason = "is of the model that predicts"
    assert reason in model.no_heat_maps
    assert model.explain([model.prepare(encoded[0])]) == {}
