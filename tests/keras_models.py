"""Keras models as people write them, by name: ``MODELS[name].make(image_shape, num_classes)``."""

import dataclasses
import os
import tempfile
from collections.abc import Callable

import keras
import tensorflow as tf

from tf_image_classification import EstimatorSpec, Label

L = keras.layers
NAMES = ("cat", "dog", "emu")
KIND = Label("kind", depth=3, class_names=NAMES)
SIZE = Label("size", kind="value")


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, and what is special about it.

    Attributes:
        make: image shape and number of classes to the model.
        side: of its images, in pixels.
        images: what is special about them: "channels first", "grey", "blue first", "float16".
        labels: that it is for.
        refused: part of the message that refuses it before the first step; "" if it is fine.
        no_heat: part of the reason why there are no heat maps; "" if there are.
        no_export: by format part of the reason why it cannot be exported.
        precision: that the run is told to compute in.
    """

    make: Callable
    side: int = 16
    images: str = ""
    labels: tuple = (KIND,)
    refused: str = ""
    no_heat: str = ""
    no_export: dict = dataclasses.field(default_factory=dict)
    precision: str = "float32"


class CaseSpec(EstimatorSpec):
    """The spec of a case."""

    def __init__(self, name):
        self.case = MODELS[name]
        self.class_dict = self.case.labels

    def get_preproc_fn(self, is_training):
        def preproc(image, width, height):
            image = tf.image.resize(image, [height, width])
            changes = {
                "channels first": lambda: tf.transpose(image, [2, 0, 1]),
                "grey": lambda: tf.image.rgb_to_grayscale(image),
                "blue first": lambda: image[..., ::-1],
                "float16": lambda: tf.cast(image, tf.float16),
                "": lambda: image,
            }
            return changes[self.case.images]()

        return preproc

    def get_model_fn(self, checkpoint_path):
        return lambda image_shape, params: self.case.make(image_shape, len(NAMES))

    def metric_ops(self, labels, predictions):
        return None


def small(shape, n, *, with_input=True):
    first = [keras.Input(shape)] if with_input else []
    return keras.Sequential(
        [
            *first,
            L.Rescaling(1 / 255),
            L.Conv2D(6, 3, activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(n),
        ]
    )


def functional(body=L.Conv2D, outputs=lambda logits: logits):
    """A model_fn with a body between the image and its pooled maps."""

    def make(shape, n):
        image = keras.Input(shape)
        maps = body(6, 3)(image) if body is L.Conv2D else body(image)
        return keras.Model(image, outputs(L.Dense(n)(L.GlobalAveragePooling2D()(maps))))

    return make


def sequential(*make_layers):
    """A model_fn of a Sequential whose layers are made anew for each model."""

    def make(shape, n):
        layers = [make_layer() for make_layer in make_layers]
        return keras.Sequential([keras.Input(shape), *layers, L.Flatten(), L.Dense(n)])

    return make


def in_functional(shape, n):
    image = keras.Input(shape)
    return keras.Model(image, L.Dense(n)(small(shape, 8)(image)))


class Subclassed(keras.Model):
    def __init__(self, n):
        super().__init__()
        self.conv, self.norm = L.Conv2D(6, 3, activation="relu"), L.BatchNormalization()
        self.pool, self.drop = L.GlobalAveragePooling2D(), L.Dropout(0.2)
        self.out = L.Dense(n)

    def call(self, x, training=False):
        x = self.norm(self.conv(x / 255.0), training=training)
        return self.out(self.drop(self.pool(x), training=training))


class Decorated(keras.Model):
    def __init__(self, n):
        super().__init__()
        self.conv, self.pool, self.out = L.Conv2D(6, 3), L.GlobalAveragePooling2D(), L.Dense(n)

    @tf.function
    def call(self, x, training=False):
        return self.out(self.pool(self.conv(x / 255.0)))


class Residual(L.Layer):
    def __init__(self, filters):
        super().__init__()
        self.convs = [L.Conv2D(filters, 3, padding="same") for _ in range(2)]
        self.shortcut = L.Conv2D(filters, 1)

    def call(self, x):
        return tf.nn.relu(self.convs[1](tf.nn.relu(self.convs[0](x))) + self.shortcut(x))


class Nested(keras.Model):
    """Blocks in a list, a head in a dictionary, a ``call`` without ``training``."""

    def __init__(self, n):
        super().__init__()
        self.blocks = [Residual(4), Residual(6)]
        self.pool, self.heads = L.GlobalAveragePooling2D(), {"kind": L.Dense(n)}

    def call(self, x):
        x = x / 255.0
        for block in self.blocks:
            x = block(x)
        return {"kind": self.heads["kind"](self.pool(x))}


class Trunk(keras.Model):
    """A trunk that computes as in an evaluation while it is trained, as guides advise."""

    def __init__(self, shape, n):
        super().__init__()
        self.trunk = mobilenet(shape)
        self.pool, self.out = L.GlobalAveragePooling2D(), L.Dense(n)

    def call(self, x):
        x = keras.applications.mobilenet.preprocess_input(x)
        return self.out(self.pool(self.trunk(x, training=False)))


def mobilenet(shape, **options):
    return keras.applications.MobileNet(
        shape, alpha=0.25, include_top=False, weights=None, **options
    )


def trunk_in_sequential(shape, n):
    trunk = mobilenet(shape, pooling="avg")
    scale = L.Rescaling(1 / 127.5, offset=-1)
    return keras.Sequential([keras.Input(shape), scale, trunk, L.Dropout(0.2), L.Dense(n)])


def frozen_trunk(shape, n):
    trunk = keras.Sequential([keras.Input(shape), L.Conv2D(6, 3), L.BatchNormalization()])
    trunk.trainable = False
    image = keras.Input(shape)
    x = L.GlobalAveragePooling2D()(trunk(image / 255.0, training=False))
    return keras.Model(image, L.Dense(n)(x))


def augmenting(shape, n):
    augmentation = keras.Sequential(
        [
            L.RandomFlip("horizontal"),
            L.RandomRotation(0.1),
            L.RandomZoom(0.1),
            L.RandomTranslation(0.1, 0.1),
            L.RandomContrast(0.1),
        ],
        name="data_augmentation",
    )
    image = keras.Input(shape)
    x = L.Conv2D(6, 3, activation="relu")(L.Rescaling(1 / 255)(augmentation(image)))
    return keras.Model(image, L.Dense(n)(L.Flatten()(L.MaxPooling2D()(x))))


def adapted(shape, n):
    scale = L.Normalization()
    scale.adapt(tf.random.uniform([8, *shape], 0, 255))
    conv, flat = L.Conv2D(4, 3), L.Flatten()
    return keras.Sequential([keras.Input(shape), scale, conv, flat, L.Dense(n)])


@keras.saving.register_keras_serializable("keras_models")
class Patches(L.Layer):
    def call(self, images):
        patch = [1, 4, 4, 1]
        return tf.image.extract_patches(images, patch, patch, [1, 1, 1, 1], "VALID")


def transformer(shape, n):
    image = keras.Input(shape)
    x = L.Dense(8)(L.Reshape((-1, 4 * 4 * 3))(Patches()(L.Rescaling(1 / 255)(image))))
    y = L.LayerNormalization()(x)
    x = L.Add()([x, L.MultiHeadAttention(2, 4, dropout=0.1)(y, y)])
    x = L.Add()([x, L.Dense(8, activation="gelu")(L.LayerNormalization()(x))])
    return keras.Model(image, L.Dense(n)(L.Flatten()(x)))


def attention(shape, n):
    image = keras.Input(shape)
    x = L.Reshape((-1, 8))(L.Conv2D(8, 4, strides=4)(L.Rescaling(1 / 255)(image)))
    x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 4)(x, x))
    return keras.Model(image, L.Dense(n)(L.GlobalAveragePooling1D()(x)))


def squeeze_and_excite(shape, n):
    image = keras.Input(shape)
    x = L.Conv2D(6, 3)(image / 255.0)
    weights = L.Dense(6, activation="sigmoid")(L.GlobalAveragePooling2D()(x))
    x = keras.ops.relu(x * L.Reshape((1, 1, 6))(weights))
    return keras.Model(image, L.Dense(n)(L.GlobalMaxPooling2D()(x)))


def compiled(shape, n):
    model = small(shape, n)
    model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    return model


def with_policy(policy):
    def make(shape, n):
        keras.mixed_precision.set_global_policy(policy)
        return small(shape, n)

    return make


def half_outputs(dtype):
    def make(shape, n):
        image = keras.Input(shape)
        x = L.GlobalAveragePooling2D()(L.Conv2D(6, 3)(image / 255.0))
        return keras.Model(image, L.Dense(n, dtype=dtype)(x))

    return make


def shared(shape, n):
    image = keras.Input(shape)
    conv, dense = L.Conv2D(6, 3, activation="relu"), L.Dense(4)
    sides = [dense(L.Flatten()(conv(x))) for x in (image, image[:, :, ::-1])]
    return keras.Model(image, L.Dense(n)(L.Concatenate()(sides)))


def ensemble(shape, n):
    image = keras.Input(shape)
    towers = [small(shape, n)(image), small(shape, n, with_input=False)(image)]
    return keras.Model(image, L.Average()(towers))


def stored_layer(shape, n):
    """A SavedModel in a layer."""
    image = keras.Input(shape)
    with tempfile.TemporaryDirectory() as path:
        features = keras.Sequential([keras.Input(shape), L.Conv2D(6, 3), L.Flatten()])
        features.export(path, verbose=False)
        stored = L.TFSMLayer(path, call_endpoint="serve")
        return keras.Model(image, L.Dense(n)(stored(image)))


@keras.saving.register_keras_serializable("keras_models")
class Scale(L.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


class UntrackedScale(L.Layer):
    def build(self, shape):
        self.scale = tf.Variable(tf.ones(shape[-1]), name="scale")

    def call(self, x):
        return x * self.scale


def with_table(shape, n):
    keys_and_values = tf.lookup.KeyValueTensorInitializer([0, 1], [1.0, 2.0])
    table = tf.lookup.StaticHashTable(keys_and_values, 0.0)
    scale = L.Lambda(lambda x: x * table.lookup(tf.constant(1)))
    return keras.Sequential([keras.Input(shape), scale, L.Flatten(), L.Dense(n)])


def recurrent(shape, n):
    image = keras.Input(shape)
    rows = L.Reshape((shape[0], shape[1] * shape[2]))(L.Rescaling(1 / 255)(image))
    return keras.Model(image, L.Dense(n)(L.Bidirectional(L.LSTM(3))(rows)))


def named_input(shape, n):
    image = keras.Input(shape, name="image")
    return keras.Model({"image": image}, L.Dense(n)(L.Flatten()(L.Conv2D(4, 3)(image))))


def listed_input(shape, n):
    image = keras.Input(shape)
    return keras.Model(inputs=[image], outputs=[L.Dense(n)(L.Flatten()(L.Conv2D(4, 3)(image)))])


def two_inputs(shape, n):
    image, age = keras.Input(shape), keras.Input((1,))
    return keras.Model([image, age], L.Dense(n)(L.Concatenate()([L.Flatten()(image), age])))


def any_size(shape, n):
    return functional()((None, None, shape[2]), n)


def tuned(shape, n):
    """Restored from a file that Keras has written."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        small(shape, n).save(path)
        return keras.models.load_model(path)


