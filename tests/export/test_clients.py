"""Programs of others read the exported files and predict the same."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf

from export import small_export
from tf_image_classification.errors import ConfigError
from tf_image_classification.export.formats import FORMATS, load_file, write_file
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
    compiled = openvino and openvino.compile_model(path, "CPU")
    for pixels in of_any_size():
        prepared = exported.preproc(tf.constant(pixels), 0, 0)[None]
        expected = tf.nn.softmax(exported.forward(prepared, False)["kind"]).numpy()
        found = infer(pixels[None])["kind_probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        if compiled:
            np.testing.assert_allclose(compiled(pixels[None])[0], expected, atol=1e-5)
    if compiled is None:
        pytest.skip("OpenVINO is not installed; ONNX Runtime has passed")


def test_an_input_that_a_format_or_preprocessing_lacks_is_rejected():
    with pytest.raises(ConfigError, match="onnx with --input_type uint8 is not possible; litert"):
        ExportRequest("onnx", input_type="uint8").check(has_spec=False)
    with pytest.raises(ConfigError, match="litert with --input_type pixels is not possible; onnx"):
        ExportRequest("litert", input_type="pixels").check(has_spec=False)
