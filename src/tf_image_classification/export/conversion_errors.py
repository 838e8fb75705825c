"""Errors of the converters in one line: the unsupported operation, its layer and its label.

with conversion_errors("litert", function):
    converter.convert()
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tf_image_classification.errors import ExportError, TficError, brief
from tf_image_classification.labels.outputs import label_of_output
from tf_image_classification.system import quiet

_OPERATIONS = (
    r"(?:Flex|Select|Custom) ops: ([\w, ]+)",  # LiteRT's list
    r"tf\.(\w+)'? op is neither a custom op nor a flex op",
    r"No Op registered for (\w+)",  # ONNX's checker
    r"Tensorflow op \[[^\]:]*: (\w+)\] is not supported",
)


@contextlib.contextmanager
def conversion_errors(name: str, function: Callable[[], Any]) -> Iterator[None]:
    """Turns a converter's error into one line and hides the messages of the converter.

    Args:
        name: of the format, for the message.
        function: makes the concrete function that is converted, in whose graph the operation is
            looked up; called only after an error.

    Raises:
        ExportError: the block failed; names the operations that the format lacks, or the error.
    """
    try:
        with quiet.captured() as captured:
            yield
    except TficError:
        raise
    except Exception as error:  # each converter has kinds of its own
        operations = _operations(f"{error}\n{captured()}")
        if not operations:
            raise ExportError(f"The model cannot be written as {name}: {brief(error)}.") from error
        where = operations
        with contextlib.suppress(Exception):  # then without the layer
            where = _places(function(), operations)
        raise ExportError(
            f"The model cannot be written as {name}, which has no operation "
            f"{', nor '.join(where)}. Replace it in the model, or use another format."
        ) from error


def _operations(text: str) -> list[str]:
    found: dict[str, None] = {}
    for pattern in _OPERATIONS:
        for match in re.findall(pattern, text):
            found |= dict.fromkeys(name.strip().removeprefix("Flex") for name in match.split(","))
    return [name for name in found if name]


def _places(function: Any, operations: list[str]) -> list[str]:
    """Each operation with its name in the graph and the labels that depend on it."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    graph = convert_variables_to_constants_v2(function, aggressive_inlining=True).graph
    names = sorted(function.structured_outputs)
    behind = {name: _behind(output.op) for name, output in zip(names, graph.outputs, strict=True)}
    found = []
    for kind in operations:
        nodes = [op.name for op in graph.get_operations() if op.type == kind]
        labels = {
            label_of_output(name)
            for name, operations_behind in behind.items()
            if any(op.type == kind for op in operations_behind)
        }
        place = f"{kind} ({_readable(nodes[0])}" if nodes else f"{kind} ("
        of = f"of label{'s' if len(labels) > 1 else ''} {', '.join(sorted(labels))}"
        found.append(f"{place}, {of})" if labels and nodes else f"{place})" if nodes else kind)
    return found


def _behind(operation: tf.Operation) -> set[tf.Operation]:
    """The operations on which a result depends."""
    found: set[tf.Operation] = set()
    waiting = [operation]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += [tensor.op for tensor in one.inputs]
    return found


def _readable(node: str) -> str:
    """A node's name without the functions that it was inlined from."""
    parts = [part for part in node.split("/") if "PartitionedCall" not in part]
    return "/".join(parts[:-1] or parts)
