"""``combine``: several trained models as one, from Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tf_image_classification.classifier.keyword_errors import keyword_errors
from tf_image_classification.classifier.model import Classifier, load_model
from tf_image_classification.config import make_settings
from tf_image_classification.errors import UsageError
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

if TYPE_CHECKING:
    from tf_image_classification.estimator_specs import EstimatorSpec


@keyword_errors()
def combine(
    models: Sequence[Classifier | str | os.PathLike[str]],
    model_dir: str | os.PathLike[str],
    *,
    how: str = "soup",
    spec: EstimatorSpec | None = None,
    **options: Any,
) -> Classifier:
    """The model that several trained models give together, in a new model folder.

    Args:
        models: two or more models or model folders.
        model_dir: the new folder.
        how: "soup", "greedy" or "ensemble", as in ``tfic combine``.
        spec: of models with a spec of their own, for a soup.
        options: options of ``tfic combine``, e.g. ``eval_metadata="val"``.

    Raises:
        UsageError: ``how`` is none of the three.
        TficError: the models do not fit one another, or one of them is missing.

    Example:
        from tf_image_classification import combine, train

        runs = [train("pets", seed=n, model_dir=f"runs/{n}") for n in range(3)]
        combine(runs, "runs/soup", how="greedy").evaluate("test")
    """
    hows = ("soup", "greedy", "ensemble")
    if how not in hows:
        raise UsageError(f"how is {how!r}, expected one of {', '.join(hows)}.")
    settings = make_settings({"model_dir": os.fspath(model_dir), **options})
    prepare_tensorflow(settings)
    from tf_image_classification.workflows import combine as combining  # late: for TensorFlow

    folders = [m.model_dir if isinstance(m, Classifier) else os.fspath(m) for m in models]
    found = combining.combine(folders, settings, how, spec)
    return load_model(found.model_dir)
