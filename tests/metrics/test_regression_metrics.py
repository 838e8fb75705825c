"""What the metrics of values do at the edges; the formulas are in test_streaming_metrics."""

import math

import numpy as np
import pytest

from tf_image_classification import metrics
from tf_image_classification.errors import SpecError


def test_sums_are_kept_in_float64():
    values = np.full(1000, 0.1, np.float32)
    assert metrics.mean(values).result() == pytest.approx(np.float64(np.float32(0.1)), rel=1e-12)
    # In float32 the difference of these two would be rounded to a multiple of 8.
    found = metrics.mean_absolute_error(np.float32([1e8]), np.float32([1.0])).result()
    assert found == 1e8 - 1


def test_a_diverged_prediction_shows_and_does_not_warn():
    assert math.isnan(metrics.mean_squared_error([1.0, 2.0], [math.nan, 2.0]).result())
    assert math.isnan(metrics.mean_absolute_error([math.inf], [math.inf]).result())
    assert metrics.root_mean_squared_error([0.0], [math.inf]).result() == math.inf


def test_an_example_of_weight_zero_may_hold_anything():
    assert metrics.mean([1.0, math.nan], [2.0, 0.0]).result() == 1.0


def test_one_column_of_a_model_is_not_broadcast():
    labels, predictions = np.zeros(3), np.ones((3, 1))
    with pytest.raises(SpecError, match=r"labels \[3\], predictions \[3, 1\].*squeeze"):
        metrics.mean_squared_error(labels, predictions)


def test_ragged_values_are_refused():
    with pytest.raises(SpecError, match="values"):
        metrics.mean([[1.0], [1.0, 2.0]])
