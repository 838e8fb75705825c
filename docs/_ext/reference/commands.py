"""The help page of each verb, and the exit statuses."""

import importlib

from reference.markdown import table
from tf_image_classification.cli.main import STATUSES, VERBS
from tf_image_classification.cli.verb import Verb


def command_pages() -> str:
    """A heading, the summary and the full help page of every verb, as the program prints it."""
    return "\n".join(
        f"## tfic {name}\n\n{summary[0].upper()}{summary[1:]}.\n\n"
        f"```text\n{load_verb(name).help()}\n```\n"
        for name, summary in VERBS.items()
    )


def exit_statuses() -> str:
    """The exit statuses of ``tfic``."""
    return table(("exit status", "meaning"), ((f"`{s}`", text) for s, text in STATUSES.items()))


def load_verb(name: str) -> Verb:
    """The verb of this name."""
    module = importlib.import_module(f"tf_image_classification.cli.{name.replace('-', '_')}")
    return module.main
