"""Files of Keras 2 and 3, in which the same network has other names than here."""

import os
import re
import runpy
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from tf_image_classification import backbones
from tf_image_classification.checkpoints.name_maps import SEED_STATE
from tf_image_classification.checkpoints.slim_names import INCEPTION_SCOPES
from tf_image_classification.checkpoints.warm_start import warm_start
from tf_image_classification.errors import CheckpointError

CASES = os.path.join(os.path.dirname(__file__), *[".."] * 3, "shared", "cases")
L = keras.layers


def shaken(model, seed=0):
    """The model with weights that are all different and statistics that are possible."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if not variable.path.endswith(SEED_STATE):
            fan_in = max(1, int(np.prod(variable.shape[:-1])))
            value = random.normal(0, (1 / fan_in) ** 0.5, variable.shape)
            if variable.path.endswith(("variance", "gamma")):
                value = 1 + 0.1 * np.abs(value)
            variable.assign(value)
    return model


def features(model, size):
    images = np.random.default_rng(1).uniform(0, 255, [2, size, size, 3]).astype("f4")
    return np.asarray(model(images, training=False))


def write_keras_2(path, layers, root=""):
    """A file in the layout of Keras 2: a group for each layer, with the names of its weights."""
    with h5py.File(path, "w") as file:
        top = file.create_group(root) if root else file
        top.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for layer, weights in layers.items():
            group = top.create_group(layer)
            group.attrs["weight_names"] = np.array([f"{name}:0".encode() for name in weights])
            for name, value in weights.items():
                group.create_dataset(f"{name}:0", data=value)
    return str(path)


def of_keras_2(model, layer_name, word=lambda layer, word: word):
    """The model's weights by layer, named as Keras 2 did."""
    layers = {}
    for variable in model.variables:
        if not variable.path.endswith(SEED_STATE):
            scope, _, own = variable.path.rpartition("/")
            layer = scope.rpartition("/")[2]
            old = layer_name(layer)
            layers.setdefault(old, {})[f"{old}/{word(layer, own)}"] = variable.numpy()
    return layers


def depthwise(layer, word):
    is_depthwise = re.search(r"conv_dw_\d+$|_depthwise$|dwconv\d*$", layer)
    return "depthwise_kernel" if is_depthwise and word == "kernel" else word


def of_mobilenet_v3(layer):
    layer = re.sub(r"^(expanded_conv(?:_\d+)?)_(.*)$", r"\1/\2", layer).replace("_bn", "/BatchNorm")
    layer = layer.replace("squeeze_excite_conv", "squeeze_excite/Conv")
    return re.sub("^conv", "Conv", layer)


def of_inception_v3(layer):
    """Numbers from 1, as before TensorFlow 2."""
    ours = [scope.replace("/", "_") for scope in INCEPTION_SCOPES["inception_v3"]]
    kind = "batch_normalization" if layer.endswith("_bn") else "conv2d"
    return f"{kind}_{ours.index(layer.removesuffix('_bn')) + 1}"


def of_convnext(layer, word):
    return "gamma" if layer.endswith("layer_scale") else word


slow = pytest.mark.exhaustive
NETWORKS = {
    "mobilenet_v1_025": (32, {"layer_name": str, "word": depthwise}, 13),
    "mobilenet_v3_small": (32, {"layer_name": of_mobilenet_v3, "word": depthwise}, 206),
    "efficientnet_b0": (32, {"layer_name": str, "word": depthwise}, 16),
    "densenet121": (
        32, {"layer_name": lambda name: re.sub("^conv1_(conv|bn)$", r"conv1/\1", name)}, 5,
    ),
    "nasnet_mobile": (32, {"layer_name": str}, 1119),
    "inception_v3": (75, {"layer_name": of_inception_v3}, 376),
    "convnext_tiny": (32, {"layer_name": str, "word": of_convnext}, 34),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=slow) if i > 1 else n for i, n in enumerate(NETWORKS)]
)
def test_a_network_of_keras_2_has_the_same_features(name, tmp_path):
    size, naming, num_other_names = NETWORKS[name]
    keras.utils.clear_session()
    source = shaken(backbones.create(name, (size, size, 3)))
    path = write_keras_2(tmp_path / "w.h5", of_keras_2(source, **naming))
    with h5py.File(path) as file:
        there = {
            str(weight, "ascii").partition(":")[0]
            for layer in file.attrs["layer_names"]
            for weight in file[layer].attrs["weight_names"]
        }
    assert sum(v.path not in there for v in source.variables if "seed" not in v.path) == (
        num_other_names
    )
    expected = features(source, size)
    keras.utils.clear_session()
    target = backbones.create(name, (size, size, 3))
    report = warm_start(target, path)
    assert not (report.initialised or report.mismatched or report.unused)
    np.testing.assert_array_equal(features(target, size), expected)


