"""Trial exports: whether a spec's untrained model can be written in each format.

for name, reason in try_formats(spec, settings).items():
    print(name, reason or "can be exported")
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_image_classification.config import Settings
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import ConfigError, ExportError
from tf_image_classification.estimator_specs import EstimatorSpec, schema_of
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.export.formats import FORMATS, Format, load_file, write_file
from tf_image_classification.export.frozen_graph import half_precision
from tf_image_classification.export.inference_module import ExportPlan, outputs_from
from tf_image_classification.export.request import TOLERANCES
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.workflows import export_keras, export_saved_model
from tf_image_classification.workflows.setup.context import make_context
from tf_image_classification.workflows.setup.model import build_model

_NUM_IMAGES = 4


def try_formats(spec: EstimatorSpec, settings: Settings) -> dict[str, str]:
    """By format the reason why the spec's model cannot be exported, or "".

    Formats whose packages are not installed are left out, and those that copy a model folder.

    Raises:
        SpecError: even the SavedModel that is written after a training fails.
    """
    schema = schema_of(spec)
    height, width, channels = export_saved_model.image_spec(spec, settings).shape
    context = make_context(spec, settings, Workers(tf.distribute.get_strategy()))
    model = build_model(context, (height, width, channels))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "exported")
        export_saved_model.export_untrained(path, spec, settings, schema, model)
        exported = ExportedModel(path).load()

        def write(_: ExportedModel, plan: ExportPlan, path: str) -> Mapping[str, Any]:
            model.save(path)
            return plan.description

        found = {}
        converters = [kind for kind in FORMATS.values() if not kind.is_package]
        for kind in (*converters, export_keras.file_format(write, schema)):
            try:
                found[kind.name] = _reason(kind, exported, schema, folder)
            except ConfigError:  # its package is not installed
                continue
        return found


def _reason(kind: Format, exported: ExportedModel, schema: LabelSchema, folder: str) -> str:
    calibrations = {
        label.name: Calibration(2.0, is_multilabel=label.kind == MULTILABEL)
        for label in schema.labels_with_classes
    }
    plan = ExportPlan(schema, calibrations, {})
    tolerance = TOLERANCES[half_precision(exported.loaded) or "float32"]
    path = os.path.join(folder, kind.file_name)
    pictures = np.random.default_rng(0).integers(0, 256, [_NUM_IMAGES, 64, 64, 3], np.uint8)
    images = tf.stack([exported.preproc(tf.constant(one), 0, 0) for one in pictures])
    expected = outputs_from(plan, exported.forward(images, False))
    encoded = np.array([tf.io.encode_png(one).numpy() for one in pictures], object)
    try:
        write_file(kind, exported, plan, path)
        found = load_file(kind, path)(encoded if kind.takes_bytes else images.numpy())
    except ExportError as error:
        return str(error)
    for name, value in expected.items():
        if name not in found:  # a Keras file gives no calibrated probabilities
            continue
        difference = float(np.abs(found[name].reshape(value.shape) - value.numpy()).max())
        if not difference <= tolerance * max(1.0, float(np.abs(value).max())):
            return f"The {kind.name} file's output {name} differs by {difference:.2g}."
    return ""
