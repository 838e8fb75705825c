"""Outliers, likely label errors and class separability from features of a pretrained backbone.

    features = extract_features(images, "mobilenet_v2", "imagenet", cache_dir=cache_dir)
    findings = list(feature_findings(inspection, features.values))

The backbone is frozen. A cross-validated logistic regression on its features gives out-of-sample
probabilities, from which label errors are found.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.config import DEFAULT_MAX_PIXELS
from tf_image_classification.errors import counted
from tf_image_classification.evaluation.label_errors import label_errors
from tf_image_classification.inspection.findings import (
    NOTE,
    WARNING,
    Finding,
    Inspection,
    Suggestion,
    class_of,
)
from tf_image_classification.inspection.image_stats import ImageStats, decode_measured

if TYPE_CHECKING:
    from tf_image_classification.features.compute import Features

_FOLDS = 5
_NEIGHBOURS = 10
_FAR = 5.0  # times the median distance to the neighbours, in median absolute deviations above it
_MIN_OF_CLASS = 2 * _FOLDS


def extract_features(
    images: Sequence[ImageStats],
    backbone: str,
    weights: str,
    *,
    cache_dir: str = "",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    on_images: Callable[[int, int], Any] = lambda done, count: None,
) -> Features:
    """Features [N, D] of all images; zeros for broken images.

    Args:
        images: statistics of the images.
        backbone: name of a backbone of ``tfic backbones``.
        weights: a file as for ``--checkpoint_path``, or ``imagenet``.
        cache_dir: folder of the cache; "": nothing is cached.
        max_pixels: larger images are not decoded.
        on_images: called with the number of images that are done, and of all.

    Raises:
        ConfigError: the backbone is unknown.
        CheckpointError: the weights are missing or of another backbone.
    """
    from tf_image_classification.features.backbone import (  # late: it needs TensorFlow
        backbone_network,
        read_places,
    )
    from tf_image_classification.features.compute import compute_features

    network = backbone_network(backbone, weights, max_pixels=max_pixels)
    usable = [i for i, each in enumerate(images) if not each.problem and each.place is not None]
    read = read_places([images[i].place for i in usable])  # type: ignore[misc]
    # A 16-bit PNG that would be nearly black is shown with its own range.
    contents = (
        (k, decode_measured(images[usable[k]], max_pixels) if images[usable[k]].png16 else content)
        for k, content in read
    )
    found = compute_features(
        network, contents, len(usable), cache_dir=cache_dir, on_images=on_images
    )
    values = np.zeros([len(images), found.values.shape[1]], np.float32)
    values[usable] = found.values
    return dataclasses.replace(found, values=values)


def feature_findings(
    inspection: Inspection, features: npt.NDArray[np.float32]
) -> Iterable[Finding]:
    """Outliers, likely label errors and class separability.

    Args:
        inspection: the images with their classes.
        features: [N, D], the values of ``extract_features``.

    Raises:
        ConfigError: cleanlab is not installed.
    """
    usable = np.array([i for i, each in enumerate(inspection.images) if not each.problem], int)
    if len(usable) <= _NEIGHBOURS:
        return
    yield from _outliers(usable, features[usable])
    scaled = _standardised(features[usable])
    for label in inspection.labels:
        names = np.array([class_of(inspection.images[i], label) for i in usable])
        counts = {name: int((names == name).sum()) for name in set(names.tolist()) - {""}}
        kept = np.array([counts.get(name, 0) >= _MIN_OF_CLASS for name in names])
        if len(set(names[kept].tolist())) > 1:
            for finding in _labels(usable[kept], scaled[kept], names[kept]):
                yield dataclasses.replace(finding, label=label)


def _standardised(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    centred = features.astype(np.float64) - features.mean(axis=0)
    scaled: npt.NDArray[np.float64] = centred / np.maximum(features.std(axis=0), 1e-6)
    return scaled


def _outliers(
    usable: npt.NDArray[np.int64], features: npt.NDArray[np.float32]
) -> Iterable[Finding]:
    """Images far from their nearest neighbours by the angle between features.

    The features are not standardised: the many that hardly vary would count as much as those that
    separate kinds of images.
    """
    from sklearn.neighbors import NearestNeighbors  # late: it takes a second

    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    index = NearestNeighbors(n_neighbors=_NEIGHBOURS + 1).fit(features / lengths)
    distances = index.kneighbors(features / lengths)[0][:, 1:].mean(axis=1)
    median = np.median(distances)
    deviation = max(float(np.median(np.abs(distances - median))), 1e-6)
    far = (distances - median) / deviation
    members = [[int(usable[i])] for i in np.argsort(-far) if far[i] > _FAR]
    if members:
        text = f"{counted(len(members), 'image')} unlike all others of the set, most unusual first."
        yield Finding("outliers", NOTE, text, members)


def _labels(
    usable: npt.NDArray[np.int64], features: npt.NDArray[np.float64], names: npt.NDArray[Any]
) -> Iterable[Finding]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    classes, labels = np.unique(names, return_inverse=True)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    model = LogisticRegression(C=1e-2, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an optimum that is not quite reached
        probabilities = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    predicted = probabilities.argmax(axis=1)
    accuracy = float((predicted == labels).mean())
    hardest = min(range(len(classes)), key=lambda k: float((predicted[labels == k] == k).mean()))
    of_hardest = predicted[labels == hardest]
    others = np.bincount(of_hardest[of_hardest != hardest], minlength=len(classes))
    recall = float((of_hardest == hardest).mean())
    confused = f", mostly confused with {classes[others.argmax()]}" if others.any() else ""
    yield Finding(
        "separability",
        NOTE,
        f"Logistic regression on frozen features: cross-validated accuracy {accuracy:.1%}. Lowest "
        f"recall: {classes[hardest]}, {recall:.0%}{confused}.",
    )
    errors = label_errors(labels, probabilities)
    if len(errors.candidates):
        first = errors.candidates[0]
        suggestions = [
            Suggestion(
                str(classes[predicted[i]]),
                float(probabilities[i, predicted[i]]),
                int(usable[_nearest(features, i, labels == predicted[i])]),
            )
            for i in errors.candidates
        ]
        yield Finding(
            "label_errors",
            NOTE if errors.num_wrong is None else WARNING,
            f"{errors.text()} The first candidate is labelled {classes[labels[first]]} and "
            f"predicted as {classes[predicted[first]]}.",
            [[int(usable[i])] for i in errors.candidates],
            suggestions=suggestions,
        )


def _nearest(features: npt.NDArray[np.float64], i: int, is_candidate: npt.NDArray[np.bool_]) -> int:
    """The row of the candidates with the smallest angle to a row, and not that row itself."""
    rows = np.flatnonzero(is_candidate & (np.arange(len(features)) != i))
    lengths = np.maximum(np.linalg.norm(features[rows], axis=1), 1e-9)
    return int(rows[np.argmax(features[rows] @ features[i] / lengths)])
