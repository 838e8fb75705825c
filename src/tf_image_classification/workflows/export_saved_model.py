"""The SavedModel of a finished run, exported into its folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.batches import outputs_of
from tf_image_classification.config import FULL_RANGE, Settings, read_pixel_range
from tf_image_classification.dataset.pipeline.image_preprocessor import image_spec_of, preprocessed
from tf_image_classification.errors import ExportError, SpecError, TficError, brief
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.export.folding import fold_batch_norm
from tf_image_classification.export.saved_model import Servable, export_saved_model, exported_step
from tf_image_classification.labels import LabelSchema
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import faults, files, screen, signals
from tf_image_classification.workflows import light_file, unknown
from tf_image_classification.workflows.setup import default_hooks
from tf_image_classification.workflows.setup.build import Assembly
from tf_image_classification.workflows.setup.model import make_forward
from tf_image_classification.workflows.setup.run_data import Data
from tf_image_classification.workflows.setup.weights import assign_weights, newest_weights


def exports(spec: EstimatorSpec, settings: Settings) -> bool:
    """Whether a run of this spec ends with an exported model."""
    return settings.checkpoints.export_saved_model and not spec.has_own_input


def try_export(
    spec: EstimatorSpec, settings: Settings, schema: LabelSchema, model: keras.Model
) -> None:
    """Export a model as at the end of a run, into a folder that is removed again.

    Raises:
        SpecError: the model cannot be exported; gives the reason.
        ExportError: the temporary folder is full.
    """
    with tempfile.TemporaryDirectory() as folder:
        export_untrained(os.path.join(folder, "saved_model"), spec, settings, schema, model)


def export_untrained(
    path: str, spec: EstimatorSpec, settings: Settings, schema: LabelSchema, model: keras.Model
) -> None:
    """Export an untrained model, to test whether it can be exported.

    Raises:
        SpecError: as ``try_export``.
        ExportError: as ``try_export``.
    """
    try:
        export_saved_model(path, servable(spec, settings, schema, model), step=0)
    except TficError:
        raise
    except (OSError, tf.errors.ResourceExhaustedError) as error:
        raise ExportError(
            f"The export cannot be tried in {os.path.dirname(path)}: {brief(error)}. Make room "
            "there, or set TMPDIR to another folder."
        ) from error
    except Exception as error:  # of TensorFlow, Keras and any layer
        reason = brief(error)
        if "untracked" in reason:
            reason = (
                "it uses a lookup table or another resource of TensorFlow that no layer holds as "
                "an attribute"
            )
        raise SpecError(
            f"The model could not be exported when the run is complete: {reason}. Change the model "
            "or the preprocessing, or set --noexport_saved_model."
        ) from error


def preprocessing(spec: EstimatorSpec, settings: Settings) -> Callable[[tf.Tensor], tf.Tensor]:
    """The evaluation preprocessing of one decoded image, uint8 [h, w, 3]."""
    preproc = spec.get_preproc_fn(False)
    first = tf.constant(0, tf.int64)

    def preprocess(image: tf.Tensor) -> tf.Tensor:
        seed = (settings.run.seed, first)
        return preprocessed(preproc, image, size=settings.data.image_size, seed=seed)

    return preprocess


def image_spec(spec: EstimatorSpec, settings: Settings) -> tf.TensorSpec:
    """Shape and dtype of one preprocessed image."""
    return image_spec_of(preprocessing(spec, settings))


def servable(
    spec: EstimatorSpec, settings: Settings, schema: LabelSchema, model: keras.Model
) -> Servable:
    """The functions of a spec's exported model: evaluation preprocessing and logits."""
    image = image_spec(spec, settings)

    def plain(images: tf.Tensor, training: bool) -> Any:
        return outputs_of(model, images, training=training)

    return Servable(
        fold_batch_norm(model, image),
        schema,
        make_forward(plain, schema, settings),
        preprocessing(spec, settings),
        image,
        settings.data.max_image_pixels,
        read_pixel_range(settings.data.png16_range) or FULL_RANGE,
    )


def export_run(
    spec: EstimatorSpec,
    settings: Settings,
    schema: LabelSchema,
    model: keras.Model,
    folder: ModelFolder,
) -> str:
    """Export the best checkpoint of a finished run, or its last state; returns a line on it.

    The model has the exported weights afterwards.

    Raises:
        ExportError: the SavedModel cannot be written; the run stays complete.
    """
    saved, which = newest_weights(folder)
    assign_weights(model, saved)
    for path in (folder.light, folder.unknown, folder.unknown_arrays):
        files.remove(path)  # it is that of the model before
    try:
        parts = servable(spec, settings, schema, model)
        export_saved_model(folder.saved_model, parts, step=saved.step)
        export_dir = settings.checkpoints.export_dir
        if export_dir:
            files.copy_folder(folder.saved_model, export_dir)
    except Exception as error:  # of TensorFlow, Keras, layers and file systems
        raise ExportError(
            f"The training is complete, but its model could not be exported to "
            f"{folder.saved_model}: {faults.system_problem(error).rstrip('.') or brief(error)}. "
            "When the cause is removed, start the same command again: it trains no more and "
            "exports."
        ) from error
    name, _ = default_hooks.best_metric(settings)
    values = [line[name] for line in folder.evaluations() if line["step"] == saved.step]
    value = f", {name} {values[-1]:.4f}" if values and values[-1] is not None else ""
    exported = (
        f"exported:      {folder.saved_model} (the {which} checkpoint, step {saved.step}{value})"
    )
    return f"{exported}\nits copy:      {export_dir}" if export_dir else exported


def export_at_the_end(
    spec: EstimatorSpec, settings: Settings, parts: Assembly, folder: ModelFolder, data: Data
) -> ExportError | None:
    """Export the model of a complete run and print its folder, unless a signal stops it.

    The file for prediction without TensorFlow follows, see ``light_file``.

    Returns:
        An error, for the caller to raise when the other workers have ended; or None.
    """
    with signals.stage(
        "before the model was exported. The training is complete and saved",
        again="Start the same command again to export it.",
        resumes=True,
    ):
        signals.check()
        try:
            state = parts.state
            with folder.exporting():
                text = export_run(spec, settings, parts.run.schema, state.model, folder)
                screen.say(text, is_result=True)
                examples = data.evaluation or data.train
                line = light_file.write_light_file(folder, folder.known_manifest(), examples)
                fit_unknown(settings, folder, data)
            if line:
                screen.say(line)
        except ExportError as error:
            stopped = signals.cause_of(error)
            if stopped is not None:
                raise stopped from None
            return error
    return None


def fit_unknown(settings: Settings, folder: ModelFolder, data: Data) -> None:
    """Fit the detector of unknown pictures to the exported model, and print a line on it."""
    if files.is_remote(folder.path):
        return
    request = unknown.Request.of(settings)
    line = unknown.fit_at_the_end(folder, request, data.schema, data.train, data.evaluation)
    if line:
        screen.say(line)


def is_exported(folder: ModelFolder, settings: Settings) -> bool:
    """Whether the exported model is that of the checkpoint to export."""
    step = newest_weights(folder)[0].step
    paths = filter(None, (folder.saved_model, settings.checkpoints.export_dir))
    return all(exported_step(path) == step for path in paths)
