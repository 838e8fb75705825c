"""Static search for TensorFlow 1 code in a program, with a replacement for each line. Internal.

    for finding in find("train_mini_mnist.py"):
        print(finding.text())

TensorFlow is imported only to check which names it still has.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import os
from collections.abc import Iterator

GUIDE = "docs/coming_from/migrate.md"

MODEL_FN = (
    "model_fn(features, labels, mode, params) builds a graph for the Estimator of TensorFlow 1, "
    "which TensorFlow 2 does not have. Return a Keras model instead: "
    "def model_fn(image_shape, params): inputs = keras.Input(image_shape); "
    "x = keras.layers.Conv2D(32, 3, activation='relu')(inputs); "
    "x = keras.layers.Flatten()(x); "
    "return keras.Model(inputs, keras.layers.Dense(DEPTH, name='logits')(x)). "
    "Remove loss, optimizer, learning rate, metrics and the loading of a checkpoint from it: the "
    f"framework does all that ({GUIDE})."
)
"""The error for a ``model_fn`` with the four arguments of an Estimator."""

REPLACED_HELPERS = {
    "configure_learning_rate": "the framework computes the learning rate from --learning_rate and "
    "--learning_rate_decay_type. Remove the call.",
    "configure_optimizer": "the framework makes the optimizer from --optimizer and its flags. "
    "Remove the call.",
    "get_variables_to_restore": "the framework loads --checkpoint_path; "
    "--checkpoint_restore_scopes and --checkpoint_exclude_scopes choose variables. Remove the "
    "call.",
    "get_variables_to_train": "--trainable_scopes chooses the variables that are trained. Remove "
    "the call.",
    "get_dataset_len": "the framework counts the examples exactly. Remove the call.",
    "list_tfrecord": "write utils.expand_patterns([pattern], option='train_metadata').",
    "read_csv": "write pandas.read_csv(path); the framework reads --train_metadata itself.",
}
"""Helpers of the first version's ``utils`` that have no successor of their name."""

_KERAS_LAYERS = "write the layer of keras.layers"
_METRICS = (
    "write metrics.{last}(...) with from tf_image_classification import metrics; it takes the same "
    "labels=, predictions= and name="
)
_VARIABLES = "remove it: Keras layers make and keep their variables"
_OPTIMIZER = "remove it: --optimizer and its flags choose the optimizer"
_RATE = "remove it: --learning_rate_decay_type and its flags choose the learning rate"
_NETWORKS = (
    "write keras.applications, or backbones.create(NAME, image_shape, outputs=DEPTH) with from "
    "tf_image_classification import backbones; --checkpoint_path reads TF-Slim's checkpoints"
)
_FLAGS = "write absl.flags, or import tensorflow.compat.v1 as tf"

