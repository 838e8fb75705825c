"""Labels that are likely to be wrong, by what a model thinks of examples it has not learned from.

Confident learning (Northcutt et al., arXiv 1911.00068), by cleanlab.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tf_image_classification.errors import ConfigError


def likely_label_errors(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    """Numbers of the examples, the likeliest error first.

    Args:
        labels: class numbers [n].
        probabilities: [n, D], of a model that has not seen these examples.

    Raises:
        ConfigError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues  # late: it takes two seconds
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Finding wrong labels needs cleanlab. Install it with: "
            "pip install 'tf_image_classification[quality]'."
        ) from error
    present, places = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return np.zeros(0, np.int64)
    kept = np.asarray(probabilities, np.float64)[:, present]
    kept = kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-12)
    found = find_label_issues(places, kept, return_indices_ranked_by="self_confidence", n_jobs=1)
    return np.asarray(found, np.int64)
