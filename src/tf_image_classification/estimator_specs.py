"""``EstimatorSpec``, the one class that a user writes: preprocessing, model and metrics.

class Digits(EstimatorSpec):
    class_dict = [{"name": "class_id", "depth": 10, "one-hot": True}]

    def get_preproc_fn(self, is_training): ...
    def get_model_fn(self, checkpoint_path): ...
    def metric_ops(self, labels, predictions): ...
"""

from __future__ import annotations

import abc
import contextlib
import contextvars
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tf_image_classification import keras_settings, tf1_code
from tf_image_classification.batches import outputs_of
from tf_image_classification.errors import SpecError, TficError, counted, did_you_mean
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.outputs import expected_key, logits_key, probabilities_key
from tf_image_classification.labels.schema import MULTILABEL, ORDINAL, THRESHOLDS
from tf_image_classification.system import files

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tf_image_classification.config import Settings
    from tf_image_classification.metrics.merging import StreamingMetric

    ModelFn = Callable[[tuple[int, int, int], Mapping[str, Any]], keras.Model]
    PreprocFn = Callable[..., tf.Tensor]


_OF_KERAS_2 = " It is of Keras 2: unset TF_USE_LEGACY_KERAS and import keras."


class _SpecMeta(abc.ABCMeta):
    """Checks after construction that ``class_dict`` is there, wherever it was set."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        spec = super().__call__(*args, **kwargs)
        if not hasattr(spec, "class_dict"):
            raise TypeError(f"Can't instantiate {cls.__name__} without an attribute class_dict")
        return spec


class EstimatorSpec(metaclass=_SpecMeta):
    """What is particular to one classifier; everything else is the framework's.

    Attributes:
        class_dict: a description of each label, ``{"name": "class_id", "depth": 10, "one-hot":
            True}`` or ``Label("class_id", depth=10)``.
    """

    class_dict: Sequence[Mapping[str, Any] | Label]

    @abc.abstractmethod
    def get_preproc_fn(self, is_training: bool) -> PreprocFn:
        """The preprocessing of one image, applied inside the input pipeline.

        Args:
            is_training: whether the images are for training (augment) or not (do not).

        Returns:
            ``preproc(image, width, height) -> image``, or with a fourth argument ``seed``. It is
            traced, not called for each image. ``image`` is uint8 [h, w, 3], 0-255, of any size;
            ``width`` and ``height`` are the wanted size in pixels; ``seed`` is int64 [2], different
            for every example and epoch and the same again when a run resumes, made for
            ``tf.random.stateless_*``. The result has a known shape [H, W, C].
        """

    @abc.abstractmethod
    def get_model_fn(self, checkpoint_path: str | None) -> ModelFn:
        """The function that builds the model for training, evaluation and inference.

        Args:
            checkpoint_path: the pretrained checkpoint that was named, or None; the framework loads
                it, a spec needs it only when the architecture depends on it.

        Returns:
            ``model_fn(image_shape, params) -> keras.Model``: ``image_shape`` is the (H, W, C) that
            the preprocessing gives, ``params`` all settings by name. The model's output is logits:
            one tensor [B, depth] for one label; for several a dictionary by label name, or a list
            or tuple in the order of ``class_dict``. [B] or [B, 1] for a real-valued label,
            [B, depth - 1] for an ordinal one coded in thresholds.
        """

    @abc.abstractmethod
    def metric_ops(
        self, labels: Mapping[str, tf.Tensor], predictions: Mapping[str, tf.Tensor]
    ) -> Mapping[str, StreamingMetric] | None:
        """The metrics of one evaluated batch, made with ``tf_image_classification.metrics``.

        Called eagerly for each batch, with those examples only whose label is known; the results
        are merged, so that each example counts once.

        Args:
            labels: by label name, int64 [n] class numbers, float32 [n] values, or float32 [n,
                depth] with 1 for each of several classes. A class label that ``class_dict``
                describes by a dictionary without ``kind`` comes as one-hot rows, float32 [n,
                depth]; the metrics of this package take either form.
            predictions: by label name the predicted classes int64 [n], values float32 [n], or bool
                [n, depth]; ``name + "_probabilities"`` float32 [n, depth] for classes; ``name +
                "_expected"`` float32 [n], the mean class of an ordinal label; ``name + "_logits"``.

        Returns:
            ``{metric name: streaming metric}``, or None for sensible ones by label kind.
        """

    def losses(
        self, labels: Mapping[str, tf.Tensor], logits: Mapping[str, tf.Tensor]
    ) -> Mapping[str, tf.Tensor] | None:
        """The loss of each example by label, float32 [B], where the default is not wanted.

        Traced. Missing labels (given here as 0) are taken out afterwards; the labels' weights,
        ``model.losses`` and the averaging over the batch are added by the framework.

        Args:
            labels: by label name, as in ``metric_ops``.
            logits: by label name, float32 [B, ...].

        Returns:
            Loss by label name, or None for the usual one of each kind (``optim.losses``).
        """
        return None

    def input_fn(
        self,
        batch_size: int,
        metadata: str | Sequence[str],
        class_dict: Sequence[Mapping[str, Any] | Label],
        is_tfrecord: bool,
        epochs: int | None,
        image_size: int,
        preproc_fn: PreprocFn,
    ) -> Callable[[], tf.data.Dataset]:
        """A function that yields batches of images and labels; may be overridden.

        A spec that overrides it feeds training and evaluation itself: batches of one size (the last
        one of an evaluation may be smaller), the same ones each time it is called, or a resumed run
        is not exact.

        Args:
            batch_size: examples in a batch.
            metadata: TFRecord files or patterns, CSV files, or class folders.
            class_dict: the labels.
            is_tfrecord: whether metadata names TFRecord files.
            epochs: passes over the examples; None for no end.
            image_size: width and height for the preprocessing, in pixels.
            preproc_fn: ``preproc(image, width, height)``.

        Returns:
            Function that returns a dataset of (images [B, H, W, C], {label name: labels [B] or, for
            several classes, [B, depth]}); the last batch may be smaller. An override may give
            one-hot rows for a label that ``metric_ops`` gets in that form.

        Raises:
            DataError: the source is not what ``is_tfrecord`` says, or is unusable.
        """
        from tf_image_classification.dataset.pipeline import default_input_fn  # late: TensorFlow

        patterns = [metadata] if isinstance(metadata, str) else list(metadata)
        return default_input_fn.default_input_fn(
            patterns,
            LabelSchema.from_class_dict(class_dict),
            batch_size=batch_size,
            is_tfrecord=is_tfrecord,
            epochs=epochs,
            image_size=image_size,
            preproc=preproc_fn,
        )

    @property
    def has_own_input(self) -> bool:
        """Whether the spec overrides ``input_fn``."""
        return type(self).input_fn is not EstimatorSpec.input_fn


def schema_of(spec: EstimatorSpec) -> LabelSchema:
    """The label schema that a spec describes.

    Raises:
        SpecError: an entry of ``class_dict`` is inconsistent.
    """
    return LabelSchema.from_class_dict(spec.class_dict)


def logits_of(
    schema: LabelSchema, model: Callable[..., Any], images: tf.Tensor, *, training: bool
) -> dict[str, tf.Tensor]:
    """What a model says of images [B, H, W, C], as ``split_logits``.

    Raises:
        SpecError: as ``split_logits``.
    """
    return split_logits(schema, outputs_of(model, images, training=training))


def split_logits(schema: LabelSchema, outputs: Any) -> dict[str, tf.Tensor]:
    """A model's outputs as float32 logits by label; works traced and eagerly.

    Args:
        schema: the labels.
        outputs: one tensor; a list or tuple in the order of the labels; a dictionary by label name.

    Returns:
        By label name, [B, ...] in each label's ``logits_shape``.

    Raises:
        SpecError: an output is missing, unknown or of another shape.
    """
    import tensorflow as tf  # late: a spec can be written and checked for its methods without it

    logits = {}
    for label, output in zip(schema, _outputs_of(schema, outputs), strict=True):
        value = tf.cast(output, tf.float32)
        shape = value.shape
        if not label.has_classes and shape.rank == 2 and shape[1] == 1:
            value = value[:, 0]
        elif label.has_classes and shape[1:] != label.logits_shape:
            raise SpecError(
                f"The model's output for label {label.name!r} has shape {shape}, expected "
                f"[batch, {label.logits_shape[0]}]. {_layer_to_write(label, shape)}"
            )
        elif not label.has_classes and shape.rank != 1:
            raise SpecError(
                f"The model's output for the real-valued label {label.name!r} has shape {shape}, "
                "expected [batch] or [batch, 1]. End the model with keras.layers.Dense(1)."
            )
        logits[label.name] = value
    return logits


def _outputs_of(schema: LabelSchema, outputs: Any) -> list[Any]:
    """A model's outputs in the order of the labels."""
    names = schema.names
    if not isinstance(outputs, Mapping):
        several: list[Any] = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        if len(several) != len(names):
            raise SpecError(
                f"The model has {counted(len(several), 'output')}, but class_dict has "
                f"{counted(len(names), 'label')}. Return a dictionary with an output for each "
                f"label: {', '.join(names)}."
            )
        return several
    if set(outputs) != set(names):
        raise SpecError(
            f"The model's outputs are {', '.join(sorted(map(str, outputs)))}; expected one for "
            f"each label: {', '.join(names)}."
        )
    return [outputs[name] for name in names]


