"""Outputs that are fitted to features before the first step."""

import numpy as np
import pytest

from tf_image_classification.labels import Label
from tf_image_classification.workflows.setup import head_init

LABELS = {
    "single-label": (Label("kind", depth=3), lambda classes: classes),
    "multilabel": (Label("tags", depth=3, kind="multilabel"), lambda classes: np.eye(3)[classes]),
    "regression": (Label("age", kind="regression"), lambda classes: classes.astype(float)),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_feature_that_hardly_varies_gets_no_large_weight(kind):
    label, values_of = LABELS[kind]
    random = np.random.default_rng(0)
    classes = np.arange(60) % 3
    features = random.normal(size=(60, 20)).astype(np.float32)
    features[:, :3] += 2 * np.eye(3, dtype=np.float32)[classes]
    features[:, 10:] = 0.0
    features[classes == 1, 15] = 1e-5  # as of a channel that two images wake a little
    kernel, bias, _ = head_init._regression(label, features, values_of(classes))
    assert np.abs(kernel[10:]).max() < np.abs(kernel[:10]).max()
    if kind == "single-label":
        assert ((features @ kernel + bias).argmax(axis=1) == classes).mean() > 0.8
