"""The protocols of the server, with their own clients where there are any; the model is NumPy's."""

import base64
import gc
import json
import os
import struct
import subprocess
import sys
import threading
import time
import weakref

import httpx
import numpy as np
import pytest

from serving.numpy_engine import AGE, PET, SIZE, model, png
from serving.running_server import serving
from tf_image_classification.errors import DataError
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.labels import Label
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving.reloading import Source

AT = "/v1/models/tiny"
RED, GREEN = png((250, 5, 5)), png((5, 250, 5))
TAGS = Label("tags", depth=3, class_names=("a", "b", "c"), kind="multilabel")


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


@pytest.fixture(scope="module")
def client():
    """Of a server with two models: classes with a calibration and a value, and a value alone."""
    both = model(PET, AGE)
    both.calibrations["pet"] = Calibration(temperature=2.0, thresholds=(0.5, 0.5, 0.5))
    with serving({"tiny": both, "ages": model(AGE, step=3)}) as found:
        yield found


@pytest.fixture(scope="module")
def expected():
    """The rows of the red and the green image."""
    predictor = model(PET, AGE)
    found = predictor.outputs([predictor.prepare(data) for data in (RED, GREEN)])
    return found


# --- TensorFlow Serving ------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["", "/versions/7", "/labels/stable", "/labels/latest"])
def test_a_model_has_addresses_by_version_and_label(client, which):
    state = client.get(f"{AT}{which}").json()["model_version_status"]
    status = {"error_code": "OK", "error_message": ""}
    assert state == [{"version": "7", "state": "AVAILABLE", "status": status}]
    rows = client.post(f"{AT}{which}:predict", json={"instances": [b64(RED)]})
    assert rows.json()["predictions"][0]["pet_class_name"] == "cat"
    assert client.get(f"{AT}{which}/metadata").json()["model_spec"]["version"] == "7"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/versions/8", 404), ("/versions/08", 404), ("/versions/" + "9" * 5000, 404),
        ("/versions/x", 404), ("/labels/canary", 404), ("/versions/7/labels/stable", 404),
        ("/versions/7:predict", 405),
    ],
)  # fmt: skip
def test_a_version_or_label_that_is_not_served_is_not_found(client, path, status):
    found = client.get(f"{AT}{path}")
    assert (found.status_code, list(found.json())) == (status, ["error"])


def test_metadata_describe_both_signatures_and_their_outputs(client):
    found = client.get(f"{AT}/metadata").json()["metadata"]
    signatures = found["signature_def"]["signature_def"]
    shapes = {
        key: {
            name: (one["dtype"], [int(dim["size"]) for dim in one["tensor_shape"]["dim"]])
            for kind in ("inputs", "outputs")
            for name, one in signature[kind].items()
        }
        for key, signature in signatures.items()
    }
    numeric = {
        "pet_probabilities": ("DT_FLOAT", [-1, 3]),
        "pet_calibrated": ("DT_FLOAT", [-1, 3]),
        "age": ("DT_FLOAT", [-1]),
    }
    names = {"pet_class_name": ("DT_STRING", [-1])}
    assert shapes == {
        "serving_default": {"image_bytes": ("DT_STRING", [-1]), **numeric, **names},
        "images": {"images": ("DT_FLOAT", [-1, SIZE, SIZE, 3]), **numeric},
    }


@pytest.mark.parametrize("is_columnar", [False, True])
@pytest.mark.parametrize("is_named", [False, True])
def test_the_signature_images_takes_preprocessed_images(client, expected, is_columnar, is_named):
    predictor = model(PET, AGE)
    images = [predictor.prepare(data).tolist() for data in (RED, GREEN)]
    if is_columnar:
        body = {"inputs": {"images": images} if is_named else images}
    else:
        body = {"instances": [{"images": one} if is_named else one for one in images]}
    found = client.post(f"{AT}:predict", json={"signature_name": "images", **body}).json()
    if is_columnar:
        outputs = found["outputs"]
    else:
        outputs = {
            key: [row[key] for row in found["predictions"]] for key in found["predictions"][0]
        }
    assert set(outputs) == {"pet_probabilities", "pet_calibrated", "age"}
    np.testing.assert_allclose(outputs["pet_probabilities"], expected["pet_probabilities"], 1e-6)


