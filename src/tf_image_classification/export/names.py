"""The names of the export formats, quantizations and inputs; needs no TensorFlow."""

from __future__ import annotations

from tf_image_classification.errors import UsageError, did_you_mean

KERAS, LITERT, ONNX, WEB = "keras", "litert", "onnx", "web"
NAMES = ("saved_model", LITERT, ONNX, KERAS, WEB, "huggingface", "mlflow")
NONE, DYNAMIC, INT8, FLOAT16 = QUANTIZATIONS = ("none", "dynamic", "int8", "float16")
FLOAT32, UINT8, PIXELS = INPUT_TYPES = ("float32", "uint8", "pixels")
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
_SUBSTITUTES = {
    **dict.fromkeys(("tfjs", "tf.js", "tensorflowjs", "browser"), "web"),
    **dict.fromkeys(("openvino", "tensorrt", "engine", "trt", "coreml", "torchscript"), "onnx"),
    **dict.fromkeys(("edgetpu", "coral"), "litert --quantize int8"),
}
"""By a format of other programs: the format here that their converters or runtimes read."""


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
        if word.lower() in _SUBSTITUTES:
            raise UsageError(
                f"--format {word} does not exist; the nearest is --format "
                f"{_SUBSTITUTES[word.lower()]}."
            )
        raise UsageError(f"--format {word}: {did_you_mean(word, NAMES)}")
    return name
