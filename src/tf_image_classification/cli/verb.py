"""The form of a verb: declared arguments, the settings that have an effect, and its function.

@verb("report", Arguments, description="...", example="tfic report runs/pets",
      positions=("model_dir",))
def main(given: Arguments, settings: Settings) -> int: ...
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn, TypeVar

from tf_image_classification.config import (
    ALIASES,
    OPTIONS,
    Option,
    Settings,
    command_line,
    options_of,
)
from tf_image_classification.config.groups import FILE_OPTIONS
from tf_image_classification.config.parser import names_of_flag, read_line
from tf_image_classification.config.rules import check_applies, options_for
from tf_image_classification.errors import ConfigError, UsageError
from tf_image_classification.system import files, quiet
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import hide_libraries

_Arguments = TypeVar("_Arguments")
_LETTERS = {"verbose": ("v",)}  # not in programs, where absl has a flag -v


@dataclasses.dataclass(frozen=True)
class Verb(Generic[_Arguments]):
    """One verb of tfic; called with the words after the verb, it returns the exit status.

    Attributes:
        name: the verb.
        arguments: dataclass that declares the arguments that only this verb has.
        run: takes these and the settings of the command line; returns the exit status.
        description: what the verb does, in full sentences.
        example: a command line.
        positions: names of the arguments that can be given without their flag, in this order.
        required: names of settings that must be given.
        rest: name of the argument that takes a command after ``--``.
        passes_on: name of the argument that takes unknown flags, or "".
        rewrite: translates command lines of an earlier version, or None.
        is_listing: whether it only prints, so that all its errors are those of standard output.
    """

    name: str
    arguments: type[_Arguments]
    run: Callable[[_Arguments, Settings], int]
    description: str
    example: str
    positions: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    rest: str = ""
    passes_on: str = ""
    rewrite: Callable[[Sequence[str]], Sequence[str]] | None = None
    is_listing: bool = False

    def __call__(self, arguments: Sequence[str]) -> int:
        """Parse and run; returns the exit status.

        Raises:
            SystemExit: with status 2: the command line cannot be understood; else the run ends
                with an error or by a signal.
        """
        try:
            parsed = self.parse(arguments)
        except UsageError as error:
            self._exit(error)
        if parsed is None:
            return 0
        with contextlib.nullcontext() if self.is_listing else ends_the_process():
            hide_libraries(parsed[1])
            if (
                quiet.is_hiding()
            ):  # and that of libraries which use absl; a program may use it itself
                import absl.logging  # late: an error in the command line is shown without it

                absl.logging.set_verbosity(absl.logging.ERROR)
            try:
                return self.run(*parsed)
            except UsageError as error:
                self._exit(error)

    def parse(self, arguments: Sequence[str]) -> tuple[_Arguments, Settings] | None:
        """The verb's arguments and the settings; None if help or the settings were printed.

        Raises:
            UsageError: the command line cannot be understood.
        """
        own, shared = self.own_options(), self.shared_options()
        from_file = {n: o for n, o in FILE_OPTIONS.items() if self.name in o.verbs and n not in own}
        line = read_line(
            self.rewrite(arguments) if self.rewrite else arguments,
            {**own, **shared, **from_file},
            positions=self.positions,
            rest=self.rest,
            passes_on=bool(self.passes_on),
            explain=self._explain,
            suggestions=[*OPTIONS] if from_file else (),
        )
        if line.asks_for_help:
            print(self.help())
            return None
        file_values = line.values(from_file)
        environment = os.environ if from_file else {}
        path = file_values.get("config", "")
        settings = command_line.merge(line.values(shared), path, environment)
        if file_values.get("print_config"):
            print(command_line.settings_text(settings), end="")
            return None
        given = line.values(own)
        defaults = {name: option.default for name, option in own.items()}
        try:
            check_applies(own, {**defaults, **given}, dict.fromkeys(given, "flag"))
        except ConfigError as error:
            raise UsageError(f"--{error}") from error
        passed_on = {self.passes_on: tuple(line.unknown)} if self.passes_on else {}
        return self.arguments(**given, **passed_on), settings

    def own_options(self) -> dict[str, Option]:
        """The arguments that only this verb has, by name."""
        return {option.name: option for option in options_of(self.name, self.arguments)}

    def shared_options(self) -> dict[str, Option]:
        """The settings that have an effect in this verb, by name."""
        own = self.own_options()
        return {
            name: dataclasses.replace(
                OPTIONS[name],
                is_required=name in self.required,
                aliases=(*OPTIONS[name].aliases, *_LETTERS.get(name, ())),
            )
            for name in options_for(self.name)
            if name not in own
        }

    def help(self) -> str:
        """The help page: the verb's own arguments first, then the settings in their groups."""
        own, shared = self.own_options(), self.shared_options()
        options = {**own, **shared}
        words = [
            name.upper() if options[name].is_required else f"[{name.upper()}]"
            for name in self.positions
        ]
        words += [
            f"--{name} {name.upper()}"
            for name, option in own.items()
            if option.is_required and name not in (*self.positions, self.rest)
        ]
        words += ["[flags]", *([f"-- {self.rest.upper()}"] if self.rest else [])]
        usage = f"usage: tfic {self.name} {' '.join(words)}\n\n{self.description}"
        usage += f"\n\nexample: {self.example}"
        first = [name for name in (*self.positions, *own) if name != self.rest]
        groups: dict[str, Sequence[Option]] = {
            "arguments": [options[name] for name in dict.fromkeys(first)]
        }
        groups |= command_line.by_group(o for n, o in shared.items() if n not in first)
        file_options = [
            o for o in FILE_OPTIONS.values() if self.name in o.verbs and o.name not in own
        ]
        groups["settings file"] = file_options
        return command_line.help_text(usage, groups, self.positions)

    def _explain(self, flag: str) -> str:
        if {*OPTIONS, *ALIASES}.isdisjoint(names_of_flag(flag)):
            return command_line.explain_flag(flag, {*self.own_options(), *self.shared_options()})
        is_there = self.name in FILE_OPTIONS["config"].verbs
        hint = "; a file for --config may contain settings of other verbs" if is_there else ""
        return f"{flag} has no effect in tfic {self.name}. Remove it{hint}."

    def _exit(self, error: UsageError) -> NoReturn:
        """Print a usage error with what helps to correct it, and exit with its status."""
        text = str(error)
        example = f" Example: {self.example}." if text.startswith("missing: ") else ""
        print(f"tfic {self.name}: {text}{example} See tfic {self.name} --help.", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def verb(
    name: str, arguments: type[_Arguments], **attributes: Any
) -> Callable[[Callable[[_Arguments, Settings], int]], Verb[_Arguments]]:
    """A decorator that makes a function a verb; attributes as those of ``Verb``."""
    return lambda run: Verb(name, arguments, run, **attributes)


def check_output(option: str, path: str) -> None:
    """Check, before the work, that a file can be written; its folder is made.

    Raises:
        ConfigError: the path is that of a folder.
        DataError: its folder cannot be written.
    """
    if not path or files.is_remote(path):
        return
    if os.path.isdir(path):
        raise ConfigError(f"--{option} {path} is a folder. Name a file in it.")
    files.make_folder(os.path.dirname(path) or ".")
