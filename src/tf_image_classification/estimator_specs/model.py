"""Calls of a spec's ``model_fn``, with checks of its arguments and its result."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tf_image_classification import keras_settings, tf1_code
from tf_image_classification.batches import outputs_of
from tf_image_classification.errors import SpecError, did_you_mean
from tf_image_classification.estimator_specs.spec import EstimatorSpec

if TYPE_CHECKING:
    import keras

    from tf_image_classification.config import Settings

_OF_KERAS_2 = " It is of Keras 2: unset TF_USE_LEGACY_KERAS and import keras."


def call_model_fn(
    spec: EstimatorSpec, settings: Settings, image_shape: tuple[int, int, int]
) -> keras.Model:
    """The Keras model of a spec; its layers compute in ``settings.model.precision``.

    Raises:
        SpecError: ``model_fn`` does not return a Keras model.
        ConfigError: the program has set Keras to a configuration that cannot be used here.
    """
    import keras  # late: help and checks of the command line need no TensorFlow

    precision = settings.model.precision
    keras_settings.require_policy(precision, where="The program")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = _built_model(spec, settings, image_shape)
        keras_settings.require_policy(precision, where="model_fn")
        keras_settings.require_formats()
    finally:
        keras.config.set_dtype_policy(before)
    return model


def _built_model(
    spec: EstimatorSpec, settings: Settings, image_shape: tuple[int, int, int]
) -> keras.Model:
    import keras  # late, as above
    import tensorflow as tf

    if inspect.signature(spec.get_model_fn).parameters:
        model_fn = spec.get_model_fn(settings.model.checkpoint_path or None)
    else:  # as in the last of the versions of 2018
        model_fn = spec.get_model_fn()  # type: ignore[call-arg]
    if isinstance(model_fn, keras.Model) or not callable(model_fn):
        found = "a model" if isinstance(model_fn, keras.Model) else repr(model_fn)
        raise SpecError(
            f"get_model_fn returns {found}, expected a function model_fn(image_shape, params) that "
            "builds a keras.Model."
        )
    with contextlib.suppress(ValueError):  # written in C, without a signature
        _check_arguments(model_fn, inspect.signature(model_fn))
    model = model_fn(image_shape, Params(settings.values()))
    if not isinstance(model, keras.Model):
        kind = type(model)
        of_keras_2 = kind.__module__.partition(".")[0] == "tf_keras"
        raise SpecError(
            f"model_fn returns {kind.__name__}, expected a keras.Model."
            + (_OF_KERAS_2 if of_keras_2 else "")
        )
    if not model.built:
        outputs_of(model, tf.zeros([1, *image_shape]), training=False)
    return model


def _check_arguments(model_fn: Callable[..., Any], signature: inspect.Signature) -> None:
    """Check that a ``model_fn`` accepts (image_shape, params).

    Raises:
        SpecError: it does not; explains how to port an Estimator's ``model_fn``.
    """
    if tf1_code.is_estimator_model_fn(list(signature.parameters)):
        code = getattr(model_fn, "__code__", None)
        place = f"{code.co_filename} line {code.co_firstlineno}: " if code else ""
        raise SpecError(f"{place}{tf1_code.MODEL_FN}")
    try:
        signature.bind((), {})
    except TypeError as error:
        raise SpecError(
            f"model_fn cannot be called as model_fn(image_shape, params): {error}."
        ) from error


class Params(dict[str, Any]):
    """All settings by name, for ``model_fn``: ``params["seed"]`` or ``params.seed``."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"params has no setting {name!r}. {did_you_mean(name, self)}")
        return self[name]
