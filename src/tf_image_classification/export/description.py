"""The description stored in an exported file: labels, input, preprocessing, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.export.formats import Format
from tf_image_classification.export.frozen_graph import frozen_dtype
from tf_image_classification.export.names import KERAS
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.run_manifest import RunManifest


def describe(
    manifest: RunManifest,
    exported: ExportedModel,
    calibrations: Mapping[str, Calibration],
    kind: Format,
) -> dict[str, Any]:
    """The description of a file, as plain values.

    Args:
        manifest: of the run.
        exported: the model.
        calibrations: by label name.
        kind: the file's format.
    """
    spec = exported.image_spec
    images = (
        {"name": "image_bytes", "dtype": "string", "shape": [None], "holds": "encoded images"}
        if kind.takes_bytes
        else {
            "name": "images",
            "dtype": (spec.dtype if kind.name == KERAS else frozen_dtype(spec.dtype)).name,
            "shape": [None, *spec.shape],
            "holds": "preprocessed images, RGB, in the range that the preprocessing gives",
        }
    )
    return {
        "labels": manifest.schema.to_json(),
        "input": images,
        "outputs": "NAME_probabilities and, after an evaluation, NAME_calibrated for labels with "
        "classes; NAME for regression labels",
        "preprocessing": {
            "by": "tf_image_classification.load_model(model_dir).prepare(image)",
            "spec": manifest.spec.rpartition("/")[2],  # without its folder on this machine
            "image_size": manifest.settings["image_size"],
            "eval_crop": manifest.settings.get("eval_crop"),
            "eval_stretch": manifest.settings.get("eval_stretch", 1.0),
            "resize": "center crop, antialiased bilinear"
            if manifest.settings.get("backbone")
            else "by the spec's get_preproc_fn",
        },
        "calibration": {name: one.to_json() for name, one in calibrations.items()},
        "step": exported.step,
        "saved_model": exported.fingerprint(),
        "train_data": manifest.train_data,
        "eval_data": manifest.eval_data,
    }
