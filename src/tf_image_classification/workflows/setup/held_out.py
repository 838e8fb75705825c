"""The held-out examples of a training set that has no evaluation set: chosen once, then stored.

held = hold_out_of(listing, settings)       # those that the model folder lists, or a new choice
held.training, held.evaluation              # two listings
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tf_image_classification.config import NO_GROUPS, Settings
from tf_image_classification.dataset.image_digests import digests
from tf_image_classification.dataset.label_columns import class_column
from tf_image_classification.dataset.label_discovery import kind_of
from tf_image_classification.dataset.readers import Listing, Value
from tf_image_classification.dataset.readers.columns import typed
from tf_image_classification.dataset.split import hold_out
from tf_image_classification.errors import ConfigError, DataError, RunMismatchError, did_you_mean
from tf_image_classification.inspection.example_groups import Groups, Trace, find_groups
from tf_image_classification.inspection.listing_groups import MOST_READ, groups_of_listing
from tf_image_classification.labels import split_classes
from tf_image_classification.labels.schema import REGRESSION
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A training set of which a part is held out.

    Attributes:
        listing: all examples.
        ids: of each example; see ``ids_of``.
        held: the ids that are held out; those of a model folder may name examples that are gone.
        fraction: the option ``eval_split``.
        groups: of the examples, where they were divided now; None: the model folder listed them.
        stored: by id the group of a held-out example, as the model folder lists it.
    """

    listing: Listing
    ids: Sequence[str]
    held: frozenset[str]
    fraction: float
    groups: Groups | None = None
    stored: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def num_held(self) -> int:
        """The number of examples that are held out."""
        return sum(own in self.held for own in self.ids)

    @functools.cached_property
    def training(self) -> Listing:
        """The examples for training, with all skipped files."""
        return self._part(is_training=True)

    @functools.cached_property
    def evaluation(self) -> Listing:
        """The held-out examples."""
        return dataclasses.replace(self._part(is_training=False), left_out=())

    def _part(self, *, is_training: bool) -> Listing:
        chosen = [i for i, own in enumerate(self.ids) if (own in self.held) != is_training]
        part = self.listing.select(chosen)
        if part.content:  # of whole files, which have examples of both parts
            text = repr((is_training, sorted(self.held))).encode()
            digest = hashlib.sha256(text).hexdigest()
            part = dataclasses.replace(part, content=[each + digest for each in part.content])
        return part

    @property
    def held_groups(self) -> dict[str, str]:
        """By id, the group of each held-out example that is in a video or burst, or beside one."""
        if self.groups is None or not self.groups.summary():
            return dict(self.stored)
        pairs = zip(self.ids, self.groups.of, strict=True)
        return {own: group for own, group in pairs if group and own in self.held}

    @property
    def evaluation_groups(self) -> list[str]:
        """The group of each held-out example, in the sequence of ``evaluation``; "" for none."""
        names = self.held_groups
        return [names.get(own, "") for own in self.ids if own in self.held]

    def note(self, source: str) -> str:
        """A sentence about the held-out part."""
        text = (
            f"evaluation set: {self.num_held} of the {len(self.listing)} examples of {source}, "
            f"held out from training (--eval_split {self.fraction:g})"
        )
        gone = sorted(self.held.difference(self.ids))
        if gone:
            text += f"; {len(gone)} more are in the model folder's list but gone, e.g. {gone[0]}"
        return text + self._note_on_groups()

    def _note_on_groups(self) -> str:
        if self.groups is None:
            return ""
        found = self.groups.summary()
        text = f"\ngroups: {found}, each on one side (--groups none: divide them)" if found else ""
        if self.groups.lifted:
            text += (
                f"\ngroups: all images of {', '.join(self.groups.lifted[:5])} seem to be of one "
                "video or burst and are divided all the same: expect lower accuracy on others"
            )
        return text

    def to_json(self) -> dict[str, Any]:
        """The content of held_out.json."""
        content = {"eval_split": self.fraction, "examples": sorted(self.held)}
        groups = self.held_groups
        return content | {"groups": groups} if groups else content


