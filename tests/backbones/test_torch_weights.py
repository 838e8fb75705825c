"""PyTorch files of weights: the network that they are of, other heads, and their forms."""

import os
import types

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from tf_image_classification import backbones, load_model, train
from tf_image_classification.checkpoints.name_maps import old_names
from tf_image_classification.checkpoints.torch_names import resampled_positions
from tf_image_classification.checkpoints.warm_start import warm_start
from tf_image_classification.config import make_settings
from tf_image_classification.errors import CheckpointError, ConfigError
from tf_image_classification.labels import LabelSchema
from tf_image_classification.system import files
from tf_image_classification.workflows.setup.backbone_spec import backbone_settings
from tf_image_classification.workflows.setup.model import start_from_checkpoint

# Trained parameters in millions, with 1000 classes, as timm publishes them.
PUBLISHED = {
    "timm_mobilenetv3_small_100": 2.54,
    "vit_tiny_patch16_224": 5.72,
    "timm_mobilenetv2_100": 3.50,
    "timm_efficientnet_b0": 5.29,
    "resnet34": 21.80,
    "timm_resnet50": 25.56,
    "timm_convnext_tiny": 28.59,
    "timm_tf_mobilenetv3_large_100": 5.48,
}


@pytest.mark.slow_after(1)
@pytest.mark.exhaustive_after(4)
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_the_published_number_of_parameters(name):
    size = 224 if name.startswith("vit") else 64
    model = backbones.create(name, (size, size, 3), outputs=1000)
    trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trained / 1e6 == pytest.approx(PUBLISHED[name], abs=0.005)


@pytest.fixture(scope="module")
def resnet18():
    return backbones.create("resnet18", (32, 32, 3), outputs=3)


@pytest.fixture(scope="module")
def values(resnet18):
    """Random values of a ResNet-18 with three classes, by their names in PyTorch."""
    generator = np.random.default_rng(0)
    paths = old_names(v.path for v in resnet18.variables)
    found = {}
    for variable in resnet18.variables:
        shape = tuple(variable.shape)
        shape = shape[::-1] if len(shape) < 4 else (shape[3], shape[2], *shape[:2])
        name = paths[variable.path][-1].name.replace("/", ".")
        found[name] = generator.random(shape, np.float32)
    return found


@pytest.fixture
def path(values, tmp_path):
    save_file(values, tmp_path / "weights.safetensors")
    return str(tmp_path / "weights.safetensors")


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("prefix", ["_orig_mod.module.", "model.", "module.", ""])
def test_a_prefix_of_all_names_is_ignored(resnet18, values, tmp_path, prefix):
    path = str(tmp_path / "net.safetensors")
    save_file({prefix + name: value for name, value in values.items()}, path)
    report = warm_start(resnet18, path)
    assert len(report.loaded) == len(resnet18.variables) == len(values)
    found = {v.path: v.numpy() for v in resnet18.variables}
    kernel = values["layer1.0.conv1.weight"]
    np.testing.assert_array_equal(
        found["layer1_0_conv1/kernel"], np.transpose(kernel, (2, 3, 1, 0))
    )
    np.testing.assert_array_equal(found["logits/kernel"], values["fc.weight"].T)
    np.testing.assert_array_equal(found["bn1/moving_variance"], values["bn1.running_var"])
    assert backbones.fitting(path) == ("resnet18",)


def test_a_head_of_other_classes_is_left_out(resnet18, values, tmp_path):
    path = str(tmp_path / "net.safetensors")
    save_file(values | {"fc.weight": np.ones((10, 512), np.float32)}, path)
    report = warm_start(resnet18, path)
    assert [text.partition(":")[0] for text in report.mismatched] == ["logits/kernel"]
    assert len(report.loaded) == len(values) - 1


def test_a_file_without_a_backbone_determines_it(path, values, tmp_path):
    settings = make_settings({"checkpoint_path": path, "train_metadata": ["pictures"]})
    chosen = backbone_settings(settings)
    assert chosen.backbone_spec.backbone == "resnet18"
    assert chosen.model.checkpoint_path == path and chosen.data.image_size == 224
    other = {"layer1.0.conv1.weight": values["layer1.0.conv1.weight"]}
    save_file(other, tmp_path / "other.safetensors")
    settings = settings.replace(checkpoint_path=str(tmp_path / "other.safetensors"))
    with pytest.raises(ConfigError, match="none of the built-in backbones"):
        backbone_settings(settings)


