"""The folds of a cross-validation: chosen once for a whole training set, then stored.

plan = open_plan(settings, options, sources, data, spec="BackboneSpec")
plan.held(fold)             # ids of the examples that this fold holds out
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.config import OPTIONS, Settings
from tf_image_classification.dataset.folds import NEVER, divide_into_folds, folds_of_groups
from tf_image_classification.dataset.readers import Listing
from tf_image_classification.dataset.table import Table
from tf_image_classification.errors import ConfigError, DataError, RunMismatchError, counted
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files
from tf_image_classification.workflows.setup.context import Sources
from tf_image_classification.workflows.setup.fold_options import FoldOptions
from tf_image_classification.workflows.setup.held_out import groups_for, ids_of, values_of

_NOT_COMPARED = ("train_metadata", "cache_dir", "inspect", "on_bad_image")
"""Options with which a cross-validation may go on that was begun with others."""


@dataclasses.dataclass(frozen=True)
class Fold:
    """One fold: a training, and the examples that it holds out.

    Attributes:
        root: folder of the cross-validation.
        repeat: number of the division, from 1 on.
        number: of the fold in its division, from 1 on.
        group: the group that it holds out, or "".
    """

    root: str
    repeat: int
    number: int
    group: str = ""

    @property
    def folder(self) -> ModelFolder:
        """The model folder of its training."""
        name = f"fold-{self.number}"
        return ModelFolder(files.join(folder_of_repeat(self.root, self.repeat).path, name))

    @property
    def title(self) -> str:
        """Its name for people."""
        group = f" ({self.group})" if self.group else ""
        return f"{f'repeat {self.repeat}, ' if self.repeat > 1 else ''}fold {self.number}{group}"


def folder_of_repeat(root: str, repeat: int) -> ModelFolder:
    """The folder of the folds of one division: the first one's is that of the cross-validation."""
    return ModelFolder(files.join(root, f"repeat-{repeat}") if repeat > 1 else root)


@dataclasses.dataclass(frozen=True)
class FoldPlan:
    """The folds of a training set.

    Attributes:
        root: folder of the cross-validation.
        ids: of each example; see ``held_out.ids_of``.
        assigned: int [repeats, n], the fold that holds out each example, or ``NEVER``.
        groups: by fold the group that it holds out; empty without ``leave_one_group_out``.
        data: fingerprint of the training set.
        notes: sentences for the user.
        found_groups: by id the video or burst of each example that is in one.
    """

    root: str
    ids: Sequence[str]
    assigned: npt.NDArray[np.int64]
    groups: Sequence[str]
    data: str
    notes: tuple[str, ...] = ()
    found_groups: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def num_folds(self) -> int:
        """The number of folds of one division that hold out an example."""
        return len(set(self.assigned[0].tolist()) - {NEVER})

    @property
    def repeats(self) -> int:
        """The number of divisions."""
        return len(self.assigned)

    @property
    def folds(self) -> list[Fold]:
        """All folds, division by division."""
        return [
            Fold(self.root, repeat, number, self.groups[number - 1] if self.groups else "")
            for repeat, row in enumerate(self.assigned, 1)
            for number in sorted(set(row.tolist()) - {NEVER})
        ]

    def members(self, fold: Fold) -> npt.NDArray[np.int64]:
        """The indices of the examples that a fold holds out."""
        return np.flatnonzero(self.assigned[fold.repeat - 1] == fold.number)

    def held(self, fold: Fold) -> frozenset[str]:
        """Their ids."""
        return frozenset(self.ids[i] for i in self.members(fold).tolist())


def open_plan(
    settings: Settings,
    options: FoldOptions,
    sources: Sources,
    table: Table,
    schema: LabelSchema,
    spec: str,
) -> FoldPlan:
    """The folds that the folder of a cross-validation lists, or a new choice, which is stored.

    Args:
        settings: of the cross-validation.
        options: how the set is divided.
        sources: finds the training set.
        table: the whole training set.
        schema: its labels.
        spec: name of the spec.

    Raises:
        ConfigError: the set cannot be divided like this.
        DataError: the stored list is damaged.
        RunMismatchError: the folder belongs to another cross-validation.
    """
    root = settings.run.model_dir
    listing, _ = sources.find(settings.data.train_metadata, "train_metadata", settings)
    ids = ids_of(listing)
    described = {
        "data": table.fingerprint,
        "num_examples": len(ids),
        "spec": spec,
        "division": dataclasses.asdict(options),
        "settings": _compared(settings),
    }
    stored = read_plan(root)
    if stored is not None:
        _check_same(root, stored, json.loads(json.dumps(described)), ids)
        return _plan(root, ids, stored)
    column = settings.data.group_column
    classes = _classes(table, schema)
    groups: list[str] = []
    notes: list[str] = []
    if options.leave_one_group_out:
        of_examples = values_of(listing, column)
        assigned, groups = folds_of_groups(of_examples, classes)
        rows = [assigned]
        found = groups_for(listing, settings.replace(group_column=""))
        across = _across_groups(found.of, of_examples)
        if across:
            notes.append(
                f"{counted(across, 'image has', 'images have')} a near-duplicate, or a frame of "
                "the same video, in another group, which stays in training: tfic inspect lists them"
            )
    else:
        found = groups_for(listing, settings)
        ties = [[name] if name else [] for name in found.of]
        if found.summary():
            notes.append(f"{found.summary()}, each in one fold (--groups none: divide them)")
        rows = [
            divide_into_folds(ids, classes, options.folds, ties, seed=repeat)
            for repeat in range(options.repeats)
        ]
    never = sum(fold == NEVER for fold in rows[0])
    if never == len(ids):
        raise ConfigError(
            "No example can be held out: no class has two examples or groups. Give more examples."
        )
    if never:
        notes.append(
            f"{counted(never, 'example is', 'examples are')} always trained on and never scored: "
            "without it no training would have its class, or it has no group"
        )
    if not groups:
        notes += _few(classes, rows[0], options.folds)
    examples = [dict(zip(ids, row, strict=True)) for row in rows]
    stored = {**described, "groups": groups, "notes": notes, "examples": examples}
    if found.summary():
        stored["found_groups"] = {
            own: name for own, name in zip(ids, found.of, strict=True) if name
        }
    files.make_folder(root)
    files.write_json(ModelFolder(root).cross_validation, stored)
    return _plan(root, ids, stored)


