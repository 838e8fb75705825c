"""The examples in the docstrings of metrics, evaluation, labels and optim."""

import doctest
import importlib
import pathlib

import pytest

import tf_image_classification

ROOT = pathlib.Path(tf_image_classification.__file__).parent
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("metrics", "evaluation", "labels", "optim")
    for path in sorted((ROOT / folder).glob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_hold(name):
    module = importlib.import_module(f"tf_image_classification.{name}")
    failed, tried = doctest.testmod(module)
    assert tried > 0 and failed == 0
