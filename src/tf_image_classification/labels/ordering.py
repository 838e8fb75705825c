"""The order of classes, inferred from numbers and ranges in their names.

>>> in_order(["1.0", "1.5", "1.25"])
('1.0', '1.25', '1.5')
>>> in_order(["low", "high"]) is None
True
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterable
from typing import Any

_NUMBER = r"[+\-\u2212]?(?:\d+(?:[.,]\d+)?|\.\d+)"
_TO = r"(?:-|\u2010|\u2011|\u2012|\u2013|\u2014|\u2212|to|bis|\.\.|:)"
_BELOW = r"(?:<=?|\u2264|under|below|less\s+than|up\s+to)"
_ABOVE = r"(?:>=?|\u2265|over|above|more\s+than|at\s+least)"
_AND_ABOVE = r"(?:\+|and\s+(?:over|above|more|older|up)|or\s+(?:over|above|more|older))"
_FORMS = (
    (re.compile(rf"({_NUMBER})\s*{_TO}\s*({_NUMBER})"), "range"),
    (re.compile(rf"{_BELOW}\s*({_NUMBER})"), "below"),
    (re.compile(rf"{_ABOVE}\s*({_NUMBER})"), "above"),
    (re.compile(rf"({_NUMBER})\s*{_AND_ABOVE}"), "above"),
    (re.compile(rf"({_NUMBER})"), "number"),
)


def in_order(names: Collection[str]) -> tuple[str, ...] | None:
    """Class names from lowest to highest, or None if the order is not certain.

    Parses numbers, ranges (``0.25-0.5``) and open ends (``<10``, ``60+``), with words around them
    that all names share (``grade 1``) or a word after each (``1 - poor``, ``2 - fair``). Ranges
    may touch; they must not overlap.

    Example:
        >>> in_order(["60+", "<10", "10-19"])
        ('<10', '10-19', '60+')
        >>> in_order(["10-20", "15-30"]) is None
        True
    """
    names = list(names)
    for bare in (_without_shared_words(names), [_beginning(name) for name in names]):
        spans = {name: _span(text) for name, text in zip(names, bare, strict=True)}
        ordered = sorted((span, name) for name, span in spans.items() if span is not None)
        if len(ordered) == len(names) and all(
            lower != higher and lower[1] <= higher[0]
            for (lower, _), (higher, _) in itertools.pairwise(ordered)
        ):
            return tuple(name for _, name in ordered)
    return None


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names in natural sort order: numbers inside them by value.

    Example:
        >>> natural_order(["a10", "a2", "-1", "b"])
        ('-1', 'a2', 'a10', 'b')
    """
    return tuple(sorted(names, key=_natural_key))


def _natural_key(text: str) -> tuple[Any, ...]:
    if re.fullmatch(r"-\d+", text):
        return ((-1, int(text), ""),), text
    parts = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", text))
    return parts, text  # the text distinguishes a1 and a01, which the numbers do not


def _without_shared_words(names: list[str]) -> list[str]:
    """Names without the letters before and after the numbers, if all names share them."""
    outer = [re.fullmatch(r"([^\W\d]*[\s_\-:]*)(.*?)([\s_\-]*[^\W\d]*\.?)", name) for name in names]
    before = {match[1] for match in outer if match}
    after = {match[3].removesuffix("s") for match in outer if match}
    bare = list(names)
    if len(before) == 1 and re.search(r"[^\W\d]", first := before.pop()):
        bare = [name.removeprefix(first) for name in bare]
    if len(after) == 1 and re.search(r"[^\W\d]", after.pop()):
        bare = [re.sub(r"[\s_\-]*[^\W\d]+\.?$", "", name) for name in bare]
    return bare


def _beginning(name: str) -> str:
    """The number or range at the start of a name, if words follow it."""
    match = re.match(r"([<>=\u2264\u2265]*\s*[\d.,+\-\u2013\s]*\d\+?)[\s\-_.:)]+[^\W\d]", name)
    return match[1] if match else name


def _span(text: str) -> tuple[float, float] | None:
    """The lowest and the highest number of a class, or None."""
    text = text.strip().lower()
    for form, kind in _FORMS:
        match = form.fullmatch(text)
        if match is None:
            continue
        numbers = [
            float(number.replace(",", ".").replace("\u2212", "-")) for number in match.groups()
        ]
        if kind == "range":
            return (numbers[0], numbers[1]) if numbers[0] <= numbers[1] else None
        if kind == "below":
            return -math.inf, numbers[0]
        return numbers[0], math.inf if kind == "above" else numbers[0]
    return None
