"""Each promise that a spec can break, broken once; and a good spec, which breaks none."""

import json
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification import make_settings, metrics, train
from tf_image_classification.errors import SpecError
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.labels import Label
from tf_image_classification.workflows.setup.spec_check import check_spec, require_spec

SETTINGS = make_settings({"image_size": 8})


def resized(image, width, height):
    return tf.image.resize(image, [height, width]) / 255.0


def dense(*layers, depth=3):
    """A model_fn with some layers in front of the logits."""

    def model_fn(image_shape, params):
        inputs = x = keras.Input(image_shape)
        for make in layers:
            x = make()(x)
        x = keras.layers.Flatten()(x)
        return keras.Model(inputs, keras.layers.Dense(depth, name="logits")(x))

    return model_fn


def flipped(image, width, height):
    return tf.image.random_flip_left_right(resized(image, width, height))


STATIC = ("training_preproc", "evaluation_preproc", "model_fn")


class GoodSpec(EstimatorSpec):
    class_dict = (Label("kind", depth=3),)
    evaluation_preproc = training_preproc = staticmethod(resized)
    model_fn = staticmethod(dense())

    def get_preproc_fn(self, is_training):
        return self.training_preproc if is_training else self.evaluation_preproc

    def get_model_fn(self, checkpoint_path):
        return self.model_fn

    def metric_ops(self, labels, predictions):
        return {"accuracy": metrics.accuracy(labels["kind"], predictions["kind"])}


def spec_with(**members):
    members = {
        name: staticmethod(value) if name in STATIC else value for name, value in members.items()
    }
    return type("Spec", (GoodSpec,), members)()


def broken(settings=SETTINGS, **members):
    return "\n".join(check_spec(spec_with(**members), settings))


# --- good ------------------------------------------------------------------------------------


def seeded(image, width, height, seed):
    return resized(image, width, height) + tf.random.stateless_normal([height, width, 3], seed)


def two_heads(image_shape, params):
    inputs = keras.Input(image_shape)
    x = keras.layers.Flatten()(inputs)
    heads = {"kind": keras.layers.Dense(3, name="a")(x), "age": keras.layers.Dense(1, name="b")(x)}
    return keras.Model(inputs, heads)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"training_preproc": seeded},
        {"metric_ops": lambda self, labels, predictions: None},
        {"model_fn": dense(keras.layers.BatchNormalization)},
        {"model_fn": dense(lambda: keras.layers.Dropout(0.0))},
        {"model_fn": dense(lambda: keras.layers.Dropout(0.01))},
        {
            "class_dict": [Label("kind", depth=3), Label("age", one_hot=False)],
            "model_fn": two_heads,
        },
        {"losses": lambda self, labels, logits: {"kind": tf.reduce_sum(logits["kind"], axis=1)}},
        {"evaluation_preproc": lambda i, w, h: tf.cast(resized(i, w, h), tf.float32)},
    ],
    ids=lambda members: "+".join(members) or "plain",
)
def test_a_good_spec_breaks_no_promise(members):
    assert check_spec(spec_with(**members), SETTINGS) == []


def test_integer_images_are_a_fine_result_of_preprocessing():
    def as_bytes(image, width, height):
        return tf.cast(tf.image.resize(image, [height, width]), tf.uint8)

    assert broken(training_preproc=as_bytes, evaluation_preproc=as_bytes) == ""


# --- preprocessing ---------------------------------------------------------------------------


def unseeded(image, width, height):
    return resized(image, width, height) + tf.random.uniform([])


def by_generator(image, width, height):
    number = tf.numpy_function(lambda: np.float32(next(NUMBERS)), [], tf.float32)
    return resized(image, width, height) + tf.ensure_shape(number, [])


NUMBERS = iter(range(10**6))


