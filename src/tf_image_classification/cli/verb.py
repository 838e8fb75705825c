"""The form of a verb: declared arguments, the settings that have an effect, and its function.

@verb("report", Arguments, description="...", example="tfic report runs/pets",
      positions=("model_dir",))
def main(given: Arguments, settings: Settings) -> int: ...
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NoReturn, TypeVar

import tf_image_classification
from tf_image_classification.config import (
    ALIASES,
    OPTIONS,
    Option,
    Settings,
    command_line,
    declare,
    foreign_flags,
    options_of,
)
from tf_image_classification.config.groups import FILE_OPTIONS, SHORT_FORMS
from tf_image_classification.config.parser import names_of_flag, read_line
from tf_image_classification.config.rules import check_applies, options_for
from tf_image_classification.errors import ConfigError, UsageError
from tf_image_classification.export.names import AUTO
from tf_image_classification.system import files, quiet, screen
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import hide_libraries

_Arguments = TypeVar("_Arguments")

_LETTERS = {"verbose": ("v",)}  # not in Python
_QUIET = Option(
    "quiet", "run", bool, False, "Print warnings, errors and results only.", aliases=("q",)
)
_FEW = 20
"""The number of options up to which the help page shows all."""


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
        common: names of the settings on the short help page, besides the verb's own arguments.
        required: names of settings that must be given.
        rest: name of the argument that takes a command after ``--``.
        passes_on: name of the argument that takes unknown flags, or "".
        rewrite: translates command lines of an earlier version, or None.
        refused: by setting why the verb cannot follow it, for the message that rejects it.
        is_listing: whether it only prints, so that all its errors are those of standard output.
        may_need_no_tensorflow: whether it calls ``hide_absl`` itself where it needs TensorFlow.
    """

    name: str
    arguments: type[_Arguments]
    run: Callable[[_Arguments, Settings], int]
    description: str
    example: str
    positions: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    rest: str = ""
    passes_on: str = ""
    rewrite: Callable[[Sequence[str]], Sequence[str]] | None = None
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_listing: bool = False
    may_need_no_tensorflow: bool = False

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
        arguments_of_verb, settings, is_quiet = parsed
        with contextlib.nullcontext() if self.is_listing else ends_the_process():
            hide_libraries(settings)
            if not self.may_need_no_tensorflow:
                hide_absl()
            try:
                with screen.quiet() if is_quiet else contextlib.nullcontext():
                    return self.run(arguments_of_verb, settings)
            except UsageError as error:
                self._exit(error)

    def parse(self, arguments: Sequence[str]) -> tuple[_Arguments, Settings, bool] | None:
        """Arguments, settings and whether to be quiet; None if help or the settings were printed.

        Raises:
            UsageError: the command line cannot be understood.
        """
        own, shared = self.own_options(), self.shared_options()
        from_file = {n: o for n, o in FILE_OPTIONS.items() if self.name in o.verbs and n not in own}
        line = read_line(
            self.rewrite(arguments) if self.rewrite else arguments,
            self.all_options(),
            positions=self.positions,
            rest=self.rest,
            passes_on=bool(self.passes_on),
            explain=self._explain,
            suggestions=[*OPTIONS] if from_file else (),
        )
        if line.asks_for_help:
            print(self.help(is_full=line.asks_for_all))
            return None
        if line.asks_for_version:
            print(f"tfic {tf_image_classification.__version__}")
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
        is_quiet = line.values(self._quiet()).get("quiet", False)
        return self.arguments(**given, **passed_on), settings, is_quiet

    def own_options(self) -> dict[str, Option]:
        """The arguments that only this verb has, by name."""
        return {option.name: option for option in options_of(self.name, self.arguments)}

    def shared_options(self) -> dict[str, Option]:
        """The settings that have an effect in this verb, by name."""
        own = self.own_options()
        taken = {name for option in own.values() for name in (option.name, *option.aliases)}
        return {
            name: dataclasses.replace(
                OPTIONS[name],
                is_required=name in self.required,
                aliases=(
                    *OPTIONS[name].aliases,
                    *(short for short in self._short_forms(name) if short not in taken),
                ),
            )
            for name in options_for(self.name)
            if name not in own
        }

    def _short_forms(self, name: str) -> tuple[str, ...]:
        is_only_set = name == "eval_metadata" and self.name not in OPTIONS["train_metadata"].verbs
        return (
            *SHORT_FORMS.get(name, ()),
            *_LETTERS.get(name, ()),
            *(("data",) if is_only_set else ()),
        )

    def all_options(self) -> dict[str, Option]:
        """All options by name, in the sequence of the help page."""
        own = self.own_options()
        from_file = {n: o for n, o in FILE_OPTIONS.items() if self.name in o.verbs and n not in own}
        return {**own, **self.shared_options(), **self._quiet(), **from_file}

    def _quiet(self) -> dict[str, Option]:
        return {} if self.is_listing else {"quiet": _QUIET}

    def help(self, *, is_full: bool = True) -> str:
        """The help page: the verb's own arguments first, then the settings in their groups.

        Args:
            is_full: all of them; else only the common ones where there are many.
        """
        own, shared = self.own_options(), self.shared_options()
        options = {**own, **shared}
        words = [
            options[name].shown if options[name].is_required else f"[{options[name].shown}]"
            for name in self.positions
        ]
        words += [
            f"--{name} {name.upper()}"
            for name, option in own.items()
            if option.is_required and name not in (*self.positions, self.rest)
        ]
        words += ["[flags]", *([f"-- {self.rest.upper()}"] if self.rest else [])]
        description = textwrap.fill(" ".join(self.description.split()), command_line.HELP_WIDTH)
        usage = f"usage: tfic {self.name} {' '.join(words)}\n\n{description}"
        usage += f"\n\nexample: {self.example}"
        first = [name for name in (*self.positions, *own) if name != self.rest]
        groups: dict[str, Sequence[Option]] = {
            "arguments": [options[name] for name in dict.fromkeys(first)]
        }
        others = [option for name, option in shared.items() if name not in first]
        others += self._quiet().values()
        others += [o for o in FILE_OPTIONS.values() if self.name in o.verbs and o.name not in own]
        if is_full or len(first) + len(others) <= _FEW:
            return command_line.help_text(
                usage, groups | command_line.by_group(others), self.positions
            )
        common = {option.name: option for option in others if option.name in self.common}
        groups["common settings"] = [common[name] for name in self.common if name in common]
        text = command_line.help_text(usage, groups, self.positions)
        more = len(others) - len(common)
        return f"{text}\n\n{more} further settings: tfic {self.name} --help-all"

    def _explain(self, flag: str) -> str:
        if {*OPTIONS, *ALIASES}.isdisjoint(names_of_flag(flag)):
            return foreign_flags.explain_flag(flag, {*self.own_options(), *self.shared_options()})
        known = next((n for n in names_of_flag(flag) if n in {*OPTIONS, *ALIASES}), "")
        reason = self.refused.get(ALIASES.get(known, known))
        if reason:
            return f"{flag} has no effect in tfic {self.name}: {reason}. Remove it."
        is_there = self.name in FILE_OPTIONS["config"].verbs
        hint = "; a file for --config may contain settings of other verbs" if is_there else ""
        return f"{flag} has no effect in tfic {self.name}. Remove it{hint}."

    def _exit(self, error: UsageError) -> NoReturn:
        """Print a usage error with what helps to correct it, and exit with its status."""
        text = str(error)
        example = f" Example: {self.example}." if text.startswith("missing: ") else ""
        print(f"tfic {self.name}: {text}{example} See tfic {self.name} --help.", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def hide_absl() -> None:
    """Hide the messages of libraries that use absl, unless all are shown.

    Only verbs do: a program may use absl itself.
    """
    if quiet.is_hiding():
        import absl.logging  # late: an error in the command line is shown without it

        absl.logging.set_verbosity(absl.logging.ERROR)


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


def json_argument() -> Any:
    """The argument ``json`` of a verb with a result, as a field."""
    return declare(
        "",
        "JSON file to write with the result; without a name it is printed, and the other lines go "
        "to standard error.",
        bare="-",
    )


def engine_argument() -> Any:
    """The argument ``engine`` of a verb that runs an exported model, as a field."""
    return declare(
        AUTO,
        "Engine that runs the model: litert, onnx, openvino or tensorflow; auto: one without "
        "TensorFlow where a file of the model folder agrees with its exported model, else "
        "TensorFlow.",
    )


@contextlib.contextmanager
def printing_json(path: str) -> Iterator[Callable[[Any], None]]:
    """Inside the block, the yielded function writes the result that ``json_argument`` asks for.

    Args:
        path: the argument: a file, "-" for standard output, or "".
    """
    if path != "-":
        check_output("json", path)
        yield lambda value: _write_json(path, value) if path else None
        return
    output = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield lambda value: print(json.dumps(value, indent=2, ensure_ascii=False), file=output)


def _write_json(path: str, value: Any) -> None:
    files.write_json(path, value)
    print(f"wrote {path}")
