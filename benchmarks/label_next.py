"""Rules of ``tfic label-next`` against random choice: accuracy by number of labels.

    python benchmarks/label_next.py trashnet --start 0 --labels 12,24,48,96,192 --repeats 10
    python benchmarks/label_next.py cifar10 --start 400 --labels 500,600,800,1000 --repeats 5

The argument is a folder of class folders. In each repeat a test part is drawn (``--test``), and so
many labels of the others are known (``--start``, at random); the labels of the rest are hidden.
A rule chooses up to each number of labels in turn, which become known. Printed are the accuracy of
the linear probe on the test part, the paired difference to random with its 95 % interval over the
repeats (t), and the labels that the rule saves at the accuracy that random has with each number of
labels, with a 95 % interval (bootstrap over the repeats).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from tf_image_classification.config import DEFAULT_BACKBONE, IMAGENET, Settings
from tf_image_classification.dataset.readers import find_examples
from tf_image_classification.evaluation.probe import fit_probe, one_thread, probe_space
from tf_image_classification.evaluation.selection import (
    AUTO,
    DIVERSE,
    MARGIN,
    RANDOM,
    TYPICAL,
    UNLABELLED,
    choose,
)
from tf_image_classification.workflows.setup.environment import cache_dir, prepare_tensorflow

Numbers = npt.NDArray[np.int64]
_RULES = (RANDOM, TYPICAL, MARGIN, DIVERSE, AUTO)


def main() -> None:
    """Print a table for each rule."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a folder with a folder of images for each class")
    parser.add_argument("--start", type=int, default=0, help="labels known at first")
    parser.add_argument("--labels", default="12,24,48,96,192", help="numbers of labels to reach")
    parser.add_argument("--test", type=float, default=0.3, help="fraction of the test part")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rules", default=",".join(_RULES))
    given = parser.parse_args()
    features, labels = features_of(given.source)
    goals = [int(each) for each in given.labels.split(",")]
    space = probe_space(features)
    curves = {
        rule: np.array(
            [
                curve(space, labels, rule, given.start, goals, given.test, seed)
                for seed in range(given.repeats)
            ]
        )
        for rule in given.rules.split(",")
    }
    print(
        f"{len(labels)} images, {labels.max() + 1} classes, {DEFAULT_BACKBONE}, {IMAGENET} "
        f"weights; {given.start} labels at first, seeds 0 to {given.repeats - 1}"
    )
    print("labels   " + "".join(f"{goal:>22}" for goal in goals))
    for rule, found in curves.items():
        cells = [f"{mean:.3f}" for mean in found.mean(axis=0)]
        if rule != RANDOM:
            cells = [
                f"{cell} {difference(found[:, i] - curves[RANDOM][:, i])}"
                for i, cell in enumerate(cells)
            ]
        print(f"{rule:<9}" + "".join(f"{cell:>22}" for cell in cells))
    print("labels saved by the accuracy of random")
    for rule, found in curves.items():
        if rule != RANDOM:
            cells = saved(goals, curves[RANDOM], found)
            print(f"{rule:<9}" + "".join(f"{cell:>22}" for cell in cells))


def features_of(source: str) -> tuple[npt.NDArray[np.float32], Numbers]:
    """Features of the default backbone, and the numbers of the classes."""
    settings = Settings()
    prepare_tensorflow(settings)
    from tf_image_classification.features.backbone import backbone_features

    listing = find_examples([source], option="source")
    labels = np.unique(np.array(listing.columns["label"]), return_inverse=True)[1]
    return backbone_features(listing, cache_dir=cache_dir(settings)).values, labels.astype(np.int64)


def curve(
    space: npt.NDArray[np.float64],
    labels: Numbers,
    rule: str,
    start: int,
    goals: Sequence[int],
    test: float,
    seed: int,
) -> list[float]:
    """Accuracies of one repeat at each number of labels."""
    num_classes = int(labels.max()) + 1
    numbers = np.random.default_rng(seed).permutation(len(labels))
    held_out, pool = np.split(numbers, [round(test * len(labels))])
    known = np.full(len(pool), UNLABELLED)
    known[:start] = labels[pool[:start]]
    found = []
    for goal in goals:
        count = goal - int((known != UNLABELLED).sum())
        chosen = choose(
            rule, space[pool], known, num_classes=num_classes, count=count, seed=seed
        ).numbers
        known[chosen] = labels[pool[chosen]]
        has_label = known != UNLABELLED
        with one_thread():
            probe = fit_probe(space[pool[has_label]], known[has_label], num_classes)
        found.append(float((probe.predicted(space[held_out]) == labels[held_out]).mean()))
    return found


def difference(values: npt.NDArray[np.float64]) -> str:
    """Mean and the half of its 95 % interval (t)."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"({values.mean():+.3f} ± {half:.3f})"


def saved(
    goals: Sequence[int], random: npt.NDArray[np.float64], found: npt.NDArray[np.float64]
) -> list[str]:
    """Labels saved at the accuracy of each number of random labels; "" out of the curve's range.

    The mean curves are made monotone and interpolated.
    """
    numbers = np.random.default_rng(0).integers(len(found), size=[1000, len(found)])
    choices = [np.arange(len(found)), *numbers]
    saved = np.array(
        [_saved(goals, random[c].mean(axis=0), found[c].mean(axis=0)) for c in choices]
    )
    cells = []
    for k in range(len(goals)):
        if np.isnan(saved[:, k]).mean() > 0.025:
            cells.append("")
            continue
        low, high = np.nanpercentile(saved[1:, k], [2.5, 97.5])
        cells.append(f"{saved[0, k]:+.0f} [{low:+.0f}, {high:+.0f}]")
    return cells


def _saved(
    goals: Sequence[int], random: npt.NDArray[np.float64], found: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    reached = np.maximum.accumulate(found) + np.arange(len(found)) * 1e-9
    needed = np.interp(random, reached, goals, left=np.nan, right=np.nan)
    return np.array(goals) - needed


if __name__ == "__main__":
    main()
