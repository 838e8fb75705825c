"""The metadata of a LiteRT file that other programs read: TensorFlow Lite's metadata schema.

MediaPipe's ``ImageClassifier`` and Android Studio take from it how pixels are scaled and what the
classes are called; the names lie in the file as in a zip archive.

    content = metadata("pets", scaling, [("pet_probabilities", "labels.txt")])
    with_files(model, {"labels.txt": names})
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers

from tf_image_classification.export.pixel_scaling import PixelScaling

NAME = "TFLITE_METADATA"
"""Name of the entry in the model's metadata."""

_IDENTIFIER = b"M001"
_RGB, _TENSOR_AXIS_LABELS, _FEATURE, _IMAGE, _NORMALIZATION = 1, 2, 1, 2, 1  # values of its enums


def metadata(
    name: str,
    scaling: PixelScaling | None,
    outputs: Sequence[tuple[str, str]],
) -> bytes:
    """The content of the entry.

    Args:
        name: of the model.
        scaling: of pixels to the input's values; None if unknown.
        outputs: name and file with class names ("" without one), in the order of the model.
    """
    builder = flatbuffers.Builder(0)
    properties = _table(builder, 2, {0: ("byte", _RGB)})
    content = _table(builder, 3, {0: ("byte", _IMAGE), 1: ("table", properties)})
    image = {0: ("text", "image"), 3: ("table", content)}
    if scaling is not None:
        image[4] = ("tables", [_normalization(builder, scaling)])
    model_input = _table(builder, 7, image)
    found = [_output(builder, one, file) for one, file in outputs]
    graph = _table(builder, 4, {2: ("tables", [model_input]), 3: ("tables", found)})
    model = _table(builder, 8, {0: ("text", name), 3: ("tables", [graph])})
    builder.Finish(model, _IDENTIFIER)
    return bytes(builder.Output())


def _normalization(builder: flatbuffers.Builder, scaling: PixelScaling) -> int:
    values = {0: ("floats", scaling.mean), 1: ("floats", scaling.std)}
    options = _table(builder, 2, values)
    return _table(builder, 2, {0: ("byte", _NORMALIZATION), 1: ("table", options)})


def _output(builder: flatbuffers.Builder, name: str, file: str) -> int:
    properties = _table(builder, 0, {})
    content = _table(builder, 3, {0: ("byte", _FEATURE), 1: ("table", properties)})
    fields: dict[int, tuple[str, Any]] = {0: ("text", name), 3: ("table", content)}
    if file:
        labels = _table(builder, 5, {0: ("text", file), 2: ("byte", _TENSOR_AXIS_LABELS)})
        fields[6] = ("tables", [labels])
    return _table(builder, 7, fields)


def _table(
    builder: flatbuffers.Builder, num_fields: int, fields: Mapping[int, tuple[str, Any]]
) -> int:
    """Write a table with some of its fields, by number; returns its offset."""
    ready = {}
    for number, (kind, value) in fields.items():  # what it points to comes first
        if kind == "text":
            value = builder.CreateString(value)
        elif kind == "tables":
            builder.StartVector(4, len(value), 4)
            for offset in reversed(value):
                builder.PrependUOffsetTRelative(offset)
            value = builder.EndVector()
        elif kind == "floats":
            builder.StartVector(4, len(value), 4)
            for one in reversed(value):
                builder.PrependFloat32(one)
            value = builder.EndVector()
        ready[number] = kind, value
    builder.StartObject(num_fields)
    for number, (kind, value) in ready.items():
        if kind == "byte":
            builder.PrependUint8Slot(number, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, value, 0)
    return int(builder.EndObject())


def with_files(model: bytes, associated: Mapping[str, bytes]) -> bytes:
    """A model with the files that its metadata names, in a zip archive after its own bytes."""
    stream = io.BytesIO(model)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, content in associated.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()
