"""A linear probe: logistic regression on frozen features, fitted in milliseconds.

space = probe_space(features)                    # float64 [N, <= 128]
probe = fit_probe(space[known], labels, 6)
probe.probabilities(space)                       # float64 [N, 6]
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_DIMENSIONS = 128
_STRENGTH = 1e-2  # inverse, of the regularisation
_TOLERANCE = 1e-2
_MIN_DEVIATION = 0.05  # of a feature, of the root mean square of all features' deviations
_MOST_TO_ANALYSE = 10_000


def probe_space(features: npt.NDArray[Any]) -> Floats:
    """Standardised features in their first principal components, [N, d] with d up to 128.

    No label is needed, so examples without one take part. Above 10,000 examples the components are
    those of every n-th example.

    Args:
        features: [N, D].
    """
    from sklearn.decomposition import PCA  # late: it takes a second

    some = features[:: max(1, len(features) // _MOST_TO_ANALYSE)].astype(np.float64)
    mean, deviation = some.mean(axis=0), floored_deviation(some)
    size = min(_DIMENSIONS, *some.shape)
    analysis = PCA(size, svd_solver="randomized", random_state=0).fit((some - mean) / deviation)
    parts = np.array_split(features, max(1, len(features) // _MOST_TO_ANALYSE))
    found: Floats = np.concatenate([analysis.transform((one - mean) / deviation) for one in parts])
    return found


def floored_deviation(features: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The standard deviation of each feature, [D], none far below the others.

    A feature that is almost constant in the training images would get a weight of thousands, which
    decides alone in another image that has it, and leaves the other weights no precision in int8.

    Args:
        features: [N, D].
    """
    found = features.std(axis=0)
    minimum = max(_MIN_DEVIATION * float(np.sqrt(np.mean(found**2))), 1e-6)
    floored: npt.NDArray[Any] = np.maximum(found, minimum)
    return floored


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted regression.

    Attributes:
        kernel: [d, classes].
        bias: [classes]; -inf of a class without an example.
    """

    kernel: Floats
    bias: Floats

    def probabilities(self, space: Floats) -> Floats:
        """The probability of each class, [N, classes]."""
        logits = space @ self.kernel + self.bias
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: Floats = exponents / exponents.sum(axis=1, keepdims=True)
        return found

    def predicted(self, space: Floats) -> Ints:
        """The most probable class of each example, [N]."""
        found: Ints = (space @ self.kernel + self.bias).argmax(axis=1)
        return found


def fit_probe(space: Floats, labels: Ints, num_classes: int) -> Probe:
    """The regression on some examples; one class is enough.

    Args:
        space: [n, d], rows of ``probe_space``.
        labels: [n], numbers of the classes.
        num_classes: of the result; classes without an example get probability 0.
    """
    from sklearn.linear_model import LogisticRegression  # late, as above

    present = np.unique(labels)
    kernel, bias = np.zeros([space.shape[1], num_classes]), np.full(num_classes, -np.inf)
    bias[present] = 0.0
    if len(present) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about an optimum that is not quite reached
            fitted = LogisticRegression(C=_STRENGTH, max_iter=100, tol=_TOLERANCE)
            fitted.fit(space, labels)
        weights, offsets = fitted.coef_.T, fitted.intercept_
        if len(present) == 2:  # one logit, half of which goes to each class
            weights = np.concatenate([-weights, weights], axis=1) / 2
            offsets = np.array([-offsets[0], offsets[0]]) / 2
        kernel[:, present], bias[present] = weights, offsets
    return Probe(kernel, bias)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block NumPy computes with one thread: small fits wait for more of them."""
    from threadpoolctl import threadpool_limits  # late: an extra

    with threadpool_limits(1):
        yield
