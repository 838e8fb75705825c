"""Programs of others read the exported files and predict the same."""

import functools
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from browser import open_page
from export import small_export
from tf_image_classification.errors import ConfigError
from tf_image_classification.export.formats import FORMATS, WEB_PAGE, load_file, write_file
from tf_image_classification.export.request import ExportRequest

NAMES, SIZE = small_export.NAMES, small_export.SIZE
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return small_export.make(str(tmp_path_factory.mktemp("small") / "saved_model"))


@pytest.fixture(scope="module")
def expected(exported):
    """Probabilities of the pictures, [8, 3]."""
    images = tf.constant(small_export.pictures(), tf.float32)
    return tf.nn.softmax(exported.forward(images, False)["kind"]).numpy()


def written(exported, folder, name, **options):
    path = str(folder / FORMATS[name].file_name)
    write_file(FORMATS[name], exported, small_export.plan_of(exported, **options), path)
    return path


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, 1e-5),
        ({"input_type": "uint8"}, 3e-3),
        ({"input_type": "uint8", "quantization": "int8"}, 0.03),
    ],
)
def test_litert_files_have_the_metadata_of_image_classifiers(
    exported, expected, tmp_path, options, tolerance
):
    pixels = small_export.pictures()
    as_given = pixels if "input_type" in options else pixels.astype(np.float32)
    calibration = {"representative_images": lambda: (one[None] for one in pixels)}
    path = written(exported, tmp_path, "litert", **(options | calibration))
    found = load_file(FORMATS["litert"], path)(as_given)
    assert set(found) == {"kind_probabilities"}
    np.testing.assert_allclose(found["kind_probabilities"], expected, atol=tolerance)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().split() == list(NAMES)
    mediapipe = pytest.importorskip("mediapipe", reason="MediaPipe is not installed")
    vision = mediapipe.tasks.vision
    base = mediapipe.tasks.BaseOptions(model_asset_path=path)
    options = vision.ImageClassifierOptions(base_options=base)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for one, probabilities in zip(pixels, expected, strict=True):
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=one)
            [head] = classifier.classify(image).classifications
            scores = {category.category_name: category.score for category in head.categories}
            np.testing.assert_allclose(
                [scores[name] for name in NAMES], probabilities, atol=tolerance
            )


def of_any_size():
    random = np.random.default_rng(2)
    sizes = [(32, 32), (40, 57), (120, 31), (31, 31), (200, 333)]
    return [random.integers(0, 256, [*size, 3], np.uint8) for size in sizes]


def evaluated(exported, pixels):
    """The probabilities of a decoded image in an evaluation, [3]."""
    prepared = exported.preproc(tf.constant(pixels), 0, 0)[None]
    return tf.nn.softmax(exported.forward(prepared, False)["kind"]).numpy()[0]