def through_python(image, width, height):
    doubled = tf.numpy_function(lambda x: x // 2, [image], tf.uint8)
    return resized(tf.ensure_shape(doubled, [None, None, 3]), width, height)


def standardised(image, width, height):
    pixels = tf.cast(image, tf.float32)
    return tf.image.resize(pixels / tf.math.reduce_std(pixels, axis=[0, 1]), [height, width])


def misspelt(image, width, height):
    return tf.image.resiz(image, [height, width])


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"training_preproc": lambda i, w, h: i}, "returns shape (None, None, 3), expected three"),
        ({"evaluation_preproc": lambda i, w, h: i}, "get_preproc_fn(is_training=False): returns"),
        ({"training_preproc": lambda i, w, h: resized(i, w, h)[0]}, "returns shape (8, 3)"),
        ({"get_preproc_fn": lambda self, is_training: None}, "returns None, expected a function"),
        (
            {"evaluation_preproc": lambda i, w, h: resized(i, w + 1, h)},
            "float32 [8, 8, 3] for training, but float32 [8, 9, 3]",
        ),
        (
            {"evaluation_preproc": lambda i, w, h: tf.cast(resized(i, w, h), tf.uint8)},
            "float32 [8, 8, 3] for training, but uint8 [8, 8, 3]",
        ),
        ({"training_preproc": unseeded}, "do not depend on the example"),
        ({"training_preproc": by_generator}, "different results for the same image, so a resumed"),
        ({"evaluation_preproc": by_generator}, "calls Python"),
        ({"evaluation_preproc": through_python}, "calls Python"),
        ({"evaluation_preproc": standardised}, "NaN or infinity for an image of 1 x 1 pixels"),
        (
            {"training_preproc": misspelt},
            "get_preproc_fn(is_training=True) fails: AttributeError: module",
        ),
        ({"training_preproc": lambda i, w: i}, "get_preproc_fn(is_training=True) fails: TypeError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_promise_of_preprocessing_is_named(members, expected):
    found = broken(**members)
    assert expected in found
    assert "in user code" not in found


@pytest.mark.parametrize("seed", [None, 1])
def test_old_augmentation_without_a_seed_is_told_what_to_do(seed):
    tf.random.set_seed(seed)  # without a global seed TensorFlow itself refuses, less clearly
    found = broken(training_preproc=flipped)
    assert "do not depend on the example" in found and "or set --nodeterministic" in found


def test_evaluation_that_is_not_the_same_twice_is_named_where_nothing_is_exported():
    settings = SETTINGS.replace(export_saved_model=False)
    assert "evaluation must not" in broken(settings, evaluation_preproc=by_generator)
    assert broken(settings, evaluation_preproc=through_python) == ""


def test_unseeded_augmentation_may_be_used_when_exactness_is_not_asked_for():
    settings = SETTINGS.replace(deterministic=False)
    assert broken(settings, training_preproc=by_generator) == ""


# --- model -----------------------------------------------------------------------------------


class Custom(keras.layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), trainable=False, name="count")


class Counting(Custom):
    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs


class Unseeded(keras.layers.Layer):
    def call(self, inputs, training=False):
        return inputs + tf.random.normal([3]) if training else inputs


class DrawingItsSeedWhenTraced(keras.layers.Layer):
    def call(self, inputs, training=False):
        return inputs + keras.random.normal([3]) if training else inputs


class Seeded(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, inputs, training=False):
        return inputs + keras.random.normal([3], seed=self.seed) if training else inputs


@pytest.mark.parametrize("layer", [Unseeded, DrawingItsSeedWhenTraced])
def test_chance_that_no_seed_of_the_model_decides_is_named(layer):
    assert "draw random numbers that no seed" in broken(model_fn=dense(layer))
    assert broken(SETTINGS.replace(deterministic=False), model_fn=dense(layer)) == ""


@pytest.mark.slow
def test_chance_in_the_losses_is_named():
    def losses(self, labels, logits):
        return {"kind": tf.random.uniform([len(labels["kind"])])}

    assert "draw random numbers that no seed" in broken(losses=losses)


def test_probabilities_in_place_of_logits_are_named():
    def model_fn(image_shape, params):
        inputs = keras.Input(image_shape)
        flat = keras.layers.Flatten()(inputs)
        return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(flat))

    assert "is probabilities, expected logits. Remove the softmax" in broken(model_fn=model_fn)


def test_a_layer_that_keeps_its_seed_breaks_no_promise():
    assert broken(model_fn=dense(Seeded)) == ""


def test_a_metric_cannot_have_a_name_of_the_record():
    def metric_ops(self, labels, predictions):
        return {"step": metrics.accuracy(labels["kind"], predictions["kind"])}

    assert "metric_ops names step" in broken(metric_ops=metric_ops)


class Noisy(keras.layers.Layer):
    def call(self, inputs):
        return inputs + next(NUMBERS)


class Branching(keras.layers.Layer):
    def call(self, inputs):
        return inputs if float(tf.reduce_sum(inputs)) > 0 else -inputs

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


class FixedBatch(keras.layers.Layer):
    def call(self, inputs):
        return tf.concat([inputs[i : i + 1] for i in range(inputs.shape[0])], axis=0)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


class ThroughPython(keras.layers.Layer):
    def call(self, inputs):
        return tf.ensure_shape(tf.numpy_function(lambda x: x, [inputs], tf.float32), inputs.shape)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


