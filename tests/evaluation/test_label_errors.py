"""Wrong labels: candidates always, a number only where the predictions bear it out."""

import numpy as np
import pytest

from tf_image_classification.errors import ConfigError
from tf_image_classification.evaluation import label_errors as module
from tf_image_classification.evaluation.label_errors import label_errors


def predicted(count, sharpness, seed=0, *, planted=0.0, classes=5):
    """Labels drawn from a model's probabilities, some of them changed; and which."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, sharpness, [count, classes])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) > random.random([count, 1])).argmax(axis=1)
    wrong = random.choice(count, int(planted * count), replace=False)
    labels[wrong] = (labels[wrong] + random.integers(1, classes, len(wrong))) % classes
    return labels, probabilities, wrong


@pytest.mark.parametrize("sharpness", [1.0, 3.0, 10.0])
def test_without_wrong_labels_no_number_is_given(sharpness):
    for seed in range(8):
        labels, probabilities, _ = predicted(600, sharpness, seed)
        found = label_errors(labels, probabilities)
        assert found.num_wrong is None and found.expected_precision is None
        assert "are wrong (expected" not in found.text()


def test_a_good_model_says_how_many_are_wrong_and_how_sure_that_is():
    labels, probabilities, wrong = predicted(4000, 10.0, planted=0.05)
    found = label_errors(labels, probabilities)
    assert len(np.intersect1d(found.candidates, wrong)) > 0.8 * len(wrong)
    assert np.isin(found.candidates[:100], wrong).mean() > 0.95  # ranked
    precision = np.isin(found.candidates[: found.num_likely], wrong).mean()
    assert precision - 0.2 < found.expected_precision < precision + 0.02  # on the safe side
    assert 0.6 * len(wrong) < found.num_wrong < 1.05 * len(wrong)
    assert f"About {found.num_wrong:.0f} of the first" in found.text()


def test_a_weak_model_gives_candidates_and_no_number():
    labels, probabilities, _ = predicted(600, 1.0, planted=0.03)
    found = label_errors(labels, probabilities)
    assert len(found.candidates) and found.num_wrong is None
    assert "the model's own mistakes look the same" in found.text()
    assert "likely to be wrong" not in found.text()


def test_one_class_and_no_example_give_nothing():
    for count in (0, 5):
        found = label_errors(np.zeros(count, int), np.full([count, 3], 1 / 3))
        assert len(found.candidates) == 0 and found.num_wrong is None


def test_cleanlab_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cleanlab.filter", None)
    with pytest.raises(ConfigError, match="quality"):
        module.label_errors(np.array([0, 1]), np.eye(2))
