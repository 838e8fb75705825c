"""Engines without TensorFlow: the same predictions, for the right model, in a bare installation."""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys

import light_run
import numpy as np
import pytest

import tf_image_classification as tfic
from tf_image_classification.errors import CheckpointError, ConfigError, UsageError
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving import predictor
from tf_image_classification.serving.engines import choose_engine
from tf_image_classification.serving.light import files

pytestmark = pytest.mark.as_installed

BLOCKED = ("tensorflow", "keras", "pyarrow", "sklearn", "scipy", "matplotlib", "tensorboard")
CHILD = """
import json, sys

BLOCKED = json.loads(sys.argv.pop(1))
sys.modules.update(dict.fromkeys(BLOCKED))  # None: neither imported nor found
"""


@pytest.fixture(scope="module")
def encoded():
    return light_run.pictures()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoded):
    folder = light_run.make(tmp_path_factory.mktemp("light") / "model")
    line = light_run.write_light_file(folder, encoded)
    assert "/model/light (litert, max difference " in line
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    return predictor.load_model(folder.path)


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copytree(folder.path, tmp_path / "copy")
    return ModelFolder(str(tmp_path / "copy"))


def assert_same_predictions(found, expected, encoded):
    """All outputs within 5e-7, and the same classes, sets and thresholds."""
    images, there = ([model.prepare(data) for data in encoded] for model in (found, expected))
    np.testing.assert_array_equal(np.stack(images), np.stack(there))
    outputs, known = found.outputs(images), expected.outputs(there)
    assert outputs.keys() == known.keys() and len(outputs) == 11
    for name, values in known.items():
        if values.dtype == object:
            assert outputs[name].tolist() == values.tolist()
        else:
            assert outputs[name].dtype == values.dtype
            np.testing.assert_allclose(outputs[name], values, rtol=0, atol=5e-7, err_msg=name)
    for mine, theirs in zip(found.predict(encoded), expected.predict(encoded), strict=True):
        assert mine.error == theirs.error == ""
        for name, one in theirs.labels.items():
            other = mine.labels[name]
            assert (other.name, other.conformal_set) == (one.name, one.conformal_set)
            assert other.above_threshold == one.above_threshold
            assert other.value == pytest.approx(one.value, abs=5e-7)


def test_litert_predicts_as_tensorflow_does_for_every_kind_of_label(folder, expected, encoded):
    found = predictor.load_model(folder.path, engine="auto")
    assert found.engine.name == "litert" and found.calibrations.keys() == {"kind", "tags"}
    assert_same_predictions(found, expected, encoded)


@pytest.mark.slow
def test_bad_images_have_the_same_reasons(folder, expected, encoded):
    pixels = np.zeros([4, 4, 3], np.float32)
    images = [encoded[0][:50], b"", b"text", "missing.jpg", pixels, encoded[1]]
    found = predictor.load_model(folder.path, engine="litert", max_pixels=10_000)
    known = predictor.load_model(folder.path, max_pixels=10_000)
    errors = [[one.error for one in model.predict(images)] for model in (found, known)]
    assert errors[0] == errors[1] and all(errors[0][:5]) and not errors[0][5]
    assert [found.declared_pixels(data) for data in encoded[:2]] == [20 * 60, 27 * 55]


@pytest.mark.slow
def test_the_model_of_python_predicts_without_tensorflow_and_explains_with_it(folder, encoded):
    model = tfic.load_model(folder.path)
    assert model.predictor.engine.name == "litert"
    heat = model.explain([model.prepare(encoded[0])])
    assert set(heat) == {label.name for label in light_run.LABELS}
    assert tfic.load_model(folder.path, engine="tensorflow").predictor.engine.name == "tensorflow"


