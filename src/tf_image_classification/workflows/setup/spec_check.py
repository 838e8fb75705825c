"""The contract of ``EstimatorSpec``, run on a user's spec with a few synthetic images.

for broken_promise in check_spec(MySpec()):
print(broken_promise)
"""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_image_classification import keras_settings, tf1_code
from tf_image_classification.batches import outputs_of
from tf_image_classification.config import Settings, make_settings
from tf_image_classification.dataset.pipeline.image_preprocessor import bytes_preproc_of
from tf_image_classification.errors import SpecError, TficError, brief
from tf_image_classification.estimator_specs import (
    EstimatorSpec,
    call_model_fn,
    logits_of,
    own_losses,
    own_metrics,
    predictions_from,
    schema_of,
    source_path,
    spec_name,
    split_logits,
)
from tf_image_classification.evaluation.loop import RESERVED_METRIC_NAMES
from tf_image_classification.labels import LabelSchema, example_values
from tf_image_classification.labels.outputs import prediction_keys
from tf_image_classification.metrics.merging import merge_all
from tf_image_classification.system.autograph import converted, unconverted

_SIZES = ((37, 53), (64, 64), (201, 17), (1, 1))  # height and width of synthetic images
_NUM_EXAMPLES = len(_SIZES)
_NUM_DRAWS = 20  # calls in which dropout must have dropped something
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]|[/\\]lib[/\\]python3")
_PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
_UNSEEDED_OPS = frozenset(
    {
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "RngReadAndSkip",
        "SampleDistortedBoundingBoxV2",
        "TruncatedNormal",
    }
)


def check_spec(spec: EstimatorSpec, settings: Settings | None = None) -> list[str]:
    """Validate an EstimatorSpec; returns a sentence for each violation of its contract.

    Builds a model of its own, from the settings' seed and in their precision. Random states of
    Python and NumPy, TensorFlow's seed and the precision policy are afterwards as before; the
    counters that name Keras layers have moved.

    Args:
        spec: the spec.
        settings: settings of the run it is for; the defaults when not given.

    Returns:
        The violations; empty if there are none.

    Raises:
        ConfigError: the program configured Keras incompatibly.
    """
    settings = settings or make_settings()
    keras_settings.require_formats()
    keras_settings.require_policy(settings.model.precision, where="The program")
    try:
        schema = schema_of(spec)
    except SpecError as error:
        return [str(error)]
    with _seeded(settings.run.seed):
        return _broken_promises(spec, settings, schema)


def _broken_promises(spec: EstimatorSpec, settings: Settings, schema: LabelSchema) -> list[str]:
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
    # Ours gives bytes in training and the same range as float32 in evaluation.
    is_ours = bytes_preproc_of(spec.get_preproc_fn(True)) is not None
    same_dtype = is_ours or images[True].dtype == images[False].dtype
    if images[True].shape != images[False].shape or not same_dtype:
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
        SpecError: it violates the contract; one line per violation.
    """
    broken = check_spec(spec, settings)
    if not broken:
        return
    path = source_path(spec)
    if num_old := len(tf1_code.find(path)) if path else 0:
        broken.append(
            f"{num_old} lines are TensorFlow 1 code; tfic check-spec {spec_name(spec)} names them."
        )
    raise SpecError(f"{type(spec).__name__} breaks promises:\n  " + "\n  ".join(broken))


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python, NumPy and TensorFlow inside the block; restore their states afterwards."""
    before = random.getstate(), np.random.get_state(), _tensorflow_seed()
    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        tf.random.set_seed(before[2])


def _tensorflow_seed() -> int | None:
    try:
        return tf.compat.v1.get_seed(None)[0]  # type: ignore[no-any-return]
    except RuntimeError:  # operations are deterministic, and there is no seed
        return None


def _brief(error: Exception) -> str:
    """The error in one line, with the line of the user's code that raised it."""
    place = _place(error)
    return f"{brief(error)} ({place})" if place else brief(error)


def _place(error: Exception) -> str:
    """The last line of a user's file on the way to an error, as "pets.py line 12"; or ""."""
    frames = [(f.filename, f.lineno or 0) for f in traceback.extract_tb(error.__traceback__)]
    found = re.findall(r'File "([^"]+)", line (\d+)', str(error))  # those of a traced function
    for path, line in reversed([*frames, *((path, int(line)) for path, line in found)]):
        is_ours = os.path.abspath(path).startswith(_PACKAGE)
        if os.path.isfile(path) and not is_ours and not _INSTALLED.search(path):
            return f"{os.path.basename(path)} line {line}"
    return ""