def test_the_name_of_a_file_distinguishes_networks_with_the_same_variables(tmp_path):
    found = backbones.find("deit_tiny_patch16_224").params * 1e6
    values = {
        "blocks.0.attn.qkv.weight": np.zeros((576, 192), np.float32),
        "pos_embed": np.zeros((1, 50, 192), np.float32),  # of another image size
        "rest": np.zeros(round(found) - (576 + 197) * 192, np.float32),
    }
    for name in ("model.safetensors", "deit_tiny_patch16_224-a1311bcf.safetensors"):
        save_file(values, tmp_path / name)
    both = ("vit_tiny_patch16_224", "deit_tiny_patch16_224")
    assert backbones.fitting(str(tmp_path / "model.safetensors")) == both
    [named] = backbones.fitting(str(tmp_path / "deit_tiny_patch16_224-a1311bcf.safetensors"))
    assert named == "deit_tiny_patch16_224"
    settings = make_settings(
        {"checkpoint_path": str(tmp_path / "model.safetensors"), "train_metadata": ["pictures"]}
    )
    with pytest.raises(ConfigError, match=f"padding .*: {', '.join(both)}. Choose one"):
        backbone_settings(settings)
    files.write_json(str(tmp_path / "config.json"), {"architecture": both[0]})
    assert backbone_settings(settings).backbone_spec.backbone == both[0]


TIMM_CONFIG = {
    "architecture": "resnet18", "num_classes": 1000,
    "pretrained_cfg": {
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 1], "input_size": [3, 160, 160],
        "crop_pct": 0.95, "interpolation": "bicubic",
    },
}  # fmt: skip


def stated(settings):
    chosen = backbone_settings(settings)
    return (
        chosen.backbone_spec.pixel_scaling,
        chosen.data.image_size,
        chosen.backbone_spec.eval_crop,
    )


def test_a_config_beside_the_weights_states_scaling_size_and_crop(path, tmp_path):
    settings = make_settings(
        {"checkpoint_path": path, "train_metadata": ["pictures"], "model_dir": str(tmp_path / "m")}
    )
    published = ("", 224, 1.0)
    assert stated(settings) == published
    config = str(tmp_path / "config.json")
    files.write_json(config, TIMM_CONFIG)
    found = ("0.5,0.5,0.5/0.25,0.5,1.0", 160, 0.95)
    assert stated(settings) == found
    os.rename(path, tmp_path / "model.safetensors")
    settings = settings.replace(checkpoint_path=str(tmp_path))
    assert stated(settings) == found
    chosen = {"pixel_scaling": "0.1/0.2", "image_size": 64, "eval_crop": 0.9}
    given = settings.replace(backbone="resnet18", **chosen)
    assert stated(given) == ("0.1/0.2", 64, 0.9)
    files.write_json(config, TIMM_CONFIG["pretrained_cfg"] | {"crop_mode": "squash"})  # older form
    assert stated(settings) == (*found[:2], 1.0)
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    files.write_json(config, {"pretrained_cfg": imagenet})
    assert stated(settings) == published
    for others in ({"model_type": "resnet"}, ["a"]):
        files.write_json(config, others)
        assert stated(settings) == published
    for damaged in ({"mean": [0.5, 0.5], "std": [1, 1]}, {"mean": ["a"] * 3, "std": [1]}):
        files.write_json(config, {"pretrained_cfg": damaged})
        with pytest.raises(CheckpointError, match=r"config.json beside the weights is damaged: "):
            backbone_settings(settings)


def test_pixel_scaling_normalizes_the_pixels():
    model = backbones.create("resnet18", (32, 32, 3), pixel_scaling="0.1,0.2,0.3/0.5,0.25,1")
    scaled = model.get_layer("scale")(np.full([1, 1, 1, 3], 51.0, np.float32))  # a fifth of 255
    np.testing.assert_allclose(np.ravel(scaled), [0.2, 0.0, -0.1], atol=1e-6)
    for name in ("efficientnet_b0", "resnet50"):
        with pytest.raises(ConfigError, match=f"pixel_scaling has no effect on {name}"):
            backbones.create(name, (32, 32, 3), pixel_scaling="0.5/0.5")
    for text in ("0.5", "0.5/0", "a/b", "1,2/3", "0.5/0.5/0.5"):
        with pytest.raises(ConfigError, match="expected mean/standard deviation of pixels"):
            make_settings({"backbone": "resnet18", "pixel_scaling": text})