def small(*, names, head="logits", depth=5, width=4):
    """A network with every kind of layer whose variables were renamed; all shapes repeat."""
    keras.utils.clear_session()
    layers = [
        L.Conv2D(width, 3), L.Conv2D(width, 3), L.DepthwiseConv2D(3), L.BatchNormalization(),
        L.SeparableConv2D(width, 3), L.LayerNormalization(), L.Conv2D(width, 3),
    ]  # fmt: skip
    if names:
        named = [f"{type(layer).__name__.lower()}_of_{i}" for i, layer in enumerate(layers)]
        pairs = zip(layers, named, strict=True)
        layers = [type(x).from_config(x.get_config() | {"name": n}) for x, n in pairs]
    ends = [L.GlobalAveragePooling2D(), L.Dense(depth, name=head)]
    return keras.Sequential([keras.Input([24, 24, 3]), L.Conv2D(4, 3, name="stem"), *layers, *ends])


def renamed(name, shift):
    """A layer's name in another session, in which ``shift`` layers of its kind came before."""
    kinds = r"(conv2d|depthwise_conv2d|separable_conv2d|batch_normalization|layer_normalization)"
    found = re.fullmatch(rf"{kinds}(?:_(\d+))?", name)
    return f"{found[1]}_{int(found[2] or 0) + shift}" if found else name


def words_of_keras_2(layer, word):
    return "depthwise_kernel" if layer.startswith("depthwise") and word == "kernel" else word


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0, 1, 2, 7])
def test_the_numbers_of_layers_do_not_matter(shift, tmp_path):
    source = shaken(small(names=False))
    layers = of_keras_2(source, lambda layer: renamed(layer, shift), words_of_keras_2)
    path = write_keras_2(tmp_path / "w.h5", layers, root="model_weights")
    target = small(names=False)
    report = warm_start(target, path)
    assert not (report.initialised or report.mismatched or report.unused)
    np.testing.assert_array_equal(features(target, 24), features(source, 24))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("style", ["keras 1", "second graph", "inside a model", "in a scope"])
def test_weights_are_found_by_their_layers_however_they_are_called(style, tmp_path):
    source = shaken(small(names=True))
    layers = of_keras_2(source, str, words_of_keras_2)
    if style == "keras 1":  # conv_W_1 instead of conv/kernel
        layers = {
            layer: {f"{layer}_w{i}": value for i, value in enumerate(weights.values())}
            for layer, weights in layers.items()
        }
    elif style == "second graph":
        layers = {
            layer: {name.replace(f"{layer}/", f"{layer}_1_2/"): v for name, v in weights.items()}
            for layer, weights in layers.items()
        }
    elif style == "inside a model":
        head = layers.pop("logits")
        inner = {name: v for weights in layers.values() for name, v in weights.items()}
        layers = {"mobilenet_inside": inner, "logits": head}
    else:
        layers = {
            layer: {f"block_1/part/{name}": v for name, v in weights.items()}
            for layer, weights in layers.items()
        }
    target = small(names=True)
    report = warm_start(target, write_keras_2(tmp_path / "w.h5", layers))
    assert not (report.initialised or report.mismatched or report.unused)
    np.testing.assert_array_equal(features(target, 24), features(source, 24))


def test_another_output_and_none_are_no_other_network(tmp_path):
    source = shaken(small(names=True, head="predictions", depth=1000))
    path = write_keras_2(tmp_path / "w.h5", of_keras_2(source, str, words_of_keras_2))
    target = small(names=True)
    report = warm_start(target, path)
    assert report.initialised == ("sequential/logits/kernel", "sequential/logits/bias")
    assert report.unused == ("predictions/bias", "predictions/kernel")
    wider = small(names=True, head="predictions")
    assert len(warm_start(wider, path).mismatched) == 2


