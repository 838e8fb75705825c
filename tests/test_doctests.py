"""The examples in docstrings run and give what they show."""

import doctest
import importlib
import pkgutil

import tf_image_classification

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(
        tf_image_classification.__path__, f"{tf_image_classification.__name__}."
    )
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        for found in finder.find(importlib.import_module(name), name):
            if found.examples:
                yield found


def test_the_examples_of_every_docstring_give_what_they_show(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for found in examples():
        runner.run(found)
    assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out
    assert runner.tries > 50


def test_an_example_that_gives_something_else_is_found():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    assert runner.run(wrong, out=lambda text: None).failed == 1
