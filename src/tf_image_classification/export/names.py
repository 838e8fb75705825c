"""The names of export formats, quantizations, inputs and engines; needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tf_image_classification.errors import UsageError, did_you_mean, nearest

SAVED_MODEL, LITERT, ONNX, KERAS = "saved_model", "litert", "onnx", "keras"
WEB, HUGGINGFACE, MLFLOW = "web", "huggingface", "mlflow"
NAMES = (SAVED_MODEL, LITERT, ONNX, KERAS, WEB, HUGGINGFACE, MLFLOW)
NONE, DYNAMIC, INT8, FLOAT16 = QUANTIZATIONS = ("none", "dynamic", "int8", "float16")
FLOAT32, UINT8, PIXELS = INPUT_TYPES = ("float32", "uint8", "pixels")
FILE_NAMES = {LITERT: "model.tflite", ONNX: "model.onnx"}
"""By format the file that an engine without TensorFlow reads."""

FEATURE_MAPS = "feature_maps"
"""Output with a model's last feature maps, float32 [B, h, w, C], of files that explain."""

FEATURES = "tfic_features"
"""Output with the values that the last layer takes, float32 [B, D], of the exported model and of
the file in ``light/``."""

UNKNOWN_SCORE = "unknown_score"
"""Output with the distance to the training set, float32 [B], of exported files."""

IS_UNKNOWN = "is_unknown"
"""Whether the score is above its limit, bool [B]; in the answers of this package."""

AUTO, OPENVINO, TENSORFLOW = "auto", "openvino", "tensorflow"
ENGINES = (AUTO, LITERT, ONNX, OPENVINO, TENSORFLOW)
"""The engines of inference; "auto" chooses one of the others."""

_FORMATS = {
    "tflite": LITERT,
    "tf_lite": LITERT,
    "savedmodel": SAVED_MODEL,
    "pb": SAVED_MODEL,
    "hf": HUGGINGFACE,
    "hugging_face": HUGGINGFACE,
    "hub": HUGGINGFACE,
    "pyfunc": MLFLOW,
}
_ENGINES = {
    "tflite": LITERT,
    "tf_lite": LITERT,
    "ort": ONNX,
    "onnxruntime": ONNX,
    "tf": TENSORFLOW,
    "savedmodel": TENSORFLOW,
    "saved_model": TENSORFLOW,
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
    if substitute := _SUBSTITUTES.get(word.strip().lower()):
        raise UsageError(f"--format {word} does not exist; the nearest is --format {substitute}.")
    return _named(word, "format", NAMES, _FORMATS)


def engine_named(word: str) -> str:
    """The name of an engine, which has further names.

    Raises:
        UsageError: there is no such engine.

    Example:
        >>> engine_named("onnxruntime")
        'onnx'
    """
    return _named(word, "engine", ENGINES, _ENGINES)


def check_limits(given: Collection[str], quantization: str, input_type: str) -> None:
    """Check that each limit that is given has an effect on the verification of an export.

    Args:
        given: of "tolerance" and "max_accuracy_drop".
        quantization: one of ``QUANTIZATIONS``.
        input_type: one of ``INPUT_TYPES``.

    Raises:
        UsageError: one has none: a file is quantised, or it is not.
    """
    is_quantised = quantization != NONE or input_type == UINT8
    without_effect = "tolerance" if is_quantised else "max_accuracy_drop"
    if without_effect in given:
        raise UsageError(
            f"--{without_effect} has no effect with --quantize {quantization} and --input_type "
            f"{input_type}. Remove it."
        )


def _named(word: str, flag: str, names: tuple[str, ...], others: Mapping[str, str]) -> str:
    plain = word.strip().lower().replace("-", "_")
    name = others.get(plain, plain)
    if name not in names:
        near = nearest(plain, [*names, *others]).lstrip()
        raise UsageError(f"--{flag} {word}: {near or did_you_mean(plain, names)}")
    return name