def _operations(function: Any) -> set[str]:
    """The kinds of operations in a traced function and in the functions that it calls."""
    graph = function.graph.as_graph_def()
    inner = (node for part in graph.library.function for node in part.node_def)
    return {node.op for node in (*graph.node, *inner)}


def _described(images: tf.Tensor) -> str:
    return f"{images.dtype.name} {list(images.shape[1:])}"


_UNSEEDED = "draws random numbers that do not depend on the example, so a resumed run would differ."
_USE_THE_SEED = (
    "Take a fourth argument seed and use tf.random.stateless_* or tf.image.stateless_*, or set "
    "--nodeterministic."
)


def _exports(spec: EstimatorSpec, settings: Settings) -> bool:
    return settings.checkpoints.export_saved_model and not spec.has_own_input


def _check_preproc(spec: EstimatorSpec, settings: Settings, is_training: bool) -> tf.Tensor:
    """Preprocessed synthetic images [n, H, W, C]; traced, as in a training."""
    preproc = spec.get_preproc_fn(is_training)
    if not callable(preproc):
        raise SpecError(f"returns {preproc!r}, expected a function preproc(image, width, height).")
    parameters = inspect.signature(preproc).parameters
    takes_seed = "seed" in parameters
    size = settings.data.image_size

    def apply(image: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        extra = {"seed": tf.stack([tf.constant(0, tf.int64), number])} if takes_seed else {}
        return tf.convert_to_tensor(converted(preproc)(image, size, size, **extra))

    signature = (tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.int64))
    traced = tf.function(unconverted(apply)).get_concrete_function(*signature)
    shape = traced.output_shapes
    if shape.rank != 3 or not shape.is_fully_defined():
        raise SpecError(
            f"returns shape {shape}, expected three known sizes [height, width, channels]. Resize "
            f"to the width and height that it is given ({size})."
        )
    operations = _operations(traced)
    if not is_training and _exports(spec, settings) and operations & _PYTHON_OPS:
        raise SpecError(
            "calls Python (tf.py_function or tf.numpy_function), which an exported model cannot. "
            "Use TensorFlow's operations, or set --noexport_saved_model."
        )
    if is_training and settings.run.deterministic and operations & _UNSEEDED_OPS:
        raise SpecError(f"{_UNSEEDED} {_USE_THE_SEED}")
    pictures = [
        tf.constant(np.random.RandomState(i).randint(0, 256, [*hw, 3], np.uint8))
        for i, hw in enumerate(_SIZES)
    ]

    def results(function: Any) -> list[Any]:
        numbered = enumerate(pictures)
        return [function(p, tf.constant(i, tf.int64)).numpy() for i, p in numbered]

    # Traced anew, so that what Python decides while tracing is found too.
    first, second = (
        results(traced),
        results(tf.function(unconverted(apply)).get_concrete_function(*signature)),
    )
    for (height, width), image in zip(_SIZES, first, strict=True):
        if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
            raise SpecError(f"gives NaN or infinity for an image of {width} x {height} pixels.")
    if not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)):
        if not is_training:
            raise SpecError("gives different results for the same image; evaluation must not.")
        if settings.run.deterministic:
            raise SpecError(
                f"gives different results for the same image, so a resumed run would differ. "
                f"{_USE_THE_SEED}"
            )
    return tf.constant(np.stack(first))


def _check_model(
    spec: EstimatorSpec, settings: Settings, schema: LabelSchema, images: tf.Tensor
) -> Iterator[str]:
    shape = tuple(int(n) for n in images.shape[1:])
    model = call_model_fn(spec, settings, shape)  # type: ignore[arg-type]
    floats = tf.cast(images, tf.float32) if images.dtype.is_integer else images
    before = {v.path: v.numpy() for v in model.variables}
    outputs = outputs_of(model, floats, training=False)
    yield from _check_order(model, schema, outputs)
    logits = split_logits(schema, outputs)
    again = logits_of(schema, model, floats, training=False)
    for name, value in logits.items():
        if not np.isfinite(value.numpy()).all():
            yield f"The model's output for label {name!r} is not finite."
        elif not np.array_equal(value.numpy(), again[name].numpy()):
            yield "The model gives different outputs for the same images with training=False."
        if schema[name].has_softmax and _are_probabilities(value.numpy()):
            yield _not_logits(name, "softmax")
        if value.shape[0] != images.shape[0]:
            yield f"The model gives {value.shape[0]} outputs for {images.shape[0]} images."
    if any(not np.array_equal(before[v.path], v.numpy()) for v in model.variables):
        yield "The model changes its variables with training=False; evaluation must not."
    if _has_training_layers(model) and not _changes_in_training(model, schema, floats, logits):
        yield (
            "The model has dropout or batch normalisation, but training=True changes nothing; "
            "pass training on to every layer."
        )
    yield from _check_gradients(model, schema, floats)
    yield from _check_tracing(model, schema, floats, _exports(spec, settings))
    yield from _check_names(model)
    labels = _synthetic_labels(schema)
    if settings.run.deterministic:
        yield from _check_seeds(model, spec, schema, floats, labels)
    yield from _guarded("losses", lambda: _check_losses(spec, schema, labels, logits))
    yield from _guarded("metric_ops", lambda: _check_metrics(spec, schema, labels, logits))