@pytest.mark.parametrize(
    "values",
    [[[1, 2]], [[[[1, 2, 3]] * SIZE] * 3], [["a"]], [[[[True] * 3] * SIZE] * SIZE], [[1], [1, 2]],
     [[[[10**400] * 3] * SIZE] * SIZE], [None], [{"images": None}], []],
)  # fmt: skip
def test_arrays_that_are_no_preprocessed_images_are_refused(client, values):
    body = {"signature_name": "images", "instances": values}
    found = client.post(f"{AT}:predict", json=body)
    assert found.status_code == 400 and "instances" in found.json()["error"]


def test_numbers_that_are_not_finite_come_back_as_tensorflow_serving_writes_them(client):
    body = {"signature_name": "images", "instances": [[[[float("nan")] * 3] * SIZE] * SIZE]}
    found = client.post("/v1/models/ages:predict", content=json.dumps(body))
    assert found.status_code == 200 and np.isnan(json.loads(found.text)["predictions"][0])


def test_a_single_output_has_no_name(client):
    at = "/v1/models/ages:predict"
    rows = client.post(at, json={"instances": [b64(RED), b64(GREEN)]}).json()
    columns = client.post(at, json={"inputs": {"image_bytes": [b64(RED), b64(GREEN)]}}).json()
    assert rows == {"predictions": pytest.approx([250 / 255, 5 / 255])}
    assert columns == {"outputs": rows["predictions"]}


def test_classify_and_regress_give_results_by_example(client, expected):
    examples = {"examples": [{"image_bytes": b64(RED)}, {"image_bytes": b64(GREEN)}]}
    results = client.post(f"{AT}:classify", json=examples).json()["results"]
    calibrated = Calibration(temperature=2.0).apply(expected["pet_probabilities"])
    assert [[name for name, _ in row] for row in results] == [["cat", "dog", "emu"]] * 2
    np.testing.assert_allclose([[p for _, p in row] for row in results], calibrated, 1e-5)
    named = examples | {"signature_name": "age"}
    values = client.post(f"{AT}/versions/7:regress", json=named).json()["results"]
    np.testing.assert_allclose(values, expected["age"], 1e-6)
    wrongs = [{}, {"examples": []}, {"examples": [3]}, [], {**examples, "context": {}}]
    for wrong in (*wrongs, named, {**examples, "signature_name": {}}):
        assert client.post(f"{AT}:classify", json=wrong).status_code == 400
    assert client.post("/v1/models/ages:classify", json=examples).status_code == 404


def test_one_of_several_labels_has_to_be_named_for_classify():
    colour = Label("colour", depth=3, class_names=("red", "green", "blue"))
    body = {"examples": [{"image_bytes": b64(GREEN)}]}
    with serving(model(PET, colour)) as client:
        found = client.post(f"{AT}:classify", json=body)
        assert found.status_code == 400 and "pet, colour" in found.json()["error"]
        named = body | {"signature_name": "colour"}
        [row] = client.post(f"{AT}:classify", json=named).json()["results"]
        assert max(row, key=lambda pair: pair[1])[0] == "green"


# --- bodies as people send them with curl ------------------------------------------------------


@pytest.mark.parametrize("path", [f"{AT}:predict", "/invocations"])
@pytest.mark.parametrize(
    "kind", ["image/png", "image/jpeg", "application/octet-stream", "application/x-image",
             "application/x-www-form-urlencoded", ""],
)  # fmt: skip
def test_an_image_may_be_the_body_itself(client, path, kind):
    headers = {"Content-Type": kind} if kind else {}
    found = client.post(path, content=RED, headers=headers)
    assert [row["pet_class_name"] for row in found.json()["predictions"]] == ["cat"]


