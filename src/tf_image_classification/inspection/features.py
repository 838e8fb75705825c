"""Outliers, likely label errors and class separability from features of a pretrained backbone.

    features = extract_features(images, "mobilenet_v2", "imagenet")
    findings = list(feature_findings(inspection, features))

The backbone is frozen. A cross-validated logistic regression on its features gives out-of-sample
probabilities, from which label errors are found.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

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
from tf_image_classification.system.autograph import unconverted

_FOLDS = 5
_BATCH_SIZE = 32
_NEIGHBOURS = 10
_FAR = 5.0  # times the median distance to the neighbours, in median absolute deviations above it
_MIN_OF_CLASS = 2 * _FOLDS


def extract_features(
    images: Sequence[ImageStats],
    backbone: str,
    weights: str,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> npt.NDArray[np.float32]:
    """Features [N, D] of all images; zeros for broken images.

    Args:
        images: statistics of the images.
        backbone: name of a backbone of ``tfic backbones``.
        weights: a file as for ``--checkpoint_path``, or ``imagenet``.
        max_pixels: larger images are not decoded.

    Raises:
        ConfigError: the backbone is unknown.
        CheckpointError: the weights are missing or of another backbone.
    """
    import tensorflow as tf  # late: the rest of the inspection starts without it

    from tf_image_classification import backbones
    from tf_image_classification.checkpoints.warm_start import load_values, warm_start
    from tf_image_classification.config import IMAGENET
    from tf_image_classification.dataset.preprocessing import Preprocessing
    from tf_image_classification.fused_batch_norm import fused_batch_norm

    size = backbones.find(backbone).image_size
    model = backbones.create(backbone, (size, size, 3))
    if weights == IMAGENET:
        load_values(model, backbones.imagenet_values(backbone), f"ImageNet weights of {backbone}")
    else:
        warm_start(model, weights)
    prepare = Preprocessing(is_training=False)

    def features(images: tf.Tensor) -> tf.Tensor:
        with fused_batch_norm(model, training=False):
            return model(images, training=False)

    forward = tf.function(unconverted(features), reduce_retracing=True)
    found: npt.NDArray[np.float32] = np.zeros([len(images), model.output_shape[-1]], np.float32)
    usable = [i for i, each in enumerate(images) if not each.problem and each.place is not None]
    for start in range(0, len(usable), _BATCH_SIZE):
        part = usable[start : start + _BATCH_SIZE]
        pixels = [decode_measured(images[i], max_pixels) for i in part]
        prepared = [prepare(tf.constant(each), size, size) for each in pixels]
        found[part] = forward(tf.stack(prepared)).numpy()
    return found


def feature_findings(
    inspection: Inspection, features: npt.NDArray[np.float32]
) -> Iterable[Finding]:
    """Outliers, likely label errors and class separability.

    Args:
        inspection: the images with their classes.
        features: [N, D], from ``extract_features``.

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