def test_calls_at_the_same_time_give_the_same_and_only_of_the_file_that_was_loaded(copied, encoded):
    model = predictor.load_model(copied.path, engine="litert")
    images = np.stack([model.prepare(data) for data in encoded])
    expected = model.engine._infer(images)["kind_probabilities"]

    def rows(infer, number):
        part = slice(number % 3, number % 3 + 3)  # batches of other images
        np.testing.assert_allclose(
            infer(images[part])["kind_probabilities"], expected[part], rtol=0, atol=1e-6
        )

    for is_replaced, most in ((False, 2), (True, 1)):
        path = os.path.join(copied.light, "model.tflite")
        infer = files.open_file("litert", path)
        if is_replaced:
            os.replace(shutil.copy(path, path + ".new"), path)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(rows, infer, number) for number in range(60)]:
                done.result()
        assert 1 <= infer._free.qsize() <= most
    assert os.path.exists(path)
    os.remove(path)
    rows(infer, 0)


def test_a_file_of_another_model_is_not_used(copied):
    assert choose_engine(copied, "auto")[0] == "litert"
    graph = os.path.join(copied.saved_model, "saved_model.pb")
    with open(graph, "ab") as stream:
        stream.write(b"\x12\x00")
    assert choose_engine(copied, "auto") == ("tensorflow", None)
    with pytest.raises(ConfigError, match=r"no model\.tflite that agrees .*tfic export"):
        choose_engine(copied, "litert")
    shutil.rmtree(copied.saved_model)  # a copy for serving
    assert choose_engine(copied, "TFLite")[0] == "litert"
    with open(os.path.join(copied.light, "model.tflite"), "r+b") as stream:
        stream.seek(-100, os.SEEK_END)
        stream.write(b"\xff")  # damaged
    with pytest.raises(ConfigError, match="no model.tflite that agrees"):
        choose_engine(copied, "litert")


@pytest.mark.slow
def test_a_file_that_differs_is_neither_kept_nor_used(copied, encoded, monkeypatch):
    parity = os.path.join(copied.light, "parity.json")
    with open(parity) as stream:
        values = json.load(stream)
    with open(parity, "w") as stream:
        json.dump(values | {"largest": 1e-3}, stream)
    assert choose_engine(copied, "auto")[0] == "tensorflow"
    shutil.rmtree(copied.light)
    monkeypatch.setattr(files, "MAX_DIFFERENCE", -1.0)
    assert "none: The litert file differs" in light_run.write_light_file(copied, encoded)
    assert not os.path.exists(copied.light)


def test_nothing_is_written_without_a_converter_or_for_a_preprocessing_of_ones_own(
    copied, encoded, monkeypatch
):
    shutil.rmtree(copied.light)
    with monkeypatch.context() as without:
        without.setattr(files, "CONVERTERS", {})
        assert "none: it needs ai-edge-litert" in light_run.write_light_file(copied, encoded)
    path = os.path.join(copied.path, "run.json")
    with open(path) as stream:
        values = json.load(stream)
    with open(path, "w") as stream:
        json.dump(values | {"spec": "pets.py:Pets"}, stream)
    assert light_run.write_light_file(copied, encoded) == ""
    assert choose_engine(copied, "auto") == ("tensorflow", None)
    with pytest.raises(ConfigError, match=r"pets\.py:Pets has its own preprocessing.*tensorflow"):
        choose_engine(copied, "litert")
    assert not os.path.exists(copied.light)


def test_a_folder_without_a_run_and_an_engine_that_is_none_are_refused(tmp_path):
    with pytest.raises(CheckpointError):
        choose_engine(ModelFolder(str(tmp_path)), "auto")
    with pytest.raises(UsageError, match="--engine torch: Known: auto, litert"):
        choose_engine(ModelFolder(str(tmp_path)), "torch")
    with pytest.raises(UsageError, match=r"--engine opnvino: Did you mean openvino\?"):
        choose_engine(ModelFolder(str(tmp_path)), "opnvino")


@pytest.mark.slow
def test_onnx_and_openvino_predict_as_tensorflow_does(copied, expected, encoded, monkeypatch):
    shutil.rmtree(copied.light)
    monkeypatch.setattr(files, "CONVERTERS", {"onnx": ()})
    assert "(onnx, max difference" in light_run.write_light_file(copied, encoded)
    found = predictor.load_model(copied.path, engine="onnx")
    assert_same_predictions(found, expected, encoded)
    pytest.importorskip("openvino", reason="OpenVINO is not installed; ONNX Runtime passed")
    found = predictor.load_model(copied.path, engine="openvino")
    assert_same_predictions(found, expected, encoded)


