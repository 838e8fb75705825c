"""The built-in preprocessing as a part of an ONNX file that takes decoded pixels of any size.

    model = with_preprocessing(model, plan.description["preprocessing"])

The weights of the antialiased resizing are computed in the file and applied as two matrix products:
the operation Resize gives pixels that differ between runtimes, by up to 11 of 255.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_image_classification.export.optional_packages import import_extra

_CROP_AND_RESIZE = """
<ir_version: {ir_version}, opset_import: ["": {opset}]>
crop (uint8[batch, height, width, 3] pixels) => (float[batch, {size}, {size}, 3] prepared)
<
  float[1] size = {{{size}.0}}, float[1] fraction = {{{fraction}}},
  float half = {{0.5}}, float unit = {{1.0}},
  int64[2] one = {{1, 1}}, int64[2] two = {{2, 2}}, int64[2] axes = {{1, 2}},
  int64 zero = {{0}}, int64 step = {{1}}, int64 first = {{0}}, int64 second = {{1}},
  int64 target = {{{size}}}, int64[1] last_axis = {{1}}, int64[1] column = {{1}},
  int64[3] flat = {{0, 0, -1}}, int64[4] unflat = {{0, {size}, -1, 3}}
>
{{
  sides = Shape <start = 1, end = 3> (pixels)
  floats = Cast <to = 1> (sides)
  relative = Div (floats, size)
  smallest = ReduceMin <keepdims = 1> (relative)
  scale = Mul (smallest, fraction)
  side = Mul (scale, size)
  {wanted}
  rounded = Round (wanted)
  whole = Cast <to = 7> (rounded)
  extent = Max (whole, one)
  rest = Sub (sides, extent)
  start = Div (rest, two)
  end = Add (start, extent)
  part = Slice (pixels, start, end, axes)
  values = Cast <to = 1> (part)
  indices = Range (zero, target, step)
  index_column = Unsqueeze (indices, column)
  index_floats = Cast <to = 1> (index_column)
  middles = Add (index_floats, half)
  {weights_of_rows}
  {weights_of_columns}
  lines = Reshape (values, flat)
  fewer = MatMul (rows_weights, lines)
  planes = Reshape (fewer, unflat)
  prepared = MatMul (columns_weights, planes)
}}
"""

_SQUARE = "wanted = Concat <axis = 0> (side, side)"
_STRETCHED = """
  stretch = Constant <value_floats = [{stretch}]> ()
  stretched = Mul (side, stretch)
  largest = Mul (floats, fraction)
  wanted = Min (stretched, largest)
"""

_WEIGHTS = """
  {axis}_size = Gather (extent, {number})
  {axis}_float = Cast <to = 1> ({axis}_size)
  {axis}_ratio = Div ({axis}_float, size)
  {axis}_radius = Max ({axis}_ratio, unit)
  {axis}_centers = Mul (middles, {axis}_ratio)
  {axis}_range = Range (zero, {axis}_size, step)
  {axis}_numbers = Cast <to = 1> ({axis}_range)
  {axis}_sources = Add ({axis}_numbers, half)
  {axis}_difference = Sub ({axis}_sources, {axis}_centers)
  {axis}_absolute = Abs ({axis}_difference)
  {axis}_distance = Div ({axis}_absolute, {axis}_radius)
  {axis}_near = Sub (unit, {axis}_distance)
  {axis}_triangle = Relu ({axis}_near)
  {axis}_total = ReduceSum <keepdims = 1> ({axis}_triangle, last_axis)
  {axis}_weights = Div ({axis}_triangle, {axis}_total)
"""


def with_preprocessing(model: Any, preprocessing: Mapping[str, Any]) -> Any:
    """A model of preprocessed images behind the center crop and the resizing.

    Args:
        model: with the input ``images``.
        preprocessing: as ``description.describe`` gives it.
    """
    onnx = import_extra("onnx", "ONNX")
    stretch = float(preprocessing["eval_stretch"])
    text = _CROP_AND_RESIZE.format(
        ir_version=model.ir_version,
        opset=next(one.version for one in model.opset_import if not one.domain),
        size=int(preprocessing["image_size"]),
        fraction=float(preprocessing["eval_crop"]),
        wanted=_STRETCHED.format(stretch=stretch) if stretch > 1 else _SQUARE,
        weights_of_rows=_WEIGHTS.format(axis="rows", number="first"),
        weights_of_columns=_WEIGHTS.format(axis="columns", number="second"),
    )
    before = onnx.compose.add_prefix(onnx.parser.parse_model(text), "crop/", rename_inputs=False)
    return onnx.compose.merge_models(before, model, io_map=[("crop/prepared", "images")])
