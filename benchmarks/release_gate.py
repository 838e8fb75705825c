"""How often ``tfic compare --not_worse`` passes a model that is worse by exactly its margin.

    python benchmarks/release_gate.py                        all tables
    python benchmarks/release_gate.py --only fractions       one of them; --sims 200 is quicker

Predictions are drawn, so that the true difference is known. In the column "false passes" it is at
the edge of the margin, in "power" it is 0. Each percentage has its 95 % interval (Wilson).
"""

from __future__ import annotations

import argparse
import functools
import math
import warnings

import numpy as np
from scipy import optimize, stats

from tf_image_classification.evaluation.claims import make_claim
from tf_image_classification.evaluation.gate import judge
from tf_image_classification.evaluation.intervals import wilson
from tf_image_classification.evaluation.paired_fractions import PairedFractions, _score
from tf_image_classification.evaluation.pairing import LabelPair
from tf_image_classification.evaluation.predictions import LabelPredictions
from tf_image_classification.labels import Label

ALPHA = 0.05
Z = stats.norm.isf(ALPHA)


def percent(passes: list[bool]) -> str:
    """A fraction of simulations with its interval."""
    low, high = wilson(float(np.mean(passes)), len(passes))
    return f"{100 * np.mean(passes):.1f} ({100 * low:.1f}-{100 * high:.1f})"


# --- fractions of examples ----------------------------------------------------------------------


def passes_wald(gained: int, lost: int, count: int, margin: float) -> bool:
    """Whether the lower end of the normal approximation excludes the margin."""
    d = (gained - lost) / count
    return d - Z * math.sqrt(max(gained + lost - count * d * d, 0)) / count > -margin


def passes_agresti_min(gained: int, lost: int, count: int, margin: float) -> bool:
    """The same after half an example is added to each cell (Agresti and Min, 2005)."""
    return passes_wald(gained + 0.5, lost + 0.5, count + 2, margin)  # type: ignore[arg-type]


def passes_newcombe(gained: int, lost: int, count: int, margin: float) -> bool:
    """Newcombe's (1998) method 10 with 0.8 of the examples right in both models."""
    both = round(0.8 * (count - gained - lost))
    a, b = (both + lost) / count, (both + gained) / count
    low_b, high_a = wilson(b, count, 1 - 2 * ALPHA)[0], wilson(a, count, 1 - 2 * ALPHA)[1]
    neither = count - both - gained - lost
    product = (both + gained) * (neither + lost) * (both + lost) * (neither + gained)
    top = both * neither - gained * lost
    top = max(top - count / 2, 0) if top > 0 else top
    phi = top / math.sqrt(product) if product else 0.0
    spread = (b - low_b) ** 2 - 2 * phi * (b - low_b) * (high_a - a) + (high_a - a) ** 2
    return b - a - math.sqrt(max(spread, 0)) > -margin


def passes_tango(gained: int, lost: int, count: int, margin: float) -> bool:
    """Tango's score test with its asymptotic distribution."""
    return float(_score(gained, lost, count, -margin)) >= Z


def passes_exact(gained: int, lost: int, count: int, margin: float) -> bool:
    """The test of the gate."""
    return PairedFractions(gained, lost, count).p_below(-margin) <= ALPHA


def fractions(sims: int) -> None:
    """Ungrouped fractions: five tests on the same draws."""
    tests = {
        "normal": passes_wald,
        "Agresti-Min": passes_agresti_min,
        "Newcombe 10": passes_newcombe,
        "Tango": passes_tango,
        "exact": passes_exact,
    }
    print("\nFractions: false passes in %, true difference at the edge of the margin\n")
    print(f"| examples | margin | changed | {' | '.join(tests)} | power of exact |")
    print("|---" * (4 + len(tests)) + "|")
    random = np.random.default_rng(0)
    for count in (100, 300, 1000, 3000):
        for margin in (0.01, 0.02, 0.05):
            for changed in (margin, 2 * margin, 0.2):
                cached = {
                    name: functools.cache(functools.partial(test, count=count, margin=margin))
                    for name, test in tests.items()
                }
                cells = [(changed - margin) / 2, (changed + margin) / 2, 1 - changed]
                edge = random.multinomial(count, np.maximum(cells, 0), sims)[:, :2].tolist()
                same = [changed / 2, changed / 2, 1 - changed]
                equal = random.multinomial(count, same, sims)[:, :2].tolist()
                row = [percent([one(g, m) for g, m in edge]) for one in cached.values()]
                power = percent([cached["exact"](g, m) for g, m in equal])
                print(
                    f"| {count} | {margin} | {changed} | {' | '.join(row)} | {power} |", flush=True
                )


# --- other metrics, groups and slices -----------------------------------------------------------