class FirstTwo(keras.layers.Layer):
    def call(self, inputs):
        return inputs[:2]


class Infinite(keras.layers.Layer):
    def call(self, inputs):
        return inputs / 0.0


class Stopping(keras.layers.Layer):
    def call(self, inputs):
        return tf.stop_gradient(inputs)


class Twins(keras.layers.Layer):
    def build(self, shape):
        self.pair = [self.add_weight(shape=(), name="twin") for _ in range(2)]

    def call(self, inputs):
        return inputs + self.pair[0] + self.pair[1]


class IgnoresTraining(keras.Model):
    def __init__(self):
        super().__init__()
        self.layers_in_order = [
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]

    def call(self, inputs):
        flat = self.layers_in_order[0](inputs)
        return self.layers_in_order[2](self.layers_in_order[1](flat, training=False))


OfKeras2 = type("Functional", (), {"__module__": "tf_keras.src.engine.functional"})


def stopped(image_shape, params):
    inputs = keras.Input(image_shape)
    x = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, Stopping()(x))


def without_variables(image_shape, params):
    inputs = keras.Input(image_shape)
    return keras.Model(inputs, keras.layers.Flatten()(inputs)[:, :3])


def by_other_name(image_shape, params):
    inputs = keras.Input(image_shape)
    return keras.Model(inputs, {"kinds": keras.layers.Dense(3)(keras.layers.Flatten()(inputs))})


def halved(image_shape, params):
    inputs = keras.Input(image_shape)
    return keras.Model(inputs, FirstTwo()(keras.layers.Dense(3)(keras.layers.Flatten()(inputs))))