def _layer_to_write(label: Label, shape: tf.TensorShape) -> str:
    """The last layer that a model needs for a label with classes, after an output of a shape."""
    count = label.logits_shape[0]
    if shape.rank is not None and shape.rank > 2:
        return "Pool or flatten it first, e.g. with keras.layers.GlobalAveragePooling2D()."
    each = "threshold between classes" if label.coding == THRESHOLDS else "class"
    return f"End the model with keras.layers.Dense({count}): a logit for each {each}."


def predictions_from(schema: LabelSchema, logits: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What ``metric_ops`` calls predictions, from logits; works traced and eagerly.

    Args:
        schema: the labels.
        logits: as ``split_logits`` gives them.

    Returns:
        By label name and by ``batches.prediction_keys``, as ``metric_ops`` is told. An ordinal
        label's class is its median for thresholds, else the one nearest to the mean.
    """
    import tensorflow as tf  # late, as above

    predictions = {}
    for label in schema:
        value = logits[label.name]
        predictions[logits_key(label.name)] = value
        if not label.has_classes:
            predictions[label.name] = value
            continue
        if label.kind == MULTILABEL:
            probabilities = tf.sigmoid(value)
        elif label.kind == ORDINAL:
            probabilities = _ordinal_probabilities(label, value)
            predictions[expected_key(label.name)] = _expected(label, probabilities)
        else:
            probabilities = tf.nn.softmax(value)
        predictions[probabilities_key(label.name)] = probabilities
        is_softmax = label.kind not in (MULTILABEL, ORDINAL)
        predictions[label.name] = (
            tf.argmax(value, axis=-1) if is_softmax else predicted_classes(label, probabilities)
        )
    return predictions


def predicted_classes(label: Label, probabilities: tf.Tensor) -> tf.Tensor:
    """What a label's probabilities [B, depth] predict; works traced and eagerly.

    Returns:
        Class numbers int64 [B]; for several classes bool [B, depth]. ``predictions_from`` says how.
    """
    import tensorflow as tf  # late, as above

    if label.kind == MULTILABEL:
        return probabilities >= 0.5
    if label.kind != ORDINAL:
        return tf.argmax(probabilities, axis=-1)
    if label.coding == THRESHOLDS:
        is_above = 1.0 - tf.cumsum(probabilities, axis=-1)[:, :-1] > 0.5
        return tf.reduce_sum(tf.cast(is_above, tf.int64), axis=-1)
    return tf.cast(tf.round(_expected(label, probabilities)), tf.int64)


def _expected(label: Label, probabilities: tf.Tensor) -> tf.Tensor:
    """The mean class, [B]."""
    import tensorflow as tf  # late, as above

    return tf.linalg.matvec(probabilities, tf.range(label.depth, dtype=tf.float32))


def _ordinal_probabilities(label: Label, logits: tf.Tensor) -> tf.Tensor:
    """Float32 [B, depth] that add up to one."""
    import tensorflow as tf  # late, as above

    if label.coding != THRESHOLDS:
        return tf.nn.softmax(logits)
    # Of being above class k: the product of sigmoids, in operations that LiteRT and ONNX have too.
    above = tf.exp(tf.cumsum(tf.math.log_sigmoid(logits), axis=-1))
    return tf.concat([tf.ones_like(above[:, :1]), above], -1) - tf.concat(
        [above, tf.zeros_like(above[:, :1])], -1
    )


def own_metrics(
    spec: EstimatorSpec,
    schema: LabelSchema,
    labels: Mapping[str, tf.Tensor],
    predictions: Mapping[str, tf.Tensor],
) -> Mapping[str, StreamingMetric] | None:
    """What a spec's ``metric_ops`` gives for labels as class numbers."""
    return spec.metric_ops(_in_form_of_spec(schema, labels), predictions)


def own_losses(
    spec: EstimatorSpec,
    schema: LabelSchema,
    labels: Mapping[str, tf.Tensor],
    logits: Mapping[str, tf.Tensor],
) -> Mapping[str, tf.Tensor] | None:
    """What a spec's ``losses`` gives for labels as class numbers."""
    return spec.losses(_in_form_of_spec(schema, labels), logits)


def _in_form_of_spec(schema: LabelSchema, labels: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Class numbers as one-hot rows where the spec describes the label in that form."""
    import tensorflow as tf  # late, as above

    return {
        name: tf.one_hot(values, schema[name].depth) if schema[name].one_hot_rows else values
        for name, values in labels.items()
    }


def call_model_fn(
    spec: EstimatorSpec, settings: Settings, image_shape: tuple[int, int, int]
) -> keras.Model:
    """The model that a spec builds; its layers compute in ``settings.model.precision``.

    Raises:
        SpecError: it is no Keras model.
        ConfigError: the program has set Keras to what this package cannot use.
    """
    import keras  # late, as above

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
        what = "a model" if isinstance(model_fn, keras.Model) else repr(model_fn)
        raise SpecError(
            f"get_model_fn returns {what}, expected a function model_fn(image_shape, params) that "
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
    """See that a ``model_fn`` takes what it is called with.

    Raises:
        SpecError: it does not; says what to write instead of an Estimator's.
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


def spec_name(spec: EstimatorSpec) -> str:
    """Where a spec's class comes from, as module:Class or file.py:Class."""
    return f"{source_path(spec) or type(spec).__module__}:{type(spec).__name__}"


def source_digest(spec: EstimatorSpec) -> str:
    """SHA-256 of the file that defines a spec's class, hexadecimal; "" when there is no file."""
    path = source_path(spec)
    return hashlib.sha256(files.read_bytes(path)).hexdigest() if path else ""


def source_path(spec: EstimatorSpec) -> str:
    """The file that defines a spec's class, or "" when there is none."""
    path = getattr(sys.modules.get(type(spec).__module__), "__file__", None) or ""
    return os.path.abspath(path) if os.path.isfile(path) else ""


_loading: contextvars.ContextVar[bool] = contextvars.ContextVar("loading", default=False)


def is_loading_a_spec() -> bool:
    """Whether a user's module is being imported for its spec, not run as a program."""
    return _loading.get()


def load_spec(reference: str) -> EstimatorSpec:
    """The spec that ``module:Class`` or ``path/to/file.py:Class`` names, constructed.

    Raises:
        SpecError: there is no such module, file or class, it cannot be imported or constructed, or
            it is no ``EstimatorSpec``.
    """
    place, _, name = reference.rpartition(":")
    if not place:
        raise SpecError(f"The spec is {reference!r}, expected module:Class or file.py:Class.")
    token = _loading.set(True)
    try:
        module = _load_file(place) if place.endswith(".py") else _load_module(place)
    finally:
        _loading.reset(token)
    spec_class = getattr(module, name, None)
    if spec_class is None:
        raise SpecError(f"{place} has no {name!r}. {did_you_mean(name, dir(module))}")
    if not (isinstance(spec_class, type) and issubclass(spec_class, EstimatorSpec)):
        raise SpecError(f"{reference} is not a subclass of EstimatorSpec.")
    try:
        return spec_class()
    except TypeError as error:
        raise SpecError(f"{reference} cannot be constructed: {error}.") from error
    except TficError:
        raise
    except Exception as error:
        raise SpecError(
            f"{reference} cannot be constructed: {type(error).__name__}: {error}."
        ) from error


def _load_file(path: str) -> ModuleType:
    module_name = os.path.splitext(os.path.basename(path))[0]
    found = importlib.util.spec_from_file_location(module_name, path)
    if found is None or found.loader is None or not os.path.exists(path):
        raise SpecError(f"There is no file {path!r} to take a spec from.")
    module = importlib.util.module_from_spec(found)
    sys.modules[module_name] = module
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        found.loader.exec_module(module)
    except TficError:
        raise
    except Exception as error:
        raise SpecError(f"Importing {path!r} failed: {_cause(error, path)}") from error
    return module


def _cause(error: Exception, path: str) -> str:
    """What went wrong in a user's file, in which line, and where to find more of the kind."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}. Correct it."
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == os.path.abspath(path)]
    lines = lines or [frame.lineno for frame in frames if frame.filename == path]
    where = f"line {lines[-1]}: " if lines else ""
    text = f"{where}{type(error).__name__}: {str(error).rstrip('.')}."
    if tf1_code.find(path):
        text += f" It has TensorFlow 1 code: tfic check-spec {path}:Class names every line of it."
    return text


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except TficError:
        raise
    except Exception as error:
        hint = " Write file.py:Class for a file." if os.path.exists(f"{name}.py") else ""
        kind = "" if isinstance(error, ModuleNotFoundError) else f"{type(error).__name__}: "
        raise SpecError(f"Importing {name!r} failed: {kind}{error}.{hint}") from error
