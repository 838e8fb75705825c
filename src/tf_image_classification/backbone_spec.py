"""``BackboneSpec``, a spec from settings: a backbone, augmentations, and the labels of the data.

spec = BackboneSpec([Label("label", depth=2)], BackboneSettings(backbone="mobilenet_v2"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_image_classification.config import BackboneSettings
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.labels import Label, LabelSchema

if TYPE_CHECKING:
    import tensorflow as tf

    from tf_image_classification.estimator_specs.spec import ModelFn, PreprocFn
    from tf_image_classification.metrics.merging import StreamingMetric


class BackboneSpec(EstimatorSpec):
    """A backbone with one linear output per label.

    Attributes:
        class_dict: the labels.
        settings: the network, and the preprocessing of its images.
    """

    def __init__(
        self, class_dict: Sequence[Mapping[str, Any] | Label], settings: BackboneSettings
    ) -> None:
        self.class_dict = class_dict
        self.settings = settings

    def get_preproc_fn(self, is_training: bool) -> PreprocFn:
        """Random resized crop and augmentation in training, else a center crop; pixels 0-255."""
        from tf_image_classification.dataset.preprocessing import Preprocessing  # late: TensorFlow

        return Preprocessing(
            is_training=is_training,
            augmentation=self.settings.augmentation,
            crop_area=self.settings.crop_area,
            eval_crop=self.settings.eval_crop,
            eval_stretch=self.settings.eval_stretch,
        )

    def get_model_fn(self, checkpoint_path: str | None) -> ModelFn:
        """The backbone with an output for each label."""

        def model_fn(image_shape: tuple[int, int, int], params: Mapping[str, Any]) -> Any:
            from tf_image_classification import backbones  # late: it needs TensorFlow

            labels = LabelSchema.from_class_dict(self.class_dict).labels
            counts = {label.name: (*label.logits_shape, 1)[0] for label in labels}
            outputs = counts if len(counts) > 1 else counts[labels[0].name]
            return backbones.create(
                self.settings.backbone,
                image_shape,
                outputs=outputs,
                dropout=self.settings.dropout,
                pixel_scaling=self.settings.pixel_scaling,
            )

        return model_fn

    def metric_ops(
        self, labels: Mapping[str, tf.Tensor], predictions: Mapping[str, tf.Tensor]
    ) -> Mapping[str, StreamingMetric] | None:
        """None: the default metrics of each kind of label."""
        return None
