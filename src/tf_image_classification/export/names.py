"""The names of the export formats; needs no TensorFlow."""

from __future__ import annotations

from tf_image_classification.errors import UsageError, did_you_mean

KERAS = "keras"
NAMES = ("saved_model", "litert", "onnx", KERAS, "huggingface", "mlflow")
_OTHERS = {
    "tflite": "litert",
    "tf_lite": "litert",
    "savedmodel": "saved_model",
    "pb": "saved_model",
    "hf": "huggingface",
    "hugging_face": "huggingface",
    "hub": "huggingface",
    "pyfunc": "mlflow",
}


def format_named(word: str) -> str:
    """The name of a format, which has further names.

    Raises:
        UsageError: there is no such format.

    Example:
        >>> format_named("TFLite")
        'litert'
    """
    name = _OTHERS.get(word.lower(), word.lower())
    if name not in NAMES:
        raise UsageError(f"--format {word}: {did_you_mean(word, NAMES)}")
    return name
