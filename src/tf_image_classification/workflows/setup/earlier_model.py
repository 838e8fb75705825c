"""A run that goes on from an earlier model: more classes, corrected labels, or more examples.

settings, line = with_earlier_model(settings, sources)     # tfic train new --from models/pets
labels = in_earlier_order(found, settings)                 # its classes first, then the new ones

Training on new examples alone makes a network forget the others (McCloskey and Cohen, 1989). So the
earlier training set is trained on again where the new one lacks some of its classes; the simplest
form of rehearsal, and the one that other methods are measured against (GDumb, Prabhu et al., 2020).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from tf_image_classification.checkpoints.store import CheckpointStore
from tf_image_classification.config import Settings
from tf_image_classification.dataset.label_discovery import class_names
from tf_image_classification.dataset.readers import Listing, has_evaluation_part
from tf_image_classification.errors import ConfigError, DataError, LabelError
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import MULTILABEL, ORDINAL, SINGLE_LABEL
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.system import files
from tf_image_classification.workflows.setup.context import Sources
from tf_image_classification.workflows.setup.default_folder import same_sources

_ORIGIN = "from_model"
_INHERITED = (
    *("backbone", "image_size", "pixel_scaling", "eval_crop", "eval_stretch", "png16_range"),
    *("image_feature", "label_features", "label_columns", "label_kinds"),
)
"""What the earlier weights have learned to see, and where its labels are."""


def with_earlier_model(settings: Settings, sources: Sources) -> tuple[Settings, str]:
    """The settings of a run with ``from_model``, and a line about its data, else "".

    Backbone, preprocessing and weights are those of the earlier run. Its training set is added if
    the given one lacks some of its classes.

    Args:
        settings: all settings; without ``from_model`` they are returned as they are.
        sources: get the sources that are found here.

    Raises:
        ConfigError: there is no such model, an option contradicts it, or its training set is
            needed and gone.
        DataError: the training set cannot be read.
    """
    path = settings.backbone_spec.from_model
    if not path:
        return settings, ""
    begun = _manifest(path)
    _check_options(settings, path, begun)
    choices = {name: begun.settings[name] for name in _INHERITED if name in begun.settings}
    # Its outputs go on, too: a regression would replace them.
    choices |= {"checkpoint_path": path, "head_phase": False}
    settings = settings.with_choices(choices, _ORIGIN)
    if not settings.data.train_metadata:
        return settings, ""
    lacking = _lacking(_found(settings, sources), begun)
    given, earlier = settings.data.train_metadata, tuple(begun.settings["train_metadata"])
    warning = _may_have_been_seen(settings, path, begun, lacking)
    if not lacking:
        return settings, warning
    settings = settings.replace(train_metadata=tuple(dict.fromkeys((*given, *earlier))))
    try:
        listing = _found(settings, sources)
    except DataError as error:
        raise ConfigError(
            f"{', '.join(given)} has no examples of {_some(lacking)}, which {path} knows and would "
            f"forget, and its training set {', '.join(earlier)} cannot be read: {error} Name the "
            f"examples of these classes, too: tfic train {' '.join(given)} MORE_DATA --from {path}"
        ) from error
    if len(listing.parts) > 1:
        raise ConfigError(
            f"The training set of {path}, {', '.join(earlier)}, is needed for {_some(lacking)} and "
            f"is divided into {', '.join(part or 'no part' for part in listing.parts)}, which "
            "cannot be joined with other examples. Put all examples into one set, divided or not."
        )
    return settings, (
        f"rehearsal: also trains on {', '.join(earlier)}, the training set of {path}, because "
        f"{', '.join(given)} has no examples of {_some(lacking)}"
        + (f"\n{warning}" if warning else "")
    )


def in_earlier_order(labels: Sequence[Label], settings: Settings) -> list[Label]:
    """The labels of a run with ``from_model``: the earlier classes in their order, then new ones.

    Args:
        labels: those of the training set.
        settings: all settings; without ``from_model`` the labels are returned as they are.

    Raises:
        ConfigError: the labels are others.
        LabelError: a class is missing, differs from an earlier one in its case alone, or is new to
            a label with an order.
    """
    path = settings.backbone_spec.from_model
    if not path:
        return list(labels)
    theirs = {label.name: label for label in _manifest(path).schema}
    ours = {label.name: label.kind for label in labels}
    if ours != {label.name: label.kind for label in theirs.values()}:
        raise ConfigError(
            f"The training set has the labels {_kinds(labels)}, and {path} has "
            f"{_kinds(list(theirs.values()))}. Expected the same: choose them with "
            "--label_columns and --label_kinds, or train without --from."
        )
    return [_extended(label, theirs[label.name], path) for label in labels]


def _extended(label: Label, earlier: Label, path: str) -> Label:
    """The earlier label with the new classes at its end."""
    if label.kind not in (SINGLE_LABEL, ORDINAL, MULTILABEL):
        return earlier
    known = earlier.named_classes()
    new = [name for name in label.named_classes() if name not in known]
    folded = {name.casefold(): name for name in known}
    for name in new:
        if name.casefold() in folded:
            raise LabelError(
                f"Class {name!r} differs only in upper and lower case from class "
                f"{folded[name.casefold()]!r} of {path}. Give both the same name."
            )
    missing = [name for name in known if name not in label.named_classes()]
    if missing:
        raise LabelError(
            f"The training set has no examples of {_some(missing)}, which {path} knows. Expected "
            "every earlier class. Was one renamed? Keep its earlier name. To leave classes out, "
            f"train with --checkpoint_path {path}, which loads the others by name."
        )
    if new and label.kind == ORDINAL:
        raise LabelError(
            f"Label {label.name!r} is ordinal, and {_some(new)} would have to be placed among the "
            f"classes of {path}. Train with --checkpoint_path {path}, which keeps all but the "
            "outputs."
        )
    names = (*known, *new)
    return dataclasses.replace(
        earlier,
        depth=len(names),
        class_names=names if earlier.class_names else (),
    )


def _manifest(path: str) -> RunManifest:
    folder = ModelFolder(path)
    begun = None if folder.is_cross_validation else folder.read_manifest()
    if begun is None:
        kind = "no such folder"
        if folder.is_cross_validation:
            kind = "the folder of a cross-validation, with several models"
        elif files.exists(files.join(path, "saved_model.pb")):
            kind = "an exported model"
        elif files.is_folder(path) or files.exists(path):
            kind = "no model folder, without a run.json"
        raise ConfigError(
            f"--from {path}: {kind}. Expected the model folder of a training, e.g. models/pets; "
            "other weights are loaded with --checkpoint_path."
        )
    if not begun.is_of_backbone:
        raise ConfigError(
            f"--from {path}: its model was trained with the spec {begun.spec}. Expected one of a "
            f"built-in backbone. Use --spec with that file and --checkpoint_path {path}, which "
            "loads the outputs by class name."
        )
    if not any(CheckpointStore(each).steps() for each in (folder.best, folder.checkpoints)):
        raise ConfigError(
            f"--from {path}: it has no checkpoint. Expected a training that has saved one; start "
            "its command again, or copy its folder best/, too."
        )
    return begun


def _check_options(settings: Settings, path: str, begun: RunManifest) -> None:
    """Refuse options that contradict the earlier model."""
    if settings.run.evaluate:
        raise ConfigError("--from has no effect with --evaluate, which trains nothing. Remove it.")
    if settings.is_chosen("checkpoint_path"):
        raise ConfigError(
            f"--from and --checkpoint_path ({settings.model.checkpoint_path}) both name initial "
            "weights. Give one of them."
        )
    if settings.is_chosen("model_dir") and same_sources([settings.run.model_dir], [path]):
        raise ConfigError(
            f"--from and --model_dir are both {path}. The new model gets a folder of its own: give "
            "another --model_dir, or none."
        )
    for name in ("backbone", "pixel_scaling", "png16_range"):
        given, there = settings.values()[name], begun.settings.get(name)
        if settings.is_chosen(name) and given != there:
            raise ConfigError(
                f"{name} is {given}, but {path} was trained with {there or 'the default'}. Remove "
                f"it, or use --checkpoint_path {path} in place of --from."
            )


def _may_have_been_seen(
    settings: Settings, path: str, begun: RunManifest, lacking: Collection[str]
) -> str:
    """A warning where pictures that the earlier model has learned may be held out now, or "".

    The same set is divided as before, but its classes are divided anew if they get more examples.
    """
    data = settings.data
    num_classes = sum(label.depth for label in begun.schema.labels_with_classes)
    is_same_set = same_sources(data.train_metadata, begun.settings["train_metadata"])
    has_new_classes_only = 0 < num_classes == len(lacking)
    has_own = data.eval_metadata or has_evaluation_part(data.train_metadata, "train_metadata")
    if has_own or is_same_set or has_new_classes_only:
        return ""
    return (
        f"evaluation: chosen anew, so it may have pictures that {path} was trained on, and then "
        "the figures are too good. Give --eval_metadata with pictures that it has not seen"
    )


def _found(settings: Settings, sources: Sources) -> Listing:
    return sources.find(settings.data.train_metadata, "train_metadata", settings)[0]


def _lacking(listing: Listing, begun: RunManifest) -> list[str]:
    """The classes of the earlier model that have no examples."""
    lacking = []
    for label in begun.schema.labels_with_classes:
        values: Sequence[Any] = listing.columns.get(label.name, ())
        if values:
            there = set(class_names(values))
            lacking += [name for name in label.named_classes() if name not in there]
    return lacking


def _some(names: Sequence[str]) -> str:
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more} more" if more > 0 else "")


def _kinds(labels: Sequence[Label]) -> str:
    return ", ".join(f"{label.name} ({label.kind})" for label in labels)
