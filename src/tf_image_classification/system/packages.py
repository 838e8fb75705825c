"""The packages that trainings and evaluations need, and predicting does not: the extra ``train``.

>>> advice("sklearn").partition(". ")[0]
'scikit-learn is not installed'
"""

from __future__ import annotations

import importlib.util

OF_TRAININGS = {
    "matplotlib": "matplotlib",
    "pyarrow": "pyarrow",
    "scipy": "SciPy",
    "sklearn": "scikit-learn",
    "tensorboard": "TensorBoard",
}
"""Those that trainings and evaluations need, and predicting does not: name by module."""


def is_installed(module: str) -> bool:
    """Whether a module can be imported; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def advice(module: str) -> str:
    """The message for TensorFlow or a package of ``OF_TRAININGS`` that is not installed."""
    if module == "tensorflow":
        return (
            "TensorFlow is not installed. Install it with this package: "
            "pip install 'tf_image_classification[cpu]', or [gpu] for NVIDIA GPUs."
        )
    return (
        f"{OF_TRAININGS[module]} is not installed. Install it with all that trainings and "
        "evaluations need: pip install 'tf_image_classification[train]', or [cpu] or [gpu] with "
        "TensorFlow."
    )