def hold_out_of(listing: Listing, settings: Settings) -> HeldOut:
    """The training set with its held-out part: that which the model folder lists, or a new choice.

    A new choice depends on the names of the examples, or on the content of those without a name.
    It divides each class; the examples of a group stay together, see ``groups_for``.

    Raises:
        ConfigError: ``group_column`` names no column.
        DataError: the model folder's list is damaged.
        RunMismatchError: none of the examples that it lists is there.
    """
    fraction, ids = settings.data.eval_split, ids_of(listing)
    stored, names = _stored(ModelFolder(settings.run.model_dir), fraction)
    if not stored.isdisjoint(ids):
        return HeldOut(listing, ids, stored, fraction, stored=names)
    if stored and not settings.run.allow_changes:
        raise RunMismatchError(
            f"{settings.run.model_dir} lists {len(stored)} examples that were held out from "
            f"training, e.g. {min(stored)}, and {listing.locate(0)} and the others are none of "
            "them. Name the data of that run, or give another --model_dir or --eval_metadata."
        )
    stratify, groups = not settings.data.group_column, groups_for(listing, settings)
    ties = [[name] if name else [] for name in groups.of]
    are_held = hold_out(ids, _classes(listing, settings), fraction, ties, stratify=stratify)
    held = frozenset(own for own, is_held in zip(ids, are_held, strict=True) if is_held)
    return HeldOut(listing, ids, held, fraction, groups)


def groups_for(listing: Listing, settings: Settings) -> Groups:
    """The group of each example: what may not be divided by a split or a fold.

    ``group_column`` decides where it has a value; else identical images, near-duplicates, frames
    of one video and bursts belong together, unless ``groups`` is "none".

    Raises:
        ConfigError: ``group_column`` names no column.
    """
    column = settings.data.group_column
    values = values_of(listing, column) if column else ()
    if settings.data.groups == NO_GROUPS:
        alone = [Trace("")] * len(listing)
        return find_groups(alone, [""] * len(listing), values=values)
    classes = ["".join(each) if len(each) == 1 else "" for each in _classes(listing, settings)]
    return groups_of_listing(listing, classes, column)


def values_of(listing: Listing, column: str) -> list[str]:
    """The value of each example in the group column; "" if it has none.

    Raises:
        ConfigError: there is no such column.
    """
    if column not in listing.columns:
        known = did_you_mean(column, listing.columns)
        raise ConfigError(f"group_column: there is no column {column!r}. {known}")
    return [str(value) for value in listing.columns[column]]


def _stored(folder: ModelFolder, fraction: float) -> tuple[frozenset[str], dict[str, str]]:
    """The ids that a model folder lists for this fraction, and their groups; empty without any."""
    if not (folder.has_manifest and files.exists(folder.held_out)):
        return frozenset(), {}
    try:
        found = files.read_json(folder.held_out)
        if found["eval_split"] != fraction:
            return frozenset(), {}
        return frozenset(found["examples"]), dict(found.get("groups", {}))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder.held_out}, the list of the held-out examples, is damaged: {error}. Restore "
            "it from a copy; or remove it, and they are chosen anew."
        ) from error


def ids_of(listing: Listing) -> list[str]:
    """An identifier of each example, the same wherever the source lies.

    Its name; or a digest of its content; or, where too many have no name, its place in its file.
    """
    nameless = [i for i in range(len(listing)) if not (listing.names and listing.names[i])]
    by_content = _digests(listing, nameless)
    ids = []
    for i in range(len(listing)):
        if listing.names and listing.names[i]:
            ids.append(listing.key(i))
        else:
            place = listing.places[i]
            ids.append(by_content.get(i) or f"{place.path.rpartition('/')[2]}@{place.offset}")
    return ids


def _digests(listing: Listing, numbers: Sequence[int]) -> Mapping[int, str]:
    """By example a digest of its image's bytes; empty if there are too many to be read."""
    return digests(listing, numbers) if len(numbers) <= MOST_READ else {}


def _classes(listing: Listing, settings: Settings) -> list[Collection[str]]:
    """The classes of each example, by the first label; none where that is a regression."""
    chosen = [entry.partition("=")[2] for entry in settings.data.label_features]
    chosen = [*settings.backbone_spec.label_columns, *chosen, class_column(listing)]
    chosen += [name for name in listing.columns if name != settings.data.group_column]
    column = next((name for name in chosen if name in listing.columns), "")
    if not column:
        return [()] * len(listing)
    values = listing.columns[column]
    if kind_of(typed(values, are_cells=column in listing.texts)) == REGRESSION:
        return [()] * len(listing)
    return [_classes_of(value) for value in values]


def _classes_of(value: Value) -> Collection[str]:
    if isinstance(value, tuple):
        return [str(k) for k, is_set in enumerate(value) if is_set]
    return split_classes(value) if isinstance(value, str) else (str(value),)
