"""Users may write Python's ``if`` and loops on tensors; our own code is traced as it is."""

import keras
import pytest
import tensorflow as tf

from tf_image_classification import EstimatorSpec, make_settings, train
from tf_image_classification.batches import outputs_of
from tf_image_classification.dataset.preprocessing import Preprocessing
from tf_image_classification.labels import Label
from tf_image_classification.system.autograph import converted, unconverted
from tf_image_classification.workflows.setup.spec_check import check_spec


def sign(x):
    if x > 0:
        return tf.constant("positive")
    return tf.constant("negative or zero")


class Halving(keras.layers.Layer):
    """Its traced function has a loop on a tensor."""

    @tf.function
    def halved(self, x):
        while tf.reduce_max(tf.abs(x)) > 1.0:
            x = x / 2.0
        return x

    def call(self, x):
        return self.halved(x)


class Branching(EstimatorSpec):
    """Preprocessing, a layer and a loss, each with Python's ``if`` or ``while`` on tensors."""

    class_dict = (Label("label", depth=2),)

    def get_preproc_fn(self, is_training):
        def preproc(image, width, height):
            if tf.shape(image)[0] > tf.shape(image)[1]:
                image = tf.image.rot90(image)
            return tf.image.resize(image, [height, width]) / 255.0

        return preproc

    def get_model_fn(self, checkpoint_path):
        def model_fn(image_shape, params):
            layers = [keras.layers.Flatten(), Halving(), keras.layers.Dense(2)]
            return keras.Sequential([keras.Input(image_shape), *layers])

        return model_fn

    def losses(self, labels, logits):
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels["label"], logits["label"])
        if tf.reduce_mean(loss) > 100.0:
            loss = loss / 2.0
        return {"label": loss}

    def metric_ops(self, labels, predictions):
        return None


def test_a_users_if_becomes_part_of_the_graph_inside_unconverted_code():
    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
    @unconverted
    def traced(x):
        return converted(sign)(x)

    assert traced(1.0) == b"positive"
    assert traced(-1.0) == b"negative or zero"


def test_the_code_around_it_is_not_converted():
    traced = tf.function(unconverted(sign))
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        traced(tf.constant(1.0))


def test_eager_calls_and_functions_of_this_package_are_left_as_they_are():
    assert converted(sign) is sign
    ours = Preprocessing(is_training=False)
    found = []
    tf.function(unconverted(lambda: found.append(converted(ours)))).get_concrete_function()
    assert found == [ours]


def test_a_models_own_traced_functions_keep_their_loops():
    model = keras.Sequential([keras.Input([2]), Halving()])
    forward = tf.function(unconverted(lambda x: outputs_of(model, x, training=False)))
    assert forward(tf.constant([[4.0, 3.0]])).numpy().tolist() == [[1.0, 0.75]]


def test_a_spec_with_python_control_flow_is_accepted():
    assert check_spec(Branching(), make_settings({"image_size": 8})) == []


@pytest.mark.slow
def test_a_spec_with_python_control_flow_trains_and_is_exported(pictures, tmp_path):
    settings = {
        "train_metadata": str(pictures),
        "eval_metadata": str(pictures),
        "model_dir": str(tmp_path / "model"),
        "train_steps": 2,
        "batch_size": 4,
        "image_size": 8,
    }
    result = train(Branching(), make_settings(settings))
    assert result.step == 2
    loaded = tf.saved_model.load(str(tmp_path / "model" / "saved_model"))
    image = (pictures / "ant" / "0.png").read_bytes()
    assert loaded.serve(tf.constant([image]))["label"].shape == [1]