class OwnTrainStep(keras.Model):
    def train_step(self, data):
        raise NotImplementedError


def own_train_step(shape, n):
    image = keras.Input(shape)
    return OwnTrainStep(image, L.Dense(n)(L.Flatten()(L.Conv2D(4, 3)(image))))


class ActivityLoss(L.Layer):
    def call(self, x):
        self.add_loss(1e-3 * keras.ops.mean(keras.ops.square(x)))
        return x


def two_heads(pack):
    """A model_fn with a class and a real value."""

    def make(shape, n):
        image = keras.Input(shape)
        x = L.GlobalAveragePooling2D()(L.Conv2D(6, 3)(image / 255.0))
        return keras.Model(image, pack(L.Dense(n, name="kind")(x), L.Dense(1, name="size")(x)))

    return make


def channels_first(shape, n):
    permute = L.Permute((2, 3, 1))
    return keras.Sequential([keras.Input(shape), permute, L.Conv2D(4, 3), L.Flatten(), L.Dense(n)])


def softmax(shape, n):
    dense = L.Dense(n, activation="softmax")
    return keras.Sequential([keras.Input(shape), L.Flatten(), dense])


def sigmoid(shape, n):
    dense = L.Dense(n, activation="sigmoid")
    return keras.Sequential([keras.Input(shape), L.Flatten(), dense])


