"""What other tests do without, for speed, is there in the tests that are marked as_installed."""

import os

import pytest
import tensorflow as tf
from tensorflow.python.eager import context

import tiny_runs
from tf_image_classification import train_estimator
from tf_image_classification.errors import RunInterrupted
from tf_image_classification.evaluation import measures


def operations_that_run(function, *arguments):
    """Names of the operations of a traced function, after TensorFlow has optimized its graph."""
    context.enable_run_metadata()
    function(*arguments)
    metadata = context.export_run_metadata()
    context.disable_run_metadata()
    graphs = [graph for ran in metadata.function_graphs for graph in ran.partition_graphs]
    return {node.op for graph in graphs for node in graph.node}


def with_a_constant_product():
    @tf.function
    def function(values):
        return values + tf.constant([1.0, 2.0]) * tf.constant([3.0, 4.0])

    return operations_that_run(function, tf.constant([5.0, 6.0]))


@pytest.mark.as_installed
def test_graphs_are_optimized_and_intervals_have_all_their_draws():
    assert "AddV2" in with_a_constant_product() and "Mul" not in with_a_constant_product()
    assert measures._NUM_RESAMPLES == 200


def test_other_tests_have_neither():
    assert ("Mul" in with_a_constant_product()) != bool(os.environ.get("TFIC_ALL_TESTS"))
    assert measures._NUM_RESAMPLES == 20


@pytest.mark.slow
@pytest.mark.as_installed
def test_a_stopped_run_ends_with_the_same_bits_and_is_evaluated(tmp_path):
    records = tiny_runs.write_records(tmp_path)
    spec, changes = tiny_runs.TinySpec(), {"train_steps": 4, "learning_rate": 0.05}
    straight = tiny_runs.run(spec, tmp_path / "straight", records, records, **changes)
    with pytest.raises(RunInterrupted, match="step 2 of 4"):
        hooks = [tiny_runs.StopAt(2)]
        tiny_runs.run(spec, tmp_path / "m", records, records, hooks, **changes)
    tiny_runs.assert_same_bits(
        tiny_runs.run(spec, tmp_path / "m", records, records, **changes), straight
    )
    settings = tiny_runs.tiny_settings(tmp_path / "m", records, records)
    found = train_estimator.evaluate(spec, settings).metrics
    [expected] = tiny_runs.evaluations(tmp_path / "m")
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
