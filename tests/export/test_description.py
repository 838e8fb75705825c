"""The description in model.json is enough to prepare images without this package."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export.small_export import SCHEMA
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.export.description import describe
from tf_image_classification.export.formats import FORMATS
from tf_image_classification.export.pixel_scaling import PixelScaling, pixel_scaling
from tf_image_classification.run_manifest import RunManifest

EXPORT_PAGE = pathlib.Path(__file__).parents[2] / "docs" / "topics" / "export.md"


class OfPreproc:
    """Stands for an exported model with a preprocessing of its own."""

    step = 7
    image_spec = tf.TensorSpec([8, 8, 3], tf.float32)

    def __init__(self, change):
        self._change = change

    def fingerprint(self):
        return "of preproc"

    def preproc(self, image, width, height):
        return self._change(tf.image.resize(tf.cast(image, tf.float32), [8, 8]))


def described(preproc, *, spec="tf_image_classification/backbone_spec.py:BackboneSpec", **settings):
    given = {"image_size": 8, "max_image_pixels": 10**6} | settings
    manifest = RunManifest(spec, "", SCHEMA, "", None, "", given, {})
    exported = OfPreproc(preproc)
    return describe(
        manifest,
        exported,
        {},
        FORMATS["onnx"],
        scaling=pixel_scaling(exported),
        input_type="float32",
    )


@pytest.mark.parametrize("stretch", [1.0, 4 / 3])
def test_the_reader_in_the_docs_gives_the_pixels_of_the_evaluation(tmp_path, stretch):
    crop = {"eval_crop": 0.9, "eval_stretch": stretch}
    about = described(lambda image: image, backbone="mobilenet_v2", **crop)
    [code] = [
        text
        for text in re.findall(r"```python\n(.*?)```", EXPORT_PAGE.read_text(), re.DOTALL)
        if "def prepare" in text
    ]
    space = {}
    exec(code.rpartition("images =")[0], space)
    preprocess = Preprocessing(is_training=False, **crop)
    for number, size in enumerate([(8, 8), (20, 31), (64, 9), (5, 7)]):
        pixels = np.random.default_rng(number).integers(0, 256, [*size, 3], np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        expected = preprocess(tf.constant(pixels), 8, 8)
        [found] = space["prepare"](path, about["preprocessing"])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_description_has_what_machines_need():
    about = described(lambda image: image, backbone="mobilenet_v2", eval_crop=0.9)
    assert about["input"] | {"holds": ""} == {
        "name": "images",
        "dtype": "float32",
        "shape": [None, 8, 8, 3],
        "layout": "NHWC",
        "channels": "RGB",
        "range": [0.0, 255.0],
        "holds": "",
    }
    expected = {
        "kind": "built-in",
        "version": 1,
        "image_size": 8,
        "crop": "center",
        "eval_crop": 0.9,
        "eval_stretch": 1.0,
        "resize": "bilinear",
        "antialias": True,
        "orientation": "exif",
        "max_pixels": 10**6,
        "png16_range": [0, 65535],
    }
    assert expected.items() <= about["preprocessing"].items()


def test_the_scaling_of_a_users_preprocessing_is_measured():
    about = described(lambda image: image / 127.5 - 1.0, spec="pets.py:PetSpec")
    assert about["input"]["range"] == [-1.0, 1.0]
    assert about["preprocessing"]["mean"] == about["preprocessing"]["std"] == [127.5] * 3
    assert about["preprocessing"]["kind"] == "spec" and "crop" not in about["preprocessing"]
    for change in (
        lambda image: image[..., ::-1],
        lambda image: image**2,
        lambda image: image[:, :, :1],
    ):
        assert described(change, spec="pets.py:PetSpec")["input"]["range"] is None


def test_preprocessed_images_become_the_pixels_that_they_were():
    scaling = PixelScaling((127.5,) * 3, (127.5,) * 3)
    pixels = np.random.default_rng(0).integers(0, 256, [2, 4, 4, 3], np.uint8)
    np.testing.assert_array_equal(scaling.pixels(pixels / 127.5 - 1.0), pixels)
    assert scaling.range == (-1.0, 1.0)
