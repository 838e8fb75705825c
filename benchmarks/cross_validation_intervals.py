"""Coverage of the intervals of a cross-validation, on Gaussian classes whose truth is known.

    python benchmarks/cross_validation_intervals.py
    python benchmarks/cross_validation_intervals.py --simulations 300 --parts grouped optimism

Two classes of Gaussian vectors, a linear classifier by ridge regression, and the accuracy of each
fitted model in closed form. Each line is a setting, simulated 1,000 times: how often the 95 %
interval holds the mean true accuracy of the fold models, how often it holds the expected accuracy
of the procedure (over training sets, too), and the interval's mean width. The columns are the
interval as if the pooled predictions were those of one model (1.00), the same made wider by
factors, Student's interval of the fold means, and the corrected one of Nadeau and Bengio (2003).
With groups every group has a mean of its own, the folds keep groups together, and the interval is
the cluster bootstrap.

Then: differences of two procedures on the same folds, and how optimistic a score is whose
checkpoint was chosen on the scored fold.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from scipy import stats

from tf_image_classification.dataset.folds import divide_into_folds
from tf_image_classification.evaluation.intervals import (
    DIFFERENCE_BOUNDS,
    DIFFERENCE_OF_FOLDS,
    FRACTION_BOUNDS,
    OF_FOLDS,
    Interval,
    mean_with_interval,
)

FACTORS = (1.0, 1.15, OF_FOLDS, DIFFERENCE_OF_FOLDS)
# examples, features, distance of the classes, folds, repeats, examples of a group
UNGROUPED = [
    (50, 2, 0.8, 5, 1, 1),
    (50, 2, 1.5, 5, 1, 1),
    (50, 20, 1.5, 5, 1, 1),
    (100, 2, 0.8, 5, 1, 1),
    (100, 20, 1.0, 5, 1, 1),
    (100, 50, 1.5, 5, 1, 1),
    (100, 20, 1.0, 2, 1, 1),
    (100, 20, 1.0, 10, 1, 1),
    (100, 20, 1.0, 5, 5, 1),
    (200, 100, 1.5, 5, 1, 1),
    (500, 20, 1.0, 5, 1, 1),
    (500, 20, 1.6, 5, 1, 1),
]
GROUPED = [
    (100, 5, 1.0, 5, 1, 5),
    (200, 5, 1.0, 5, 1, 10),
    (200, 20, 1.5, 5, 1, 5),
    (500, 5, 1.0, 5, 1, 10),
]


def fit(x, y, ridge=1e-3):
    """Weights and bias of a ridge regression on the classes."""
    a = np.c_[x, np.ones(len(x))]
    return np.linalg.solve(a.T @ a + ridge * len(x) * np.eye(a.shape[1]), a.T @ (2.0 * y - 1))


def nearest_mean(x, y):
    """Weights and bias of the classifier that takes the nearer class mean."""
    one, zero = x[y == 1].mean(axis=0), x[y == 0].mean(axis=0)
    return np.append(one - zero, (zero @ zero - one @ one) / 2)


def true_accuracy(weights, distance, deviation):
    """The accuracy of a linear classifier on new examples."""
    direction, bias = weights[:-1], weights[-1]
    scale = np.linalg.norm(direction) * deviation
    signal = distance * direction[0]
    return float(stats.norm.cdf([(signal + bias) / scale, (signal - bias) / scale]).mean())


class World:
    """Draws data sets, and divides them as ``tfic cross-validate`` does."""

    def __init__(self, examples, features, distance, of_group, seed):
        self.num_groups = examples // of_group
        self.of_group, self.features, self.distance = of_group, features, distance
        self.between = 1.0 if of_group > 1 else 0.0
        self.deviation = math.sqrt(1 + self.between**2)
        self.random = np.random.default_rng(seed)

    def draw(self):
        """Examples [n, features], classes [n] and groups [n]."""
        y = np.arange(self.num_groups) % 2
        group = np.repeat(np.arange(self.num_groups), self.of_group)
        mean = np.zeros(self.features)
        mean[0] = self.distance
        shift = self.between * self.random.standard_normal((self.num_groups, self.features))
        noise = self.random.standard_normal((len(group), self.features))
        return (2 * y[group] - 1)[:, None] * mean + shift[group] + noise, y[group], group

    def folds(self, y, group, num_folds):
        """The fold of each example, from 1 on."""
        ids = [f"{self.random.integers(2**62)}" for _ in y]
        ties = [[f"{g}"] for g in group] if self.of_group > 1 else ()
        classes = [(str(c),) for c in y]
        return np.array(divide_into_folds(ids, classes, num_folds, ties))


def out_of_fold(world, x, y, folds, make=fit):
    """Whether each example is predicted right, and the true accuracy of each fold's model."""
    right, true = np.zeros(len(y)), []
    for fold in np.unique(folds):
        held = folds == fold
        weights = make(x[~held], y[~held])
        right[held] = (np.c_[x[held], np.ones(held.sum())] @ weights > 0) == y[held]
        true.append(true_accuracy(weights, world.distance, world.deviation))
    return right, true


def wider(interval: Interval, factor, bounds):
    """An interval made wider about its value."""
    ends = [
        interval.value + factor * (end - interval.value) for end in (interval.low, interval.high)
    ]
    return np.clip(ends, *bounds)


def student(means, factor):
    """An interval of fold means, for a variance of ``factor`` times that of one fold."""
    half = stats.t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1) * math.sqrt(factor)
    return np.mean(means) - half, np.mean(means) + half