def test_an_onnx_file_of_pixels_crops_and_resizes_as_the_evaluation(exported, tmp_path):
    path = written(exported, tmp_path, "onnx", input_type="pixels")
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(path).graph
    dims = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert graph.input[0].name == "pixels" and dims == ["batch", "height", "width", 3]
    infer = load_file(FORMATS["onnx"], path)
    try:
        import openvino
    except ImportError:
        openvino = None
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # not bfloat16, where the processor has it
    compiled = openvino and openvino.compile_model(path, "CPU", exact)
    for pixels in of_any_size():
        expected = evaluated(exported, pixels)[None]
        found = infer(pixels[None])["kind_probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        if compiled:
            np.testing.assert_allclose(compiled(pixels[None])[0], expected, atol=1e-5)
    if compiled is None:
        pytest.skip("OpenVINO is not installed; ONNX Runtime has passed")


JAVASCRIPT = """
const [runtime, path, cases] = process.argv.slice(1);
const ort = require(runtime);
(async () => {
  if (ort.env.wasm) ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(path);
  const found = [];
  for (const { shape, values } of JSON.parse(cases)) {
    const pixels = new ort.Tensor("uint8", Uint8Array.from(values), shape);
    found.push([...(await session.run({ pixels })).kind_probabilities.data]);
  }
  console.log(JSON.stringify(found));
})();
"""


def node_package(name):
    """The folder of an npm package; skips where it is not installed.

    ``npm install --ignore-scripts onnxruntime-node onnxruntime-web`` in the repository installs
    them, or NODE_MODULES is the folder that holds them.
    """
    root = pathlib.Path(__file__).parents[2] / "node_modules"
    path = pathlib.Path(os.environ.get("NODE_MODULES", root)) / name
    if not path.exists() or shutil.which("node") is None:
        pytest.skip(f"Node.js or its package {name} is not installed")
    return path


@pytest.mark.parametrize("name", ["onnxruntime-node", "onnxruntime-web"])
def test_node_reads_an_onnx_file_of_pixels(exported, tmp_path, name):
    package = node_package(name)
    path = written(exported, tmp_path, "onnx", input_type="pixels")
    images = of_any_size()[:4]
    cases = [{"shape": [1, *one.shape], "values": one.ravel().tolist()} for one in images]
    command = ["node", "-e", JAVASCRIPT, name, path, json.dumps(cases)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=package.parents[1]
    )
    assert result.returncode == 0, result.stderr
    for found, pixels in zip(json.loads(result.stdout), images, strict=True):
        np.testing.assert_allclose(found, evaluated(exported, pixels), atol=1e-5)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_the_page_for_browsers_runs_without_a_network(exported, tmp_path):
    package = node_package("onnxruntime-web")
    written(exported, tmp_path, "onnx", input_type="pixels")
    shutil.copy(WEB_PAGE, tmp_path / "index.html")
    about = {"labels": small_export.SCHEMA.to_json(), "preprocessing": {"max_pixels": 10**5}}
    (tmp_path / "model.json").write_text(json.dumps(about))
    for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        shutil.copy(package / "dist" / name, tmp_path)
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with open_page(f"http://127.0.0.1:{server.server_port}/") as (page, complaints):
            page.wait_for_selector("#file:enabled")
            for number, pixels in enumerate(of_any_size()[:3]):
                path = tmp_path / f"{number}.png"
                path.write_bytes(tf.io.encode_png(pixels).numpy())
                page.set_input_files("#file", path)
                page.wait_for_selector(f"#results[data-of='{number}.png']")
                rows = page.evaluate(
                    "[...document.querySelectorAll('tr')].map((row) => "
                    "[row.cells[0].textContent, row.querySelector('meter').value])"
                )
                scores = [dict(rows)[name] for name in NAMES]
                np.testing.assert_allclose(scores, evaluated(exported, pixels), atol=1e-5)
            assert complaints == []
    finally:
        server.shutdown()
        server.server_close()


OLDER_TENSORFLOW = """
import json, pathlib, sys
import numpy as np
import tensorflow as tf

saved_model, keras_file, encoded, pixels = sys.argv[1:]
images = [path.read_bytes() for path in sorted(pathlib.Path(encoded).iterdir())]
serve = tf.saved_model.load(saved_model).signatures["serving_default"]
found = serve(image_bytes=tf.constant(images))
model = tf.keras.models.load_model(keras_file, compile=False)
logits = model(np.load(pixels).astype(np.float32), training=False)
assert "tf_image_classification" not in sys.modules
print(json.dumps({
    "version": tf.__version__,
    "probabilities": found["kind_probabilities"].numpy().tolist(),
    "names": [name.decode() for name in found["kind_class_name"].numpy()],
    "keras": tf.nn.softmax(logits).numpy().tolist(),
}))
"""


def test_an_older_tensorflow_reads_the_saved_model_and_the_keras_file(exported, expected, tmp_path):
    """OLDER_TENSORFLOW is a Python interpreter that has it, for instance 2.17, and not us."""
    python = os.environ.get("OLDER_TENSORFLOW")
    if not python:
        pytest.skip("OLDER_TENSORFLOW names no Python interpreter with an older TensorFlow")
    path = written(exported, tmp_path, "saved_model")
    small_export.small_model().save(tmp_path / "model.keras")
    np.save(tmp_path / "pixels.npy", small_export.pictures())
    (tmp_path / "encoded").mkdir()
    kinds = {"png": tf.io.encode_png, "jpg": tf.io.encode_jpeg}
    images = [encode(pixels).numpy() for encode in kinds.values() for pixels in of_any_size()]
    for number, data in enumerate(images):
        (tmp_path / "encoded" / f"{number:02}").write_bytes(data)
    command = [python, "-c", OLDER_TENSORFLOW, path, tmp_path / "model.keras"]
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [*command, tmp_path / "encoded", tmp_path / "pixels.npy"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["version"] != tf.__version__
    here = load_file(FORMATS["saved_model"], path)(np.array(images, object))
    np.testing.assert_allclose(found["probabilities"], here["kind_probabilities"], atol=1e-5)
    assert found["names"] == [name.decode() for name in here["kind_class_name"]]
    np.testing.assert_allclose(found["keras"], expected, atol=1e-5)


def test_an_input_that_a_format_or_preprocessing_lacks_is_rejected():
    with pytest.raises(ConfigError, match="onnx with --input_type uint8 is not possible; litert"):
        ExportRequest("onnx", input_type="uint8").check(has_spec=False)
    with pytest.raises(ConfigError, match="litert with --input_type pixels is not possible; onnx"):
        ExportRequest("litert", input_type="pixels").check(has_spec=False)
