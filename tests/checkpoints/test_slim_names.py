"""TF-Slim's checkpoints in our networks: names, shapes, scaling, heads, and what is refused."""

import csv
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import backbones
from tf_image_classification.checkpoints import name_maps
from tf_image_classification.checkpoints.name_maps import old_names
from tf_image_classification.checkpoints.warm_start import warm_start
from tf_image_classification.errors import CheckpointError
from tf_image_classification.optim.param_groups import trainable_variables

DATA = os.path.join(os.path.dirname(__file__), *[".."] * 3, "shared", "data")
CHECKPOINTS = os.path.join(DATA, "checkpoints")
needs_data = pytest.mark.skipif(
    not os.path.isdir(CHECKPOINTS), reason="the published checkpoints are not at hand"
)

# Network, size of its images here, and names that are in the published checkpoint of its kind.
FAMILIES = {
    "mobilenet_v1_025": (64, ["MobilenetV1/Conv2d_13_depthwise/depthwise_weights",
                              "MobilenetV1/Conv2d_1_pointwise/BatchNorm/moving_mean",
                              "MobilenetV1/Logits/Conv2d_1c_1x1/biases"]),
    "mobilenet_v2_035": (64, ["MobilenetV2/expanded_conv/depthwise/BatchNorm/gamma",
                              "MobilenetV2/expanded_conv_16/project/weights",
                              "MobilenetV2/Conv_1/BatchNorm/moving_variance"]),
    "vgg16": (32, ["vgg_16/conv1/conv1_1/weights", "vgg_16/conv5/conv5_3/biases"]),
    "resnet_v1_50": (32, ["resnet_v1_50/conv1/BatchNorm/gamma",
                          "resnet_v1_50/block1/unit_1/bottleneck_v1/shortcut/weights",
                          "resnet_v1_50/block4/unit_3/bottleneck_v1/conv3/BatchNorm/beta"]),
    "resnet_v2_50": (32, ["resnet_v2_50/conv1/biases", "resnet_v2_50/postnorm/gamma",
                          "resnet_v2_50/block1/unit_1/bottleneck_v2/preact/moving_mean",
                          "resnet_v2_50/block2/unit_4/bottleneck_v2/conv3/biases"]),
    "inception_v3": (75, ["InceptionV3/Conv2d_1a_3x3/BatchNorm/beta",
                          "InceptionV3/Mixed_5c/Branch_1/Conv_1_0c_5x5/weights",
                          "InceptionV3/Mixed_7b/Branch_1/Conv2d_0b_3x1/weights"]),
    "inception_resnet_v2": (75, [
        "InceptionResnetV2/Repeat/block35_10/Branch_2/Conv2d_0c_3x3/weights",
        "InceptionResnetV2/Repeat_1/block17_1/Conv2d_1x1/biases",
        "InceptionResnetV2/Block8/Branch_1/Conv2d_0c_3x1/BatchNorm/beta",
    ]),
    "nasnet_mobile": (32, ["cell_stem_0/1x1/weights", "cell_11/beginning_bn/gamma",
                           "cell_0/comb_iter_0/left/separable_5x5_1/depthwise_weights",
                           "reduction_cell_1/comb_iter_4/left/bn_sep_3x3_2/beta",
                           "final_layer/FC/weights"]),
}  # fmt: skip


def fresh(name, size, outputs, seed):
    """The network with weights that are all different and statistics that are possible."""
    keras.utils.clear_session(free_memory=False)
    model = backbones.create(name, (size, size, 3), outputs=outputs)
    random = np.random.default_rng(seed)
    for variable in model.variables:
        fan_in = max(1, int(np.prod(variable.shape[:-1])))
        value = random.normal(0, (2 / fan_in) ** 0.5, variable.shape)
        if variable.path.endswith(("variance", "gamma")):
            value = 1 + 0.1 * np.abs(value)
        variable.assign(value)
    return model


def write_as_slim(model, path, shadow=False):
    """A checkpoint with the names that TF-Slim gives the variables; a matrix is a convolution."""
    values, names = {}, old_names(v.path for v in model.variables)
    for variable in model.variables:
        name = names[variable.path][0].name
        value = variable.numpy()
        if value.ndim == 2 and "FC" not in name:
            value = value[None, None]
        if name.startswith("vgg") and name.endswith("conv1_1/weights"):
            value = value[:, :, ::-1]  # Slim's network sees red first, Keras's blue
        values[name] = value
        if shadow:
            values[f"{name}/ExponentialMovingAverage"] = value + 1
    values["global_step"] = np.int64(7)
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=list(values), shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )  # fmt: skip
    return str(path), values


