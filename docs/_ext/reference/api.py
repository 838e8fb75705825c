"""The Python interface: the public names of the package and of the modules that users import."""

import importlib
import inspect

from reference import error_pages

MODULES = {
    "tf_image_classification": "The package",
    "tf_image_classification.metrics": "Metrics of a spec",
    "tf_image_classification.hooks": "Hooks",
    "tf_image_classification.dataset.preprocessing": "Preprocessing",
    "tf_image_classification.errors": "Errors",
    "tf_image_classification.utils": "Helpers of programs of 2018",
}
"""Heading of each module."""

_WITHOUT_ALL = {
    "tf_image_classification.dataset.preprocessing": ["Preprocessing"],
    "tf_image_classification.errors": [error.__name__ for error in error_pages.classes()],
}


def api_page() -> str:
    """A heading for each module and the description of each of its public names."""
    return "\n".join(f"## {heading}\n\n{_entries(name)}" for name, heading in MODULES.items())


def public_names(module_name: str) -> list[str]:
    """The names in a module's ``__all__``, without the version."""
    module = importlib.import_module(module_name)
    names = _WITHOUT_ALL.get(module_name) or module.__all__
    return [name for name in names if not name.startswith("__")]


def _entries(module_name: str) -> str:
    module = importlib.import_module(module_name)
    lines = [f".. currentmodule:: {module_name}", ""]
    for name in public_names(module_name):
        value = getattr(module, name)
        kind = "class" if inspect.isclass(value) else "function"
        kind = "exception" if kind == "class" and issubclass(value, Exception) else kind
        lines += [f".. auto{kind}:: {name}"]
        lines += ["   :members:", "   :member-order: bysource"] if kind == "class" else []
        lines += ["   :show-inheritance:"] if kind == "exception" else []
        lines += [""]
    return "```{eval-rst}\n" + "\n".join(lines) + "```\n"