def child(program, *arguments, blocked=BLOCKED):
    """The result of a program in an installation without these packages."""
    return subprocess.run(
        [sys.executable, "-c", CHILD + program, json.dumps(blocked), *arguments],
        capture_output=True,
        text=True,
    )


def test_prediction_and_server_work_where_tensorflow_is_not_installed(
    folder, expected, encoded, tmp_path
):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, data in zip(paths, encoded, strict=False):
        path.write_bytes(data)
    program = """
import base64, json, sys
from starlette.testclient import TestClient
from tf_image_classification.cli.main import main
from tf_image_classification.serving.app import ServerOptions, make_app
from tf_image_classification.serving.predictor import load_model
from tf_image_classification.serving.server import warm_up

folder, *paths = sys.argv[1:]
assert main(["predict", folder, *paths, "--output", "-"]) == 0
model = load_model(folder, engine="auto")
warm_up(model)
with TestClient(make_app({"m": model}, ServerOptions())) as client:
    data = base64.b64encode(open(paths[0], "rb").read()).decode()
    found = client.post("/v1/models/m:predict", json={"instances": [{"b64": data}]})
    assert client.post("/explain", content=open(paths[0], "rb").read()).status_code == 200
    assert client.get("/").status_code == 200
print(json.dumps(found.json()))
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
assert not loaded & set(BLOCKED), loaded
"""
    result = child(program, folder.path, *map(str, paths))
    assert result.returncode == 0, result.stderr
    assert "3 images, 0 of them bad" in result.stderr and "engine litert" in result.stderr
    *rows, answer = result.stdout.splitlines()
    known = expected.predict(encoded[:3])
    names = [one.labels["kind"].name for one in known]
    assert [row.split(",")[2] for row in rows[1:]] == names
    [found] = json.loads(answer)["predictions"]
    images = [expected.prepare(encoded[0])]
    probabilities = expected.outputs(images)["kind_calibrated"][0]
    np.testing.assert_allclose(found["kind_calibrated"], probabilities, rtol=0, atol=5e-7)


def test_where_packages_are_missing_the_error_names_the_extra(folder, tmp_path):
    program = "from tf_image_classification.cli.main import main; main(sys.argv[1:])"
    image = tmp_path / "x.png"
    image.write_bytes(b"")
    training = ("evaluate", "--model_dir", folder.path)
    writing = ("predict", folder.path, str(image), "--output", str(tmp_path / "rows.parquet"))
    cases = [
        (BLOCKED, training, "TensorFlow is not installed. Install it"),
        (["sklearn"], training, "scikit-learn is not installed. Install it with all"),
        (BLOCKED, writing, "pyarrow is not installed. Install it with all"),
        (BLOCKED, ("predict", folder.path, str(image), "--engine", "tensorflow"), "[cpu]'"),
        (["ai_edge_litert", *BLOCKED], writing[:3], "ai_edge_litert. Install it with: pip install"),
    ]
    for blocked, words, message in cases:
        result = child(program, *words, blocked=blocked)
        assert result.returncode == 1 and message in result.stderr, result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_training_ends_with_a_light_file(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    trained = tfic.train(
        (pixels, ["ant", "bee"] * 12),
        backbone="mobilenet_v1_025",
        checkpoint_path="none",
        recipe="none",
        image_size=32,
        batch_size=4,
        train_steps=2,
        eval_split=0.25,
        inspect=False,
        model_dir=str(tmp_path / "m"),
    )
    assert f"light file:    {tmp_path}/m/light (litert" in capsys.readouterr().out
    assert trained.predictor.engine.name == "litert" and trained.predictor.step == 2
    assert trained.no_heat_maps == "" and not ModelFolder(str(tmp_path / "m")).is_being_exported
    assert not trained.predict(pixels[0])[0].error
