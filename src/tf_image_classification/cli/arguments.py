"""What the verbs share: the forms of a line, its errors, an own argument, flags that do nothing."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Collection, Sequence
from typing import NoReturn

from tf_image_classification.config import OPTIONS, Settings
from tf_image_classification.errors import ConfigError, nearest
from tf_image_classification.system import files


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose errors are one line that says what to type."""

    def error(self, message: str) -> NoReturn:
        """Print the error, near names of unknown options and the example, and end with status 2."""
        unknown = re.match(r"unrecognized arguments: (.*)", message, re.DOTALL)
        if unknown is not None:
            message = self._of_unknown(unknown[1].split(" "))
        example = f" {self.epilog[0].upper()}{self.epilog[1:]}." if self.epilog else ""
        print(f"{self.prog}: {message.rstrip('.')}.{example} See {self.prog} --help.",
              file=sys.stderr)  # fmt: skip
        raise SystemExit(2)

    def _of_unknown(self, words: Sequence[str]) -> str:
        known = [name.lstrip("-") for name in self._option_string_actions]
        option = next((word for word in words if word.startswith("-")), "")
        if option:
            name = option.lstrip("-").partition("=")[0]
            return f"unknown option {option}.{nearest(name, known)}"
        shown = " ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")
        pattern = ". Quote a pattern, so that the shell does not expand it" if words[1:] else ""
        return f"unexpected: {shown}{pattern}"


def check_output(option: str, path: str) -> None:
    """See, before the work, that a file can be written; its folder is made.

    Raises:
        ConfigError: the path is that of a folder.
        DataError: its folder cannot be written.
    """
    if not path or files.is_remote(path):
        return
    if os.path.isdir(path):
        raise ConfigError(f"--{option} {path} is a folder. Name a file in it.")
    files.make_folder(os.path.dirname(path) or ".")


def with_model_dir_first(arguments: Sequence[str]) -> list[str]:
    """A line of a verb that takes the model folder as its first word, given as --model_dir too."""
    folder, rest = take(arguments, "model_dir")
    return [folder, *rest] if folder else rest


def take(arguments: Sequence[str], name: str) -> tuple[str, list[str]]:
    """The value of ``--name value`` or ``--name=value``, or "", and the other arguments.

    Raises:
        ConfigError: the name is given twice or without a value.

    Example:
        >>> take(["--spec", "a:B", "--seed", "1"], "spec")
        ('a:B', ['--seed', '1'])
    """
    found: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        key, equals, value = argument.partition("=")
        if key not in (f"--{name}", f"-{name}"):
            rest.append(argument)
            continue
        value = value if equals else next(remaining, "")
        if not value or value.startswith("--"):
            raise ConfigError(f"--{name} has no value. Write --{name} VALUE.")
        found.append(value)
    if len(found) > 1:
        raise ConfigError(f"--{name} is given {len(found)} times: {', '.join(found)}.")
    return (found[0] if found else ""), rest


def refuse_others(settings: Settings, acting: Collection[str], doing: str) -> None:
    """A flag that does nothing here is refused; the settings file of a training may be given.

    Args:
        settings: those of the command line.
        acting: names of the options that do something.
        doing: what the verb does, for the message.

    Raises:
        ConfigError: another option was given as a flag.
    """
    for name in OPTIONS:
        if settings.origin(name) == "flag" and name not in acting:
            raise ConfigError(f"{name} has no effect on {doing}. Remove it.")


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether the line asks for help."""
    return any(argument in ("-h", "--help") for argument in arguments)