# Replacement by name or prefix of a name; the longest prefix counts.
_REPLACEMENTS = {
    "app.flags": _FLAGS,
    "app.run": "write absl.app.run(main)",
    "flags": _FLAGS,
    "gfile.GFile": "write open(path), or tf.io.gfile.GFile(path) for gs:// too",
    "gfile.FastGFile": "write open(path, 'rb'), or tf.io.gfile.GFile(path, 'rb') for gs:// too",
    "gfile.Exists": "write tf.io.gfile.exists",
    "gfile.IsDirectory": "write tf.io.gfile.isdir",
    "gfile.Glob": "write tf.io.gfile.glob",
    "gfile.MakeDirs": "write tf.io.gfile.makedirs",
    "gfile": "write the function of tf.io.gfile",
    "logging": "write print(...), or the same function of absl.logging",
    "to_float": "write tf.cast(x, tf.float32)",
    "to_double": "write tf.cast(x, tf.float64)",
    "to_int32": "write tf.cast(x, tf.int32)",
    "to_int64": "write tf.cast(x, tf.int64)",
    "image.resize_images": "write tf.image.resize",
    "image.resize_bilinear": "write tf.image.resize(x, size, 'bilinear')",
    "image.resize_image_with_crop_or_pad": "write tf.image.resize_with_crop_or_pad",
    "random_crop": "write tf.image.stateless_random_crop(image, size, seed), with a fourth "
    "argument seed of the preprocessing",
    "random_uniform": "write tf.random.stateless_uniform(shape, seed), with a fourth argument seed "
    "of the preprocessing",
    "read_file": "write tf.io.read_file",
    "python_io": "write the class of tf.io",
    "FixedLenFeature": "write tf.io.FixedLenFeature",
    "parse_single_example": "write tf.io.parse_single_example",
    "decode_raw": "write tf.io.decode_raw",
    "div": "write x / y",
    "log": "write tf.math.log",
    "confusion_matrix": "write metrics.confusion_matrix(labels, predictions, num_classes)",
    "metrics": _METRICS,
    "metrics.mean_iou": "write metrics.bind(keras.metrics.MeanIoU(num_classes), labels, "
    "predictions) with from tf_image_classification import metrics",
    "layers": _KERAS_LAYERS,
    "layers.conv2d": "write keras.layers.Conv2D(filters, kernel_size, name=...)(x)",
    "layers.dense": "write keras.layers.Dense(units, name=...)(x)",
    "layers.batch_normalization": "write keras.layers.BatchNormalization(name=...)(x)",
    "layers.dropout": "write keras.layers.Dropout(rate)(x)",
    "layers.flatten": "write keras.layers.Flatten()(x)",
    "layers.max_pooling2d": "write keras.layers.MaxPooling2D(pool_size, strides)(x)",
    "losses.get_regularization_loss": "remove it: the losses of kernel_regularizer are always "
    "added",
    "losses": "remove it: the loss follows from class_dict. For another one define "
    "losses(self, labels, logits), which returns the loss of each example",
    "estimator": "remove it: train_estimator.train trains, evaluates and exports",
    "placeholder": "write keras.Input(image_shape)",
    "Session": "remove it: TensorFlow 2 computes at once",
    "InteractiveSession": "remove it: TensorFlow 2 computes at once",
    "ConfigProto": "remove it: --strategy chooses the devices",
    "global_variables_initializer": "remove it: TensorFlow 2 computes at once",
    "local_variables_initializer": "remove it: TensorFlow 2 computes at once",
    "variable_scope": _VARIABLES + "; name the layers",
    "get_variable": _VARIABLES,
    "get_collection": _VARIABLES,
    "GraphKeys": _VARIABLES,
    "trainable_variables": _VARIABLES + "; --trainable_scopes chooses those that are trained",
    "set_random_seed": "remove it: --seed decides all random numbers",
    "train.get_global_step": "remove it: the framework counts the steps",
    "train.get_or_create_global_step": "remove it: the framework counts the steps",
    "train.latest_checkpoint": "remove it: --checkpoint_path takes a folder too",
    "train.SessionRunHook": "write hooks.Hook with from tf_image_classification import hooks",
    "train.exponential_decay": _RATE,
    "train.polynomial_decay": _RATE,
    "train.piecewise_constant": _RATE,
    "summary": "remove it: losses, metrics, rates and images are written for TensorBoard",
    "contrib.learn": "remove it: there is no mode; a Keras model gets training=True or False",
    "contrib.slim": _NETWORKS,
    "contrib.layers": _KERAS_LAYERS,
    "contrib.layers.l2_regularizer": "write keras.regularizers.L2(strength)",
    "contrib.layers.xavier_initializer": "write 'glorot_uniform'",
    "contrib.framework": "remove it: --checkpoint_path loads weights",
    "contrib.training.HParams": "remove it: params of model_fn holds all settings",
    "contrib": "tf.contrib has no successor; find the function in TensorFlow 2 or write it anew",
    "examples.tutorials": "write keras.datasets, or name files with --train_metadata",
}

# Names that tensorflow.compat.v1 has and that do not work without TensorFlow 1's graphs.
_GRAPH_ONLY = (
    *("metrics", "layers", "placeholder", "Session", "InteractiveSession", "variable_scope"),
    *("get_variable", "get_collection", "GraphKeys", "trainable_variables", "summary"),
    *("global_variables_initializer", "local_variables_initializer", "train.get_global_step"),
    *("losses.get_regularization_loss", "train.SessionRunHook", "train.exponential_decay"),
)

