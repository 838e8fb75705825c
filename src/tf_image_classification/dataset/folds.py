"""Folds of a cross-validation: every example is held out once, by a hash of its name.

divide_into_folds(["1.jpg", "2.jpg", "3.jpg", "4.jpg"], [{"cat"}] * 4, 2)    # [2, 1, 1, 2]
folds_of_groups(["ann", "ann", "bob"], [{"cat"}, {"dog"}, {"cat"}])          # ([1, 1, 2], ...)
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Sequence

from tf_image_classification.dataset.split import place_of, tied
from tf_image_classification.errors import ConfigError, counted

NEVER = 0
"""The fold of an example that is never held out: without it no training would have its class."""


def divide_into_folds(
    ids: Sequence[str],
    classes: Sequence[Collection[str]],
    num_folds: int,
    ties: Sequence[Collection[str]] = (),
    *,
    seed: int = 0,
) -> list[int]:
    """The fold in which each example is held out, from 1 on, or ``NEVER``.

    It depends on the ids and not on the sequence of the examples. Units of examples that stay
    together are dealt to the folds, the largest first and equal ones by hash: each goes to the fold
    that has the smallest fraction of its classes so far (as ``StratifiedGroupKFold`` of
    scikit-learn), then to the smallest one. The training of every fold has an example of each
    class.

    Args:
        ids: of each example; equal ones stay together.
        classes: of each example; none of an example without a class label.
        num_folds: at least 2.
        ties: of each example, further texts; examples that have one in common stay together.
        seed: of the hash; another one gives other folds.

    Raises:
        ConfigError: there are too few units for so many folds.

    Example:
        >>> folds = divide_into_folds([f"{i}.jpg" for i in range(10)], [{"cat"}] * 10, 5)
        >>> sorted(folds)
        [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    """
    units = tied(ids, ties)
    if len(units) < num_folds:
        kind = "examples" if len(units) == len(ids) else "groups of examples that stay together"
        raise ConfigError(
            f"folds is {num_folds}, but there are only {len(units)} {kind}. Give --folds "
            f"{max(len(units), 2)} or fewer."
        )
    contents = [collections.Counter(c for i in unit for c in classes[i] or ("",)) for unit in units]
    totals = sum(contents, collections.Counter[str]())
    places = [min((place_of(ids[i], seed), ids[i]) for i in unit) for unit in units]
    order = sorted(range(len(units)), key=lambda u: (-len(units[u]), places[u]))
    counts = [collections.Counter[str]() for _ in range(num_folds)]
    sizes = [0] * num_folds
    chosen = [NEVER] * len(units)
    for u in order:
        load = [sum(counts[f][c] / totals[c] for c in contents[u]) for f in range(num_folds)]
        fold = min(range(num_folds), key=lambda f: (round(load[f], 9), sizes[f], f))
        chosen[u] = fold + 1
        counts[fold].update(contents[u])
        sizes[fold] += len(units[u])
    _train_every_class(chosen, contents, num_folds, order)
    return _by_example(chosen, units, len(ids))


def folds_of_groups(
    groups: Sequence[str], classes: Sequence[Collection[str]]
) -> tuple[list[int], list[str]]:
    """The fold of each example, where each group is one, and the groups by fold.

    The examples of no group, "", are never held out, and neither are those of a class that only
    one group has.

    Raises:
        ConfigError: there are fewer than two groups that can be held out.
    """
    names = sorted({group for group in groups if group}, key=_natural)
    numbers = {name: k for k, name in enumerate(names, 1)}
    folds = [numbers.get(group, NEVER) for group in groups]
    homes: dict[str, set[int]] = {}
    for fold, of_example in zip(folds, classes, strict=True):
        for name in of_example:
            homes.setdefault(name, set()).add(fold)
    folds = [
        NEVER if any(len(homes[name]) == 1 for name in of_example) else fold
        for fold, of_example in zip(folds, classes, strict=True)
    ]
    if len(set(folds) - {NEVER}) < 2:
        raise ConfigError(
            f"leave_one_group_out: {counted(len(names), 'group has', 'groups have')} a name, and "
            f"{len(set(folds) - {NEVER})} of them can be held out, expected at least 2. Classes "
            "that only one group has are never held out. Give --folds without "
            "--leave_one_group_out."
        )
    return folds, names


def _natural(text: str) -> tuple[int, float, str]:
    """Numbers by their value, before texts."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def _train_every_class(
    chosen: list[int],
    contents: Sequence[Collection[str]],
    num_folds: int,
    order: Sequence[int],
) -> None:
    """Move units so that no fold holds out a whole class; a class of one unit is never held out."""
    members: dict[str, list[int]] = {}
    for u in order:
        for name in contents[u]:
            members.setdefault(name, []).append(u)

    def is_trained(name: str) -> bool:
        folds = {chosen[u] for u in members[name]}
        return NEVER in folds or len(folds) > 1

    for name, of_class in members.items():
        last = of_class[-1]
        if len(of_class) > 1 and not is_trained(name):
            chosen[last] = chosen[last] % num_folds + 1
        if not all(map(is_trained, contents[last])):
            chosen[last] = NEVER


def _by_example(of_units: Sequence[int], units: Sequence[Sequence[int]], count: int) -> list[int]:
    folds = [NEVER] * count
    for fold, unit in zip(of_units, units, strict=True):
        for i in unit:
            folds[i] = fold
    return folds
