"""The loader that MLflow calls for ``tfic export --format mlflow``.

model = mlflow.pyfunc.load_model("runs/pets/exports/mlflow")
model.predict(pandas.DataFrame({"image_bytes": [open("cat.jpg", "rb").read()]}))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tf_image_classification.errors import DataError
from tf_image_classification.serving.predictor import Predictor, load_model
from tf_image_classification.serving.requests import INPUT, base64_bytes

_BATCH_SIZE = 32


def _load_pyfunc(path: str) -> ImagePyFunc:
    """The model of a model folder; called by MLflow."""
    return ImagePyFunc(load_model(path))


@dataclasses.dataclass(frozen=True)
class ImagePyFunc:
    """A model as MLflow calls it.

    Attributes:
        model: the model.
    """

    model: Predictor

    def predict(self, model_input: Any) -> Any:
        """The outputs of images, a pandas DataFrame with a row each.

        Args:
            model_input: a DataFrame with the column ``image_bytes``, or with a single column; or
                a list of images: encoded, or as base64.

        Raises:
            DataError: an image cannot be used; gives its row and the reason.
        """
        import pandas as pd  # late: only MLflow needs it

        images = [self._prepared(*one) for one in enumerate(_column(model_input))]
        columns: dict[str, list[Any]] = {}
        for start in range(0, len(images), _BATCH_SIZE):
            found = self.model.outputs(images[start : start + _BATCH_SIZE])
            for name, values in found.items():
                columns.setdefault(name, []).extend(values.tolist())
        index = getattr(model_input, "index", None)
        return pd.DataFrame(columns, index=index if hasattr(model_input, "columns") else None)

    def _prepared(self, row: int, image: Any) -> Any:
        try:
            data = base64_bytes(image) if isinstance(image, str) else image
            return self.model.prepare(bytes(data))
        except (DataError, TypeError, ValueError) as error:
            raise DataError(f"Image {row} cannot be used: {error}.") from error


def _column(given: Any) -> Sequence[Any]:
    """The images of an input."""
    names = getattr(given, "columns", None)
    if names is None:
        return [given] if isinstance(given, (bytes, str)) else list(given)
    if INPUT not in names and len(names) != 1:
        raise DataError(
            f"The input has the columns {', '.join(map(str, names))}; expected {INPUT}."
        )
    column: Sequence[Any] = given[INPUT if INPUT in names else names[0]].tolist()
    return column
