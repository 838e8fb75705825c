"""The mean of several models' probabilities as logits, for every kind of label."""

import numpy as np
import pytest
import tensorflow as tf

from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.outputs import probabilities_key
from tf_image_classification.model_outputs import mean_logits, predictions_from

LABELS = (
    Label("pet", depth=4),
    Label("tags", depth=3, kind="multilabel"),
    Label("age", depth=5, kind="ordinal"),
    Label("grade", depth=5, kind="ordinal", coding="expectation"),
    Label("size", kind="regression"),
)


@pytest.mark.parametrize("label", LABELS, ids=[label.name for label in LABELS])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_the_probabilities_of_the_mean_are_the_mean_of_the_probabilities(label, scale):
    schema, random = LabelSchema((label,)), np.random.default_rng(0)
    members = [
        {label.name: tf.constant(random.normal(0, scale, (20, *label.logits_shape)), tf.float32)}
        for _ in range(3)
    ]
    key = probabilities_key(label.name) if label.has_classes else label.name
    each = [predictions_from(schema, logits)[key].numpy() for logits in members]
    mean = predictions_from(schema, mean_logits(schema, members))[key].numpy()
    np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=2e-6, rtol=1e-5)
