"""The one parser of command lines: of every verb of tfic and of programs that call ``train``.

    >>> from tf_image_classification.config import OPTIONS
    >>> read_line(["--batch-size", "32", "--noinspect"], OPTIONS).values(OPTIONS)
    {'batch_size': 32, 'inspect': False}

Spellings: ``--model_dir`` and ``--model-dir``, one dash or two, ``--flag value`` and
``--flag=value``; a boolean is ``--flag``, ``--noflag``, ``--no-flag`` or ``--flag=true``. All words
after a list's flag are its values, since a shell expands ``--train_metadata train*``. Of several
values of another flag the last one counts. ``~`` is the home folder.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tf_image_classification.config.options import Option
from tf_image_classification.errors import ConfigError, UsageError, nearest

FOREIGN = "other packages"
"""Group of flags that absl and other packages define, which are not suggested."""

HELP = ("h", "help", "helpshort")
HELP_ALL = ("help_all", "helpfull")
VERSION = ("V", "version")
_FLAG = re.compile(r"--?([A-Za-z][\w-]*)(?:(=)(.*))?", re.DOTALL)
_WEIGHTS = (".ckpt", ".h5", ".hdf5", ".keras", ".weights")


def names_of_flag(flag: str) -> list[str]:
    """The names that a flag may stand for, the likeliest first.

    Example:
        >>> names_of_flag("--no-inspect")
        ['no-inspect', 'no_inspect', 'inspect']
    """
    flag = flag.lstrip("-")
    plain = flag.replace("-", "_")
    negated = [plain.removeprefix(no) for no in ("no_", "no") if plain.startswith(no)]
    return [flag, plain, *negated[:1]]


@dataclasses.dataclass
class Line:
    """A parsed command line.

    Attributes:
        pairs: flags and positional arguments with their texts, in order; a flag by the name that
            was used, which may be an alias.
        unknown: unknown flags and their values, where they are passed on.
        asks_for_help: whether help is asked for.
        asks_for_all: whether it is help about all options.
        asks_for_version: whether the version is asked for.
    """

    pairs: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    unknown: list[str] = dataclasses.field(default_factory=list)
    asks_for_help: bool = False
    asks_for_all: bool = False
    asks_for_version: bool = False

    def values(self, options: Mapping[str, Option]) -> dict[str, Any]:
        """The value of each option that was given, by its name.

        Raises:
            UsageError: a value has the wrong form, or an option is given by two names.
        """
        names = {spelled: o.name for o in options.values() for spelled in (o.name, *o.aliases)}
        texts: dict[str, dict[str, list[str]]] = {}
        for spelled, text in self.pairs:
            if spelled in names:
                texts.setdefault(names[spelled], {}).setdefault(spelled, []).append(text)
        found = {}
        for name, given in texts.items():
            if len(given) > 1:
                raise UsageError(f"--{' and --'.join(given)} are two names of one setting.")
            try:
                found[name] = options[name].read(next(iter(given.values())))
            except ConfigError as error:
                raise UsageError(f"--{error}") from error
        return found


def read_line(
    arguments: Sequence[str],
    options: Mapping[str, Option],
    *,
    positions: Sequence[str] = (),
    rest: str = "",
    passes_on: bool = False,
    explain: Callable[[str], str] = lambda flag: "",
    suggestions: Sequence[str] = (),
) -> Line:
    """Parse a command line without the name of its program.

    Args:
        arguments: the words.
        options: all options by name.
        positions: names of the options that can be given without their flag, in this order; a list
            takes all words that are left.
        rest: name of a list that takes all words from the first one that is neither a flag nor a
            positional argument, or after ``--``: a command with flags of its own.
        passes_on: whether unknown flags are kept for another program.
        explain: the message for an unknown flag; "": near names are suggested.
        suggestions: names that are suggested besides those of the options.

    Raises:
        UsageError: an unknown flag, a flag without a value or a word that belongs to no flag;
            not if help is asked for.
    """
    reader = _Reader(options, tuple(positions), rest, passes_on, explain, suggestions)
    reader.read(list(arguments))
    is_question = reader.line.asks_for_help or reader.line.asks_for_version
    if reader.problems and not is_question:
        raise UsageError(reader.problems[0])
    return reader.line


@dataclasses.dataclass
class _Reader:
    """The state of parsing one command line; the fields as the arguments of ``read_line``."""

    options: Mapping[str, Option]
    positions: tuple[str, ...]
    rest: str
    passes_on: bool
    explain: Callable[[str], str]
    suggestions: Sequence[str]
    line: Line = dataclasses.field(default_factory=Line)
    problems: list[str] = dataclasses.field(default_factory=list)
    words: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = {n: o for o in self.options.values() for n in (o.name, *o.aliases)}

    def read(self, remaining: list[str]) -> None:
        open_list = ""
        while remaining:
            word = remaining.pop(0)
            flag = _FLAG.fullmatch(word)
            if word == "--":
                if not self.rest:
                    self.words += remaining
                break
            if flag is not None:
                open_list = self._read_flag(flag, remaining)
            elif open_list:
                self._add(open_list, word)
            elif self.rest and len(self.words) >= len(self.positions):
                remaining.insert(0, word)
                break
            else:
                self.words.append(word)
        self.line.pairs += [(self.rest, word) for word in remaining if self.rest]
        self._assign_words()
        self._check_required()

    def _read_flag(self, flag: re.Match[str], remaining: list[str]) -> str:
        """Take a flag and its value; returns the list whose values may follow."""
        spelled, equals, text = flag[1], flag[2], flag[3]
        name, is_negated = self._find(spelled)
        has_word = bool(remaining) and not _FLAG.fullmatch(remaining[0]) and remaining[0] != "--"
        if not name and spelled.replace("-", "_") in (*HELP, *HELP_ALL):
            self.line.asks_for_help = True
            self.line.asks_for_all |= spelled.replace("-", "_") in HELP_ALL
        elif not name and spelled in VERSION:
            self.line.asks_for_version = True
        elif not name and self.passes_on:
            self.line.unknown.append(flag[0])
            if not equals and has_word:
                self.line.unknown.append(remaining.pop(0))
        elif not name:
            self.problems.append(self._unknown(flag[0].partition("=")[0]))
        elif self.names[name].kind is bool:
            if is_negated and equals:
                self.problems.append(f"--{spelled} takes no value.")
            elif not equals and has_word and remaining[0].lower() in ("true", "false"):
                word = remaining.pop(0)
                self.problems.append(
                    f"{word!r} belongs to no flag. Write --{name}={word}, or --{name} alone."
                )
            else:
                self._add(name, text if equals else str(not is_negated).lower())
        elif equals:
            if text or self.names[name].kind is str:
                self._add(name, text)
            else:
                self.problems.append(f"--{spelled}= has no value. Write --{spelled}=VALUE.")
        elif has_word:
            self._add(name, remaining.pop(0))
        elif self.names[name].bare:
            self._add(name, self.names[name].bare)
        elif self.names[name].kind is tuple:
            self.problems.append(
                f"--{spelled} has no value. Write --{spelled} VALUE, or more than one; if it was a "
                "pattern, it matches no file."
            )
        else:
            self.problems.append(f"--{spelled} has no value. Write --{spelled} VALUE.")
        return name if name and self.names[name].kind is tuple else ""

    def _find(self, spelled: str) -> tuple[str, bool]:
        """The name of an option that a flag stands for, or "", and whether it is negated."""
        for i, name in enumerate(names_of_flag(spelled)):
            is_negated = i > 1
            if name in self.names and not (is_negated and self.names[name].kind is not bool):
                return name, is_negated
        return "", False

    def _add(self, name: str, text: str) -> None:
        self.line.pairs.append((name, os.path.expanduser(text)))

    def _given(self) -> set[str]:
        return {self.names[spelled].name for spelled, _ in self.line.pairs}

    def _unknown(self, flag: str) -> str:
        known = [n for n, option in self.names.items() if option.group != FOREIGN]
        near = nearest(names_of_flag(flag)[1], {*known, *self.suggestions, "help"})
        return self.explain(flag) or f"Unknown flag {flag}.{near}"

    def _assign_words(self) -> None:
        """Give the words without a flag to the positional arguments that have no value yet."""
        given = self._given()
        for name in self.positions:
            if name == "train_metadata" and self.words and (problem := self._why_no_data(given)):
                self.problems.append(problem)
                return
            if name in given or not self.words:
                continue
            is_list = self.options[name].kind is tuple
            taken = self.words if is_list else self.words[:1]
            self.words = self.words[len(taken) :]
            for word in taken:
                self._add(name, word)
        if self.words:
            shown = " ".join(self.words[:3])
            shown += f" and {len(self.words) - 3} more" if len(self.words) > 3 else ""
            advice = self._where_it_belongs(self.words[0])
            if not advice and self.words[1:]:
                advice = "Quote a pattern, so that the shell does not expand it."
            advice = advice or "Write --name value or --name=value."
            self.problems.append(f"{shown!r} belongs to no flag. {advice}")

    def _why_no_data(self, given: Collection[str]) -> str:
        """The problem with words in the place of the training set, or ""."""
        if "train_metadata" in given:
            return (
                f"The training set is given twice, as {self.words[0]!r} and by --train_metadata. "
                "Give it once."
            )
        for word in self.words:
            advice = self._where_it_belongs(word)
            if not advice:
                near = nearest(word, os.listdir()) or " Write --name value or --name=value."
                return f"{word!r} belongs to no flag, and there is no such file or folder.{near}"
            if not advice.startswith("For data"):
                return f"{word!r} belongs to no flag. {advice}"
        return ""

    def _check_required(self) -> None:
        for name in self.positions:
            if name not in self._given():
                self._take_from_list(name)
        given = self._given()
        names = dict.fromkeys([*self.positions, *self.options])
        missing = [n for n in names if self.options[n].is_required and n not in given]
        if missing:
            self.problems.append(f"missing: {', '.join(map(self._shown, missing))}.")

    def _shown(self, name: str) -> str:
        return self.options[name].shown if name in (*self.positions, self.rest) else f"--{name}"

    def _take_from_list(self, name: str) -> None:
        """Give a positional argument the last word after a list's flag, if it belongs there.

        As in ``--format onnx runs/pets``: if the argument must be given, or the word is a model
        folder.
        """
        pairs = self.line.pairs
        for i in range(len(pairs) - 1, 0, -1):
            (flag, word), before = pairs[i], pairs[i - 1][0]
            is_list = flag == before and self.names[flag].kind is tuple
            if not is_list or flag in (*self.positions, self.rest):
                continue
            is_wanted = self.options[name].is_required
            if is_wanted or (name == "model_dir" and is_model_folder(word)):
                pairs[i] = (name, word)
                return

    def _where_it_belongs(self, word: str) -> str:
        """The advice for a word that belongs to no flag, or ""."""
        name, equals, _ = word.partition("=")
        if equals and name in self.names:
            return f"Write --{word}."
        lists = (n for n in ("train_metadata", "eval_metadata") if n in self.options)
        data = [f"--{name} {word}" for name in lists]
        is_data = os.path.exists(word) or any(sign in word for sign in "./*:")
        kinds = (
            ("spec", _is_spec(word), f"For a spec write --spec {word}."),
            (
                "spec",
                word.endswith(".py"),
                f"For a spec write --spec {word}:Class; a program is run with python {word}.",
            ),
            ("config", word.endswith((".yml", ".yaml")), f"For settings write --config {word}."),
            (
                "checkpoint_path",
                word.endswith(_WEIGHTS),
                f"For weights write --checkpoint_path {word}.",
            ),
            ("model_dir", is_model_folder(word), f"For a model folder write --model_dir {word}."),
        )
        for option, fits, advice in kinds:
            if fits and option in {*self.names} - {*self.positions}:
                return advice
        return f"For data write {', or '.join(data)}." if data and is_data else ""


_SPEC = r"([\w./\\-]+):[A-Za-z_]\w*"


def _is_spec(word: str) -> bool:
    """Whether a word is module:Class or file.py:Class, and not PATH:PART or tfds:NAME."""
    found = re.fullmatch(_SPEC, word)
    if found is None or found[1] == "tfds":
        return False
    return found[1].endswith(".py") or not os.path.exists(found[1])


def is_model_folder(path: str) -> bool:
    """Whether a local path is a model folder; used before TensorFlow is imported."""
    return "://" not in path and os.path.isfile(os.path.join(path, "run.json"))
