"""The description stored in an exported file: labels, input, preprocessing, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_image_classification.config import FULL_RANGE, read_pixel_range
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.export.formats import Format
from tf_image_classification.export.frozen_graph import frozen_dtype
from tf_image_classification.export.names import FLOAT32, KERAS, PIXELS, UINT8
from tf_image_classification.export.pixel_scaling import PixelScaling
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.run_manifest import RunManifest

_PREPROCESSING_VERSION = 1
"""Raised when the pixels of the built-in preprocessing change."""


def describe(
    manifest: RunManifest,
    exported: ExportedModel,
    calibrations: Mapping[str, Calibration],
    kind: Format,
    *,
    scaling: PixelScaling | None,
    input_type: str = FLOAT32,
) -> dict[str, Any]:
    """The description of a file, as plain values.

    Args:
        manifest: of the run.
        exported: the model.
        calibrations: by label name.
        kind: the file's format.
        scaling: of the pixels in the preprocessing.
        input_type: one of ``names.INPUT_TYPES``.
    """
    return {
        "labels": manifest.schema.to_json(),
        "input": _input(exported, kind, scaling, input_type),
        "outputs": "NAME_probabilities and, after an evaluation, NAME_calibrated for labels with "
        "classes; NAME for regression labels",
        "preprocessing": _preprocessing(manifest, scaling),
        "calibration": {name: one.to_json() for name, one in calibrations.items()},
        "step": exported.step,
        "saved_model": exported.fingerprint(),
        "train_data": manifest.train_data,
        "eval_data": manifest.eval_data,
    }


def _input(
    exported: ExportedModel, kind: Format, scaling: PixelScaling | None, input_type: str
) -> dict[str, Any]:
    if kind.takes_bytes:
        return {
            "name": "image_bytes",
            "dtype": "string",
            "shape": [None],
            "holds": "encoded images",
        }
    if input_type == PIXELS:
        return {
            "name": "pixels",
            "dtype": UINT8,
            "shape": [None, None, None, 3],
            "layout": "NHWC",
            "channels": "RGB",
            "range": [0, 255],
            "holds": "decoded images of any size",
        }
    spec = exported.image_spec
    dtype = (spec.dtype if kind.name == KERAS else frozen_dtype(spec.dtype)).name
    values = None if scaling is None else [round(end, 4) for end in scaling.range]
    is_uint8 = input_type == UINT8
    return {
        "name": "images",
        "dtype": UINT8 if is_uint8 else dtype,
        "shape": [None, *spec.shape],
        "layout": "NHWC",
        "channels": "RGB" if scaling is not None else None,
        "range": [0, 255] if is_uint8 else values,
        "holds": "cropped and resized images" if is_uint8 else "preprocessed images",
    }


def _preprocessing(manifest: RunManifest, scaling: PixelScaling | None) -> dict[str, Any]:
    """All that decides the pixels of the model's input, from the decoded image on."""
    settings = manifest.settings
    found = {
        "kind": "built-in" if manifest.is_of_backbone else "spec",
        "by": "tf_image_classification.load_model(model_dir).prepare(image)",
        "spec": manifest.spec.rpartition("/")[2],  # without its folder on this machine
        "image_size": settings["image_size"],
        "max_pixels": settings["max_image_pixels"],
        "mean": None if scaling is None else list(scaling.mean),
        "std": None if scaling is None else list(scaling.std),
    }
    if not manifest.is_of_backbone:
        return found
    return found | {
        "version": _PREPROCESSING_VERSION,
        "orientation": "exif",
        "crop": "center",
        "eval_crop": settings.get("eval_crop", 1.0),
        "eval_stretch": settings.get("eval_stretch", 1.0),
        "resize": "bilinear",
        "antialias": True,
        "png16_range": list(read_pixel_range(settings.get("png16_range", "full")) or FULL_RANGE),
    }
