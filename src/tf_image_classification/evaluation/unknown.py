"""Pictures of none of the classes: a distance of features to the training set, and its limit.

    candidates = fit_distances(train_features, classes)          "neighbours", "mahalanobis"
    chosen = choose_distance(train_features, classes)            by leaving classes out
    limit = conformal_limit(candidates[chosen.name](held_out_features), rate=0.05)
    is_unknown = candidates[chosen.name](features) > limit.value

Features are the values that a model's last layer takes, [n, D]. Both distances have one form, so
that an exported file computes either with three small matrix products.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.evaluation.intervals import CONFIDENCE, Interval, without_interval

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

NEIGHBOURS, MAHALANOBIS = DISTANCES = ("neighbours", "mahalanobis")
"""The distances; neighbours first, as it needs no classes."""

MAX_DIMENSIONS = 64
"""Directions of the features that are kept apart; the others are summed into one length."""

MAX_CENTRES = 512
"""Neighbours that are kept; more training examples are clustered to as many."""

MAX_FOLDS = 10
"""Groups of classes that are left out one after the other."""

MIN_SPREAD = 1e-3
"""Below this ``spread`` distances are mostly rounding."""

_MAX_TO_CHOOSE = 1_000  # training examples

TINY = 1e-12
"""The smallest squared length that features are divided by."""

_MIN_PER_SIDE = 5  # known and left-out examples, for an area under a ROC curve


@dataclasses.dataclass(frozen=True)
class Distance:
    """The distance of features to the nearest of some centres.

    With x the features, divided by their length, minus their mean, and p = x B for the orthonormal
    columns of B, it is the square root of min_j |p S - c_j|^2 + w (|x|^2 - |p|^2): the features'
    part outside of the kept directions counts with its length.

    Attributes:
        name: one of ``DISTANCES``.
        mean: of the training examples' features with length 1, [D].
        basis: the kept directions B, [D, d].
        scaling: S, [d, d].
        centres: c_j, [m, d].
        rest_weight: w.
    """

    name: str
    mean: Floats
    basis: Floats
    scaling: Floats
    centres: Floats
    rest_weight: float

    def __call__(self, features: Array) -> Floats:
        """The distance of each example [n], float32, for features [n, D]."""
        parts = np.array_split(features, max(1, len(features) // _ROWS_AT_ONCE))
        return np.concatenate([self._of(part) for part in parts])

    def parts(self) -> tuple[Floats, ...]:
        """The arrays, with the weight as the last one."""
        weight = np.float32(self.rest_weight).reshape(1)
        return self.mean, self.basis, self.scaling, self.centres, weight

    def spread(self, features: Array) -> float:
        """The root mean square of the distance to the mean, for features [n, D]."""
        q, rest = self._placed(features)
        return float(np.sqrt(((q * q).sum(axis=1) + self.rest_weight * rest).mean()))

    def _placed(self, features: Array) -> tuple[Floats, Floats]:
        """The scaled part of each example in the kept directions, and the square of the rest."""
        x = np.asarray(features, np.float32)
        x = x / np.sqrt(np.maximum((x * x).sum(axis=1, keepdims=True), TINY)) - self.mean
        p = x @ self.basis
        rest = np.maximum((x * x).sum(axis=1) - (p * p).sum(axis=1), 0)
        return p @ self.scaling, rest

    def _of(self, features: Array) -> Floats:
        q, rest = self._placed(features)
        squares = (q * q).sum(axis=1, keepdims=True) - 2 * q @ self.centres.T
        near = np.maximum((squares + (self.centres**2).sum(axis=1)).min(axis=1), 0)
        return np.asarray(np.sqrt(near + self.rest_weight * rest), np.float32)


_ROWS_AT_ONCE = 4096


def fit_distances(features: Array, classes: Array | None, *, seed: int = 0) -> dict[str, Distance]:
    """The distances that can be fitted to training features, by name; {} without examples.

    ``NEIGHBOURS``: to the nearest training example (Sun et al., arXiv 2204.06507), with the nearest
    of at most ``MAX_CENTRES`` cluster centres in place of the k-th nearest of all examples.

    ``MAHALANOBIS``: to the nearest class mean, with one covariance for all classes (Lee et al.,
    arXiv 1807.03888), of features with length 1 as well (Mueller and Hein, arXiv 2505.18032). The
    covariance of the kept directions is shrunk (Ledoit and Wolf, Journal of Multivariate Analysis
    88, 2004), the others have one variance (probabilistic principal components, Tipping and
    Bishop, JRSS B 61, 1999).

    Args:
        features: [n, D].
        classes: class numbers [n] of a single-label label; None: ``NEIGHBOURS`` alone.
        seed: of the clustering.
    """
    if not len(features):
        return {}
    exact = np.asarray(features, np.float64)
    exact = exact / np.sqrt(np.maximum((exact**2).sum(axis=1, keepdims=True), TINY))
    mean, basis = _directions(exact)
    points = (exact - mean) @ basis
    fits = {NEIGHBOURS: (np.eye(basis.shape[1]), _centres(points, seed), 1.0)}
    if classes is not None and len(points) - len(np.unique(classes)) >= _MIN_WITHIN:
        rest = float(((exact - mean) ** 2).sum() - (points**2).sum()) / len(points)
        fits[MAHALANOBIS] = _mahalanobis(points, classes, rest, exact.shape[1] - basis.shape[1])
    space = _float32(mean), _float32(basis)
    return {
        name: Distance(name, *space, _float32(scaling), _float32(centres), weight)
        for name, (scaling, centres, weight) in fits.items()
    }


def _float32(values: Array) -> Floats:
    return np.asarray(values, np.float32)


_MIN_WITHIN = 2  # examples beyond the first of each class, for a covariance


def spread(features: Array) -> float:
    """The root mean squared distance of features with length 1 from their mean, 0..1."""
    exact = np.asarray(features, np.float64)
    exact = exact / np.sqrt(np.maximum((exact**2).sum(axis=1, keepdims=True), TINY))
    return float(np.sqrt(((exact - exact.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _mahalanobis(
    points: Array, classes: Array, rest: float, num_others: int
) -> tuple[Array, Array, float]:
    """Scaling, centres and weight of the rest.

    Args:
        points: the training examples in the kept directions, [n, d].
        classes: [n].
        rest: their mean squared length in the other directions.
        num_others: number of these.
    """
    from sklearn.covariance import LedoitWolf  # late: it takes a second

    _, places = np.unique(classes, return_inverse=True)
    counts = np.bincount(places)
    sums = np.stack([np.bincount(places, column) for column in points.T], axis=1)
    means = sums / counts[:, None]
    within = points - means[places]
    covariance = LedoitWolf(assume_centered=True).fit(within).covariance_
    values, vectors = np.linalg.eigh(covariance * len(points) / (len(points) - len(counts)))
    largest = max(float(values.max()), TINY)
    scaling = vectors / np.sqrt(np.maximum(values, _MIN_VARIANCE * largest)) @ vectors.T
    variance = rest / num_others if num_others else 0.0
    weight = 1 / max(variance, _MIN_VARIANCE * largest) if variance > TINY else 0.0
    return scaling, means @ scaling, weight


_MIN_VARIANCE = 1e-6  # of the largest


def _directions(exact: Array) -> tuple[Array, Array]:
    """The mean [D] and the principal directions [D, d] of features."""
    from scipy.linalg import eigh  # late: it takes a moment

    mean = exact.mean(axis=0)
    x = exact - mean
    is_wide = len(x) < x.shape[1]
    products = x @ x.T if is_wide else x.T @ x
    count = min(MAX_DIMENSIONS, len(products))
    squares, vectors = eigh(products, subset_by_index=[len(products) - count, len(products) - 1])
    kept = squares > _MIN_VARIANCE * max(float(squares.max()), TINY)
    kept[-1] = True
    directions = vectors[:, kept]
    if is_wide:
        directions = x.T @ directions / np.sqrt(np.maximum(squares[kept], TINY))
    return mean, directions


def _centres(points: Array, seed: int) -> Array:
    """At most ``MAX_CENTRES`` points that stand for all."""
    if len(points) <= MAX_CENTRES:
        return points
    from sklearn.cluster import KMeans  # late: it takes a second

    means = KMeans(MAX_CENTRES, n_init=1, max_iter=20, init="random", random_state=seed)
    return np.asarray(means.fit(points).cluster_centers_)


@dataclasses.dataclass(frozen=True)
class Limit:
    """The distance above which a picture is refused.

    Attributes:
        value: the distance; infinity without a limit.
        rate: the largest expected fraction of refused pictures of known classes, 0..1.
        count: examples that it was fitted to.
        low: lower end of the 95 % interval of the refused fraction of new pictures.
        high: upper end.
        note: why there is no limit, or "".
    """

    value: float
    rate: float
    count: int
    low: float = math.nan
    high: float = math.nan
    note: str = ""

    @property
    def exists(self) -> bool:
        """Whether anything is refused."""
        return math.isfinite(self.value)


def conformal_limit(distances: Array, rate: float) -> Limit:
    """The limit that refuses at most a fraction ``rate`` of new pictures of known classes.

    The split conformal quantile (Vovk et al., 2005; Lei et al., arXiv 1604.04173): the k-th
    smallest of n distances, k = ceil((n + 1) (1 - rate)). The expected refused fraction is at most
    ``rate`` if new pictures and these are exchangeable. Given these, it has a Beta distribution
    with the parameters n + 1 - k and k (Vovk, arXiv 1209.2673), which gives the interval.

    Args:
        distances: of examples that neither network nor distance was fitted to, [n].
        rate: 0..1; 0: no limit.

    Example:
        >>> limit = conformal_limit(np.arange(19), 0.05)
        >>> limit.value, round(limit.high, 3)
        (18.0, 0.176)
        >>> conformal_limit(np.arange(18), 0.05).note
        'a rate of 0.05 needs 19 examples, there are 18'
    """
    n = len(distances)
    if not rate:
        return Limit(math.inf, rate, n, note="unknown_rate is 0")
    k = math.ceil((n + 1) * (1 - rate) - _ROUNDING)
    if k > n:
        needed = math.ceil(1 / rate - 1 - _ROUNDING)
        text = f"a rate of {rate:g} needs {needed} examples, there are {n}"
        return Limit(math.inf, rate, n, note=text)
    from scipy import stats  # late: it takes half a second

    tail = (1 - CONFIDENCE) / 2
    low, high = stats.beta.ppf([tail, 1 - tail], n + 1 - k, k).tolist()
    return Limit(float(np.sort(distances)[k - 1]), rate, n, low, high)


_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Choice:
    """The distance that separates best.

    Attributes:
        name: one of ``DISTANCES``.
        areas: by name the area under the ROC curve that decided.
        protocol: how it was measured, in words.
    """

    name: str
    areas: Mapping[str, float]
    protocol: str


def choose_distance(features: Array, classes: Array | None, *, seed: int = 0) -> Choice:
    """The distance with the higher mean AUROC when classes are left out of its training.

    Half of the examples are fitted, without a class (or one of ``MAX_FOLDS`` groups of classes);
    the other half is scored: those of the left-out classes should be farther. The network itself
    has seen all classes, so the areas compare the distances and promise nothing for other pictures.

    Args:
        features: [n, D], of training examples.
        classes: as ``fit_distances``.
        seed: of the halves.
    """
    if classes is None or len(np.unique(classes)) < 2:
        return Choice(NEIGHBOURS, {}, "the only one that needs no classes" if classes is None
                      else "with a single class no class can be left out")  # fmt: skip
    random = np.random.default_rng(seed)
    some = random.permutation(len(features))[:_MAX_TO_CHOOSE]
    features, classes = features[some], classes[some]
    is_fitted = np.zeros(len(features), bool)
    is_fitted[random.permutation(len(features))[: len(features) // 2]] = True
    groups = np.array_split(random.permutation(np.unique(classes)), MAX_FOLDS)
    areas: dict[str, list[float]] = {name: [] for name in DISTANCES}
    for group in filter(len, groups):
        is_out = np.isin(classes, group)
        far, near = ~is_fitted & is_out, ~is_fitted & ~is_out
        if min(far.sum(), near.sum()) < _MIN_PER_SIDE:
            continue
        fitted = is_fitted & ~is_out
        found = fit_distances(features[fitted], classes[fitted], seed=seed)
        if len(found) == len(DISTANCES):
            for name, distance in found.items():
                areas[name].append(auroc(distance(features[far]), distance(features[near])))
    means = {name: float(np.mean(values)) for name, values in areas.items() if values}
    if not means:
        return Choice(NEIGHBOURS, {}, "too few training examples to leave classes out")
    return Choice(max(means, key=means.__getitem__), means, "classes left out of the training set")


def auroc(unknown: Array, known: Array) -> float:
    """The probability that an unknown picture is farther than a known one, ties counted half.

    Hanley and McNeil, Radiology 143, 1982.

    Example:
        >>> auroc(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
        0.875
    """
    ordered = np.sort(known)
    below = np.searchsorted(ordered, unknown, "left") + np.searchsorted(ordered, unknown, "right")
    return float(below.mean() / 2 / len(known))


def auroc_with_interval(unknown: Array, known: Array) -> Interval:
    """The area with its 95 % interval (DeLong et al., Biometrics 44, 1988, on the logit scale).

    Example:
        >>> print(auroc_with_interval(np.arange(5.0, 25.0), np.arange(20.0)))
        0.719 [0.540, 0.848]
    """
    count = len(unknown) + len(known)
    if min(len(unknown), len(known)) < _MIN_PER_SIDE:
        value = auroc(unknown, known) if len(unknown) and len(known) else math.nan
        return without_interval(value, count)
    area = auroc(unknown, known)
    placed_unknown = _placements(unknown, known)
    placed_known = 1 - _placements(known, unknown)
    variance = placed_unknown.var(ddof=1) / len(unknown) + placed_known.var(ddof=1) / len(known)
    if area in (0.0, 1.0):  # all are separated: the rule of three, of the smaller side
        width = 1 - 0.05 ** (1 / min(len(unknown), len(known)))
        low, high = (1 - width, 1.0) if area else (0.0, width)
        return Interval(area, low, high, count)
    half = 1.959964 * math.sqrt(variance) / (area * (1 - area))
    middle = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-end)) for end in (middle - half, middle + half))
    return Interval(area, low, high, count)


def _placements(some: Array, others: Array) -> Array:
    """For each of some the fraction of the others below it, ties counted half."""
    ordered = np.sort(others)
    sides = (np.searchsorted(ordered, some, side) for side in ("left", "right"))
    return np.asarray(sum(sides) / 2 / len(others))