def _check_order(model: keras.Model, schema: LabelSchema, outputs: Any) -> Iterator[str]:
    """A list of outputs is in the order of the labels; their layers' names may be in another."""
    order = tuple(getattr(model, "output_names", None) or ())
    if isinstance(outputs, Mapping) or order == schema.names:
        return
    if sorted(order) == sorted(schema.names):
        yield (
            f"The model's outputs are a list in the order {', '.join(order)}, and class_dict's "
            f"order is {', '.join(schema.names)}. Return a dictionary by label name."
        )


def _are_probabilities(values: Any) -> bool:
    return bool((values >= 0).all() and np.allclose(values.sum(axis=-1), 1.0, atol=1e-3))


def _not_logits(label: str, activation: str) -> str:
    return (
        f"The model's output for label {label!r} is probabilities, expected logits. Remove the "
        f"{activation}: the framework applies it where it is needed."
    )


def _guarded(method: str, check: Callable[[], Iterator[str]]) -> Iterator[str]:
    """The violations that a check finds; its failure is one of them."""
    try:
        yield from check()
    except TficError as error:
        yield f"{method}: {error}"
    except Exception as error:
        yield f"{method} fails: {_brief(error)}"


def _has_training_layers(model: keras.Model) -> bool:
    """Whether a ``call`` that somebody wrote has dropout or batch normalisation to pass it on to.

    Keras's own models pass it on, unless they are told ``training=False``: a trunk often is.
    """

    def acts(layer: keras.Layer) -> bool:
        if isinstance(layer, keras.layers.Dropout):
            return bool(layer.trainable and layer.rate > 0)
        return bool(layer.trainable and isinstance(layer, keras.layers.BatchNormalization))

    written = [
        layer
        for layer in model._flatten_layers()
        if not _module_of(type(layer).call).startswith(("keras.", "keras_hub."))
    ]
    return any(acts(inner) for layer in written for inner in layer._layers)


def _module_of(function: Any) -> str:
    """Where a function was written, also one that ``tf.function`` has wrapped."""
    return str(getattr(inspect.unwrap(function), "__module__", ""))


def _changes_in_training(
    model: keras.Model, schema: LabelSchema, images: tf.Tensor, logits: Mapping[str, tf.Tensor]
) -> bool:
    """Whether training=True gives other outputs, in one of so many calls: dropout may drop none."""
    for _ in range(_NUM_DRAWS):
        trained = logits_of(schema, model, images, training=True)
        if not all(np.array_equal(trained[n].numpy(), logits[n].numpy()) for n in logits):
            return True
    return False


def _check_gradients(model: keras.Model, schema: LabelSchema, images: tf.Tensor) -> Iterator[str]:
    if not model.trainable_variables:
        yield "The model has no trainable variables."
        return
    with tf.GradientTape() as tape:
        logits = logits_of(schema, model, images, training=True)
        total = tf.add_n([tf.reduce_sum(tf.square(value)) for value in logits.values()])
    gradients = tape.gradient(total, [v.value for v in model.trainable_variables])
    if all(gradient is None for gradient in gradients):
        yield "No gradient reaches the model's variables; something in it is not differentiable."


def _check_tracing(
    model: keras.Model, schema: LabelSchema, images: tf.Tensor, exports: bool
) -> Iterator[str]:
    """Trace the model as a training does, and for an export with any number of images."""
    shape = [None if exports else _NUM_EXAMPLES, *images.shape[1:]]
    purpose = "exported for batches of any size" if exports else "traced"
    outputs: dict[str, tf.Tensor] = {}

    def forward(x: tf.Tensor) -> Any:
        outputs.update(logits_of(schema, model, x, training=False))
        return outputs

    try:
        traced = tf.function(unconverted(forward)).get_concrete_function(
            tf.TensorSpec(shape, images.dtype)
        )
    except Exception as error:
        yield f"The model cannot be {purpose}: {_brief(error)}"
        return
    if exports and _operations(traced) & _PYTHON_OPS:
        yield (
            "The model calls Python (tf.py_function or tf.numpy_function), so it cannot be "
            "exported. Use TensorFlow's operations, or set --noexport_saved_model."
        )
    own = {id(variable.value) for variable in model.variables}
    others = [v.name for v in traced.graph.variables if id(v) not in own]
    if others:
        yield (
            f"The model computes with variables that are not its own ({', '.join(others[:3])}), "
            "so they are neither trained nor saved. Make them in a layer, with self.add_weight."
        )
    for label in schema.labels_with_classes:
        last = _last_operation(outputs[label.name])
        # Of a softmax the values have told already, where classes compete.
        if last == "Sigmoid" or (last == "Softmax" and not label.has_softmax):
            yield _not_logits(label.name, last.lower())