def test_images_may_be_the_files_of_a_form(client):
    files = [("image", ("a.png", RED, "image/png")), ("x", ("b.png", GREEN, "image/png"))]
    found = client.post(f"{AT}:predict", files=files).json()["predictions"]
    assert [row["pet_class_name"] for row in found] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("multipart/form-data", RED, "no boundary"),
        ("multipart/form-data; boundary=x", RED, "incomplete"),
        ("multipart/form-data; boundary=x", b"", "incomplete"),
        ("multipart/form-data; boundary=x", b"--x--", "empty"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n" + RED, "incomplete"),
        ("multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\nhi\r\n--x--", "files[0]: not an"),
        ("image/png", b"hello", "body[0]: not an image"),
        ("application/json", RED, "no JSON"),
        ("text/plain", RED, "no JSON"),
    ],
)
def test_bodies_that_are_neither_json_nor_images_are_refused(client, kind, body, text):
    found = client.post(f"{AT}:predict", content=body, headers={"Content-Type": kind})
    assert found.status_code == 400 and text in found.json()["error"]


def test_curl_sends_images_in_both_ways(client, tmp_path):
    (tmp_path / "a.png").write_bytes(GREEN)
    for how in (["-F", "image=@a.png"], ["--data-binary", "@a.png"], ["-T", "a.png", "-XPOST"]):
        command = ["curl", "-s", "-H", "Expect:", *how, f"{client.base_url}{AT}:predict"]
        try:
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        except FileNotFoundError:
            pytest.skip("curl is not installed")
        assert json.loads(done.stdout)["predictions"][0]["pet_class_name"] == "dog"


# --- SageMaker ---------------------------------------------------------------------------------


def test_sagemaker_asks_for_health_without_the_token_and_gets_predictions_of_the_first_model():
    with serving({"ages": model(AGE), "tiny": model()}, token="s3cret") as client:
        assert client.get("/ping").status_code == 200
        assert client.post("/invocations", content=RED).status_code == 401
        right = {"Authorization": "Bearer s3cret"}
        found = client.post("/invocations", json={"instances": [b64(RED)]}, headers=right)
        assert found.json() == {"predictions": pytest.approx([250 / 255])}


# --- the Open Inference Protocol ---------------------------------------------------------------


def tensor(**changes):
    one = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [b64(RED)["b64"]]}
    return {key: value for key, value in (one | changes).items() if value is not None}


def test_the_open_inference_protocol_describes_server_and_models(client):
    assert client.get("/v2").json()["name"] == "tf_image_classification"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    at = "/v2/models/tiny"
    assert client.get(f"{at}/ready").json() == {"name": "tiny", "ready": True}
    assert client.get(f"{at}/versions/8/ready").status_code == 404
    assert client.get("/v2/models/other/ready").status_code == 404
    found = client.get(f"{at}/versions/7").json()
    assert (found["name"], found["versions"]) == ("tiny", ["7"])
    assert found["inputs"] == [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}]
    assert {"name": "pet_calibrated", "datatype": "FP32", "shape": [-1, 3]} in found["outputs"]


def test_inference_in_json_gives_the_outputs_that_are_asked_for(client, expected):
    data = [b64(RED)["b64"], b64(GREEN)]
    body = {"id": "x", "inputs": [tensor(shape=[2, 1], data=[[one] for one in data])]}
    body["outputs"] = [{"name": "pet_probabilities"}, {"name": "pet_class_name"}]
    found = client.post("/v2/models/tiny/infer", json=body).json()
    assert (found["model_name"], found["model_version"], found["id"]) == ("tiny", "7", "x")
    first, second = found["outputs"]
    assert (first["datatype"], first["shape"]) == ("FP32", [2, 3])
    np.testing.assert_allclose(first["data"], expected["pet_probabilities"].ravel(), 1e-6)
    assert second == {
        "name": "pet_class_name", "datatype": "BYTES", "shape": [2], "data": ["cat", "dog"],
    }  # fmt: skip


