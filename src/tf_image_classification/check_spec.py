"""The contract of ``EstimatorSpec``, run on a user's spec with a few synthetic images.

for broken_promise in check_spec(MySpec()):
print(broken_promise)
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_image_classification.batches import logits_key, probabilities_key
from tf_image_classification.config import Settings, make_settings
from tf_image_classification.errors import SpecError, TficError
from tf_image_classification.estimator_specs import (
    EstimatorSpec,
    call_model_fn,
    predictions_from,
    schema_of,
    split_logits,
)
from tf_image_classification.labels import LabelSchema
from tf_image_classification.metrics import streaming

_SIZES = ((37, 53), (64, 64), (201, 17), (1, 1))  # height and width of synthetic images
_NUM_EXAMPLES = 4


def check_spec(spec: EstimatorSpec, settings: Settings | None = None) -> list[str]:
    """One sentence for each promise of the contract that a spec breaks.

    Builds a model of its own and leaves the spec's and TensorFlow's state as they are, but for the
    names of Keras layers.

    Args:
        spec: the spec.
        settings: settings of the run it is for; the defaults when not given.

    Returns:
        The broken promises; empty when all is well.

    Example:
        >>> check_spec(DigitsSpec())
        []
    """
    settings = settings or make_settings()
    try:
        schema = schema_of(spec)
    except SpecError as error:
        return [str(error)]
    broken = []
    images: dict[bool, tf.Tensor] = {}
    for is_training in (True, False):
        name = f"get_preproc_fn(is_training={is_training})"
        try:
            images[is_training] = _check_preproc(spec, settings, is_training)
        except TficError as error:
            broken.append(f"{name}: {error}")
        except Exception as error:
            broken.append(f"{name} fails: {_brief(error)}")
    if broken:
        return broken
    if images[True].shape != images[False].shape or images[True].dtype != images[False].dtype:
        return [
            f"get_preproc_fn gives {_described(images[True])} for training, but "
            f"{_described(images[False])} for evaluation; one model must take both."
        ]
    try:
        broken += _check_model(spec, settings, schema, images[False])
    except TficError as error:
        broken.append(str(error))
    except Exception as error:
        broken.append(f"The model fails on images {_described(images[False])}: {_brief(error)}")
    return broken


def require_spec(spec: EstimatorSpec, settings: Settings) -> None:
    """Check a spec before a training.

    Raises:
        SpecError: it breaks promises; one line each.
    """
    broken = check_spec(spec, settings)
    if broken:
        name = type(spec).__name__
        raise SpecError(f"{name} breaks {len(broken)} promises:\n  " + "\n  ".join(broken))


def _brief(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _described(images: tf.Tensor) -> str:
    return f"{images.dtype.name} {list(images.shape[1:])}"


def _check_preproc(spec: EstimatorSpec, settings: Settings, is_training: bool) -> tf.Tensor:
    """Preprocessed synthetic images [n, H, W, C]; run inside tf.data, as in a training."""
    preproc = spec.get_preproc_fn(is_training)
    if not callable(preproc):
        raise SpecError(f"returns {preproc!r}, expected a function preproc(image, width, height).")
    parameters = inspect.signature(preproc).parameters
    takes_seed = "seed" in parameters
    size = settings.data.image_size

    def apply(image: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        extra = {"seed": tf.stack([tf.constant(0, tf.int64), number])} if takes_seed else {}
        result = tf.convert_to_tensor(preproc(image, size, size, **extra))
        if result.shape.rank != 3 or not result.shape.is_fully_defined():
            raise SpecError(
                f"returns shape {result.shape}, expected three known sizes [height, width, "
                f"channels]. Resize to the width and height that it is given ({size})."
            )
        return result

    pictures = [
        np.random.RandomState(i).randint(0, 256, [*hw, 3], np.uint8) for i, hw in enumerate(_SIZES)
    ]

    def results() -> list[Any]:
        dataset = tf.data.Dataset.from_generator(
            lambda: ((p, i) for i, p in enumerate(pictures)),
            output_signature=(
                tf.TensorSpec([None, None, 3], tf.uint8),
                tf.TensorSpec([], tf.int64),
            ),
        ).apply(tf.data.experimental.assert_cardinality(len(pictures)))
        return [image.numpy() for image in dataset.map(apply)]

    first, second = results(), results()
    for (height, width), image in zip(_SIZES, first, strict=True):
        if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
            raise SpecError(f"gives NaN or infinity for an image of {width} x {height} pixels.")
    if not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)):
        if not is_training:
            raise SpecError("gives different results for the same image; evaluation must not.")
        if settings.run.deterministic:
            raise SpecError(
                "gives different results for the same image, so a resumed run would differ. Take a "
                "fourth argument seed and use tf.random.stateless_*, or set --nodeterministic."
            )
    return tf.constant(np.stack(first))


def _check_model(
    spec: EstimatorSpec, settings: Settings, schema: LabelSchema, images: tf.Tensor
) -> Iterator[str]:
    shape = tuple(int(n) for n in images.shape[1:])
    model = call_model_fn(spec, settings, shape)  # type: ignore[arg-type]
    floats = tf.cast(images, tf.float32) if images.dtype.is_integer else images
    before = {v.path: v.numpy() for v in model.variables}
    logits = split_logits(schema, model(floats, training=False))
    again = split_logits(schema, model(floats, training=False))
    for name, value in logits.items():
        if not np.isfinite(value.numpy()).all():
            yield f"The model's output for label {name!r} is not finite."
        elif not np.array_equal(value.numpy(), again[name].numpy()):
            yield "The model gives different outputs for the same images with training=False."
        if value.shape[0] != images.shape[0]:
            yield f"The model gives {value.shape[0]} outputs for {images.shape[0]} images."
    if any(not np.array_equal(before[v.path], v.numpy()) for v in model.variables):
        yield "The model changes its variables with training=False; evaluation must not."
    if _has_training_layers(model):
        trained = split_logits(schema, model(floats, training=True))
        if all(np.array_equal(trained[n].numpy(), logits[n].numpy()) for n in logits):
            yield (
                "The model has dropout or batch normalisation, but training=True changes nothing; "
                "pass training on to every layer."
            )
    yield from _check_gradients(model, schema, floats)
    yield from _check_serialisation(model)
    yield from _check_losses(spec, schema, logits)
    yield from _check_metrics(spec, schema, logits)


def _has_training_layers(model: keras.Model) -> bool:
    kinds = (keras.layers.BatchNormalization, keras.layers.Dropout)
    return any(isinstance(layer, kinds) and layer.trainable for layer in model._flatten_layers())


def _check_gradients(model: keras.Model, schema: LabelSchema, images: tf.Tensor) -> Iterator[str]:
    if not model.trainable_variables:
        yield "The model has no trainable variables."
        return
    with tf.GradientTape() as tape:
        logits = split_logits(schema, model(images, training=True))
        total = tf.add_n([tf.reduce_sum(tf.square(value)) for value in logits.values()])
    gradients = tape.gradient(total, [v.value for v in model.trainable_variables])
    if all(gradient is None for gradient in gradients):
        yield "No gradient reaches the model's variables; something in it is not differentiable."


def _check_serialisation(model: keras.Model) -> Iterator[str]:
    try:
        keras.export.ExportArchive().track(model)
    except Exception as error:
        yield f"The model cannot be exported as a SavedModel: {_brief(error)}"
    repeated = {
        v.path for v in model.variables if [w.path for w in model.variables].count(v.path) > 1
    }
    if repeated:
        yield (
            f"Several variables are called {', '.join(sorted(repeated)[:3])}, so that a checkpoint "
            "could not tell them; give the layers different names."
        )


def _synthetic_labels(schema: LabelSchema) -> dict[str, tf.Tensor]:
    numbers = np.arange(_NUM_EXAMPLES)
    return {
        label.name: tf.constant(numbers % label.depth, tf.int64)
        if label.is_class
        else tf.constant(numbers, tf.float32)
        for label in schema
    }


def _check_losses(
    spec: EstimatorSpec, schema: LabelSchema, logits: Mapping[str, tf.Tensor]
) -> Iterator[str]:
    losses = spec.losses(_synthetic_labels(schema), logits)
    if losses is None:
        return
    if set(losses) != set(schema.names):
        yield f"losses gives {sorted(losses)}, expected one for each label: {list(schema.names)}."
    for name, value in losses.items():
        if tuple(value.shape) != (_NUM_EXAMPLES,):
            yield (
                f"losses gives shape {value.shape} for label {name!r}, expected [batch]: a loss for "
                "each example, not their mean."
            )


def _check_metrics(
    spec: EstimatorSpec, schema: LabelSchema, logits: Mapping[str, tf.Tensor]
) -> Iterator[str]:
    predictions = predictions_from(schema, logits)
    labels = _synthetic_labels(schema)
    metrics = spec.metric_ops(labels, predictions)
    if not metrics:
        return
    for name, metric in metrics.items():
        if not isinstance(metric, streaming.StreamingMetric):
            yield (
                f"metric_ops gives {type(metric).__name__} for {name!r}, expected a metric of "
                "tf_image_classification.metrics; bind a Keras metric with metrics.bind(metric, ...)."
            )
    empty = {
        key: value[:0]
        for label in schema
        for key, value in predictions.items()
        if key in (label.name, logits_key(label.name), probabilities_key(label.name))
    }
    try:
        spec.metric_ops({name: value[:0] for name, value in labels.items()}, empty)
    except Exception as error:
        yield f"metric_ops fails when a batch has no example with a known label: {_brief(error)}"
