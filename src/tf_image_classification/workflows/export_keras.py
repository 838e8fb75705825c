"""The ``.keras`` format: the spec's own layers with the exported weights."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.backbone_spec import BackboneSpec
from tf_image_classification.checkpoints.class_rows import ARCHIVE_MEMBER
from tf_image_classification.checkpoints.store import Saved
from tf_image_classification.config import Settings, make_settings
from tf_image_classification.distributed.devices import make_strategy
from tf_image_classification.distributed.workers import Workers
from tf_image_classification.errors import CheckpointError, ConfigError, ExportError
from tf_image_classification.estimator_specs import EstimatorSpec, logits_of, predictions_from
from tf_image_classification.export.formats import Format
from tf_image_classification.export.inference_module import ExportPlan
from tf_image_classification.export.names import KERAS, NONE
from tf_image_classification.export.runtimes import InferenceFn, Outputs
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.outputs import exported_outputs
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.workflows.evaluate import inherited
from tf_image_classification.workflows.setup.context import make_context
from tf_image_classification.workflows.setup.model import build_model
from tf_image_classification.workflows.setup.weights import assign_weights, newest_weights

_BACKBONE_OPTIONS = ("backbone", "dropout", "pixel_scaling")  # those that decide the layers


def backbone_spec_of(model_dir: str) -> BackboneSpec | None:
    """The spec of a run with ``--backbone``, from its manifest; None for other runs."""
    manifest = ModelFolder(model_dir).read_manifest()
    if manifest is None or not manifest.settings.get("backbone"):
        return None
    given = manifest.settings
    settings = make_settings({name: given[name] for name in _BACKBONE_OPTIONS if name in given})
    return BackboneSpec(manifest.schema.labels, settings.backbone_spec)


def keras_format(
    spec: EstimatorSpec | None, settings: Settings, folder: ModelFolder, manifest: RunManifest
) -> Format:
    """The format "keras" of one run.

    Args:
        spec: the spec of the run.
        settings: of the run.
        folder: of the run.
        manifest: of the run.
    """
    assert spec is not None

    def write(exported: ExportedModel, plan: ExportPlan, path: str) -> Mapping[str, Any]:
        saved, _ = newest_weights(folder)
        if saved.step != exported.step:
            raise CheckpointError(
                f"The exported model is of step {exported.step}, the best checkpoint of "
                f"{saved.step}. Complete the run to export it anew."
            )
        trained_model(spec, settings, exported, saved).save(path)
        with zipfile.ZipFile(path, "a") as archive:  # Keras reads its own members only
            archive.writestr(ARCHIVE_MEMBER, json.dumps(dict(plan.description)))
        return plan.description

    return file_format(write, manifest.schema)


def best_model(model_dir: str, spec: EstimatorSpec | None = None) -> keras.Model:
    """The Keras model of a model folder with the weights of its best checkpoint.

    Args:
        model_dir: folder of a run.
        spec: of the run; None: that of a run with ``--backbone``.

    Raises:
        CheckpointError: the folder is not a run's, or has no readable checkpoint.
        ConfigError: the run has a spec of its own.
        DataError: its exported model is missing or damaged.
    """
    folder = ModelFolder(model_dir)
    manifest = folder.known_manifest()
    spec = spec or backbone_spec_of(model_dir)
    if spec is None:
        raise ConfigError(
            f"The model of {model_dir} is built by the spec {manifest.spec}. Call train with that "
            "spec to get its Keras model: it finds the run complete."
        )
    exported = ExportedModel(folder.saved_model).load()
    settings = inherited(make_settings({"model_dir": model_dir}), manifest)
    return trained_model(spec, settings, exported, newest_weights(folder)[0])


def trained_model(
    spec: EstimatorSpec, settings: Settings, exported: ExportedModel, saved: Saved
) -> keras.Model:
    """The spec's model with the weights of a checkpoint.

    Args:
        spec: of the run.
        settings: of the run.
        exported: its exported model, for the shape of an image.
        saved: the checkpoint.

    Raises:
        CheckpointError: the checkpoint does not fit the model.
    """
    height, width, channels = exported.image_spec.shape
    context = make_context(spec, settings, Workers(make_strategy("one_device")))
    model = build_model(context, (height, width, channels))
    assign_weights(model, saved)
    return model


def file_format(
    write: Callable[[ExportedModel, ExportPlan, str], Mapping[str, Any]], schema: LabelSchema
) -> Format:
    """The format "keras" with the function that writes it."""
    return Format(KERAS, "model.keras", False, (NONE,), write, lambda path: _load(path, schema))


def _load(path: str, schema: LabelSchema) -> InferenceFn:
    # Not in safe mode: the code of Lambda layers in this file is the spec's own.
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=False)
    except TypeError as error:
        unknown = re.search(r"Could not locate (?:class|function) '([^']+)'", str(error))
        if unknown is None:
            raise
        raise ExportError(
            f"The keras file was written, but Keras does not find {unknown[1]} when it reads it. "
            f"Write @keras.saving.register_keras_serializable() above {unknown[1]} and export "
            "again. Nothing was kept."
        ) from error

    def infer(images: npt.NDArray[Any]) -> Outputs:
        logits = logits_of(schema, model, tf.cast(images, tf.float32), training=False)
        predictions = predictions_from(schema, logits)
        keys = [key for label in schema for key in exported_outputs(label, is_calibrated=False)]
        return {key: predictions[key].numpy() for key in keys}

    return infer