def test_a_file_of_another_network_is_refused(tmp_path):
    source = shaken(small(names=True))
    layers = of_keras_2(source, str, words_of_keras_2)
    output = layers.pop("logits")
    layers |= {"more": {"more/kernel": np.zeros([3, 3, 4, 4])}, "logits": output}
    path = write_keras_2(tmp_path / "w.h5", layers)
    expected = "1 variables of the file's body, e.g. more/kernel, have no place in the model"
    with pytest.raises(CheckpointError, match=expected):
        warm_start(small(names=True), path)
    report = warm_start(small(names=True), path, restore_scopes=("sequential/", "logits"))
    assert report.unused == ("more/kernel",)


def test_a_network_of_another_width_is_refused(tmp_path):
    source = shaken(small(names=True))
    path = write_keras_2(tmp_path / "w.h5", of_keras_2(source, str, words_of_keras_2))
    with pytest.raises(CheckpointError, match="variables of the file's body.*another network"):
        warm_start(small(names=True, width=6), path)


def test_a_depthwise_kernel_of_keras_2_is_loaded(tmp_path, monkeypatch):
    program = os.path.join(CASES, "keras2_h5.py")
    if not os.path.isfile(program):
        pytest.skip(f"no {program}")
    path = str(tmp_path / "w.h5")
    monkeypatch.setattr(sys, "argv", [program, path])
    runpy.run_path(program)
    model = keras.Sequential(
        [
            keras.Input([16, 16, 3]), L.Conv2D(4, 3, name="conv"), L.DepthwiseConv2D(3, name="dw"),
            L.BatchNormalization(name="bn"), L.GlobalAveragePooling2D(), L.Dense(5, name="logits"),
        ]
    )  # fmt: skip
    report = warm_start(model, path)
    assert len(report.loaded) == 10 and not report.initialised and not report.unused


# --- Keras 3 ---------------------------------------------------------------------------------


def with_trunk(*, flat):
    """A trunk inside a model, or its layers in the model itself; both compute the same."""
    keras.utils.clear_session()
    images = keras.Input([24, 24, 3])
    body = small(names=True).layers[:-1]
    if flat:
        x = images
        for layer in body:
            x = layer(x)
    else:
        x = keras.Sequential([keras.Input([24, 24, 3]), *body], name="trunk")(images)
    return keras.Model(images, L.Dense(5, name="logits")(x), name="whole")


@pytest.mark.slow_after(1)
@pytest.mark.exhaustive_after(5)
@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("form", [".weights.h5", ".keras"])
@pytest.mark.parametrize("flat", [True, False])
def test_a_trunk_inside_a_model_is_found_in_another_model(form, is_named, flat, tmp_path):
    source, path = shaken(with_trunk(flat=not flat)), str(tmp_path / f"model{form}")
    expected = features(source, 24)
    source.save_weights(path) if form == ".weights.h5" else source.save(path)
    if not is_named:
        _forget_names(path)
    target = with_trunk(flat=flat)
    report = warm_start(target, path)
    assert not (report.initialised or report.mismatched or report.unused)
    np.testing.assert_array_equal(features(target, 24), expected)


def _forget_names(path):
    """As files of Keras 2.13 to 3.5 are: without names of layers, and a model that is not known."""
    inner = path
    if path.endswith(".keras"):
        folder = os.path.dirname(path)
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        inner = os.path.join(folder, "model.weights.h5")
    with h5py.File(inner, "a") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
    if inner != path:
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("metadata.json", "model.weights.h5"):
                archive.write(os.path.join(folder, name), name)
            archive.writestr("config.json", '{"module": "keras.src.engine", "class_name": "Old"}')


@pytest.mark.slow
def test_a_keras_3_file_of_another_network_is_refused(tmp_path):
    path = str(tmp_path / "model.weights.h5")
    shaken(with_trunk(flat=True)).save_weights(path)
    other = small(names=True, width=6)
    with pytest.raises(CheckpointError, match="of another network|Nothing fits"):
        warm_start(other, path)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.out = L.Conv2D(4, 3), L.GlobalAveragePooling2D(), L.Dense(3)

    def call(self, x, training=False):
        return self.out(self.pool(self.conv(x)))


def test_a_subclassed_model_takes_its_weights_and_is_left_alone_otherwise(tmp_path):
    source, target = Subclassed(), Subclassed()
    for model in (source, target):
        model(np.zeros([1, 24, 24, 3], "f4"))
    path = str(tmp_path / "model.weights.h5")
    shaken(source).save_weights(path)
    assert len(warm_start(target, path).loaded) == 4
    np.testing.assert_array_equal(features(target, 24), features(source, 24))
