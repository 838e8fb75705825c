"""What the verbs share: taking an own argument out of the line, refusing flags that do nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tf_image_classification.config import OPTIONS, Settings
from tf_image_classification.errors import ConfigError


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
