"""PyTorch files of weights: the network that they are of, other heads, and their forms."""

import types

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from tf_image_classification import backbones
from tf_image_classification.checkpoints.name_maps import old_names
from tf_image_classification.checkpoints.torch_names import resampled_positions
from tf_image_classification.checkpoints.warm_start import warm_start
from tf_image_classification.config import make_settings
from tf_image_classification.errors import CheckpointError, ConfigError
from tf_image_classification.labels import LabelSchema
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
        "rest": np.zeros(round(found) - 576 * 192, np.float32),
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
