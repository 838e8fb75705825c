"""Train, evaluate and deploy image classifiers with TensorFlow and Keras 3.

Importing this package imports no TensorFlow; each public name loads its module on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tf_image_classification.classifier import Classifier as Classifier
    from tf_image_classification.classifier import combine as combine
    from tf_image_classification.classifier import compare as compare
    from tf_image_classification.classifier import cross_validate as cross_validate
    from tf_image_classification.classifier import forecast as forecast
    from tf_image_classification.classifier import label_next as label_next
    from tf_image_classification.classifier import load_model as load_model
    from tf_image_classification.config import Settings as Settings
    from tf_image_classification.config import make_settings as make_settings
    from tf_image_classification.estimator_specs import EstimatorSpec as EstimatorSpec
    from tf_image_classification.labels import Label as Label
    from tf_image_classification.train_estimator import evaluate as evaluate
    from tf_image_classification.train_estimator import train as train

_HOMES = {
    "Classifier": "classifier",
    "EstimatorSpec": "estimator_specs",
    "Label": "labels",
    "Settings": "config",
    "combine": "classifier",
    "compare": "classifier",
    "cross_validate": "classifier",
    "evaluate": "train_estimator",
    "forecast": "classifier",
    "label_next": "classifier",
    "load_model": "classifier",
    "make_settings": "config",
    "train": "train_estimator",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