def pair_of(
    truth: np.ndarray,
    of_a: np.ndarray,
    of_b: np.ndarray,
    depth: int,
    groups: np.ndarray | None = None,
    slices: np.ndarray | None = None,
) -> dict[str, LabelPair]:
    """Two models with given predictions, of which each is given with 80 % probability."""
    count = len(truth)

    def predictions(predicted: np.ndarray) -> LabelPredictions:
        probabilities = np.full([count, depth], 0.2 / (depth - 1))
        probabilities[np.arange(count), predicted] = 0.8
        return LabelPredictions(truth, predicted, probabilities, np.ones(count, bool))

    return {
        "kind": LabelPair(
            Label("kind", depth=depth),
            predictions(of_a),
            predictions(of_b),
            [str(i) for i in range(count)],
            np.arange(count),
            groups,
            {} if slices is None else {"camera": slices},
        )
    }


def flipped(
    random: np.random.Generator, truth: np.ndarray, of_a: np.ndarray, p: np.ndarray, depth: int
) -> np.ndarray:
    """Predictions of which a fraction is changed: right ones become wrong and wrong ones right."""
    wrong = (truth + random.integers(1, depth, len(truth))) % depth
    return np.where(random.random(len(truth)) < p, np.where(of_a == truth, wrong, truth), of_a)


def metrics(sims: int) -> None:
    """Metrics that are no fraction, five classes of 20 to 200 examples."""
    sizes, depth = [200, 120, 80, 40, 20], 5
    truth = np.repeat(np.arange(depth), sizes)
    rarest = truth == depth - 1
    print("\nOther metrics, 460 examples of five classes, model A 90 % right\n")
    print("| metric | what B loses | margin | false passes | power |\n|---|---|---|---|---|")
    for metric in ("brier_score", "log_loss", "balanced_accuracy", "macro_f1", "macro_auc"):
        for which, loses in (
            ("all classes alike", np.ones(len(truth), bool)),
            ("the rarest", rarest),
        ):
            passes: dict[bool, list[bool]] = {True: [], False: []}
            margin = true_loss(metric, truth, loses, depth)
            for is_worse, found in passes.items():
                random = np.random.default_rng(1)
                for _ in range(sims):
                    found.append(metric_passes(random, metric, truth, loses, is_worse, margin))
            print(
                f"| {metric} | {which} | {margin:.3f} | {percent(passes[True])} | "
                f"{percent(passes[False])} |",
                flush=True,
            )


def _draw(
    random: np.random.Generator, truth: np.ndarray, loses: np.ndarray, is_worse: bool, depth: int
) -> dict[str, LabelPair]:
    wrong = (truth + random.integers(1, depth, len(truth))) % depth
    of_a = np.where(random.random(len(truth)) < 0.9, truth, wrong)
    noise = np.where(of_a == truth, 0.01, 0.09)  # as many changes in either direction
    of_b = flipped(random, truth, of_a, noise, depth)
    fraction = 0.03 if loses.all() else 0.15
    p = np.where(loses & (of_b == truth) & is_worse, fraction, 0)
    return pair_of(truth, of_a, flipped(random, truth, of_b, p, depth), depth)


@functools.cache
def _true_loss(metric: str, is_all: bool) -> float:
    sizes, depth = [200, 120, 80, 40, 20], 5
    truth = np.repeat(np.arange(depth), [200 * size for size in sizes])
    loses = np.ones(len(truth), bool) if is_all else truth == depth - 1
    found = _draw(np.random.default_rng(2), truth, loses, True, depth)["kind"]
    from tf_image_classification.metrics.definitions import find_metric

    one = find_metric(metric)
    assert one is not None
    a, b = (float(one.of(found.label, rows).result()) for rows in (found.a, found.b))
    return abs(b - a)


def true_loss(metric: str, truth: np.ndarray, loses: np.ndarray, depth: int) -> float:
    """The loss in a metric, over 92,000 examples."""
    return _true_loss(metric, bool(loses.all()))


def metric_passes(
    random: np.random.Generator,
    metric: str,
    truth: np.ndarray,
    loses: np.ndarray,
    is_worse: bool,
    margin: float,
) -> bool:
    """Whether one simulated model passes."""
    pairs = _draw(random, truth, loses, is_worse, 5)
    claim = make_claim(not_worse=margin)
    assert claim is not None
    return judge(pairs, claim, metric=metric).is_shown


