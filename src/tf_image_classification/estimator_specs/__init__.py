"""``EstimatorSpec``, the one class that a user writes, and the calls of a spec.

class Digits(EstimatorSpec):
    class_dict = [{"name": "class_id", "depth": 10, "one-hot": True}]

    def get_preproc_fn(self, is_training): ...
    def get_model_fn(self, checkpoint_path): ...
    def metric_ops(self, labels, predictions): ...
"""

from tf_image_classification.estimator_specs.loading import (
    is_loading_a_spec,
    load_spec,
    source_digest,
    source_path,
    spec_name,
)
from tf_image_classification.estimator_specs.model import Params, call_model_fn
from tf_image_classification.estimator_specs.spec import (
    EstimatorSpec,
    own_losses,
    own_metrics,
    schema_of,
)
from tf_image_classification.model_outputs import (
    logits_of,
    predicted_classes,
    predictions_from,
    split_logits,
)

__all__ = [
    "EstimatorSpec",
    "Params",
    "call_model_fn",
    "is_loading_a_spec",
    "load_spec",
    "logits_of",
    "own_losses",
    "own_metrics",
    "predicted_classes",
    "predictions_from",
    "schema_of",
    "source_digest",
    "source_path",
    "spec_name",
    "split_logits",
]
