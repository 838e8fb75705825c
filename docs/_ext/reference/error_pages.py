"""The error classes, and the messages of every error that the package raises.

The messages are read from the source without running it: each call of an error class with a text,
where ``<name>`` stands for a value.
"""

import ast
import dataclasses
import functools
import inspect
import pathlib
import re
from collections.abc import Iterator, Mapping

import tf_image_classification
from reference.markdown import table
from tf_image_classification import errors

PACKAGE = pathlib.Path(tf_image_classification.__file__).parent

TOPICS = {
    "Command line and settings": ("cli", "config", "train_estimator", "classifier"),
    "Data sets and images": ("dataset", "labels", "inspection", "conversion", "features"),
    "Specs, models and hooks": (
        *("estimator_specs", "backbone_spec", "backbones", "hooks", "keras_settings"),
        *("layer_calls", "model_outputs", "tf1_code", "utils", "fused_batch_norm"),
    ),
    "Weights and checkpoints": ("checkpoints",),
    "Training": ("training", "optim", "compiled_gradients", "workflows"),
    "Evaluation and metrics": ("evaluation", "metrics", "report", "pages"),
    "Model folder": ("model_folder", "run_manifest"),
    "Export": ("export",),
    "Inference and serving": ("serving",),
    "Clusters": ("distributed",),
    "Cloud jobs": ("cloud",),
    "Files and machine": ("system",),
}
"""Parts of the package by topic; ``_PART_OF_WORKFLOW`` divides ``workflows`` further."""

_LITERAL = re.compile(r"[A-Za-z]{3}")


@dataclasses.dataclass(frozen=True)
class Message:
    """The message of one place that raises an error.

    Attributes:
        error: name of the class.
        text: the message, with ``<name>`` for each value.
        module: the module, relative to the package, e.g. "dataset/split".
    """

    error: str
    text: str
    module: str


def error_classes() -> str:
    """One row for each error class: exit status, cause and cure."""
    rows = []
    for error in classes():
        cause, _, cure = inspect.cleandoc(error.__doc__ or "").partition("\n\n")
        if not cure:
            raise ValueError(
                f"The docstring of {error.__name__} names no cure after its first line."
            )
        base = error.__mro__[1].__name__
        cause, cure = (" ".join(part.split()).replace("``", "`") for part in (cause, cure))
        rows.append((f"`{error.__name__}`", f"`{base}`", f"`{error.exit_code}`", cause, cure))
    return table(("class", "base", "exit status", "cause", "what to do"), rows)


def error_messages() -> str:
    """Every message, by topic, class and module."""
    found = messages()
    lines = []
    for topic in TOPICS:
        chosen = [message for message in found if topic_of(message.module) == topic]
        if not chosen:
            continue
        lines += [f"## {topic}", ""]
        for error in dict.fromkeys(message.error for message in chosen):
            lines += [f"### {error}", ""]
            lines += [_item(message) for message in chosen if message.error == error]
            lines += [""]
    return "\n".join(lines)


def _item(message: Message) -> str:
    text = " ".join(message.text.split())
    fence = "``" if "`" in text else "`"
    return f"- {fence}{text}{fence} ({message.module})"


def classes() -> list[type[errors.TficError]]:
    """The error classes, in the order of their declaration."""
    found = inspect.getmembers(errors, inspect.isclass)
    ours = [value for _, value in found if issubclass(value, errors.TficError)]
    return sorted(ours, key=lambda value: inspect.getsourcelines(value)[1])


def topic_of(module: str) -> str:
    """The topic of a module.

    Raises:
        KeyError: no topic has this part of the package.
    """
    part, *rest = module.split("/")
    if part == "workflows" and rest:
        part = _PART_OF_WORKFLOW.get(rest[0], part)
    for topic, parts in TOPICS.items():
        if part in parts:
            return topic
    raise KeyError(f"{module} has no topic. Add {part} to TOPICS.")


_PART_OF_WORKFLOW = {
    "convert": "conversion",
    "evaluate": "evaluation",
    "evaluate_continuously": "evaluation",
    "evaluated_model": "evaluation",
    "export": "export",
    "export_check": "export",
    "export_keras": "export",
    "export_saved_model": "export",
    "inspect": "inspection",
    "keep_evaluation": "evaluation",
    "light_file": "export",
    "predict": "serving",
    "report": "report",
    "serve": "serving",
    "submit": "cloud",
}