IMAGES = {"name": "images", "datatype": "FP32", "shape": [1, SIZE, SIZE, 3]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "inputs"),
        ({"inputs": []}, "one tensor"),
        ({"inputs": [3]}, "one tensor"),
        ({"inputs": [tensor(), tensor()]}, "one tensor"),
        ({"inputs": [tensor()], "id": 3}, "the id as text"),
        ({"inputs": [tensor(name="x")]}, "'x', expected one of ['image_bytes', 'pixels'"),
        ({"inputs": [tensor(name={})]}, "expected one of"),
        ({"inputs": [tensor(datatype="FP32")]}, "expected BYTES"),
        ({"inputs": [tensor(shape=[2])]}, "has 1 elements, its shape says 2"),
        ({"inputs": [tensor(shape=[-1])]}, "expected whole numbers"),
        ({"inputs": [tensor(shape=[True])]}, "expected whole numbers"),
        ({"inputs": [tensor(shape=[0], data=[])]}, "has 0 elements"),
        ({"inputs": [tensor(data=None)]}, "expected a list"),
        ({"inputs": [tensor(data=["a.b"])]}, "data[0] is not base64"),
        ({"inputs": [tensor(data=["aGFsbG8="])]}, "not an image"),
        ({"inputs": [tensor(parameters=3)]}, "parameters"),
        ({"inputs": [tensor(data=None, parameters={"binary_data_size": 9})]}, "0 bytes follow"),
        ({"inputs": [tensor(**IMAGES, data=[1] * 47)]}, "no tensor of shape"),
        ({"inputs": [tensor(**IMAGES, data=["a"] * 48)]}, "no numbers"),
        ({"inputs": [tensor(**IMAGES | {"shape": [48]}, data=[1] * 48)]}, "expected preprocessed"),
        ({"inputs": [tensor(**IMAGES | {"shape": [2**62, 2**62]}, data=[1] * 48)]}, "no tensor"),
        ({"inputs": [tensor(name="pixels", datatype="UINT8", data=[1])]}, "expected [n, h, w, 3]"),
        ({"inputs": [tensor(name="pixels", datatype="UINT8", data=[256])]}, "not in 0..255"),
        ({"inputs": [tensor()], "outputs": [{"name": "x"}]}, "outputs[0].name is 'x'"),
        ({"inputs": [tensor()], "outputs": []}, "expected a list of outputs"),
        ({"inputs": [tensor()], "outputs": [{"name": "age", "parameters": {"classification": 2}}]},
         "age has no classes"),
    ],
)  # fmt: skip
def test_what_is_no_inference_request_is_refused(client, body, text):
    found = client.post("/v2/models/tiny/infer", json=body)
    assert found.status_code == 400 and text in found.json()["error"], found.text


@pytest.mark.parametrize(
    ("length", "tail"),
    [("x", b""), ("99999", b""), ("9" * 30, b""), ("", b"ab"), (None, b"\x09\0\0\0abc"),
     (None, b"\xff"), (None, b"\x05\0\0\0hello" * 2)],
)  # fmt: skip
def test_damaged_binary_tensors_are_refused(client, length, tail):
    one = tensor(data=None, parameters={"binary_data_size": len(tail)})
    text = json.dumps({"inputs": [one]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)) if length is None else length}
    found = client.post("/v2/models/tiny/infer", content=text + tail, headers=headers)
    assert (found.status_code, list(found.json())) == (400, ["error"])