@pytest.mark.exhaustive
def test_a_vit_is_trained_evaluated_and_exported_with_the_scaling_of_its_weights(tmp_path, capsys):
    name, size = "vit_tiny_patch16_224", 32
    network = backbones.create(name, (size, size, 3), outputs=7)
    names = old_names(v.path for v in network.variables)
    values = {}
    for variable in network.variables:
        value = variable.numpy()
        axes = (3, 2, 0, 1) if value.ndim == 4 else range(value.ndim)[::-1]
        is_table = "embeddings" in variable.path
        value = value[None] if is_table else np.ascontiguousarray(value.transpose(*axes))
        values[names[variable.path][0].name.replace("/", ".")] = value
    weights = tmp_path / "vit"
    weights.mkdir()
    save_file(values, weights / "model.safetensors")
    config = {"mean": [0.25] * 3, "std": [0.5] * 3, "input_size": [3, size, size]}
    files.write_json(str(weights / "config.json"), {"architecture": name, "pretrained_cfg": config})
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, [12, size, size, 3], np.uint8), ["a", "b"] * 6
    model_dir = str(tmp_path / "m")
    model = train(
        (images, labels), val=(images, labels), weights=weights, model_dir=model_dir,
        recipe="none", train_steps=2, batch_size=4, cache_dir=tmp_path / "cache",
    )  # fmt: skip
    printed = capsys.readouterr()
    assert (
        "pixels: normalized with mean 0.25,0.25,0.25 and standard deviation 0.5,0.5,0.5 (as with "
        "the pretrained weights)"
    ) in printed.out + printed.err
    assert model.step == 2 and "accuracy" in model.metrics
    loaded = load_model(model_dir)  # the exported model
    assert [p.labels["label"].name in "ab" for p in loaded.predict(images[:2])] == [True] * 2
    layer = loaded.model.get_layer("scale")
    np.testing.assert_allclose([np.ravel(layer.scale)[0], np.ravel(layer.offset)[0]],
                               [2 / 255, -0.5], rtol=1e-6)  # fmt: skip
    # A fine-tuning of this model takes over its scaling, and so does the run that resumes.
    for changes in ({"model_dir": str(tmp_path / "next")}, {"model_dir": model_dir}):
        given = {"checkpoint_path": model_dir, "backbone": name, "train_metadata": ["pictures"]}
        chosen = backbone_settings(make_settings(given | changes))
        assert chosen.backbone_spec.pixel_scaling == "0.25,0.25,0.25/0.5,0.5,0.5"


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("name", ["mobilenet_v1_025", "timm_mobilenetv3_small_100"])
def test_the_file_of_another_network_is_refused_with_the_right_backbone(path, name):
    model = backbones.create(name, (32, 32, 3), outputs=3)
    settings = make_settings({"checkpoint_path": path, "backbone": name})
    data = types.SimpleNamespace(
        train=None, schema=LabelSchema.from_class_dict([{"name": "label", "depth": 3}])
    )
    with pytest.raises(CheckpointError, match=r"file is of resnet18: use --backbone resnet18\.$"):
        start_from_checkpoint(settings, model, data)


def test_the_epsilon_of_torchvisions_mobilenet_v3_is_part_of_its_variance():
    [timm, torchvision, *_] = old_names(["last/kernel", "last_bn/moving_variance"])[
        "last_bn/moving_variance"
    ][1:3]
    assert (timm.name, torchvision.name) == (
        "blocks/11/bn1/running_var", "features/16/1/running_var",
    )  # fmt: skip
    variance = np.array([0.5], np.float32)
    np.testing.assert_array_equal(timm.change(variance, (1,)), variance)
    np.testing.assert_allclose(torchvision.change(variance, (1,)) + 1e-5, variance + 1e-3)


def test_position_embeddings_are_resampled_to_another_image_size():
    x, y = np.meshgrid(np.arange(14.0), np.arange(14.0))
    grid = np.stack([x, 2 * y], axis=-1).reshape(1, 196, 2)
    table = np.concatenate([[[[7, 8]]], grid], axis=1).astype(np.float32)
    np.testing.assert_array_equal(resampled_positions(table, (197, 2)), table[0])
    smaller = resampled_positions(table, (50, 2))
    np.testing.assert_array_equal(smaller[0], [7, 8])
    inner = smaller[1:].reshape(7, 7, 2)[2:-2, 2:-2]  # a linear function stays one
    np.testing.assert_allclose(inner[1, :, 0], [4.5, 6.5, 8.5], atol=1e-4)
    np.testing.assert_allclose(inner[:, 1, 1], [9, 13, 17], atol=1e-4)


def test_a_vit_takes_square_images_alone():
    for shape in ((32, 48, 3), (8, 8, 3)):
        with pytest.raises(Exception, match="square images of at least 16 pixels"):
            backbones.create("vit_tiny_patch16_224", shape)


@pytest.mark.slow
def test_a_vit_learns_its_position_embeddings_and_token():
    model = backbones.create("vit_tiny_patch16_224", (32, 32, 3), outputs=2)
    images = tf.random.stateless_uniform([2, 32, 32, 3], (0, 0), 0, 255)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images) ** 2)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert all(gradient is not None for gradient in gradients)