def coverage(setting, simulations, seed):
    """A line of the table."""
    examples, features, distance, num_folds, repeats, of_group = setting
    world = World(examples, features, distance, of_group, seed)
    ends = {name: [] for name in [*FACTORS, "t", "corrected"]}
    true = []
    for _ in range(simulations):
        x, y, group = world.draw()
        rights, of_models, of_folds = [], [], []
        for _ in range(repeats):
            folds = world.folds(y, group, num_folds)
            right, one = out_of_fold(world, x, y, folds)
            rights.append(right)
            of_models += one
            of_folds += [right[folds == fold].mean() for fold in np.unique(folds)]
        clusters = group if of_group > 1 else None
        bounds = FRACTION_BOUNDS if repeats == 1 else None
        interval = mean_with_interval(np.mean(rights, axis=0), clusters, bounds=bounds)
        for factor in FACTORS:
            ends[factor].append(wider(interval, factor, FRACTION_BOUNDS))
        ends["t"].append(student(of_folds, 1 / len(of_folds)))
        ends["corrected"].append(student(of_folds, 1 / len(of_folds) + 1 / (num_folds - 1)))
        true.append(np.mean(of_models))
    true = np.array(true)
    cells = []
    for found in ends.values():
        low, high = np.array(found).T
        of_models = np.mean((low <= true) & (true <= high))
        of_procedure = np.mean((low <= true.mean()) & (true.mean() <= high))
        cells.append(f"{of_models:.3f} {of_procedure:.3f} {np.mean(high - low):.3f}")
    shape = f"{examples}, {features}, {num_folds}, {repeats}, {of_group}"
    return f"| {shape} | {true.mean():.3f} | " + " | ".join(cells) + " |"


def differences(examples, features, distance, simulations, seed):
    """Coverage of the paired interval of two procedures on the same folds."""
    world = World(examples, features, distance, 1, seed)
    found, true = [], []
    for _ in range(simulations):
        x, y, group = world.draw()
        folds = world.folds(y, group, 5)
        right, one = out_of_fold(world, x, y, folds)
        other, two = out_of_fold(world, x, y, folds, nearest_mean)
        found.append(mean_with_interval(other - right, bounds=DIFFERENCE_BOUNDS))
        true.append(np.mean(two) - np.mean(one))
    cells = []
    for factor in FACTORS:
        ends = np.array([wider(interval, factor, DIFFERENCE_BOUNDS) for interval in found])
        low, high = ends.T
        cells.append(
            f"{np.mean((low <= true) & (true <= high)):.3f} "
            f"{np.mean((low <= np.mean(true)) & (np.mean(true) <= high)):.3f}"
        )
    return f"| {examples}, {features} | {np.mean(true):+.3f} | " + " | ".join(cells) + " |"


def optimism(examples, features, distance, simulations, seed, checkpoints=20):
    """Mean score minus true accuracy, of the last checkpoint and of the best one on the fold."""
    world = World(examples, features, distance, 1, seed)
    of_last, of_best = [], []
    for _ in range(simulations):
        x, y, group = world.draw()
        folds = world.folds(y, group, 5)
        for fold in np.unique(folds):
            held = folds == fold
            inputs = np.c_[x, np.ones(len(x))]
            weights = np.zeros(features + 1)
            scores, true = [], []
            for _ in range(checkpoints):
                batch = world.random.choice(np.flatnonzero(~held), 16)
                p = 1 / (1 + np.exp(-inputs[batch] @ weights))
                weights = weights - 0.3 * inputs[batch].T @ (p - y[batch]) / 16
                scores.append(np.mean((inputs[held] @ weights > 0) == y[held]))
                true.append(true_accuracy(weights, distance, 1.0))
            best = int(np.argmax(scores))
            of_last.append(scores[-1] - true[-1])
            of_best.append(scores[best] - true[best])
    last, best = mean_with_interval(of_last), mean_with_interval(of_best)
    return f"| {examples}, {features} | {last} | {best} |"


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parts = {"ungrouped": UNGROUPED, "grouped": GROUPED, "differences": (), "optimism": ()}
    parser.add_argument("--parts", nargs="*", default=list(parts), choices=parts)
    given = parser.parse_args()
    names = [*(f"{factor:.2f}" for factor in FACTORS), "Student", "Nadeau and Bengio"]
    print(f"{given.simulations} simulations of each line, seed {given.seed}")
    print("coverage of the fold models' mean, of the procedure, and width")
    print(
        "| examples, features, folds, repeats, of a group | accuracy | " + " | ".join(names) + " |"
    )
    print("|---" * (len(names) + 2) + "|")
    for setting in (one for part in given.parts for one in parts[part]):
        print(coverage(setting, given.simulations, given.seed), flush=True)
    if "differences" in given.parts:
        print_differences(given, names)
    if "optimism" in given.parts:
        print_optimism(given)


def print_differences(given, names):
    """The table of two procedures."""
    print("\ndifference of two procedures: coverage of the fold models' mean and of the procedures")
    print("| examples, features | difference | " + " | ".join(names[: len(FACTORS)]) + " |")
    print("|---" * (len(FACTORS) + 2) + "|")
    for examples, features, distance in ((50, 5, 1.0), (100, 20, 1.0), (200, 100, 1.5)):
        print(differences(examples, features, distance, given.simulations, given.seed), flush=True)


def print_optimism(given):
    """The table of chosen checkpoints."""
    print("\nscore minus true accuracy, 20 checkpoints, 95 % interval")
    print("| examples, features | last checkpoint | best checkpoint on the scored fold |")
    print("|---|---|---|")
    for examples, features in ((50, 20), (100, 20), (500, 20)):
        print(optimism(examples, features, 1.0, given.simulations // 5, given.seed), flush=True)


if __name__ == "__main__":
    main()
