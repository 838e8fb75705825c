"""What one setting is: its name, default, unit, range, help and when it applies.

batch_size: int = declare(64, "Examples in a step, over all devices.", minimum=1)
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from tf_image_classification.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting.

    Attributes:
        name: the flag's and the YAML key's name.
        group: the attribute of ``Settings`` that holds it.
        kind: bool, int, float, str or tuple (of strings).
        default: value when nothing is given; None means "not set".
        help: what it does, its unit and its meaning of 0 or None.
        choices: allowed values, or empty.
        minimum: least allowed number, or None.
        maximum: greatest allowed number, or None.
        applies: name of another setting and the values of it under which this one acts, or None.
        excludes: another setting that may not be given together with this one.
        resume: "same" when a run may not be continued with another value, else "free".
        aliases: further names of the flag.
    """

    name: str
    group: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    applies: tuple[str, tuple[Any, ...]] | None = None
    excludes: str | None = None
    resume: str = "same"
    aliases: tuple[str, ...] = ()

    def check(self, value: Any) -> Any:
        """The value in the option's type.

        Raises:
            ConfigError: wrong type, out of range or not among the choices.
        """
        if value is None:
            if self.default is None:
                return None
            raise ConfigError(f"{self.name}: no value is given, expected {self._expected()}.")
        value = self._converted(value)
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"{self.name} is {value!r}, expected one of {', '.join(self.choices)}."
                f"{nearest(str(value), self.choices)}"
            )
        if self.kind is float and not math.isfinite(value):
            raise ConfigError(f"{self.name} is {value!r}, expected a finite number.")
        too_small = self.minimum is not None and not value >= self.minimum
        too_large = self.maximum is not None and not value <= self.maximum
        if self.kind in (int, float) and (too_small or too_large):
            raise ConfigError(f"{self.name} is {value!r}, expected {self._expected()}.")
        return value

    def _converted(self, value: Any) -> Any:
        if self.kind is tuple and isinstance(value, str):
            return self.split(value)
        if self.kind is tuple and isinstance(value, Sequence):
            return tuple(str(part) for part in value)
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if self.kind is float and isinstance(value, str):  # YAML reads 1e-3 as a string
            try:
                return float(value)
            except ValueError:
                pass
        if type(value) is not self.kind:
            raise ConfigError(f"{self.name} is {value!r}, expected {self._expected()}.")
        return value

    def split(self, text: str) -> tuple[str, ...]:
        """The values that one text of a list stands for: comma-separated, but for patterns.

        Patterns stay whole, because names of files may hold commas.
        """
        if self.name.endswith("metadata"):
            return (text,)
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def _expected(self) -> str:
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
            return f"{text} from {self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f"{text} of at least {self.minimum:g}"
        return text


def declare(default: Any, help: str, **rules: Any) -> Any:
    """A field of a dataclass of options; rules as the attributes of ``Option``."""
    return dataclasses.field(default=default, metadata={"help": help, **rules})


def options_of(group: str, group_class: type[Any]) -> Iterator[Option]:
    """The options that a dataclass declares by its fields, as made by ``declare``."""
    hints = typing.get_type_hints(group_class)
    for field in filter(lambda field: field.metadata, dataclasses.fields(group_class)):
        yield Option(
            name=field.name,
            group=group,
            kind=_plain_type(hints[field.name]),
            default=field.default,
            **field.metadata,
        )


def _plain_type(hint: Any) -> type:
    if isinstance(hint, types.UnionType):
        hint = next(arm for arm in hint.__args__ if arm is not type(None))
    plain: type = typing.get_origin(hint) or hint
    return plain