@functools.cache
def messages() -> tuple[Message, ...]:
    """The messages in the source, in the order of modules and lines; equal ones once."""
    return tuple(dict.fromkeys(_messages()))


def _messages() -> Iterator[Message]:
    names = {error.__name__ for error in classes()}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = _constants(tree)
        for call in _calls(tree):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            if name not in names or not call.args:
                continue
            message = Message(name, template(call.args[0], constants), module)
            if _LITERAL.search(re.sub(r"<[^<>]*>", "", message.text)):
                yield message


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """The texts that a module names at its top."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.JoinedStr))
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    yield from sorted(calls, key=lambda node: (node.lineno, node.col_offset))


_OF_THEIR_OBJECT = (
    *("keys", "values", "items", "rstrip", "strip", "decode", "removesuffix", "upper", "lower"),
    *("rpartition", "partition", "split", "splitlines", "pop", "get", "tolist", "numpy", "relpath"),
)
"""Methods whose result is named like the object that has them."""

_BETTER = {"locate": "place", "dirname": "folder", "basename": "file", "next": "value"}
"""Words for the results of functions."""


def template(node: ast.expr, constants: Mapping[str, ast.expr] | None = None) -> str:
    """The text that an expression makes, with ``<name>`` for each value.

    Args:
        node: the expression.
        constants: the texts that the module names, by their name.

    Example:
        >>> template(ast.parse("f'{path!r} has {len(rows)} rows. ' + advice", mode="eval").body)
        '<path> has <number of rows> rows. <advice>'
    """
    known = constants or {}
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int)):
        return str(node.value)
    if isinstance(node, ast.Name) and node.id in known:
        return template(known[node.id], known)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return template(node.value, known)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left, known) + template(node.right, known)
    if isinstance(node, ast.IfExp):
        parts = [template(node.body, known).strip(), template(node.orelse, known).strip()]
        return f"[{' | '.join(filter(None, parts))}]"
    if isinstance(node, ast.Call):
        return _of_call(node, known)
    return f"<{_named(node)}>"


def _of_call(node: ast.Call, known: Mapping[str, ast.expr]) -> str:
    name = _function(node)
    if name in ("did_you_mean", "nearest"):
        return " Did you mean <known name>?" if name == "nearest" else "Did you mean <known name>?"
    if name == "counted" and len(node.args) > 1:
        one = template(node.args[1], known)
        return f"<number> {template(node.args[2], known) if node.args[2:] else f'{one}s'}"
    if name in ("rstrip", "strip", "lstrip") and isinstance(node.func, ast.Attribute):
        return template(node.func.value, known)
    return f"<{_named(node)}>"


def _function(node: ast.Call) -> str:
    """The name of the function or method that is called."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else "value"


def _named(node: ast.expr) -> str:
    """Words for a value."""
    if isinstance(node, ast.Name):
        return node.id.strip("_").replace("_", " ").lower()
    if isinstance(node, ast.Attribute):
        inner = _named(node.value)
        words = node.attr.strip("_").replace("_", " ")
        if words == "name" and inner not in ("self", "value"):
            return inner
        return {"strerror": "reason", "dtype": "type"}.get(words, words)
    if isinstance(node, ast.Call):
        return _named_call(node)
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp)):
        return _named(node.generators[0].iter)
    if isinstance(node, (ast.Subscript, ast.Starred)):
        return _named(node.value)
    if isinstance(node, ast.BoolOp):
        return _named(node.values[0])
    if isinstance(node, ast.IfExp):
        return _named(node.body)
    return "value" if not isinstance(node, ast.BinOp) else "number"


def _named_call(node: ast.Call) -> str:
    name = _function(node)
    if name in ("brief", "short_message"):
        return "reason"
    if name == "len":
        return f"number of {_named(node.args[0])}"
    if name == "type":
        return "type"
    transparent = (
        "str",
        "sorted",
        "list",
        "map",
        "repr",
        "tuple",
        "dict",
        "set",
        "max",
        "min",
        "round",
    )
    if name in transparent and node.args:
        return _named(node.args[-1])
    if isinstance(node.func, ast.Attribute) and name in ("join", "shorten", "dumps") and node.args:
        return _named(node.args[0])
    if isinstance(node.func, ast.Attribute) and name in _OF_THEIR_OBJECT:
        return _named(node.func.value)
    return _BETTER.get(name, name.strip("_").replace("_", " "))
