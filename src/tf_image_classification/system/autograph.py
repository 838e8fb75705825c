"""TensorFlow's AutoGraph for the functions of users only.

Before TensorFlow traces a function, AutoGraph rewrites its Python code so that ``if`` and ``while``
may depend on tensors. The code of this package has no such ``if``, and rewriting it would take
seconds at every start.

    traced = tf.function(unconverted(step))  # ours: traced as it is written
    image = converted(preproc)(image, width, height)  # a user's: rewritten first
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

_Function = TypeVar("_Function", bound=Callable[..., Any])

_DEFAULT = tf.__internal__.autograph.control_status_ctx()  # outside of any traced function


def unconverted(function: _Function) -> _Function:
    """The function, to be traced without AutoGraph in it and in all that it calls."""
    plain: _Function = tf.autograph.experimental.do_not_convert(function)
    return plain


def converted(function: _Function) -> _Function:
    """A user's function with AutoGraph while a graph is traced; itself when called eagerly.

    Functions of this package are not converted.
    """
    if tf.executing_eagerly() or _is_ours(function):
        return function
    rewritten: _Function = tf.__internal__.autograph.tf_convert(function, _DEFAULT)
    return rewritten


def _is_ours(function: Callable[..., Any]) -> bool:
    module = getattr(function, "__module__", None) or type(function).__module__
    return module.partition(".")[0] == __name__.partition(".")[0]
