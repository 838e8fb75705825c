"""Labelled images of one or more sources, for work on their features.

found = labelled_images(["pets", "next.csv"])
found.classes[found.labels[0]]
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from tf_image_classification.config import DEFAULT_BACKBONE, DEFAULT_MAX_PIXELS, IMAGENET
from tf_image_classification.dataset.label_columns import class_column
from tf_image_classification.dataset.label_discovery import kind_of
from tf_image_classification.dataset.readers import Listing, Place, find_examples
from tf_image_classification.dataset.readers.columns import typed
from tf_image_classification.dataset.readers.names import EVAL, TEST, part_role
from tf_image_classification.errors import DataError
from tf_image_classification.evaluation.probe import Ints
from tf_image_classification.features.compute import Features, compute_features
from tf_image_classification.inspection.label_columns import label_columns
from tf_image_classification.labels import natural_order
from tf_image_classification.labels.schema import SINGLE_LABEL
from tf_image_classification.serving import predictor
from tf_image_classification.system import screen


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Images with the class of each.

    Attributes:
        label: name of the label.
        classes: names of the classes.
        places: the location of each image.
        labels: [N], numbers of the classes.
        splits: the part of the data set of each, or "".
        num_without: images of the sources without a class.
    """

    label: str
    classes: tuple[str, ...]
    places: Sequence[Place]
    labels: Ints
    splits: Sequence[str]
    num_without: int = 0

    @property
    def is_for_evaluation(self) -> Sequence[bool]:
        """Whether the source assigns an image to a part for evaluation or test."""
        return [part_role(split) in (EVAL, TEST) for split in self.splits]


def labelled_images(
    sources: Sequence[str], *, option: str, label: str = "", cache_dir: str = ""
) -> LabelledImages:
    """The images of sources that have a class; the sources may be of different kinds.

    Args:
        sources: as ``find_examples``.
        option: the setting that names them, for messages.
        label: the column of the classes; "": the only one that can be.
        cache_dir: folder for indexes of records.

    Raises:
        DataError: a source cannot be read, or its label is not one class for each image.
        ConfigError: there is no such column.
    """
    listings = [find_examples([one], option=option, cache_dir=cache_dir) for one in sources]
    return of_listings(listings, option, label)


def of_listings(listings: Sequence[Listing], option: str, label: str = "") -> LabelledImages:
    """As ``labelled_images``, of sources that are found."""
    places: list[Place] = []
    names: list[str] = []
    splits: list[str] = []
    column, num_without = "", 0
    for listing in listings:
        known = column if column in listing.columns else ""
        column = _label_of(listing, option, label or known or class_column(listing))
        for i, value in enumerate(listing.columns[column]):
            if value == "":
                num_without += 1
                continue
            places.append(listing.places[i])
            names.append(str(value))
            splits.append(listing.splits[i] if listing.splits else "")
    classes = natural_order(set(names))
    numbers = {name: k for k, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in names], np.int64)
    return LabelledImages(column, classes, places, labels, splits, num_without)


def _label_of(listing: Listing, option: str, label: str) -> str:
    """The column of the classes.

    Raises:
        DataError: there are several or none, or it holds no single class for each image.
    """
    chosen, skipped = label_columns(listing, label, "")
    if len(chosen) != 1:
        found = ", ".join(chosen or skipped) or "none"
        raise DataError(
            f"{option}: expected one column of classes in {listing.locate(0)}, found {found}. "
            "Name it with --label."
        )
    are_cells = chosen[0] in listing.texts
    kind = kind_of(typed(listing.columns[chosen[0]], are_cells=are_cells))
    if kind != SINGLE_LABEL:
        raise DataError(
            f"{option}: the label {chosen[0]} is {kind}. Expected one class for each image; name "
            "another column with --label."
        )
    return chosen[0]


def image_features(
    places: Sequence[Place], *, model_dir: str = "", cache_dir: str = "", max_pixels: int = 0
) -> Features:
    """The features of images, of the default backbone or of a trained model.

    Images that cannot be used have zeros, and an entry in ``problems``.

    Args:
        places: of the images.
        model_dir: a model folder; "": the default backbone with ImageNet weights.
        cache_dir: folder of the cache of features.
        max_pixels: larger images are not decoded; 0: the default.

    Raises:
        TficError: the model or its weights cannot be used.
    """
    from tf_image_classification.features.backbone import (  # late: they need TensorFlow
        backbone_network,
        read_places,
    )

    limit = max_pixels or DEFAULT_MAX_PIXELS
    if model_dir:
        from tf_image_classification.workflows import embedding, export_keras

        folder = predictor.load_model(os.fspath(model_dir), max_pixels=max_pixels or None)
        model = export_keras.best_model(model_dir)
        network = embedding.feature_network(model, folder.schema.names, folder)
    else:
        network = backbone_network(DEFAULT_BACKBONE, IMAGENET, max_pixels=limit)
    with screen.progress("features", "img") as show:
        return compute_features(
            network, read_places(places), len(places), cache_dir=cache_dir, on_images=show
        )
