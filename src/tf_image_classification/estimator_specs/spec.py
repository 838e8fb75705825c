"""``EstimatorSpec``: labels, preprocessing, model and metrics of one classifier."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_image_classification.labels import Label, LabelSchema

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tf_image_classification.metrics.merging import StreamingMetric

    ModelFn = Callable[[tuple[int, int, int], Mapping[str, Any]], keras.Model]
    PreprocFn = Callable[..., tf.Tensor]


class _SpecMeta(abc.ABCMeta):
    """Checks after construction that ``class_dict`` exists, wherever it was set."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        spec = super().__call__(*args, **kwargs)
        if not hasattr(spec, "class_dict"):
            raise TypeError(f"Can't instantiate {cls.__name__} without an attribute class_dict")
        return spec


class EstimatorSpec(metaclass=_SpecMeta):
    """The labels, preprocessing, model and metrics of one classifier; subclass it.

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
            ``width`` and ``height`` are the wanted size in pixels; ``seed`` is int64 [2] for
            ``tf.random.stateless_*``, different for every example and epoch, and the same when a
            run resumes. The result has a static shape [H, W, C].
        """

    @abc.abstractmethod
    def get_model_fn(self, checkpoint_path: str | None) -> ModelFn:
        """The function that builds the model for training, evaluation and inference.

        Args:
            checkpoint_path: the pretrained checkpoint (``--checkpoint_path``), or None. The
                framework loads it; a spec needs it only when the architecture depends on it.

        Returns:
            ``model_fn(image_shape, params) -> keras.Model``: ``image_shape`` is the (H, W, C) of
            the preprocessed images, ``params`` all settings by name. The model's outputs are
            logits: one tensor [B, depth] for one label; for more labels a dictionary by label
            name, or a list or tuple in the order of ``class_dict``. [B] or [B, 1] for a
            real-valued label, [B, depth - 1] for an ordinal one coded in thresholds.
        """

    @abc.abstractmethod
    def metric_ops(
        self, labels: Mapping[str, tf.Tensor], predictions: Mapping[str, tf.Tensor]
    ) -> Mapping[str, StreamingMetric] | None:
        """The metrics of one evaluated batch, made with ``tf_image_classification.metrics``.

        Called eagerly for each batch, only with the examples whose label is known; the results are
        merged, so that each example counts once.

        Args:
            labels: by label name, int64 [n] class numbers, float32 [n] values, or for multilabel
                float32 [n, depth] of 0 and 1. A single-label entry of ``class_dict`` that is a
                dictionary without ``kind`` gives one-hot rows, float32 [n, depth]; the metrics of
                this package take either form.
            predictions: by label name the predicted classes int64 [n], values float32 [n], or bool
                [n, depth]; ``name + "_probabilities"`` float32 [n, depth] for classes; ``name +
                "_expected"`` float32 [n], the mean class of an ordinal label; ``name + "_logits"``.

        Returns:
            ``{metric name: streaming metric}``, or None for the default metrics of each label.
        """

    def losses(
        self, labels: Mapping[str, tf.Tensor], logits: Mapping[str, tf.Tensor]
    ) -> Mapping[str, tf.Tensor] | None:
        """The loss of each example by label, float32 [B], in place of the default loss.

        Traced. The framework masks missing labels (0 here) afterwards, weighs the labels, adds
        ``model.losses`` and averages over the batch.

        Args:
            labels: by label name, as in ``metric_ops``.
            logits: by label name, float32 [B, ...].

        Returns:
            Loss by label name, or None for the default loss of each kind (``optim.losses``).
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
        """A function that returns a dataset of batches; may be overridden.

        An override feeds training and evaluation: batches of one size (the last one of an
        evaluation may be smaller), equal each time it is called, or a resumed run is not exact.

        Args:
            batch_size: examples in a batch.
            metadata: TFRecord files or patterns, CSV files, or class folders.
            class_dict: the labels.
            is_tfrecord: whether metadata names TFRecord files.
            epochs: passes over the examples; None: endless.
            image_size: width and height for the preprocessing, in pixels.
            preproc_fn: ``preproc(image, width, height)``.

        Returns:
            Function that returns a dataset of (images [B, H, W, C], {label name: labels [B], or
            [B, depth] for multilabel}); the last batch may be smaller. An override may give
            one-hot rows for a label that ``metric_ops`` gets in that form.

        Raises:
            DataError: the source does not fit ``is_tfrecord``, or is unusable.
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
    """The label schema of a spec.

    Raises:
        SpecError: an entry of ``class_dict`` is inconsistent.
    """
    return LabelSchema.from_class_dict(spec.class_dict)


def own_metrics(
    spec: EstimatorSpec,
    schema: LabelSchema,
    labels: Mapping[str, tf.Tensor],
    predictions: Mapping[str, tf.Tensor],
) -> Mapping[str, StreamingMetric] | None:
    """The result of a spec's ``metric_ops`` for labels as class numbers."""
    return spec.metric_ops(_in_form_of_spec(schema, labels), predictions)


def own_losses(
    spec: EstimatorSpec,
    schema: LabelSchema,
    labels: Mapping[str, tf.Tensor],
    logits: Mapping[str, tf.Tensor],
) -> Mapping[str, tf.Tensor] | None:
    """The result of a spec's ``losses`` for labels as class numbers."""
    from tf_image_classification.system.autograph import converted  # late: TensorFlow

    return converted(spec.losses)(_in_form_of_spec(schema, labels), logits)


def _in_form_of_spec(schema: LabelSchema, labels: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The labels, as one-hot rows where the spec declares them so."""
    import tensorflow as tf  # late, as above

    return {
        name: tf.one_hot(values, schema[name].depth) if schema[name].one_hot_rows else values
        for name, values in labels.items()
    }
