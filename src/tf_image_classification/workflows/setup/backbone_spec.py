"""The backbone spec of a run: the network from the settings, the labels from the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tf_image_classification import backbones
from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.backbones import Backbone
from tf_image_classification.checkpoints import torch_files
from tf_image_classification.checkpoints.torch_config import read_config
from tf_image_classification.config import DEFAULT_BACKBONE, FROM_SCRATCH, IMAGENET, Settings
from tf_image_classification.dataset.label_columns import label_columns
from tf_image_classification.dataset.label_discovery import find_labels
from tf_image_classification.errors import ConfigError
from tf_image_classification.labels import Label
from tf_image_classification.labels.schema import KINDS, kind_named
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files
from tf_image_classification.workflows.setup.context import Sources
from tf_image_classification.workflows.setup.earlier_model import in_earlier_order
from tf_image_classification.workflows.setup.evaluation_split import default_eval_split
from tf_image_classification.workflows.setup.run_data import given_class_names

_ORIGIN = "backbone"  # of the choices that are made here
_STATED = ("pixel_scaling", "image_size", "eval_crop")


def backbone_settings(settings: Settings) -> Settings:
    """The settings of a run without a spec: network, weights, image size, recipe, held-out part.

    Options that the user gave stay. ``checkpoint_path none`` trains from scratch; without
    ``backbone``, a PyTorch file of weights determines it.

    Raises:
        ConfigError: there is no such backbone, or the weights fit none or several.
        CheckpointError: the file of weights cannot be read.
    """
    choices: dict[str, Any] = {"recipe": "auto", "eval_split": default_eval_split(settings)}
    if not settings.backbone_spec.backbone:
        of_weights = _backbone_of_weights(settings.model.checkpoint_path)
        settings = settings.with_choices({"backbone": of_weights or DEFAULT_BACKBONE}, _ORIGIN)
    if not settings.backbone_spec.backbone.startswith(backbones.KERAS_HUB):
        backbone = backbones.find(settings.backbone_spec.backbone)
        choices |= {"image_size": backbone.image_size}
        choices |= {"checkpoint_path": IMAGENET if backbone.has_imagenet_weights else ""}
        choices |= _stated_with_weights(settings, backbone)
    if settings.model.checkpoint_path == FROM_SCRATCH:
        settings = settings.replace(checkpoint_path="")
    return settings.with_choices(choices, _ORIGIN)


def _backbone_of_weights(path: str) -> str:
    """The backbone that a local PyTorch file of weights is of; "" for other weights."""
    if files.is_remote(path) or not files.exists(path) or not torch_files.file_in(path):
        return ""
    fitting = backbones.fitting(torch_files.file_in(path))
    if not fitting:
        raise ConfigError(
            f"The weights in {path} are of none of the built-in backbones, which tfic backbones "
            "lists. Give --spec a model of your own."
        )
    if len(fitting) > 1:
        raise ConfigError(
            f"The weights in {path} fit several backbones, which differ in padding or in the "
            f"scaling of pixels: {', '.join(fitting)}. Choose one with --backbone."
        )
    return fitting[0]


def _stated_with_weights(settings: Settings, backbone: Backbone) -> dict[str, Any]:
    """Pixel scaling, image size and crop that a ``config.json`` or a model folder states.

    A run that was begun keeps those that it began with.
    """
    begun, path = (
        ModelFolder(settings.run.model_dir).read_manifest(),
        settings.model.checkpoint_path,
    )
    stated: dict[str, Any] = {}
    if begun is not None:
        stated = {n: begun.settings[n] for n in _STATED if begun.origins.get(n) == _ORIGIN}
    elif path not in ("", IMAGENET, FROM_SCRATCH):
        theirs, file = ModelFolder(path).read_manifest(), torch_files.file_in(path)
        if theirs is not None:
            stated = {"pixel_scaling": theirs.settings.get("pixel_scaling")}
        elif file:
            stated = dataclasses.asdict(read_config(file))
    if stated.get("pixel_scaling") == backbone.pixel_scaling:
        stated["pixel_scaling"] = ""
    return {name: stated[name] for name in _STATED if stated.get(name)}


def make_backbone_spec(settings: Settings, sources: Sources | None = None) -> BackboneSpec:
    """The spec of a run without one, with the labels of the model folder or of the data.

    Args:
        settings: all settings.
        sources: sources that are found already, and gets those that are found here.

    Raises:
        ConfigError: there are no training examples to take labels from.
        DataError: labels cannot be inferred from them.
    """
    return BackboneSpec(_labels(settings, sources or Sources()), settings.backbone_spec)


def _labels(settings: Settings, sources: Sources) -> list[Label]:
    manifest = ModelFolder(settings.run.model_dir).read_manifest()
    if manifest is not None:
        return list(manifest.schema.labels)
    if not settings.data.train_metadata:
        raise ConfigError(
            "There is nothing to train on. Give --train_metadata: a folder with a folder of images "
            "for each class, a CSV or TFRecord files."
        )
    listing, _ = sources.find(settings.data.train_metadata, "train_metadata", settings)
    columns, group = settings.backbone_spec.label_columns, settings.data.group_column
    if not columns and group in listing.columns:
        others = {name: v for name, v in listing.columns.items() if name != group}
        columns = tuple(label_columns(dataclasses.replace(listing, columns=others)))
    found = find_labels(
        listing,
        depths={name: len(names) for name, names in given_class_names(settings).items()},
        columns=columns,
        kinds=_kinds(settings.backbone_spec.label_kinds),
    )
    return in_earlier_order(found, settings)


def _kinds(entries: Sequence[str]) -> dict[str, str]:
    kinds = {}
    for entry in entries:
        name, equals, given = entry.partition("=")
        kind = kind_named(given)
        if not equals or kind not in KINDS:
            raise ConfigError(
                f"label_kinds: {entry!r} is not of the form name=kind, with a kind of "
                f"{', '.join(KINDS)}."
            )
        kinds[name] = kind
    return kinds
