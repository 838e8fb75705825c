"""The run context: what every part of a run needs, fixed before the first example is read.

context = make_context(spec, settings, workers)
context = recipe.settle(context)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tf_image_classification.config import Settings
from tf_image_classification.dataset.readers import Listing, find_examples, for_role
from tf_image_classification.dataset.readers.names import EVAL, TEST, TRAIN, part_role
from tf_image_classification.distributed.devices import make_strategy
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.workflows.setup.environment import cache_dir
from tf_image_classification.workflows.setup.held_out import (
    HeldOut,
    groups_for,
    hold_out_of,
    ids_of,
)


class Sources:
    """Finds the examples of each source once, however many parts of a run ask for them."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], Listing] = {}
        self._divided: dict[tuple[object, ...], HeldOut] = {}

    def find(self, patterns: Sequence[str], option: str, settings: Settings) -> tuple[Listing, str]:
        """The examples that patterns name, and a note on the split used of a divided source.

        Args:
            patterns: files, folders or patterns.
            option: the option that gave them, "train_metadata" or "eval_metadata".
            settings: all settings.

        Raises:
            DataError: as ``find_examples`` and ``for_role``.
            ConfigError: as ``hold_out_of``.
        """
        is_training = option == "train_metadata"
        if settings.data.eval_split and tuple(patterns) == settings.data.eval_metadata:
            held = self.held_out(patterns, option, settings)
            if is_training:
                return held.training, ""
            return held.evaluation, held.note(", ".join(patterns))
        whole, source = self._whole(patterns, option, settings), ", ".join(patterns)
        role = TRAIN if is_training else EVAL
        chosen = for_role(whole, role, f"--{option} {source}")
        if len(whole.parts) < 2:
            return chosen, ""
        note = f"{option}: split {chosen.parts[0]} of {source}"
        others = [part for part in whole.parts if part not in chosen.parts]
        if option == "eval_metadata":
            unused = [part for part in others if part_role(part) == TEST]
            note += "".join(
                f"; --eval_metadata {source}:{part} evaluates {part}" for part in unused
            )
        return chosen, note

    def held_out(self, patterns: Sequence[str], option: str, settings: Settings) -> HeldOut:
        """A source with its held-out part, by ``eval_split``; arguments and errors as ``find``."""
        key = _key(patterns, settings)
        if key not in self._divided:
            whole = self._whole(patterns, option, settings)
            whole = for_role(whole, TRAIN, f"--{option} {', '.join(patterns)}")
            self._divided[key] = hold_out_of(whole, settings)
        return self._divided[key]

    def evaluation_groups(self, settings: Settings) -> list[str]:
        """The group of each evaluation example that is in a video or burst, or beside one.

        Those of a held-out part were found among all examples, which is more certain. ``groups``
        none, and a set without videos and bursts, give "" for all.
        """
        patterns = settings.data.eval_metadata
        if settings.data.eval_split:
            return self.held_out(patterns, "eval_metadata", settings).evaluation_groups
        listing, _ = self.find(patterns, "eval_metadata", settings)
        found = groups_for(listing, settings.replace(group_column=""))
        return list(found.of) if found.summary() else [""] * len(listing)

    def divide(
        self,
        patterns: Sequence[str],
        settings: Settings,
        held: frozenset[str],
        groups: Mapping[str, str],
    ) -> None:
        """Hold out these examples of a training set, by id, instead of a choice by hash.

        Args:
            patterns: the training set.
            settings: all settings, with ``eval_split``.
            held: the ids, see ``held_out.ids_of``.
            groups: by id the video or burst of those that are in one.

        Raises:
            DataError: as ``find``.
        """
        whole = self._whole(patterns, "train_metadata", settings)
        whole = for_role(whole, TRAIN, f"--train_metadata {', '.join(patterns)}")
        stored = {own: group for own, group in groups.items() if own in held}
        divided = HeldOut(whole, ids_of(whole), held, settings.data.eval_split, stored=stored)
        self._divided[_key(patterns, settings)] = divided

    def _whole(self, patterns: Sequence[str], option: str, settings: Settings) -> Listing:
        feature, folder = settings.data.image_feature, cache_dir(settings)
        key = (*patterns, feature, folder)
        if key not in self._found:
            self._found[key] = find_examples(
                patterns, option=option, cache_dir=folder, image_feature=feature
            )
        return self._found[key]


def _key(patterns: Sequence[str], settings: Settings) -> tuple[object, ...]:
    """The settings that the held-out part of a source depends on."""
    data = settings.data
    return (*patterns, data.eval_split, data.group_column, data.groups, settings.run.model_dir)


@dataclasses.dataclass(frozen=True)
class RunContext:
    """The spec, the settings and the machinery of a run; passed on in one piece.

    Attributes:
        spec: the classifier.
        settings: all settings; ``recipe.settle`` and ``open_run`` return contexts with more of
            them decided.
        workers: the processes and devices that share the work.
        sources: the examples found so far, so that no source is listed twice.
    """

    spec: EstimatorSpec
    settings: Settings
    workers: Workers
    sources: Sources = dataclasses.field(default_factory=Sources)

    @property
    def folder(self) -> ModelFolder:
        """The model folder."""
        return ModelFolder(self.settings.run.model_dir)

    @property
    def cache_dir(self) -> str:
        """The folder for indexes, unpacked records and features."""
        return cache_dir(self.settings)

    def replace(
        self, *, spec: EstimatorSpec | None = None, settings: Settings | None = None
    ) -> RunContext:
        """The same run with another spec or other settings; sources stay found."""
        return dataclasses.replace(self, spec=spec or self.spec, settings=settings or self.settings)


def make_context(
    spec: EstimatorSpec,
    settings: Settings,
    workers: Workers | None = None,
    sources: Sources | None = None,
) -> RunContext:
    """The context of a run.

    Args:
        spec: the classifier.
        settings: all settings.
        workers: None: this process alone, on the devices that ``strategy`` names.
        sources: sources that were found before, by the same settings.
    """
    workers = workers or Workers(make_strategy(settings.run.strategy))
    return RunContext(spec, settings, workers, sources or Sources())
