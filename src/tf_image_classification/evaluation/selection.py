"""Which images without a label to label next: rules of active learning on frozen features.

    chosen = choose("auto", space, labels, num_classes=6, count=50, seed=0)
    chosen.numbers                     # the first one is the best

Rules:

* random: without replacement, the baseline that every rule has to beat.
* typical: TypiClust (Hacohen, Dekel and Weinshall, 2022, arXiv 2202.02794). As many clusters as
  labels there will be; of each cluster without a label, the largest first, the most typical image:
  the one with the smallest mean distance to its 20 nearest neighbours in the cluster.
* margin: the smallest difference between the two most probable classes (Scheffer et al., 2001).
* diverse: BADGE (Ash et al., 2020, arXiv 1906.03671). k-means++ over the gradients of the loss by
  the weights of the linear probe, if the guessed class were true: uncertain images have large
  gradients, and different images different ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.probe import Floats, Ints, fit_probe, one_thread

AUTO, RANDOM, TYPICAL, MARGIN, DIVERSE = "auto", "random", "typical", "margin", "diverse"
RULES = (AUTO, TYPICAL, MARGIN, DIVERSE, RANDOM)
UNLABELLED = -1

_MOST_CLUSTERS = 500  # as in the paper
_SMALLEST_CLUSTER = 5  # smaller ones are outliers (paper), while there are others
_NEIGHBOURS = 20
_MOST_IN_CLUSTER = 2_000  # neighbours are sought among so many; bounds the distances computed
_FEW = 5  # labels per class; see benchmarks/label_next.py


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Examples to label, the best first.

    Attributes:
        rule: that chose them; never "auto".
        numbers: of the examples.
        scores: of each, by its rule: 1 / distance (typical), 1 - margin (margin, diverse), 0
            (random).
        reasons: of each, for people.
    """

    rule: str
    numbers: Sequence[int]
    scores: Sequence[float]
    reasons: Sequence[str]


def rule_for(num_labels: int, num_classes: int) -> str:
    """The rule that "auto" stands for: typical below five labels per class, then diverse."""
    return TYPICAL if num_classes < 2 or num_labels < _FEW * num_classes else DIVERSE


def choose(
    rule: str, space: Floats, labels: Ints, *, num_classes: int, count: int, seed: int = 0
) -> Chosen:
    """The examples to label next; the same for the same arguments.

    Args:
        rule: one of ``RULES``.
        space: [N, d], ``probe_space`` of all examples.
        labels: [N], the number of the class, or ``UNLABELLED``.
        num_classes: of the labels.
        count: examples to choose; fewer are chosen where there are fewer.
        seed: of the clusters, of k-means++ and of random.
    """
    known = labels != UNLABELLED
    pool = np.flatnonzero(~known)
    count = min(count, len(pool))
    if rule == AUTO:
        rule = rule_for(int(known.sum()), num_classes)
    if rule in (MARGIN, DIVERSE) and len(np.unique(labels[known])) < 2:
        rule = TYPICAL  # without two classes there is no margin
    random = np.random.default_rng(seed)
    with one_thread():
        if rule == RANDOM:
            numbers = random.permutation(pool)[:count]
            return Chosen(rule, numbers.tolist(), [0.0] * count, ["at random"] * count)
        if rule == TYPICAL:
            return _typical(space, known, count, seed)
        probe = fit_probe(space[known], labels[known], num_classes)
        probabilities = probe.probabilities(space[pool])
        top = np.sort(probabilities, axis=1)[:, -2:]
        doubt = 1 - (top[:, 1] - top[:, 0])
        if rule == MARGIN:
            order = np.argsort(-doubt, kind="stable")[:count]
        else:
            order = _spread(space[pool], probabilities, count, random)
    between = np.argsort(-probabilities, axis=1, kind="stable")[order, :2]
    extra = " and unlike the others" if rule == DIVERSE else ""
    return Chosen(
        rule,
        pool[order].tolist(),
        doubt[order].tolist(),
        [f"between {{{a}}} and {{{b}}}{extra}" for a, b in between.tolist()],
    )


