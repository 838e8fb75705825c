"""Whether the intervals of ``tfic forecast`` hold the accuracy that more labels give.

    python benchmarks/forecast.py trashnet --labels 64,86,107,171 --most 340 --repeats 20
    python benchmarks/forecast.py cifar10 --labels 150,300,600 --most 2400 --repeats 12

The argument is a folder of class folders. Each repeat draws so many labels and forecasts from them
alone. The truth is the mean over twelve probes, fitted to as many random labels as the forecast is
for and judged on all other images; of a class, with more labels of this class only. Printed are
the fraction of 90 % intervals that hold it, and the mean error and half width of the intervals.
"""

from __future__ import annotations

import argparse
import collections

import numpy as np
import numpy.typing as npt

from label_next import features_of
from tf_image_classification.evaluation.learning_curve import (
    MIN_OF_CLASS,
    Expected,
    class_curve,
    forecast,
    learning_curve,
)
from tf_image_classification.evaluation.probe import fit_probe, one_thread, probe_space

Numbers = npt.NDArray[np.int64]
_TIMES = (1.5, 2.0, 3.0, 4.0)
_PROBES = 12


def main() -> None:
    """Print a line for each number of labels and target, and the coverage over all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a folder with a folder of images for each class")
    parser.add_argument("--labels", default="64,86,107,171", help="numbers of labels to start from")
    parser.add_argument("--most", type=int, default=340, help="largest number to forecast")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first repeat")
    parser.add_argument("--classes", action="store_true", help="also of each class, twice as many")
    given = parser.parse_args()
    features, labels = features_of(given.source)
    space = probe_space(features)
    found: dict[tuple[str, int, float], list[tuple[Expected, float]]] = collections.defaultdict(
        list
    )
    for count in map(int, given.labels.split(",")):
        targets = [times for times in _TIMES if count * times <= given.most]
        truths = {times: accuracy(space, labels, round(count * times)) for times in (1.0, *targets)}
        for seed in range(given.seed, given.seed + given.repeats):
            some = np.random.default_rng(seed).permutation(len(labels))[:count]
            curve = learning_curve(
                probe_space(features[some]), labels[some], num_classes=labels.max() + 1, seed=seed
            )
            for times in targets:
                expected = forecast(curve, now=count, then=count * times)
                found["accuracy", count, times].append((expected.then, truths[times]))
                gain = truths[times] - truths[1.0]
                found["gain", count, times].append((expected.gain, gain))
            if given.classes:
                for_classes(features[some], space, labels, some, seed, found)
    print(
        f"{len(labels)} images, {labels.max() + 1} classes; {given.repeats} repeats, seeds from "
        f"{given.seed}"
    )
    for (what, count, times), each in found.items():
        print(f"{what:<9} {count:>5} labels, times {times}: {line(each)}")
    for what in dict.fromkeys(key[0] for key in found):
        print(f"{what}, all: {line([one for k, v in found.items() if k[0] == what for one in v])}")


def for_classes(features, space, labels, some, seed, found):
    """Forecasts for twice the labels of one class, the class by turns."""
    number = seed % (int(labels.max()) + 1)
    count = int((labels[some] == number).sum())
    if count < MIN_OF_CLASS or 2 * count > 0.8 * (labels == number).sum():
        return
    curve = class_curve(
        probe_space(features), labels[some], number, num_classes=labels.max() + 1, seed=seed
    )
    expected = forecast(curve, now=count, then=2 * count)
    now, then = (f1_with(space, labels, some, number, more) for more in (0, count))
    found["F1", len(some), 2.0].append((expected.then, then))
    found["F1 gain", len(some), 2.0].append((expected.gain, then - now))


def accuracy(space: npt.NDArray[np.float64], labels: Numbers, count: int) -> float:
    """The mean accuracy of probes that are fitted to so many labels."""
    random = np.random.default_rng(99)
    values = []
    with one_thread():
        for _ in range(_PROBES):
            inside, outside = np.split(random.permutation(len(labels)), [count])
            probe = fit_probe(space[inside], labels[inside], labels.max() + 1)
            values.append(float((probe.predicted(space[outside]) == labels[outside]).mean()))
    return float(np.mean(values))


def f1_with(
    space: npt.NDArray[np.float64], labels: Numbers, some: Numbers, number: int, more: int
) -> float:
    """The mean F1 of a class; labels as there are of each class, and more of this one."""
    random = np.random.default_rng(99)
    wanted = np.bincount(labels[some], minlength=labels.max() + 1)
    wanted[number] += more
    values = []
    with one_thread():
        for _ in range(_PROBES):
            order = random.permutation(len(labels))
            inside = np.concatenate([order[labels[order] == k][:n] for k, n in enumerate(wanted)])
            outside = np.setdiff1d(order, inside)
            predicted = fit_probe(space[inside], labels[inside], len(wanted)).predicted(
                space[outside]
            )
            own, called = labels[outside] == number, predicted == number
        # Every class counts as in the whole set, though fewer of its images are left.
        weights = (np.bincount(labels) / np.bincount(labels[outside], minlength=len(wanted)))[
            labels[outside]
        ]
        values.append(2 * (weights @ (called & own)) / (weights @ called + weights @ own))
    return float(np.mean(values))


def line(each: list[tuple[Expected, float]]) -> str:
    """Coverage, mean error and mean half width."""
    held = np.mean([one.low <= truth <= one.high for one, truth in each])
    error = np.mean([one.value - truth for one, truth in each])
    half = np.mean([(one.high - one.low) / 2 for one, _ in each])
    return f"{held:.2f} of {len(each)} held; error {error:+.3f}, half width {half:.3f}"


if __name__ == "__main__":
    main()