def stored_plan(root: str, listing: Listing, data: str) -> FoldPlan:
    """The folds of a cross-validation that exists.

    Args:
        root: its folder.
        listing: its training set.
        data: fingerprint of the training set.

    Raises:
        DataError: the list of the folds is gone or damaged.
        RunMismatchError: the training set has changed.
    """
    stored, ids = read_plan(root), ids_of(listing)
    if stored is None:
        raise DataError(f"{root} is not the folder of a cross-validation.")
    _check_same(root, stored, stored | {"data": data}, ids)
    return _plan(root, ids, stored)


def read_plan(root: str) -> dict[str, Any] | None:
    """The content of cross_validation.json, or None.

    Raises:
        DataError: it is damaged.
    """
    path = ModelFolder(root).cross_validation
    if not files.exists(path):
        return None
    try:
        stored: dict[str, Any] = files.read_json(path)
        missing = {"data", "division", "settings", "groups", "notes", "examples"} - set(stored)
        if missing:
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}, the list of the folds, is damaged: {error}. Restore it from a copy; or "
            "remove the folder, and start again."
        ) from error
    return stored


def _plan(root: str, ids: Sequence[str], stored: Mapping[str, Any]) -> FoldPlan:
    assigned = np.array([[row[own] for own in ids] for row in stored["examples"]], np.int64)
    return FoldPlan(
        root,
        ids,
        assigned,
        stored["groups"],
        stored["data"],
        tuple(stored["notes"]),
        stored.get("found_groups", {}),
    )


def _compared(settings: Settings) -> dict[str, Any]:
    """The settings that all folds must have in common, as far as the user has chosen them."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in sorted(settings.values().items())
        if settings.is_chosen(name)
        and (OPTIONS[name].group not in ("run", "checkpoints") or name == "seed")
        and name not in _NOT_COMPARED
    }


def _check_same(
    root: str, stored: Mapping[str, Any], now: Mapping[str, Any], ids: Sequence[str]
) -> None:
    differences = []
    before = set(stored["examples"][0])
    added, gone = sorted(set(ids) - before), sorted(before - set(ids))
    for names, what in ((added, "new"), (gone, "gone")):
        if names:
            verb = "is" if len(names) == 1 else "are"
            examples = counted(len(names), "example", "examples")
            differences.append(f"data: {examples} {verb} {what}, e.g. {names[0]}")
    if not differences and stored["data"] != now["data"]:
        differences.append("data: labels or images have changed")
    for key in ("spec", "division", "settings"):
        there, here = stored[key], now[key]
        if there != here and isinstance(here, dict):
            names = [n for n in {**there, **here} if there.get(n) != here.get(n)]
            differences += [
                f"{n}: {there.get(n, 'not given')} there, {here.get(n, 'not given')} now"
                for n in names
            ]
        elif there != here:
            differences.append(f"{key}: {there} there, {here} now")
    if differences:
        raise RunMismatchError(
            f"{root} belongs to another cross-validation:\n  "
            + "\n  ".join(differences)
            + "\nRepeat data and settings to resume it, or use another --model_dir for a new one."
        )


def _classes(table: Table, schema: LabelSchema) -> list[list[str]]:
    """The classes of each example over all labels, for the division."""
    found: list[list[str]] = [[] for _ in range(table.num_examples)]
    for label in schema:
        if not label.has_classes:
            continue
        column, names = table.columns[label.name], label.named_classes()
        for i in np.flatnonzero(column.mask).tolist():
            value = column.values[i]
            numbers = np.flatnonzero(value) if label.kind == MULTILABEL else [int(value)]
            found[i] += [f"{label.name} {names[k]}" for k in numbers]
    return found


def _across_groups(found: Sequence[str], groups: Sequence[str]) -> int:
    """The number of examples that belong together with one of another group."""
    homes: dict[str, set[str]] = {}
    for name, group in zip(found, groups, strict=True):
        homes.setdefault(name, set()).add(group)
    return sum(bool(name) and len(homes[name]) > 1 for name in found)


def _few(classes: Sequence[Sequence[str]], folds: Sequence[int], num_folds: int) -> list[str]:
    """A note on classes that not every fold holds out an example of."""
    homes: dict[str, set[int]] = {}
    for of_example, fold in zip(classes, folds, strict=True):
        for name in of_example:
            homes.setdefault(name, set()).add(fold)
    rare = sorted(name for name, found in homes.items() if len(found - {NEVER}) < num_folds)
    if not rare:
        return []
    more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
    return [
        f"not every fold has an example of {', '.join(rare[:5])}{more}: fewer examples or groups "
        "than folds. Every training has each class"
    ]
