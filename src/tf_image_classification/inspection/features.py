"""What a network that was trained on other images thinks of a set and its labels.

features = features_of(facts, "mobilenet_v2", "imagenet")
findings = list(judge_features(inspection, features))

The network is frozen: its features of each image are classified by a logistic regression that has
not seen the image (cross-validation), which finds what looks like another class than its label.
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
    class_of,
)
from tf_image_classification.inspection.image_stats import Facts, picture_of

_FOLDS = 5
_AT_ONCE = 32
_NEIGHBOURS = 10
_FAR = 5.0  # times the median distance to the neighbours, in median absolute deviations above it
_FEWEST = 2 * _FOLDS


def features_of(
    facts: Sequence[Facts], backbone: str, weights: str, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> npt.NDArray[np.float32]:
    """Features [N, D] of all images; zeros where an image has none.

    Args:
        facts: of the images.
        backbone: a network of ``tfic backbones``.
        weights: a file as ``--checkpoint_path`` takes it, or ``imagenet``.
        max_pixels: as ``decode_image`` takes it.

    Raises:
        ConfigError: there is no such network.
        CheckpointError: the weights are missing or of another network.
    """
    import tensorflow as tf  # late: the rest of the inspection starts without it

    from tf_image_classification import backbones
    from tf_image_classification.checkpoints.warm_start import load_values, warm_start
    from tf_image_classification.config import IMAGENET
    from tf_image_classification.dataset.preprocessing import Preprocessing

    size = backbones.find(backbone).image_size
    model = backbones.create(backbone, (size, size, 3))
    if weights == IMAGENET:
        load_values(model, backbones.imagenet_values(backbone), f"Keras's weights of {backbone}")
    else:
        warm_start(model, weights)
    prepare = Preprocessing(is_training=False)
    forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    found: npt.NDArray[np.float32] = np.zeros([len(facts), model.output_shape[-1]], np.float32)
    usable = [i for i, each in enumerate(facts) if not each.problem and each.place is not None]
    for start in range(0, len(usable), _AT_ONCE):
        part = usable[start : start + _AT_ONCE]
        images = [prepare(tf.constant(picture_of(facts[i], max_pixels)), size, size) for i in part]
        found[part] = forward(tf.stack(images)).numpy()
    return found


def judge_features(inspection: Inspection, features: npt.NDArray[np.float32]) -> Iterable[Finding]:
    """Outliers, likely wrong labels, and how well the classes can be told apart.

    Args:
        inspection: the images with their classes.
        features: [N, D], as ``features_of`` gives them.

    Raises:
        ConfigError: cleanlab is not installed.
    """
    usable = np.array([i for i, each in enumerate(inspection.facts) if not each.problem], int)
    if len(usable) <= _NEIGHBOURS:
        return
    yield from _outliers(usable, features[usable])
    scaled = _standardised(features[usable])
    for label in inspection.labels:
        names = np.array([class_of(inspection.facts[i], label) for i in usable])
        counts = {name: int((names == name).sum()) for name in set(names.tolist()) - {""}}
        kept = np.array([counts.get(name, 0) >= _FEWEST for name in names])
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
    """Images far from their neighbours, where most are near theirs.

    By the angle between features as they are: standardised, the many that hardly vary would count
    as much as those that tell one kind of picture from another.
    """
    from sklearn.neighbors import NearestNeighbors  # late: it takes a second

    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    index = NearestNeighbors(n_neighbors=_NEIGHBOURS + 1).fit(features / lengths)
    distances = index.kneighbors(features / lengths)[0][:, 1:].mean(axis=1)
    middle = np.median(distances)
    deviation = max(float(np.median(np.abs(distances - middle))), 1e-6)
    far = (distances - middle) / deviation
    members = [[int(usable[i])] for i in np.argsort(-far) if far[i] > _FAR]
    if members:
        text = f"{counted(len(members), 'image')} unlike all others of the set; the oddest first."
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
        warnings.simplefilter("ignore")  # of an optimum that is not quite reached
        probabilities = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    predicted = probabilities.argmax(axis=1)
    right = float((predicted == labels).mean())
    hardest = min(range(len(classes)), key=lambda k: float((predicted[labels == k] == k).mean()))
    of_hardest = predicted[labels == hardest]
    others = np.bincount(of_hardest[of_hardest != hardest], minlength=len(classes))
    share = float((of_hardest == hardest).mean())
    taken = f", mostly taken for {classes[others.argmax()]}" if others.any() else ""
    yield Finding(
        "separability",
        NOTE,
        f"A regression on frozen features tells {right:.1%} of the images' classes; the hardest is "
        f"{classes[hardest]}, {share:.0%}{taken}.",
    )
    errors = label_errors(labels, probabilities)
    if len(errors.candidates):
        first = errors.candidates[0]
        yield Finding(
            "label_errors",
            NOTE if errors.num_wrong is None else WARNING,
            f"{errors.text()} The first candidate is called {classes[labels[first]]} and looks "
            f"like {classes[predicted[first]]}.",
            [[int(usable[i])] for i in errors.candidates],
        )