def cumulative(shape, n):
    cumulate = L.Lambda(lambda x: tf.math.cumprod(x, axis=-1))
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(n), cumulate])


BOTH = (KIND, SIZE)
NO_MAPS = "no layer of the model gives feature maps"
NO_CONFIG = {"keras": "get_config"}

MODELS = {
    "sequential": Case(small),
    "sequential without Input": Case(lambda s, n: small(s, n, with_input=False)),
    "sequential in sequential": Case(
        lambda s, n: keras.Sequential([keras.Input(s), small(s, 8), L.Dense(n)])
    ),
    "sequential in functional": Case(in_functional),
    "functional": Case(functional()),
    "subclassed": Case(lambda s, n: Subclassed(n), no_export=NO_CONFIG),
    "subclasses in a subclass": Case(lambda s, n: Nested(n), no_export=NO_CONFIG),
    "tf.function call": Case(lambda s, n: Decorated(n), no_heat=NO_MAPS, no_export=NO_CONFIG),
    "trunk in a subclass": Case(Trunk, side=32, no_export=NO_CONFIG),
    "trunk in sequential": Case(trunk_in_sequential, side=32),
    "frozen trunk": Case(frozen_trunk),
    "augmenting": Case(augmenting),
    "adapted": Case(adapted),
    "lambda": Case(sequential(lambda: L.Lambda(lambda x: x / 255.0), lambda: L.Conv2D(4, 3))),
    "batch norm": Case(
        functional(lambda x: L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, use_bias=False)(x))))
    ),
    "normalisations": Case(
        sequential(
            lambda: L.SpectralNormalization(L.Conv2D(4, 3)),
            lambda: L.GroupNormalization(2),
            lambda: L.GaussianNoise(0.1),
            lambda: L.SpatialDropout2D(0.1),
        )
    ),
    "resizing": Case(
        sequential(
            lambda: L.Resizing(8, 8),
            lambda: L.SeparableConv2D(4, 3),
            lambda: L.Conv2DTranspose(4, 3, strides=2),
            lambda: L.PReLU(),
        )
    ),
    "regularised": Case(
        functional(lambda x: L.Conv2D(6, 3, kernel_regularizer="l2", activity_regularizer="l1")(x))
    ),
    "add_loss": Case(
        functional(lambda x: ActivityLoss()(L.Conv2D(6, 3)(x))),
        no_export={"keras": "Write @keras.saving.register_keras_serializable() above ActivityLoss"},
    ),
    "add_weight": Case(functional(lambda x: Scale()(L.Conv2D(6, 3)(x)))),
    "attention": Case(attention),
    "transformer": Case(transformer),
    "squeeze and excite": Case(squeeze_and_excite),
    "recurrent": Case(recurrent, no_heat=NO_MAPS),
    "dense": Case(sequential(), no_heat=NO_MAPS),
    "compiled": Case(compiled),
    "own train_step": Case(own_train_step),
    "mixed float16 policy": Case(with_policy("mixed_float16"), precision="mixed_float16"),
    "mixed bfloat16 policy": Case(with_policy("mixed_bfloat16"), precision="mixed_bfloat16"),
    "policy that the run does not know": Case(
        with_policy("mixed_float16"), refused="Give precision='mixed_float16'"
    ),
    "float16 outputs": Case(half_outputs("float16")),
    "bfloat16 outputs": Case(half_outputs("bfloat16")),
    "shared layers": Case(shared),
    "ensemble": Case(ensemble),
    "TFSMLayer": Case(stored_layer, no_heat=NO_MAPS, no_export={"keras": "does not exist"}),
    "restored": Case(tuned),
    "any size": Case(any_size),
    "grey": Case(functional(), images="grey"),
    "blue first": Case(functional(), images="blue first"),
    "channels first": Case(channels_first, images="channels first"),
    "float16 images": Case(functional(), images="float16"),
    "named input": Case(named_input),
    "lists of one": Case(listed_input),
    "tuple of one": Case(functional(outputs=lambda y: (y,))),
    "dictionary of one": Case(functional(outputs=lambda y: {"kind": y})),
    "list of outputs": Case(two_heads(lambda kind, size: [kind, size]), labels=BOTH),
    "tuple of outputs": Case(two_heads(lambda kind, size: (kind, size)), labels=BOTH),
    "dictionary of outputs": Case(
        two_heads(lambda kind, size: {"size": size, "kind": kind}), labels=BOTH
    ),
    "cumulative product": Case(
        cumulative, no_heat=NO_MAPS, no_export={"litert": "Cumprod", "onnx": "Cumprod"}
    ),
    "softmax": Case(softmax, refused="is probabilities, expected logits. Remove the softmax"),
    "sigmoid": Case(
        sigmoid,
        refused="is probabilities, expected logits. Remove the sigmoid",
    ),
    "outputs in another order": Case(
        two_heads(lambda kind, size: [size, kind]),
        labels=BOTH,
        refused="a list in the order size, kind, and class_dict's order is kind, size",
    ),
    "two inputs": Case(two_inputs, refused="expects 2"),
    "a variable of no layer": Case(
        functional(lambda x: UntrackedScale()(L.Conv2D(6, 3)(x))),
        refused="variables that are not its own",
    ),
    "a table of no layer": Case(with_table, refused="a lookup table or another resource"),
}
