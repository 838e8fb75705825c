"""Groups of images with similar features, by average linkage.

>>> centres = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
>>> similar_groups(centres[[0, 1, 0, 1, 0, 1, 0]])
[[0, 2, 4, 6], [1, 3, 5]]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MIN_SIMILARITY = 0.2  # cosine of centred features
_MIN_MEMBERS = 3


def similar_groups(features: npt.NDArray[np.float32]) -> list[list[int]]:
    """Groups of three or more similar rows, the largest first; the other rows are in no group.

    The similarity is the cosine of the centred features. Groups are merged while the mean
    similarity between them is at least 0.2, and three standard deviations above the mean that
    independent features would have; these are the features, each permuted over the rows. There are
    no groups if that is more than any similarity can be.

    Args:
        features: [N, D].
    """
    count = len(features)
    if count < _MIN_MEMBERS:
        return []
    from sklearn.cluster import AgglomerativeClustering  # late: it takes a second

    similarity = _cosines(features)
    independent = np.random.default_rng(0).permuted(features, axis=0)
    pairs = _cosines(independent)[np.triu_indices(count, 1)]
    limit = max(_MIN_SIMILARITY, pairs.mean() + 3 * pairs.std())
    if limit > 1:  # of few rows or dimensions: no similarity would be unlikely by chance
        return []
    clusters = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=1 - limit
    ).fit_predict(1 - similarity)
    groups = [np.flatnonzero(clusters == i).tolist() for i in np.unique(clusters)]
    return sorted((g for g in groups if len(g) >= _MIN_MEMBERS), key=len, reverse=True)


def _cosines(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine similarity [N, N] of centred features."""
    centred = features.astype(np.float64) - features.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    similarity: npt.NDArray[np.float64] = centred @ centred.T
    return similarity
