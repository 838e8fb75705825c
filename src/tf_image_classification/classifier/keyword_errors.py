"""Errors of a call from Python name its keywords, not the flags of the command line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from tf_image_classification.config import OPTIONS
from tf_image_classification.errors import TficError

_COMMAND = r"(?:tfic|pip|python) (?:[^.;,]|\.(?=\S))*"
"""A command in a message: it is typed in a shell, and stays as it is."""

_FLAG = r"(?<![\w-])--(?P<name>[a-z][a-z0-9_]*)(?:[ =](?P<value>[\w./:=*-]*[\w/*]))?"
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


@contextlib.contextmanager
def keyword_errors() -> Iterator[None]:
    """Errors that leave the block name keywords; also a decorator."""
    try:
        yield
    except TficError as error:
        error.args = tuple(
            in_keywords(each) if isinstance(each, str) else each for each in error.args
        )
        raise


def in_keywords(message: str) -> str:
    """A message whose flags are written as the keywords of a call.

    Example:
        >>> in_keywords("Give a larger --epochs, or --precision mixed_bfloat16.")
        "Give a larger epochs, or precision='mixed_bfloat16'."
        >>> in_keywords("Add --allow_changes, or --noinspect. See tfic train --help.")
        'Add allow_changes=True, or inspect=False. See tfic train --help.'
    """
    return re.sub(f"(?P<command>{_COMMAND})|{_FLAG}", _keyword, message)


def _keyword(found: re.Match[str]) -> str:
    if found["command"]:
        return found["command"]
    name, word = found["name"], found["value"] or ""
    rest = f" {word}" if word else ""
    option = OPTIONS.get(name)
    if option is None and name.startswith("no") and name[2:] in OPTIONS:
        return f"{name[2:]}=False{rest}"
    if option is not None and option.kind is bool:
        return f"{name}=True{rest}"
    if _NUMBER.fullmatch(word) or word.isupper():
        return f"{name}={word}"
    choices = option.choices if option else ()
    is_value = word in choices or bool(set(word) & set("./:=_")) or word[:1].isdigit()
    return f"{name}={word!r}" if is_value else name + rest
