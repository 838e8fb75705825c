"""Exporting the model of a finished run into its folder."""

from __future__ import annotations

from tf_image_classification import files
from tf_image_classification.config import Settings
from tf_image_classification.dataset.pipeline import Pipeline
from tf_image_classification.estimator_specs import EstimatorSpec
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.runs import assembly, ready_hooks
from tf_image_classification.runs.folder_weights import assign_weights, newest_weights
from tf_image_classification.runs.reading import Data
from tf_image_classification.serving.export import export_saved_model, exported_step
from tf_image_classification.training.state import TrainState


def export_run(
    spec: EstimatorSpec, settings: Settings, data: Data, state: TrainState, folder: ModelFolder
) -> str:
    """Export the best checkpoint of a finished run, or its last state; says which.

    The model of ``state`` has the exported weights afterwards.
    """
    assert isinstance(data.train, Pipeline)
    saved, which = newest_weights(folder)
    assign_weights(state.model, saved)
    evaluation_input = Pipeline(
        source=data.train.source,
        preproc=spec.get_preproc_fn(False),
        batch_size=1,
        image_size=settings.data.image_size,
        max_image_pixels=settings.data.max_image_pixels,
        seed=settings.run.seed,
        png16_range=data.train.png16_range,
    )
    export_saved_model(
        folder.saved_model,
        state.model,
        schema=data.schema,
        forward=assembly.make_forward(state.model, data.schema, settings),
        pipeline=evaluation_input,
        step=saved.step,
    )
    export_dir = settings.checkpoints.export_dir
    if export_dir:
        files.copy_folder(folder.saved_model, export_dir)
    name, _ = ready_hooks.best_metric(settings)
    values = [line[name] for line in folder.evaluations() if line["step"] == saved.step]
    value = f", {name} {values[-1]:.4f}" if values and values[-1] is not None else ""
    exported = (
        f"exported:      {folder.saved_model} (the {which} checkpoint, step {saved.step}{value})"
    )
    return f"{exported}\nits copy:      {export_dir}" if export_dir else exported


def is_exported(folder: ModelFolder, settings: Settings) -> bool:
    """Whether the exported model is that of the checkpoint which would be exported now."""
    step = newest_weights(folder)[0].step
    paths = filter(None, (folder.saved_model, settings.checkpoints.export_dir))
    return all(exported_step(path) == step for path in paths)
