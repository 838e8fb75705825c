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

from tf_image_classification.config import Settings
from tf_image_classification.dataset.image_digests import digests, same_length
from tf_image_classification.dataset.label_columns import class_column
from tf_image_classification.dataset.label_discovery import kind_of
from tf_image_classification.dataset.readers import Listing, Value
from tf_image_classification.dataset.readers.columns import typed
from tf_image_classification.dataset.split import hold_out
from tf_image_classification.errors import ConfigError, DataError, RunMismatchError, did_you_mean
from tf_image_classification.inspection.look_alikes import look_alikes
from tf_image_classification.labels import split_classes
from tf_image_classification.labels.schema import REGRESSION
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files

_MOST_READ = 100_000  # images whose content is read to find identical ones
_MOST_COMPARED = 20_000  # images on a local disk that are decoded to find near-duplicates


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A training set of which a part is held out.

    Attributes:
        listing: all examples.
        ids: of each example; see ``ids_of``.
        held: the ids that are held out; those of a model folder may name examples that are gone.
        fraction: the option ``eval_split``.
    """

    listing: Listing
    ids: Sequence[str]
    held: frozenset[str]
    fraction: float

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

    def note(self, source: str) -> str:
        """A sentence about the held-out part."""
        text = (
            f"evaluation set: {self.num_held} of the {len(self.listing)} examples of {source}, "
            f"held out from training (--eval_split {self.fraction:g})"
        )
        gone = sorted(self.held.difference(self.ids))
        if gone:
            text += f"; {len(gone)} more are in the model folder's list but gone, e.g. {gone[0]}"
        return text

    def to_json(self) -> dict[str, Any]:
        """The content of held_out.json."""
        return {"eval_split": self.fraction, "examples": sorted(self.held)}


def hold_out_of(listing: Listing, settings: Settings) -> HeldOut:
    """The training set with its held-out part: that which the model folder lists, or a new choice.

    A new choice depends on the names of the examples, or on the content of those without a name.
    It divides each class; identical images, near-duplicates and those of one group stay together.

    Raises:
        ConfigError: ``group_column`` names no column.
        DataError: the model folder's list is damaged.
        RunMismatchError: none of the examples that it lists is there.
    """
    fraction, ids = settings.data.eval_split, ids_of(listing)
    stored = _stored(ModelFolder(settings.run.model_dir), fraction)
    if not stored.isdisjoint(ids):
        return HeldOut(listing, ids, stored, fraction)
    if stored and not settings.run.allow_changes:
        raise RunMismatchError(
            f"{settings.run.model_dir} lists {len(stored)} examples that were held out from "
            f"training, e.g. {min(stored)}, and {listing.locate(0)} and the others are none of "
            "them. Name the data of that run, or give another --model_dir or --eval_metadata."
        )
    group = settings.data.group_column
    ties = ties_of(listing, group)
    are_held = hold_out(ids, _classes(listing, settings), fraction, ties, stratify=not group)
    held = frozenset(own for own, is_held in zip(ids, are_held, strict=True) if is_held)
    return HeldOut(listing, ids, held, fraction)


def groups_of(listing: Listing, column: str) -> list[str]:
    """The group of each example, the value of a column; "" if it has none.

    Raises:
        ConfigError: there is no such column.
    """
    if column not in listing.columns:
        known = did_you_mean(column, listing.columns)
        raise ConfigError(f"group_column: there is no column {column!r}. {known}")
    return [str(value) for value in listing.columns[column]]


def ties_of(listing: Listing, group_column: str = "") -> list[list[str]]:
    """Of each example the texts that it has in common with those that it must stay together with.

    Those are identical images, near-duplicates, and the examples of one group.

    Raises:
        ConfigError: as ``groups_of``.
    """
    groups = groups_of(listing, group_column) if group_column else []
    alike = _digests(listing, same_length(listing))
    ties = [[f"content/{alike[i]}"] if i in alike else [] for i in range(len(listing))]
    for i, number in _look_alikes(listing).items():
        ties[i].append(f"look/{number}")
    for tie, group in zip(ties, groups, strict=False):
        tie += [f"group/{group}"] if group else []
    return ties


def _look_alikes(listing: Listing) -> Mapping[int, int]:
    """By example the number of its group of near-duplicates; empty if there are too many images."""
    if len(listing) > _MOST_COMPARED or any(map(files.is_remote, listing.places.paths)):
        return {}
    return look_alikes(listing, range(len(listing)))


def _stored(folder: ModelFolder, fraction: float) -> frozenset[str]:
    """The ids that a model folder lists for this fraction; empty without any."""
    if not (folder.has_manifest and files.exists(folder.held_out)):
        return frozenset()
    try:
        found = files.read_json(folder.held_out)
        return frozenset(found["examples"] if found["eval_split"] == fraction else ())
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
    return digests(listing, numbers) if len(numbers) <= _MOST_READ else {}


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