def test_more_images_than_a_request_may_have_are_refused_in_every_protocol(client):
    many = b64(b"")["b64"]
    for path, body in (
        ("/v2/models/tiny/infer", {"inputs": [tensor(shape=[129], data=[many] * 129)]}),
        (f"{AT}:predict", {"instances": [{"b64": ""}] * 129}),
        (f"{AT}:classify", {"examples": [{"image_bytes": {"b64": ""}}] * 129}),
        (f"{AT}:predict", {"signature_name": "images",
                           "instances": [[[[0] * 3] * SIZE] * SIZE] * 129}),
    ):  # fmt: skip
        found = client.post(path, json=body)
        assert found.status_code == 413 and "129 images" in found.json()["error"]


def test_pixels_in_arrays_count_like_those_of_files():
    pixels = tensor(name="pixels", datatype="UINT8", shape=[5, 8, 8, 3], data=[0] * 960)
    with serving(model(), max_request_pixels=5 * 64) as client:
        assert client.post("/v2/models/tiny/infer", json={"inputs": [pixels]}).status_code == 200
    with serving(model(), max_request_pixels=5 * 64 - 1) as client:
        found = client.post("/v2/models/tiny/infer", json={"inputs": [pixels]})
        assert found.status_code == 413 and "320 pixels together" in found.json()["error"]


def test_tritonclient_gets_the_same_in_binary_and_in_json(client, expected):
    http = pytest.importorskip("tritonclient.http")
    url = client.base_url
    with http.InferenceServerClient(f"{url.host}:{url.port}") as triton:
        assert triton.is_server_live() and triton.is_server_ready()
        assert triton.is_model_ready("tiny") and triton.is_model_ready("tiny", "7")
        assert not triton.is_model_ready("other") and not triton.is_model_ready("tiny", "8")
        assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
        described = {one["name"]: one for one in triton.get_model_metadata("tiny")["outputs"]}
        encoded = http.InferInput("image_bytes", [2], "BYTES")
        encoded.set_data_from_numpy(np.array([RED, GREEN], object))
        found = triton.infer("tiny", [encoded], request_id="7a")
        assert found.get_response()["id"] == "7a"
        for name, one in described.items():
            assert list(found.as_numpy(name).shape) == [2, *one["shape"][1:]]
        probabilities = expected["pet_probabilities"]
        np.testing.assert_allclose(found.as_numpy("pet_probabilities"), probabilities, 1e-6)
        assert found.as_numpy("pet_class_name").tolist() == [b"cat", b"dog"]
        asked = [
            http.InferRequestedOutput("pet_probabilities", binary_data=False),
            http.InferRequestedOutput("pet_calibrated", class_count=2),
        ]
        both = triton.infer("tiny", [encoded], outputs=asked)
        np.testing.assert_allclose(both.as_numpy("pet_probabilities"), probabilities, 1e-6)
        best = both.as_numpy("pet_calibrated")
        assert best.shape == (2, 2) and best[1, 0].endswith(b":1:dog")
        for is_binary in (True, False):
            pixels = http.InferInput("pixels", [2, 5, 6, 3], "UINT8")
            colours = np.zeros([2, 5, 6, 3], np.uint8)
            colours[0], colours[1] = (250, 5, 5), (5, 250, 5)
            pixels.set_data_from_numpy(colours, binary_data=is_binary)
            of_pixels = triton.infer("tiny", [pixels]).as_numpy("pet_probabilities")
            np.testing.assert_allclose(of_pixels, probabilities, 1e-6)
            images = http.InferInput("images", [2, SIZE, SIZE, 3], "FP32")
            predictor = model()
            prepared = np.stack([predictor.prepare(data) for data in (RED, GREEN)])
            images.set_data_from_numpy(prepared, binary_data=is_binary)
            of_images = triton.infer("tiny", [images]).as_numpy("pet_probabilities")
            np.testing.assert_allclose(of_images, probabilities, 1e-6)
        encoded.set_data_from_numpy(np.array([RED, b"no image"], object))
        with pytest.raises(Exception, match="not an image"):
            triton.infer("tiny", [encoded])


