"""How well pictures of a left-out class are recognised, and how many known ones are refused.

    python benchmarks/unknown_pictures.py --trashnet ../shared/data/trashnet/dataset-resized \
        --cifar10 ../public/cifar10/train --features cache

Features of efficientnet_lite0 with ImageNet weights, cached below ``--features``; CIFAR-10: 300
images of each class. Each class in turn is unknown. Of the others, half are fitted, a quarter sets
the limit at a rate of 5 %, a quarter is new; five seeds. Beside the two distances of the package:
the maximum softmax probability (Hendrycks and Gimpel, arXiv 1610.02136) and the energy (Liu et al.,
arXiv 2010.03759) of a logistic regression on the same features, with limits made in the same way.
"far" are the pictures of the other set. Intervals: 95 %, Student t over the left-out classes, each
with the mean of its seeds. The last lines: sizes.
"""

from __future__ import annotations

import argparse
import os
import types
import warnings

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from scipy import special, stats
from sklearn.linear_model import LogisticRegression

from tf_image_classification.evaluation import unknown

RATE, SEEDS, PER_CLASS = 0.05, 5, 300
NAMES = (*unknown.DISTANCES, "max softmax", "energy")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trashnet", help="folder of class folders")
    parser.add_argument("--cifar10", help="folder of class folders")
    parser.add_argument("--features", default="features", help="folder of the cached features")
    given = parser.parse_args()
    os.makedirs(given.features, exist_ok=True)
    sets = {
        "TrashNet": cached(given.trashnet, f"{given.features}/trashnet.npz", None),
        "CIFAR-10": cached(given.cifar10, f"{given.features}/cifar10.npz", PER_CLASS),
    }
    print("| set | score | refused known | AUROC | found at the limit | AUROC, far | found, far |")
    print("|---|---|---|---|---|---|---|")
    for name, (features, classes) in sets.items():
        others = next(value for key, value in sets.items() if key != name)
        left_out(name, features, classes, others[0])
    for name, (features, classes) in sets.items():
        distances = unknown.fit_distances(features, classes)
        one = next(iter(distances.values()))
        numbers = one.mean.size + one.basis.size
        numbers += sum(each.scaling.size + each.centres.size for each in distances.values())
        print(f"{name}: {4 * numbers / 1e3:.0f} kB for both distances", flush=True)


def cached(folder, path, per_class):
    """Features [n, D] and class numbers [n]."""
    if not os.path.exists(path):
        from tf_image_classification.dataset.readers import find_examples
        from tf_image_classification.inspection.features import extract_features

        listing = find_examples([folder], option="benchmark")
        labels = np.array(listing.columns["label"])
        random, names = np.random.default_rng(0), np.unique(labels)
        rows = np.concatenate(
            [random.permutation(np.flatnonzero(labels == name))[:per_class] for name in names]
        )
        places = list(listing.places)
        images = [types.SimpleNamespace(problem="", png16=None, place=places[i]) for i in rows]
        features = extract_features(images, "efficientnet_lite0", "imagenet")
        np.savez(path, features=features, labels=labels[rows].astype(str))
    stored = np.load(path)
    return stored["features"], np.unique(stored["labels"], return_inverse=True)[1]


def left_out(name, features, classes, far):
    """Print a line for each score."""
    found = {each: [] for each in NAMES}
    for one in np.unique(classes):
        of_seeds = {each: [] for each in NAMES}
        for seed in range(SEEDS):
            random = np.random.default_rng(seed)
            rows = random.permutation(np.flatnonzero(classes != one))
            fitted, held_out, new = np.split(rows, [len(rows) // 2, 3 * len(rows) // 4])
            for each, score in scores(features[fitted], classes[fitted]).items():
                limit = unknown.conformal_limit(score(features[held_out]), RATE).value
                known, near = score(features[new]), score(features[classes == one])
                away = score(far)
                of_seeds[each].append(
                    [
                        np.mean(known > limit),
                        unknown.auroc(near, known),
                        np.mean(near > limit),
                        unknown.auroc(away, known),
                        np.mean(away > limit),
                    ]
                )
        for each, values in of_seeds.items():
            found[each].append(values)
    for each, values in found.items():
        array = np.array(values)  # [classes, seeds, 5]
        cells = []
        for column in range(5):
            means = array[:, :, column].mean(axis=1)
            half = stats.t.ppf(0.975, len(means) - 1) * stats.sem(means)
            cells.append(cell(means.mean(), means.mean() - half, means.mean() + half))
        print(f"| {name} | {each} | {' | '.join(cells)} |", flush=True)


def cell(value, low, high):
    return f"{value:.3f} [{max(low, 0):.3f}, {min(high, 1):.3f}]"


def scores(features, classes):
    """By name a function of features that is higher for pictures less known."""
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an optimum that is not quite reached
        model = LogisticRegression(C=1e-2, max_iter=200).fit((features - mean) / deviation, classes)

    def logits(some):
        return model.decision_function((some - mean) / deviation)

    return unknown.fit_distances(features, classes) | {
        "max softmax": lambda some: -special.softmax(logits(some), axis=1).max(axis=1),
        "energy": lambda some: -special.logsumexp(logits(some), axis=1),
    }


if __name__ == "__main__":
    main()
