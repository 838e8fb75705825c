"""Batch normalisation in one operation or folded gives what Keras's layers give."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.fused_batch_norm import fused_batch_norm
from tf_image_classification.layer_calls import watched_layers

SIZE = 12


def with_statistics(model):
    """The model with moving statistics, scales and offsets as after a training."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if "kernel" not in variable.path:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return model


def functional(**norm):
    inputs = keras.Input([SIZE, SIZE, 3])
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = keras.layers.BatchNormalization(**norm)(x)
    x = keras.layers.ReLU(6.0)(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
    x = keras.layers.BatchNormalization(scale=False, **norm)(x)
    y = keras.layers.Conv2D(16, 1)(x)  # both its normalisation and the sum take it
    x = keras.layers.Add()([y, keras.layers.BatchNormalization(center=False, **norm)(y)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="logits")(x))


def nested(training=None):
    inputs = keras.Input([SIZE, SIZE, 3])
    trunk = keras.Model((body := functional()).input, body.layers[-2].output, name="trunk")
    features = trunk(inputs) if training is None else trunk(inputs, training=training)
    return keras.Model(inputs, keras.layers.Dense(4)(features))


def sequential():
    return keras.Sequential(
        [
            keras.Input([SIZE, SIZE, 3]),
            keras.layers.Conv2D(8, 3),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(4),
        ]
    )


@keras.saving.register_keras_serializable(package="tests")
class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolution = keras.layers.Conv2D(8, 3)
        self.norm = keras.layers.BatchNormalization()
        self.head = keras.layers.Dense(4)

    def call(self, images, training=None):
        x = tf.nn.relu(self.norm(self.convolution(images), training=training))
        return self.head(tf.reduce_mean(x, [1, 2]))


def frozen():
    model = functional()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return model


MODELS = {
    "functional": functional,
    "frozen": frozen,
    "nested": nested,
    "nested in inference mode": lambda: nested(training=False),
    "nested in training mode": lambda: nested(training=True),
    "sequential": sequential,
    "subclass": Subclass,
    "another axis": lambda: functional(axis=1),
}


def outcome(model, images, *, training, is_fused):
    """Outputs, gradients and the moving statistics after a call; the statistics are put back."""
    begin = [variable.numpy() for variable in model.variables]
    block = fused_batch_norm(model, training=training) if is_fused else contextlib.nullcontext()

    @tf.function
    def call(images):
        with tf.GradientTape() as tape, block:
            outputs = model(images, training=training)
            loss = tf.reduce_sum(outputs**2)
        variables = [variable.value for variable in model.trainable_variables]
        return outputs, tape.gradient(loss, variables)

    outputs, gradients = call(images)
    after = [variable.numpy() for variable in model.variables]
    for variable, value in zip(model.variables, begin, strict=True):
        variable.assign(value)
    return outputs, gradients, after


@pytest.mark.slow_after(6)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_gradients_and_statistics_are_those_of_keras(name, training):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    images = np.random.default_rng(1).normal(size=[6, SIZE, SIZE, 3]).astype("f4")
    model(images)
    with_statistics(model)
    plain = outcome(model, images, training=training, is_fused=False)
    fused = outcome(model, images, training=training, is_fused=True)
    for ours, theirs in zip(fused, plain, strict=True):
        ours, theirs = tf.nest.flatten(ours), tf.nest.flatten(theirs)
        largest = max(float(np.abs(each).max()) for each in theirs)
        for our, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-5 * largest)


def operations(model, training):
    """The fused operations and the products of whole feature maps in a call of the model."""

    @tf.function
    def call(images):
        with fused_batch_norm(model, training=training):
            return model(images, training=training)

    graph = call.get_concrete_function(tf.TensorSpec([2, SIZE, SIZE, 3])).graph
    found = [operation.type for operation in graph.get_operations()]
    products = [
        operation
        for operation in graph.get_operations()
        if operation.type == "Mul" and operation.outputs[0].shape.rank == 4
        and operation.outputs[0].shape[:1] == [2]
    ]  # fmt: skip
    return found.count("FusedBatchNormV3"), len(products)


@pytest.mark.parametrize(
    ("make", "training", "fused", "separate"),
    [
        (functional, True, 3, 0),
        (functional, False, 1, 0),
        (frozen, True, 1, 0),
        (nested, True, 3, 0),
        (nested, False, 1, 0),
        (sequential, True, 1, 0),
        (sequential, False, 0, 0),
        (Subclass, True, 1, 0),
        (lambda: functional(axis=1), False, 0, 3),
    ],
)
def test_layers_are_fused_in_training_and_folded_in_inference(make, training, fused, separate):
    model = make()
    model(np.zeros([1, SIZE, SIZE, 3], "f4"))
    assert operations(model, training) == (fused, separate)


def test_mixed_precision_keeps_float32_statistics():
    keras.utils.set_random_seed(0)
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    layer = keras.layers.BatchNormalization(dtype=policy)
    model = keras.Sequential([keras.Input([4, 4, 3]), layer])
    images = np.random.default_rng(0).normal(3.0, 2.0, [8, 4, 4, 3]).astype("f4")
    with fused_batch_norm(model, training=True):
        outputs = model(images, training=True)
    assert outputs.dtype == tf.bfloat16 and layer.moving_mean.dtype == "float32"
    assert np.mean(np.abs(np.mean(outputs, axis=(0, 1, 2), dtype="f4"))) < 0.05
    np.testing.assert_allclose(layer.moving_mean, 0.01 * images.mean((0, 1, 2)), rtol=1e-2)


def test_the_model_is_as_before_behind_the_block_also_when_blocks_overlap():
    model = with_statistics(functional())
    images = np.ones([1, SIZE, SIZE, 3], "f4")
    expected, seen = model(images, training=False).numpy(), []
    first = fused_batch_norm(model, training=False)
    second = fused_batch_norm(model, training=False)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    np.testing.assert_allclose(model(images, training=False), expected, atol=1e-5)
    second.__exit__(None, None, None)
    assert not any("call" in vars(layer) for layer in model.layers)
    with watched_layers(model, lambda layer, _, output: seen.append((layer.name, output))):
        model(images, training=False)
    maps = dict(seen)
    norm = next(n for n in maps if n.startswith("batch"))
    convolution = next(n for n in maps if n.startswith("conv"))
    assert not np.allclose(maps[norm], maps[convolution])