def _last_operation(output: tf.Tensor) -> str:
    """The kind of operation that computes a tensor, but for changes of its dtype and shape."""
    operation = output.op
    while operation.type in ("Cast", "Identity", "Reshape", "Squeeze"):
        operation = operation.inputs[0].op
    return str(operation.type)


def _check_seeds(
    model: keras.Model,
    spec: EstimatorSpec,
    schema: LabelSchema,
    images: tf.Tensor,
    labels: Mapping[str, tf.Tensor],
) -> Iterator[str]:
    """Trace model and losses as a training does, and look for chance that no saved seed decides."""

    def forward(x: tf.Tensor) -> Any:
        logits = logits_of(schema, model, x, training=True)
        return logits, own_losses(spec, schema, labels, logits)

    before = random.getstate(), repr(np.random.get_state())
    try:
        traced = tf.function(unconverted(forward)).get_concrete_function(images)
    except Exception:  # the other checks say what fails
        return
    draws = before != (random.getstate(), repr(np.random.get_state()))  # while tracing
    own = {id(variable.value) for variable in model.variables}
    # Keras has one seed for all that draw without their own; no checkpoint holds it.
    shares = any("seed" in v.name for v in traced.graph.variables if id(v) not in own)
    if draws or shares or _operations(traced) & _UNSEEDED_OPS:
        yield (
            "The model or its losses draw random numbers that no seed of the model decides, so a "
            "resumed run would differ. Draw with a keras.random.SeedGenerator that a layer keeps, "
            "as keras.layers.Dropout does, or set --nodeterministic."
        )


def _check_names(model: keras.Model) -> Iterator[str]:
    repeated = {
        v.path for v in model.variables if [w.path for w in model.variables].count(v.path) > 1
    }
    if repeated:
        yield (
            f"Several variables are called {', '.join(sorted(repeated)[:3])}, so that a checkpoint "
            "could not tell them; give the layers different names."
        )


def _synthetic_labels(schema: LabelSchema) -> dict[str, tf.Tensor]:
    return {label.name: tf.constant(example_values(label, _NUM_EXAMPLES)) for label in schema}


def _check_losses(
    spec: EstimatorSpec,
    schema: LabelSchema,
    labels: Mapping[str, tf.Tensor],
    logits: Mapping[str, tf.Tensor],
) -> Iterator[str]:
    losses = own_losses(spec, schema, labels, logits)
    if losses is None:
        return
    if not isinstance(losses, Mapping):
        kind = type(losses).__name__
        yield f"losses gives a {kind}, expected a dictionary by label name, or None."
        return
    if set(losses) != set(schema.names):
        yield f"losses gives {sorted(losses)}, expected one for each label: {list(schema.names)}."
    for name, value in losses.items():
        if tuple(value.shape) != (_NUM_EXAMPLES,):
            yield (
                f"losses gives shape {value.shape} for label {name!r}, expected [batch]: a loss "
                "for each example, not their mean."
            )


def _check_metrics(
    spec: EstimatorSpec,
    schema: LabelSchema,
    labels: Mapping[str, tf.Tensor],
    logits: Mapping[str, tf.Tensor],
) -> Iterator[str]:
    predictions = predictions_from(schema, logits)
    metrics = own_metrics(spec, schema, labels, predictions)
    if metrics is None:
        return
    if not isinstance(metrics, Mapping):
        kind = type(metrics).__name__
        yield f"metric_ops gives a {kind}, expected a dictionary by name, or None."
        return
    reserved = sorted(RESERVED_METRIC_NAMES & set(metrics))
    if reserved:
        yield f"metric_ops names {', '.join(reserved)}, which every evaluation has anyway."
    merge_all([metrics])  # raises for what is no streaming metric
    empty = {
        key: value[:0]
        for label in schema
        for key, value in predictions.items()
        if key in prediction_keys(label.name)
    }
    try:
        none = {name: value[:0] for name, value in labels.items()}
        of_none = own_metrics(spec, schema, none, empty)
        merge_all([metrics, of_none or {}])
    except TficError as error:
        yield f"metric_ops for a batch without a known label: {error}"
    except Exception as error:
        yield f"metric_ops fails when a batch has no example with a known label: {_brief(error)}"
