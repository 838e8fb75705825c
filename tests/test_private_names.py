"""Private names of Keras and TensorFlow that the package uses: all listed here, and still there.

`pyproject.toml` bounds Keras from above. To raise that, install the new version and run this file.
"""

import ast
import pathlib
from importlib import metadata

import keras
import pytest
import tensorflow as tf
from packaging.requirements import Requirement
from packaging.version import Version

import tf_image_classification

PACKAGE = pathlib.Path(tf_image_classification.__file__).parent

FOREIGN = {
    "_all_reduce_sum_gradients": lambda: keras.optimizers.SGD(),
    "_experimental_calibrate_only": lambda: tf.lite.TFLiteConverterV2([]),
    "_flatten_layers": lambda: functional(),
    "_functional": lambda: keras.Sequential([keras.Input([2]), keras.layers.Dense(1)]),
    "_get_variable_index": lambda: keras.optimizers.SGD(),
    "_inbound_nodes": lambda: functional().layers[1],
    "_keras_history": lambda: functional().output,
    "_layers": lambda: keras.layers.Bidirectional(keras.layers.LSTM(1)),
    "_non_trainable_variables": lambda: keras.layers.Dense(1),
    "_outbound_nodes": lambda: functional().layers[1],
    "__internal__": lambda: tf,
}
"""Each private name, and how to make an object that has it."""

SET_BY_US = {"_experimental_calibrate_only"}  # TensorFlow's own calibrator sets it the same way
# Of os, named tuples, PyTorch's pickles, IPython, and of modules, exceptions and functions.
OF_PYTHON = {"_exit", "_replace", "_utils", "_repr_html_", "__version__", "__args__"}
OF_PYTHON |= {*dir(ast), *dir(Exception()), *dir(len), *dir(pathlib.Path.open)}
MODULES = {"tensorflow.python.framework.convert_to_constants": "convert_variables_to_constants_v2"}


def functional():
    inputs = keras.Input([2])
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


def own_names(tree):
    """Private names that a module of ours defines or that it takes from its own objects."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def used_names():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    own = {name for tree in trees for name in own_names(tree)}
    attributes = {
        node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }
    return {name for name in attributes - own - OF_PYTHON if name.startswith("_")}


def test_every_foreign_private_name_is_listed():
    assert used_names() <= FOREIGN.keys()


@pytest.mark.parametrize("name", sorted(FOREIGN.keys() - SET_BY_US))
def test_a_private_name_is_still_there(name):
    assert hasattr(FOREIGN[name](), name)


def test_keras_functional_class_and_the_freezer_are_still_there():
    assert isinstance(functional(), keras.src.models.Functional)
    for module, name in MODULES.items():
        assert hasattr(__import__(module, fromlist=[name]), name)


def test_the_installed_keras_is_within_the_bound_that_was_tried():
    required = [Requirement(line) for line in metadata.requires("tf_image_classification")]
    bound = next(one for one in required if one.name == "keras")
    assert bound.specifier.contains(Version(keras.__version__))
    assert any(clause.operator == "<" for clause in bound.specifier)