_GONE_MODULES = {
    "tf_slim": _NETWORKS,
    "nets": _NETWORKS,
    "slim": _NETWORKS,
    "preprocessing": "write get_preproc_fn with tf.image",
    "tensorflow_estimator": "remove it: train_estimator.train trains, evaluates and exports",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A place in a program that TensorFlow 2 cannot run.

    Attributes:
        path: the file.
        line: its line, from 1.
        code: the code there.
        advice: what to do, as text after a colon.
    """

    path: str
    line: int
    code: str
    advice: str

    def text(self) -> str:
        """One line for the user."""
        return f"{self.path} line {self.line}: {self.code}: {self.advice}."


def find(path: str) -> list[Finding]:
    """The TensorFlow 1 code of a program and of the modules beside it that it imports.

    Args:
        path: the program's file.
    """
    found: list[Finding] = []
    waiting, seen = [path], set()
    while waiting:
        file = waiting.pop(0)
        if file in seen or not os.path.isfile(file):
            continue
        seen.add(file)
        with open(file, encoding="utf-8", errors="replace") as stream:
            source = stream.read()
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            code, advice = (error.text or "").strip(), f"Python 3 cannot read this: {error.msg}"
            found.append(Finding(file, error.lineno or 1, code, advice.rstrip(".")))
            continue
        folder = os.path.dirname(file)
        waiting += [os.path.join(folder, f"{name}.py") for name in _imported(tree)]
        found += _findings(tree, file)
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _findings(tree: ast.Module, path: str) -> list[Finding]:
    modules = _module_names(tree)
    found: dict[tuple[int, str], Finding] = {}
    for node in ast.walk(tree):
        code, advice = "", None
        if isinstance(node, ast.FunctionDef) and is_estimator_model_fn(_arguments(node)):
            code, advice = f"def {node.name}", MODEL_FN.rstrip(".")
        elif isinstance(node, ast.Attribute):
            code = _dotted(node)
            root, _, rest = code.partition(".")
            if modules.get(root) == _UTILS:
                advice = REPLACED_HELPERS.get(rest, "").rstrip(".")
            elif root in modules:
                advice = _advice(modules[root], rest)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            code, advice = _bad_import(node, os.path.dirname(path))
        if advice:
            line = getattr(node, "lineno", 1)
            found[line, code] = Finding(path, line, code, advice)
    # The prefixes of tf.app.flags.FLAGS are nodes too: keep the longest.
    return [
        finding
        for (line, code), finding in sorted(found.items())
        if not any(line == other and more.startswith(f"{code}.") for other, more in found)
    ]


def is_estimator_model_fn(arguments: list[str]) -> bool:
    """Whether a function with these arguments is a ``model_fn`` of an Estimator."""
    return len({"features", "labels", "mode"} & set(arguments)) >= 2


def _arguments(node: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]


_UTILS = "tf_image_classification.utils"


def _module_names(tree: ast.Module) -> dict[str, str]:
    """Names in the program that are bound to a module of TensorFlow or to our ``utils``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "tensorflow":
                    shown = alias.asname or "tensorflow"
                    names[shown] = alias.name if alias.asname else "tensorflow"
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in ("tensorflow.compat.v1", _UTILS):
                    names[alias.asname or alias.name] = whole
    return names


def _dotted(node: ast.Attribute) -> str:
    """The dotted name of a node, e.g. ``tf.app.flags``; "" if it does not start with a name."""
    parts = [node.attr]
    value = node.value
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    return ".".join([value.id, *reversed(parts)]) if isinstance(value, ast.Name) else ""


def _advice(module: str, name: str) -> str | None:
    """The replacement of a name of TensorFlow; None if the name works."""
    if name.startswith("compat.v1."):
        module, name = "tensorflow.compat.v1", name.removeprefix("compat.v1.")
    beginnings = [name[:i] for i, c in enumerate(name + ".") if c == "."]
    is_old = module == "tensorflow.compat.v1"
    if is_old and any(beginning in _GRAPH_ONLY for beginning in beginnings):
        return _replacement(name)
    if module not in ("tensorflow", "tensorflow.compat.v1") or _exists(module, name):
        return None
    replacement = _replacement(name)
    if replacement is None and _exists("tensorflow.compat.v1", name):
        return f"write tf.compat.v1.{name}"
    return replacement or "TensorFlow 2 has no such name"


def _replacement(name: str) -> str | None:
    if name.startswith("train.") and name.endswith("Optimizer"):
        return _OPTIMIZER
    beginnings = [name[:i] for i, c in enumerate(name + ".") if c == "."]
    for beginning in reversed(beginnings):
        if beginning in _REPLACEMENTS:
            return _REPLACEMENTS[beginning].format(last=name.rpartition(".")[2])
    return None


def _bad_import(node: ast.Import | ast.ImportFrom, folder: str) -> tuple[str, str | None]:
    if isinstance(node, ast.ImportFrom):
        shown = f"from {node.module} import {', '.join(alias.name for alias in node.names)}"
        wanted = [f"{node.module}.{alias.name}" for alias in node.names] if node.module else []
    else:
        shown = f"import {', '.join(alias.name for alias in node.names)}"
        wanted = [alias.name for alias in node.names]
    for name in wanted:
        root, _, rest = name.partition(".")
        if root in _GONE_MODULES and not _can_be_imported(root, folder):
            return shown, _GONE_MODULES[root]
        if root == "tensorflow" and rest.startswith(("contrib", "examples")):
            return shown, _replacement(rest)
    return shown, None


def _can_be_imported(module: str, folder: str) -> bool:
    beside = os.path.join(folder, module)
    is_beside = os.path.isfile(f"{beside}.py") or os.path.isdir(beside)
    return is_beside or importlib.util.find_spec(module) is not None


@functools.cache
def _exists(module: str, name: str) -> bool:
    """Whether a module of the installed TensorFlow has a (dotted) attribute."""
    found = importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True