def _typical(space: Floats, known: npt.NDArray[np.bool_], count: int, seed: int) -> Chosen:
    """TypiClust: round by round one image of each cluster, those with the fewest labels first."""
    num_clusters = min(int(known.sum()) + count, _MOST_CLUSTERS, len(space))
    cluster = _clusters(space, num_clusters, seed)
    sizes = np.bincount(cluster, minlength=num_clusters)
    labels = np.bincount(cluster[known], minlength=num_clusters)
    waiting: dict[int, list[tuple[float, int]]] = {}
    for k in range(num_clusters):
        members = np.flatnonzero(cluster == k)
        typicality = _typicality(space[members], seed)
        ranked = sorted(zip((-typicality).tolist(), members.tolist(), strict=True), reverse=True)
        waiting[k] = [(-minus, i) for minus, i in ranked if not known[i]]
    numbers: list[int] = []
    scores: list[float] = []
    reasons: list[str] = []
    while len(numbers) < count:
        able = [k for k, rest in waiting.items() if rest]
        k = min(able, key=lambda k: (sizes[k] < _SMALLEST_CLUSTER, labels[k], -sizes[k], k))
        score, i = waiting[k].pop()
        with_labels = f"{labels[k]} labelled" if labels[k] else "none labelled"
        numbers.append(i)
        scores.append(score)
        reasons.append(f"typical of {sizes[k]} similar images, {with_labels}")
        labels[k] += 1
    return Chosen(TYPICAL, numbers, scores, reasons)


def _clusters(space: Floats, num_clusters: int, seed: int) -> Ints:
    """The cluster of each example, by the direction of its features, [N]."""
    from sklearn.cluster import KMeans, MiniBatchKMeans  # late: it takes a second

    lengths = np.maximum(np.linalg.norm(space, axis=1, keepdims=True), 1e-9)
    is_small = len(space) * num_clusters <= 100_000
    kind = KMeans if is_small else MiniBatchKMeans
    found = kind(num_clusters, n_init=1, random_state=seed).fit_predict(space / lengths)
    numbers: Ints = found.astype(np.int64)
    return numbers


def _typicality(members: Floats, seed: int) -> Floats:
    """One over the mean distance to the nearest neighbours in the cluster, [n]."""
    from sklearn.neighbors import NearestNeighbors  # late, as above

    if len(members) < 2:
        return np.zeros(len(members))
    lengths = np.maximum(np.linalg.norm(members, axis=1, keepdims=True), 1e-9)
    members = members / lengths
    among = members
    if len(members) > _MOST_IN_CLUSTER:
        among = np.random.default_rng(seed).choice(members, _MOST_IN_CLUSTER, replace=False)
    index = NearestNeighbors(n_neighbors=min(_NEIGHBOURS + 1, len(among))).fit(among)
    distances = index.kneighbors(members)[0][:, 1:].mean(axis=1)
    found: Floats = 1 / np.maximum(distances, 1e-6)
    return found


def _spread(space: Floats, probabilities: Floats, count: int, random: np.random.Generator) -> Ints:
    """k-means++ over gradient embeddings, the outer products of residuals and features.

    Only inner products are needed, and that of two outer products is the product of those of
    their factors.
    """
    residuals = probabilities.copy()
    residuals[np.arange(len(residuals)), probabilities.argmax(axis=1)] -= 1
    inputs = np.concatenate([space, np.ones([len(space), 1])], axis=1)
    squares = (residuals**2).sum(axis=1) * (inputs**2).sum(axis=1)
    chosen = [int(squares.argmax())]
    distances = np.full(len(space), np.inf)
    while len(chosen) < count:
        last = chosen[-1]
        products = (residuals @ residuals[last]) * (inputs @ inputs[last])
        distances = np.minimum(distances, squares + squares[last] - 2 * products)
        distances[chosen] = 0
        weights = np.maximum(distances, 0)
        if not weights.any():
            weights[np.setdiff1d(np.arange(len(space)), chosen)] = 1
        chosen.append(int(random.choice(len(space), p=weights / weights.sum())))
    return np.array(chosen)
