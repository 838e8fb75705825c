"""How an evaluator of its own is stopped; what it evaluates is tested with real workers."""

import contextlib
import os
import signal

import pytest
import tensorflow as tf

from tf_image_classification.errors import RunInterrupted
from tf_image_classification.runs import evaluator_task


def test_a_signal_while_a_function_is_traced_is_told_as_one():
    """TensorFlow would make "in user code" with lines of source of it."""

    @tf.function
    def traced(x):
        if x > 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return x

    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(RunInterrupted, match=r"^The evaluator was stopped by SIGTERM"),
        evaluator_task._interruptible(),
    ):
        traced(tf.constant(1.0))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_whose_error_was_swallowed_ends_it_all_the_same():
    with evaluator_task._interruptible() as check:
        check()
        with contextlib.suppress(RunInterrupted):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(RunInterrupted, match="stopped by SIGINT"):
            check()


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), evaluator_task._interruptible():
        raise ZeroDivisionError
