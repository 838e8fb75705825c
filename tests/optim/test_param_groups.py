"""Which variables are trained and which are decayed, on real Keras layers."""

import keras
import numpy as np
import pytest

from tf_image_classification.errors import ConfigError, SpecError
from tf_image_classification.optim.param_groups import decays, freeze_layers, trainable_variables


def functional_model():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1")(image)
    x = keras.layers.BatchNormalization(name="norm1")(x)
    x = keras.layers.SeparableConv2D(4, 3, name="conv10")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(5, name="logits")(x))


def paths(variables):
    return [variable.path for variable in variables]


def test_kernels_decay_and_biases_and_normalisation_do_not():
    decayed = [v.path for v in functional_model().trainable_variables if decays(v)]
    assert decayed == [
        "conv1/kernel",
        "conv10/depthwise_kernel",
        "conv10/pointwise_kernel",
        "logits/kernel",
    ]


def test_the_two_dimensional_biases_of_attention_do_not_decay():
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    attention.build((None, 5, 8), (None, 5, 8))
    biases = [v for v in attention.trainable_variables if v.path.endswith("bias")]
    assert max(len(v.shape) for v in biases) == 2
    assert not any(decays(v) for v in biases)
    assert sum(decays(v) for v in attention.trainable_variables) == 4


@pytest.mark.parametrize("name", ["embeddings", "pos_embed", "class_token", "layer_scale_gamma"])
def test_embeddings_and_tokens_do_not_decay(name):
    assert not decays(keras.Variable([[[1.0, 2.0]]], name=name))


def test_a_matrix_of_the_users_own_decays_and_a_vector_does_not():
    assert decays(keras.Variable([[1.0]], name="mixing"))
    assert not decays(keras.Variable([1.0], name="mixing"))
    assert not decays(keras.Variable(1.0, name="temperature"))


def test_the_name_of_a_layer_does_not_decide_for_its_kernel():
    layer = keras.layers.Dense(3, name="token_embedding_projection")
    layer.build((None, 4))
    assert decays(layer.kernel)


def test_without_scopes_every_trainable_variable_is_trained():
    model = functional_model()
    assert paths(trainable_variables(model)) == paths(model.trainable_variables)


def test_a_scope_is_a_plain_beginning_of_the_name():
    model = functional_model()
    assert paths(trainable_variables(model, ("conv1/",))) == ["conv1/kernel", "conv1/bias"]
    assert set(paths(trainable_variables(model, ("conv1",)))) == {
        "conv1/kernel",
        "conv1/bias",
        "conv10/depthwise_kernel",
        "conv10/pointwise_kernel",
        "conv10/bias",
    }


def test_several_scopes_keep_the_models_order_and_take_nothing_twice():
    chosen = paths(trainable_variables(functional_model(), ("logits", "conv1/", "logits/bias")))
    assert chosen == ["conv1/kernel", "conv1/bias", "logits/kernel", "logits/bias"]


def test_the_name_that_keras_gives_a_sequential_model_may_be_left_out():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="logits")], name="net")
    for scope in ("logits/kernel", "net/logits/kernel"):
        assert paths(trainable_variables(model, (scope,))) == ["net/logits/kernel"]


def test_frozen_variables_stay_out():
    model = functional_model()
    model.get_layer("conv1").trainable = False
    assert paths(trainable_variables(model, ("conv1",)))[0] == "conv10/depthwise_kernel"
    with pytest.raises(ConfigError, match="no trainable variable's name begins with 'conv1/'"):
        trainable_variables(model, ("conv1/",))


@pytest.mark.parametrize(
    ("scope", "near"),
    [("logit_s", "logits"), ("conv1/kernal", "conv1/kernel"), ("norm/", "norm1")],
)
def test_a_scope_that_takes_nothing_is_refused_with_near_names(scope, near):
    message = f"trainable_scopes: .*'{scope}'.*Did you mean.*{near}"
    with pytest.raises(ConfigError, match=message):
        trainable_variables(functional_model(), ("conv1/", scope))


def test_the_refusal_of_a_scope_stays_short_in_a_large_model():
    x = image = keras.Input((4,))
    for number in range(60):
        x = keras.layers.Dense(4, name=f"a_long_layer_name_{number}")(x)
    with pytest.raises(ConfigError) as caught:
        trainable_variables(keras.Model(image, x), ("zzz",))
    assert len(str(caught.value)) < 500


def test_a_model_without_trainable_variables_is_refused():
    model = functional_model()
    model.trainable = False
    with pytest.raises(SpecError, match="no trainable variable"):
        trainable_variables(model)


def test_a_fraction_of_the_layers_is_frozen_from_the_image_on():
    model = keras.Sequential([keras.Input([8, 8, 3])])
    for number in range(4):
        model.add(keras.layers.Conv2D(4, 3, padding="same", name=f"conv{number}"))
        model.add(keras.layers.BatchNormalization(name=f"norm{number}"))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(2, name="logits"))
    freeze_layers(model, 0.5)
    trained = [v.path.split("/")[-2] for v in model.trainable_variables]
    assert list(dict.fromkeys(trained)) == ["conv2", "norm2", "conv3", "norm3", "logits"]
    model(np.random.default_rng(0).normal(size=[2, 8, 8, 3]), training=True)
    means = [model.get_layer(f"norm{number}").moving_mean.numpy() for number in range(4)]
    assert [bool(np.any(mean)) for mean in means] == [False, False, True, True]


def test_a_fraction_that_freezes_no_layer_is_refused():
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(2, name="logits")])
    with pytest.raises(ConfigError, match="has no effect: the model has 0 layers"):
        freeze_layers(model, 0.9)
