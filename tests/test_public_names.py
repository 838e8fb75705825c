"""The names that users import, and nothing that is not there."""

import ast
import importlib
from pathlib import Path

import pytest

import tf_image_classification
from tf_image_classification import hooks, utils

PACKAGE = Path(tf_image_classification.__file__).parent


def test_the_public_names_are_these_and_each_can_be_had():
    assert tf_image_classification.__all__ == [
        "__version__",
        "Classifier",
        "EstimatorSpec",
        "Label",
        "Settings",
        "combine",
        "compare",
        "cross_validate",
        "evaluate",
        "forecast",
        "label_next",
        "load_model",
        "make_settings",
        "train",
    ]
    assert set(dir(tf_image_classification)) == set(tf_image_classification.__all__)
    for name in tf_image_classification.__all__:
        assert getattr(tf_image_classification, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = tf_image_classification.trian


def test_type_checkers_see_the_names_that_are_loaded_on_first_use():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    seen = {
        alias.asname: node.module.removeprefix("tf_image_classification.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert seen == tf_image_classification._HOMES


def test_no_public_name_is_hidden_by_a_module_of_that_name():
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert modules.isdisjoint(tf_image_classification.__all__)


def test_the_modules_of_the_contract_are_importable_and_name_what_they_offer():
    for module in ("dataset", "estimator_specs", "hooks", "train_estimator", "utils"):
        importlib.import_module(f"tf_image_classification.{module}")
    for module in (hooks, utils):
        for name in module.__all__:
            assert getattr(module, name) is not None
        assert sorted(module.__all__) == module.__all__
    with pytest.raises(AttributeError, match="no attribute 'write_shard'"):
        _ = utils.write_shard