def test_binary_outputs_follow_the_json(client):
    one = tensor(data=None, parameters={"binary_data_size": 4 + len(RED)})
    body = {"inputs": [one], "parameters": {"binary_data_output": True}}
    body["outputs"] = [
        {"name": "pet_class_name"},
        {"name": "age", "parameters": {"binary_data": False}},
    ]
    text = json.dumps(body).encode()
    content = text + struct.pack("<I", len(RED)) + RED
    headers = {"Inference-Header-Content-Length": str(len(text))}
    found = client.post("/v2/models/tiny/infer", content=content, headers=headers)
    length = int(found.headers["inference-header-content-length"])
    outputs = json.loads(found.content[:length])["outputs"]
    assert outputs[0]["parameters"] == {"binary_data_size": 7}
    assert outputs[1]["data"] == pytest.approx([250 / 255])
    assert found.content[length:] == b"\x03\0\0\0cat"


# --- several models, browsers, reloading -------------------------------------------------------


def test_several_models_have_addresses_and_a_page_each(client):
    assert client.get("/v1/models").json() == {"models": ["tiny", "ages"]}
    assert client.get("/about").json()["name"] == "tiny"
    about = client.get("/about?model=ages").json()
    assert (about["name"], about["models"]) == ("ages", ["tiny", "ages"])
    assert about["predict"] == "/v1/models/ages:predict" and about["step"] == 3
    explained = client.post("/explain?model=ages", content=RED).json()
    assert list(explained["labels"]) == ["age"]
    assert client.get("/about?model=no").status_code == 404


