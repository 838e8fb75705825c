"""The declaration of one setting or argument: name, default, range, help and the rules it obeys.

    batch_size: int = declare(64, "Global batch size.", minimum=1)

The fields of a dataclass are options if they are made by ``declare``: the settings of a run
(``config.groups``) and the arguments of each verb (``cli``) are declared alike.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tf_image_classification.errors import ConfigError, nearest

_SWITCH = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting of a run, or one argument of a verb.

    An option takes effect or is rejected: ``applies``, ``needs``, ``excludes``, ``facts`` and
    ``verbs`` state when it takes effect, and ``config.rules`` checks them.

    Attributes:
        name: name of the flag and of the YAML key.
        group: the attribute of ``Settings`` that holds it; of an argument, its verb.
        kind: bool, int, float, str or tuple (of strings).
        default: value when nothing is given; None means "not set".
        help: effect, unit, and the meaning of 0 or None.
        separator: separates the values in one text of a list; "": a text is one value, e.g. the
            name of a file, which may contain commas.
        choices: allowed values, or empty.
        minimum: smallest allowed number, or None.
        maximum: largest allowed number, or None.
        form: pair of a test that every value must pass and the form that a message asks for.
        applies: another option and those values of it with which this one has an effect, or None.
        needs: another option that must be set for this one to have an effect, or "".
        excludes: another option that cannot be given together with this one, or "".
        facts: facts about spec, data and cluster that the option needs, as keys of the mapping
            that ``rules.check_facts`` takes.
        verbs: verbs of ``tfic`` in which it has an effect; a program counts as "train".
        resume: "same" when a run cannot be resumed with another value, else "free".
        inherited: whether an evaluation of a model folder takes the value that its run had; None:
            if ``resume`` is "same".
        is_exported: whether the value is part of the exported model, so that an evaluation of that
            cannot change it.
        is_required: whether an argument must be given.
        aliases: further names of the flag.
        metavar: name of the value in a usage line; empty: the option's in capitals.
        bare: value of the flag without a value, as in ``--json``; "": it must have one.
    """

    name: str
    group: str
    kind: type
    default: Any
    help: str
    separator: str = ","
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    form: tuple[Callable[[Any], bool], str] | None = None
    applies: tuple[str, tuple[Any, ...]] | None = None
    needs: str = ""
    excludes: str = ""
    facts: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resume: str = "same"
    inherited: bool | None = None
    is_exported: bool = False
    is_required: bool = False
    aliases: tuple[str, ...] = ()
    metavar: str = ""
    bare: str = ""

    @property
    def shown(self) -> str:
        """The name of the value in a usage line."""
        return self.metavar or self.name.upper()

    @property
    def is_inherited(self) -> bool:
        """Whether an evaluation of a model folder takes the value that its run had."""
        return self.resume == "same" if self.inherited is None else self.inherited

    def check(self, value: Any) -> Any:
        """The value in the option's type.

        Raises:
            ConfigError: wrong type or form, out of range or not among the choices.
        """
        if value is None:
            if self.default is None:
                return None
            raise ConfigError(f"{self.name}: no value is given, expected {self.expected}.")
        value = self._converted(value)
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"{self.name} is {value!r}, expected one of {', '.join(self.choices)}."
                f"{nearest(str(value).lower(), self.choices)}"
            )
        if self.kind is float and not math.isfinite(value):
            raise ConfigError(f"{self.name} is {value!r}, expected a finite number.")
        too_small = self.minimum is not None and not value >= self.minimum
        too_large = self.maximum is not None and not value <= self.maximum
        if self.kind in (int, float) and (too_small or too_large):
            raise ConfigError(f"{self.name} is {value!r}, expected {self.expected}.")
        if self.form is not None and not self.form[0](value):
            raise ConfigError(f"{self.name} is {value!r}, expected {self.form[1]}.")
        return value

    def read(self, texts: Sequence[str]) -> Any:
        """The value that the command line gives; of several texts the last one, or all of a list.

        Raises:
            ConfigError: as ``check``.
        """
        if self.kind is tuple:
            return self.check(tuple(part for text in texts for part in self.split(text)))
        text = texts[-1]
        if self.kind is bool:
            if text.lower() not in _SWITCH:
                raise ConfigError(f"{self.name} is {text!r}, expected true or false.")
            return _SWITCH[text.lower()]
        if self.kind is int:
            try:
                return self.check(int(text))
            except ValueError as error:
                if isinstance(error, ConfigError):
                    raise
        return self.check(text)

    def split(self, text: str) -> tuple[str, ...]:
        """The values in one text of a list."""
        if not self.separator:
            return (text,)
        return tuple(part.strip() for part in text.split(self.separator) if part.strip())

    def _converted(self, value: Any) -> Any:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if self.kind is tuple and isinstance(value, str):
            return self.split(value)
        if self.kind is tuple and isinstance(value, Sequence):
            return tuple(str(part) for part in value)
        number = {int: numbers.Integral, float: numbers.Real}.get(self.kind)  # NumPy's too
        if number is not None and isinstance(value, number) and not isinstance(value, bool):
            return self.kind(value)
        if self.kind is float and isinstance(value, str):  # YAML reads 1e-3 as a string
            try:
                return float(value)
            except ValueError:
                pass
        if type(value) is not self.kind:
            raise ConfigError(f"{self.name} is {value!r}, expected {self.expected}.")
        return value

    @property
    def expected(self) -> str:
        """The values that are accepted, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kinds = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            str: "a text",
            tuple: "a list",
        }
        text = kinds[self.kind]
        if self.minimum is not None and self.maximum is not None:
            return f"{text} from {_number(self.minimum)} to {_number(self.maximum)}"
        if self.minimum is not None:
            return f"{text} of at least {_number(self.minimum)}"
        return text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def declare(default: Any, help: str, **rules: Any) -> Any:
    """A field of a dataclass of options; rules as the attributes of ``Option``."""
    return dataclasses.field(default=default, metadata={"help": help, **rules})


def options_of(group: str, group_class: type[Any]) -> Iterator[Option]:
    """The options that a dataclass declares by its fields, as made by ``declare``.

    Rules that the class has as the attribute ``RULES`` hold for each field without its own.
    """
    hints = typing.get_type_hints(group_class)
    common = getattr(group_class, "RULES", {})
    for field in filter(lambda field: field.metadata, dataclasses.fields(group_class)):
        yield Option(
            name=field.name,
            group=group,
            kind=_plain_type(hints[field.name]),
            default=field.default,
            **{**common, **field.metadata},
        )


def _plain_type(hint: Any) -> type:
    if isinstance(hint, types.UnionType):
        hint = next(arm for arm in hint.__args__ if arm is not type(None))
    plain: type = typing.get_origin(hint) or hint
    return plain
