"""What a release gate is to show of the second model: as good, not worse or better.

>>> claim = make_claim(not_worse="1 %")
>>> claim.kind, claim.margin, str(claim)
('not_worse', 0.01, 'B is at most 0.01 worse than A')
"""

from __future__ import annotations

import dataclasses
import math

from tf_image_classification.errors import UsageError

EQUIVALENT, NOT_WORSE, BETTER = KINDS = ("equivalent", "not_worse", "better")
"""Equivalence (TOST, Schuirmann 1987), non-inferiority and superiority."""

Margin = float | str | None
"""A difference, or a text like "0.01" or "1 %"; None: not given."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is to be shown of the difference of a metric, B minus A.

    Attributes:
        kind: one of ``KINDS``.
        margin: equivalent: B is less than this above or below A; not worse: less than this worse
            than A; better: more than this better than A. In units of the metric.
    """

    kind: str
    margin: float

    def __str__(self) -> str:
        margin = f"{self.margin:g}"
        if self.kind == EQUIVALENT:
            return f"B differs from A by at most {margin}"
        if self.kind == NOT_WORSE:
            return f"B is at most {margin} worse than A"
        return f"B is more than {margin} better than A" if self.margin else "B is better than A"


def make_claim(
    equivalent: Margin = None, not_worse: Margin = None, better: Margin | bool = None
) -> Claim | None:
    """The claim of which the margin is given; None without one.

    Args:
        equivalent: margin of an equivalence, more than 0.
        not_worse: margin of a non-inferiority, 0 or more.
        better: margin of a superiority, 0 or more; True: 0.

    Raises:
        UsageError: two are given, or a margin is not a number in its range.
    """
    given = {
        kind: value
        for kind, value in zip(KINDS, (equivalent, not_worse, better), strict=True)
        if value is not None and value is not False and value != ""
    }
    if not given:
        return None
    if len(given) > 1:
        names = " and ".join(f"--{name}" for name in given)
        raise UsageError(f"{names} are given; a gate tests one claim. Keep one.")
    [(kind, value)] = given.items()
    return Claim(kind, read_margin(kind, 0.0 if value is True else value))


def read_margin(name: str, value: float | str) -> float:
    """A margin as a number.

    Args:
        name: of the option, for messages.
        value: as ``Margin``.

    Raises:
        UsageError: it is not a number in the range of the claim.
    """
    try:
        text = str(value).strip()
        number = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(
            f"--{name} {value}: expected the largest difference that does not matter, e.g. 0.01 "
            "for one point of accuracy, or 1%."
        )
    if name == EQUIVALENT and number == 0:
        raise UsageError(
            "--equivalent 0: no finite number of examples shows that two models are exactly equal. "
            "Give the largest difference that does not matter, e.g. 0.01."
        )
    return number


def check_for_fraction(name: str, margin: float, metric: str) -> None:
    """Check the margin of a metric between 0 and 1.

    Raises:
        UsageError: every difference is within it; it was probably meant in percent.
    """
    if margin < 1:
        return
    raise UsageError(
        f"--{name} {margin:g}: {metric} lies between 0 and 1, so that every difference is "
        + (
            f"within it. For {margin:g} points write {margin / 100:g} or {margin:g}%."
            if margin < 100
            else "within it. Write e.g. 0.01."
        )
    )