@pytest.mark.slow_after(10)
@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"get_model_fn": lambda self, path: None}, "get_model_fn returns None"),
        ({"model_fn": lambda shape, params: 3}, "model_fn returns int, expected a keras.Model"),
        ({"model_fn": lambda shape: None}, "called as model_fn(image_shape, params): too many"),
        (
            {"get_model_fn": lambda self, path: dense()((8, 8, 3), {})},
            "get_model_fn returns a model",
        ),
        (
            {"model_fn": lambda shape, params: OfKeras2()},
            "is of Keras 2: unset TF_USE_LEGACY_KERAS",
        ),
        ({"model_fn": dense(depth=4)}, "shape (4, 4), expected [batch, 3]"),
        ({"model_fn": by_other_name}, "outputs are kinds; expected one for each label: kind"),
        ({"class_dict": [Label("kind", depth=3), Label("age", depth=3)]}, "has 1 output, but"),
        (
            {"class_dict": [Label("kind", one_hot=False)]},
            "real-valued label 'kind' has shape (4, 3)",
        ),
        ({"model_fn": halved}, "gives 2 outputs for 4 images"),
        ({"model_fn": dense(Counting)}, "changes its variables with training=False"),
        ({"model_fn": dense(Noisy)}, "different outputs for the same images"),
        ({"model_fn": dense(Infinite)}, "is not finite"),
        ({"model_fn": lambda shape, params: IgnoresTraining()}, "training=True changes nothing"),
        ({"model_fn": dense(Branching)}, "cannot be exported for batches of any size"),
        ({"model_fn": dense(FixedBatch)}, "cannot be exported for batches of any size"),
        ({"model_fn": dense(ThroughPython)}, "model calls Python"),
        ({"model_fn": dense(Twins)}, "twin"),
        ({"model_fn": stopped}, "No gradient reaches"),
        ({"model_fn": without_variables}, "no trainable variables"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_promise_of_the_model_is_named(members, expected):
    found = broken(**members)
    assert expected in found
    assert "in user code" not in found


def test_a_model_for_one_batch_size_may_be_trained_when_nothing_is_exported():
    settings = SETTINGS.replace(export_saved_model=False)
    assert broken(settings, model_fn=dense(FixedBatch)) == ""
    assert "cannot be traced" in broken(settings, model_fn=dense(Branching))


# --- losses and metrics ----------------------------------------------------------------------


def fails_on_nothing(self, labels, predictions):
    return {"first": metrics.accuracy(labels["kind"][0:1], [int(predictions["kind"][0])])}


def other_names_on_nothing(self, labels, predictions):
    name = "accuracy" if len(labels["kind"]) else "nothing"
    return {name: metrics.accuracy(labels["kind"], predictions["kind"])}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"metric_ops": lambda self, labels, predictions: {"a": 0.5}}, "float for metric 'a'"),
        (
            {"metric_ops": lambda self, labels, predictions: {"a": keras.metrics.Mean()}},
            "a Keras metric through",
        ),
        ({"metric_ops": lambda self, labels, predictions: [1]}, "metric_ops gives a list"),
        (
            {"metric_ops": lambda self, labels, predictions: {"a": labels["knd"]}},
            "metric_ops fails: KeyError: 'knd'",
        ),
        ({"metric_ops": fails_on_nothing}, "metric_ops fails when a batch has no example"),
        ({"metric_ops": other_names_on_nothing}, "metrics differ between batches"),
        (
            {"losses": lambda self, labels, logits: {"kind": tf.reduce_mean(logits["kind"])}},
            "shape () for label 'kind', expected [batch]",
        ),
        (
            {"losses": lambda self, labels, logits: {"knd": logits["kind"][:, 0]}},
            "losses gives ['knd']",
        ),
        ({"losses": lambda self, labels, logits: logits["kind"][:, 0]}, "expected a dictionary"),
        ({"losses": lambda self, labels, logits: labels["knd"]}, "losses fails: KeyError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_promise_of_losses_or_metrics_is_named(members, expected):
    assert expected in broken(**members)


# --- the check itself ------------------------------------------------------------------------


@pytest.mark.slow
def test_all_promises_of_a_kind_that_are_broken_are_told_at_once():
    found = check_spec(
        spec_with(
            model_fn=dense(Counting, Twins), losses=lambda self, labels, logits: {"knd": logits}
        ),
        SETTINGS,
    )
    assert len(found) >= 3
    with pytest.raises(SpecError, match="Spec breaks promises") as caught:
        require_spec(
            spec_with(
                model_fn=dense(Counting, Twins),
                losses=lambda self, labels, logits: {"knd": logits},
            ),
            SETTINGS,
        )
    assert len(str(caught.value).splitlines()) == len(found) + 1


def test_the_check_leaves_random_states_and_the_precision_as_they_were():
    keras.config.set_dtype_policy("float32")
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()
    spec = spec_with(model_fn=dense(lambda: keras.layers.Dropout(0.5)))
    assert check_spec(spec, SETTINGS.replace(precision="mixed_bfloat16")) == []
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert keras.config.dtype_policy().name == "float32"


def test_the_check_builds_the_model_in_the_precision_of_the_settings():
    seen = []

    def model_fn(image_shape, params):
        seen.append((keras.config.dtype_policy().name, params["precision"], image_shape))
        return dense()(image_shape, params)

    assert broken(SETTINGS.replace(precision="mixed_float16"), model_fn=model_fn) == ""
    assert seen == [("mixed_float16", "mixed_float16", (8, 8, 3))]


def test_the_check_gives_the_same_answer_each_time():
    first = []

    def model_fn(image_shape, params):
        model = dense()(image_shape, params)
        first.append(model.trainable_variables[0].numpy())
        return model

    broken(model_fn=model_fn)
    broken(model_fn=model_fn)
    np.testing.assert_array_equal(first[0], first[1])


@pytest.mark.parametrize(
    ("class_dict", "expected"),
    [
        ([], "empty"),
        ([{"name": "kind"}], "depth 0"),
        ([{"name": "kind", "depth": 3, "onehot": True}], "unknown key 'onehot'"),
        ([{"depth": 3}], "no name"),
        ([Label("kind", depth=3), Label("kind", depth=3)], "twice"),
        ({"name": "kind", "depth": 3}, "expected a list"),
    ],
    ids=str,
)
def test_an_inconsistent_class_dict_is_found_before_any_data_is_read(
    tmp_path, class_dict, expected
):
    assert expected in broken(class_dict=class_dict)
    settings = SETTINGS.replace(
        train_metadata=["no such file"], model_dir=str(tmp_path / "model"), progress=False
    )
    with pytest.raises(SpecError, match=expected):
        train(spec_with(class_dict=class_dict), settings)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_training_ends_before_its_first_step_when_a_promise_is_broken(tmp_path):
    (tmp_path / "train").mkdir()
    for name in "abc":
        (tmp_path / "train" / name).mkdir()
        picture = tf.io.encode_png(np.zeros([4, 4, 3], np.uint8)).numpy()
        (tmp_path / "train" / name / "1.png").write_bytes(picture)
    settings = SETTINGS.replace(
        train_metadata=[str(tmp_path / "train")],
        model_dir=str(tmp_path / "model"),
        batch_size=1,
        progress=False,
    )
    with pytest.raises(SpecError, match="different outputs"):
        train(spec_with(model_fn=dense(Noisy)), settings)
    assert not (tmp_path / "model").exists()
    assert json.dumps(settings.values())