LARGEST = ("inception_resnet_v2", "inception_v3", "nasnet_mobile")


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.exhaustive] * (n in LARGEST)) for n in FAMILIES]
)
def test_a_checkpoint_with_slims_names_gives_the_same_outputs(name, tmp_path):
    size, known = FAMILIES[name]
    model = fresh(name, size, 1001, seed=1)
    path, values = write_as_slim(model, tmp_path / "model.ckpt")
    assert set(known) <= set(values)
    images = np.random.default_rng(0).integers(0, 256, [2, size, size, 3]).astype(np.float32)
    expected = model(images, training=False).numpy()
    target = fresh(name, size, 1001, seed=2)
    report = warm_start(target, path)
    assert len(report.loaded) == len(model.variables)
    assert not report.initialised and not report.mismatched and report.unused == ("global_step",)
    np.testing.assert_allclose(
        target(images, training=False).numpy(), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_the_background_class_is_left_out_of_a_head_of_a_thousand(tmp_path):
    path, values = write_as_slim(fresh("mobilenet_v1_025", 32, 1001, seed=1), tmp_path / "m.ckpt")
    target = fresh("mobilenet_v1_025", 32, 1000, seed=2)
    assert not warm_start(target, path).mismatched
    head = values["MobilenetV1/Logits/Conv2d_1c_1x1/weights"]
    assert np.array_equal(target.get_layer("logits").kernel.numpy(), head[0, 0, :, 1:])
    report = warm_start(fresh("mobilenet_v1_025", 32, 6, seed=3), path)
    assert [line.partition(":")[0] for line in report.mismatched] == [
        "logits/kernel",
        "logits/bias",
    ]
    assert "  new for these classes: logits/kernel, logits/bias" in report.text().splitlines()


@pytest.mark.slow
def test_moving_averages_are_taken_when_asked_for(tmp_path):
    path, values = write_as_slim(
        fresh("mobilenet_v1_025", 32, 5, seed=1), tmp_path / "m.ckpt", shadow=True
    )
    name = "MobilenetV1/Conv2d_0/weights"
    for with_averages in (False, True):
        target = fresh("mobilenet_v1_025", 32, 5, seed=2)
        warm_start(target, path, with_averages=with_averages)
        assert np.array_equal(
            target.get_layer("conv1").kernel.numpy(), values[name] + with_averages
        )
    path, _ = write_as_slim(fresh("mobilenet_v1_025", 32, 5, seed=1), tmp_path / "bare.ckpt")
    with pytest.raises(CheckpointError, match="no moving averages.*checkpoint_averages"):
        warm_start(target, path, with_averages=True)


@pytest.mark.slow
def test_scopes_may_have_old_names(tmp_path):
    path, _ = write_as_slim(fresh("mobilenet_v1_025", 32, 5, seed=1), tmp_path / "m.ckpt")
    target = fresh("mobilenet_v1_025", 32, 5, seed=2)
    report = warm_start(target, path, exclude_scopes=("MobilenetV1/Logits", "conv1_bn"))
    assert len(report.excluded) == 6 and "logits/kernel" in report.excluded
    report = warm_start(target, path, restore_scopes=("MobilenetV1/Conv2d_0",))
    assert len(report.loaded) == 5
    assert [v.path for v in trainable_variables(target, ("MobilenetV1/Logits",))] == [
        "logits/kernel", "logits/bias",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("made", "wanted"), [("vgg19", "vgg16"), ("vgg16", "mobilenet_v1_025")])
def test_a_checkpoint_of_another_network_is_refused(made, wanted, tmp_path):
    path, _ = write_as_slim(fresh(made, 32, 5, seed=1), tmp_path / "m.ckpt")
    if made == "vgg19":  # whose layers are those of the other one and some more
        renamed = {n.replace("vgg_19", "vgg_16"): tf.train.load_checkpoint(path).get_tensor(n)
                   for n in tf.train.load_checkpoint(path).get_variable_to_shape_map()}  # fmt: skip
        tf.raw_ops.SaveV2(
            prefix=path, tensor_names=list(renamed), shape_and_slices=[""] * len(renamed),
            tensors=list(renamed.values()),
        )  # fmt: skip
    expected = "is of another network" if made == "vgg19" else "Nothing fits"
    with pytest.raises(CheckpointError, match=expected):
        warm_start(fresh(wanted, 32, 5, seed=2), path)


def imagenet_images(size):
    folder = os.path.join(DATA, "imagenet_100")
    with open(os.path.join(folder, "reference_predictions.tsv"), encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    images = []
    for row in rows:
        data = tf.io.read_file(os.path.join(folder, "images", row["file"]))
        image = tf.image.central_crop(tf.io.decode_jpeg(data, channels=3), 0.875)
        images.append(tf.image.resize(image, [size, size], antialias=True))
    return rows, np.stack(images)


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    ("network", "size", "checkpoint", "least_agreement", "top1"),
    [
        ("mobilenet_v1_025", 128, "mobilenet_v1_0.25_128", 0.80, 0.41),
        ("mobilenet_v1", 224, "mobilenet_v1_1.0_224", 0.85, 0.84),
    ],
)
def test_published_checkpoints_predict_what_they_are_known_to(
    network, size, checkpoint, least_agreement, top1
):
    rows, images = imagenet_images(size)
    model = backbones.create(network, (size, size, 3), outputs=1001)
    warm_start(model, os.path.join(CHECKPOINTS, checkpoint, f"{checkpoint}.ckpt"))
    found = np.concatenate(
        [model(images[i : i + 20]).numpy().argmax(-1) for i in range(0, 100, 20)]
    )
    reference = np.array([int(row[f"{checkpoint}_quant_top5"].split()[0]) for row in rows])
    truth = np.array([int(row["true_index_1001"]) for row in rows])
    assert (found == reference).mean() >= least_agreement
    assert abs((found == truth).mean() - top1) <= 0.03


@pytest.mark.slow
@needs_data
def test_the_oldest_form_of_a_checkpoint_gives_the_same_tensors():
    folder = os.path.join(CHECKPOINTS, "mobilenet_v1_0.25_128")
    models = []
    for name in ("mobilenet_v1_0.25_128.ckpt", "mobilenet_v1_0.25_128_v1format.ckpt"):
        models.append(fresh("mobilenet_v1_025", 128, 1001, seed=len(models)))
        assert len(warm_start(models[-1], os.path.join(folder, name)).loaded) == 137
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        assert np.array_equal(a, b)


@needs_data
@pytest.mark.parametrize(
    ("file", "root", "accuracy"),
    [
        ("v2/regression.ckpt", "regression", 0.9149),
        ("v1_single_file/regression.ckpt", "regression", 0.8978),
        ("v1_single_file/simple.ckpt", "simple", 0.9091),
    ],
)
def test_checkpoints_of_tensorflow_1_have_their_known_accuracies(file, root, accuracy, monkeypatch):
    idx = {}
    for kind, start in (("images-idx3", 16), ("labels-idx1", 8)):
        path = os.path.join(DATA, "mnist", f"t10k-{kind}-ubyte.gz")
        if not os.path.exists(path):
            pytest.skip("MNIST's test set is not at hand")
        data = tf.io.decode_compressed(tf.io.read_file(path), "GZIP").numpy()
        idx[kind] = np.frombuffer(data, np.uint8, offset=start)
    images = idx["images-idx3"].reshape(-1, 784) / np.float32(255)
    model = keras.Sequential([keras.Input([784]), keras.layers.Dense(10, name="softmax")])
    words = {"kernel": "W", "bias": "b"}
    monkeypatch.setattr(name_maps, "_MAPS", {})
    name_maps.register(name_maps.NameMap("softmax", (name_maps.Row("softmax", root, words),)))
    warm_start(model, os.path.join(CHECKPOINTS, "tf1_mnist", file))
    found = model.predict(images, batch_size=1000, verbose=0).argmax(-1)
    assert (found == idx["labels-idx1"]).mean() == pytest.approx(accuracy, abs=1e-4)


@needs_data
def test_an_index_without_its_data_is_named():
    path = os.path.join(CHECKPOINTS, "tf1_mnist", "index_without_data", "convolutional.ckpt.index")
    with pytest.raises(CheckpointError, match="incomplete: only its .index"):
        warm_start(fresh("mobilenet_v1_025", 32, 5, seed=0), path)