def groups(sims: int) -> None:
    """Accuracy of grouped examples: the loss of a group is drawn, too."""
    print("\nGroups of 1 to 9 examples, all changes of a group correlated (0.5), margin 0.05\n")
    print(
        "| groups | false passes | of a test that ignores the groups | power |\n|---|---|---|---|"
    )
    for num_groups in (10, 20, 50, 100):
        worse: list[bool] = []
        ignoring: list[bool] = []
        equal: list[bool] = []
        for is_worse in (True, False):
            random = np.random.default_rng(3)
            for _ in range(sims):
                pairs = _grouped(random, num_groups, is_worse)
                claim = make_claim(not_worse=0.05)
                assert claim is not None
                (worse if is_worse else equal).append(judge(pairs, claim).is_shown)
                if is_worse:
                    alone = {"kind": _ungrouped(pairs["kind"])}
                    ignoring.append(judge(alone, claim).is_shown)
        print(
            f"| {num_groups} | {percent(worse)} | {percent(ignoring)} | {percent(equal)} |",
            flush=True,
        )


def _grouped(random: np.random.Generator, num_groups: int, is_worse: bool) -> dict[str, LabelPair]:
    sizes = random.integers(1, 10, num_groups)
    lost, gained = (0.08, 0.03) if is_worse else (0.04, 0.04)
    concentration = 1.0  # of a beta distribution with correlation 1 / (1 + concentration) = 0.5
    rate = random.beta(
        (lost + gained) * concentration, (1 - lost - gained) * concentration, num_groups
    )
    group = np.repeat(np.arange(num_groups), sizes)
    changes = random.random(len(group)) < rate[group]
    is_loss = (random.random(num_groups) < lost / (lost + gained))[group]
    truth = np.zeros(len(group), int)
    of_a = np.where(changes & ~is_loss, 1, 0)
    of_b = np.where(changes & is_loss, 1, 0)
    return pair_of(truth, of_a, of_b, 2, groups=group.astype(str))


def _ungrouped(pair: LabelPair) -> LabelPair:
    import dataclasses

    return dataclasses.replace(pair, groups=None)


def slices(sims: int) -> None:
    """A claim about every slice: one of them is worse by the margin, the others are equal."""
    margin = 0.05
    print("\nFour cameras, margin 0.05, 4 % of the examples change besides\n")
    print("| examples of a camera | false passes of the whole | power |\n|---|---|---|")
    for count in (100, 300, 1000):
        passes = functools.cache(functools.partial(passes_exact, count=count, margin=margin))
        whole = functools.cache(functools.partial(passes_exact, count=4 * count, margin=margin))
        row = []
        for is_worse in (True, False):
            random = np.random.default_rng(4)
            cells = [[0.02, 0.02 + margin * (is_worse and i == 0)] for i in range(4)]
            drawn = np.stack(
                [random.multinomial(count, [g, m, 1 - g - m], sims)[:, :2] for g, m in cells], 1
            )
            row.append(
                percent(
                    [
                        whole(*map(int, np.sum(one, 0)))
                        and all(passes(*each) for each in one.tolist())
                        for one in drawn
                    ]
                )
            )
        print(f"| {count} | {' | '.join(row)} |", flush=True)


def size(sims: int) -> None:
    """The largest error of the exact test over all fractions of changes, without simulation."""
    print("\nThe largest error over all fractions of changed examples, computed exactly\n")
    print("| examples | margin | Tango | exact |\n|---|---|---|---|")
    for count in (50, 100, 300, 500):
        for margin in (0.01, 0.02, 0.05):
            row = []
            for test in (passes_tango, passes_exact):
                fewest = []
                for lost in range(count + 1):
                    low, high = 0, count - lost + 1
                    while low < high:
                        middle = (low + high) // 2
                        if test(middle, lost, count, margin):
                            high = middle
                        else:
                            low = middle + 1
                    fewest.append(low)
                least, lost_all = np.array(fewest), np.arange(count + 1)

                def error(changed: float, k: np.ndarray = least) -> float:
                    p_lost = (changed + margin) / 2  # noqa: B023
                    p_gained = changed - p_lost
                    part = stats.binom.sf(k - 1, count - lost_all, p_gained / (1 - p_lost))  # noqa: B023
                    return float((stats.binom.pmf(lost_all, count, p_lost) * part).sum())  # noqa: B023

                grid = np.linspace(margin, 1, 400)
                best = grid[int(np.argmax([error(each) for each in grid]))]
                found = optimize.minimize_scalar(
                    lambda each: -error(each),
                    bounds=(max(margin, best - 0.003), min(1, best + 0.003)),
                    method="bounded",
                )
                row.append(f"{100 * max(error(best), -found.fun):.2f} %")
            print(f"| {count} | {margin} | {' | '.join(row)} |", flush=True)


def main() -> None:
    """Print the tables."""
    tables = {f.__name__: f for f in (size, fractions, metrics, groups, slices)}
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=tables)
    parser.add_argument("--sims", type=int, default=2000)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    for name, print_table in tables.items():
        if given.only in (None, name):
            print_table(given.sims)


if __name__ == "__main__":
    main()