def test_pages_of_other_origins_may_use_the_server_only_where_it_allows_them():
    asked = {"Origin": "https://a.org", "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    allowed = "access-control-allow-origin"
    with serving(model(), token="s3cret", cors_origins=("https://a.org",)) as client:
        found = client.options(f"{AT}:predict", headers=asked)
        assert found.status_code == 200 and found.headers[allowed] == "https://a.org"
        refused = client.post(f"{AT}:predict", headers={"Origin": "https://a.org"})
        assert refused.status_code == 401 and refused.headers[allowed] == "https://a.org"
        other = client.options(f"{AT}:predict", headers=asked | {"Origin": "https://b.org"})
        assert allowed not in other.headers
    with serving(model(), cors_origins=("*",)) as client:
        assert client.get("/v2", headers={"Origin": "null"}).headers[allowed] == "*"
    with serving(model()) as client:
        assert allowed not in client.get("/v2", headers=asked).headers
        assert client.options(f"{AT}:predict", headers=asked).status_code == 405


def export(folder, step):
    """A folder as the server looks at it."""
    (folder / "saved_model").mkdir(parents=True, exist_ok=True)
    (folder / "saved_model" / "step.json").write_text(json.dumps({"step": step}))


def test_a_newer_export_is_loaded_when_its_training_has_written_all_files(tmp_path):
    from tf_image_classification.serving.reloading import folder_state

    export(tmp_path, 1)
    folder, loaded = ModelFolder(str(tmp_path)), []

    def load():
        loaded.append((tmp_path / "light").exists())
        return model(step=2)

    sources = {"tiny": Source(str(tmp_path), folder_state(str(tmp_path)), load)}
    with serving(model(step=1), sources, reload_secs=0.02) as client:
        with folder.exporting():
            export(tmp_path, 2)
            time.sleep(0.5)  # for many looks
            assert client.get(AT).json()["model_version_status"][0]["version"] == "1"
            (tmp_path / "light").mkdir()
        while client.get(AT).json()["model_version_status"][0]["version"] != "2":
            time.sleep(0.02)
    assert loaded == [True]


def test_a_training_that_was_killed_while_it_exported_is_forgotten(tmp_path):
    folder = ModelFolder(str(tmp_path))
    assert not folder.is_being_exported
    with pytest.raises(DataError, match="full"), folder.exporting():
        assert folder.is_being_exported
        [mark] = tmp_path.iterdir()
        for secs, is_exporting in ((500, True), (700, False)):
            then = time.time() - secs
            os.utime(mark, (then, then))
            assert folder.is_being_exported == is_exporting
        raise DataError("full")
    assert list(tmp_path.iterdir()) == [] and not folder.is_being_exported


def test_a_newer_export_is_served_without_losing_a_request(tmp_path):
    """Clients ask all the time, one request is held while the version changes under it."""
    from tf_image_classification.serving.reloading import folder_state

    export(tmp_path, 1)
    first, second = model(step=1), model(step=2, factor=9.0)
    release, is_held = threading.Event(), threading.Event()
    engine = first.engine
    prepare = engine.prepare

    def held(data):
        if data == GREEN:
            is_held.set()
            release.wait(30)
        return prepare(data)

    engine.prepare = held
    gone = weakref.ref(first)
    newer = [second, DataError("damaged")]

    def load():
        found = newer.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    sources = {"tiny": Source(str(tmp_path), folder_state(str(tmp_path)), load)}
    statuses, answers = [], []
    is_over = threading.Event()

    def ask(url):
        with httpx.Client(base_url=url, timeout=30) as client:
            while not is_over.is_set():
                found = client.post(f"{AT}:predict", json={"instances": [b64(RED)]})
                statuses.append(found.status_code)

    with serving(first, sources, reload_secs=0.05) as client:
        url = str(client.base_url)
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(2)]

        def ask_slowly():
            with httpx.Client(base_url=url, timeout=30) as other:
                answers.append(other.post(f"{AT}:predict", json={"instances": [b64(GREEN)]}))

        threads.append(threading.Thread(target=ask_slowly))
        for thread in threads:
            thread.start()
        assert is_held.wait(30)
        export(tmp_path, 2)
        while client.get(AT).json()["model_version_status"][0]["version"] != "2":
            time.sleep(0.02)
        assert client.get(f"{AT}/versions/1").status_code == 404
        assert not answers and gone() is not None  # its request still uses it
        release.set()
        threads[-1].join(30)
        num_before = len(statuses)
        while len(statuses) < num_before + 4:  # of the newer version
            time.sleep(0.02)
        is_over.set()
        for thread in threads:
            thread.join(30)
        assert answers[0].status_code == 200 and set(statuses) == {200}
        assert answers[0].json()["predictions"][0]["pet_class_name"] == "dog"
        [row] = client.post(f"{AT}:predict", json={"instances": [b64(RED)]}).json()["predictions"]
        assert row["pet_probabilities"][0] > 0.99
        del first
        deadline = time.monotonic() + 20
        while gone() is not None and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.05)
        assert gone() is None
        (tmp_path / "calibration.json").write_text("{}")  # a change whose loading fails
        while newer:
            time.sleep(0.02)
        assert client.get(AT).json()["model_version_status"][0]["version"] == "2"


HOOKS = """
import base64
import io
import schemathesis
from hypothesis import strategies as st
from PIL import Image

def png(colour):
    stream = io.BytesIO()
    Image.new("RGB", (6, 5), colour).save(stream, "PNG")
    return stream.getvalue()

images = st.tuples(*[st.integers(0, 255)] * 3).map(png)
schemathesis.openapi.format("byte", images.map(lambda data: base64.b64encode(data).decode()))
schemathesis.openapi.format("binary", images)
schemathesis.openapi.media_type("image/jpeg", images)
"""


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path):
    """All of its checks; its hooks make real images where the description asks for images."""
    pytest.importorskip("schemathesis")
    (tmp_path / "images_of_schemathesis.py").write_text(HOOKS)
    with serving(model(PET, AGE)) as client:
        command = [sys.executable, "-m", "schemathesis.cli", "run", "--checks", "all"]
        command += [f"{client.base_url}/openapi.json", "--max-examples", "4", "--seed", "1"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "images_of_schemathesis"},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
