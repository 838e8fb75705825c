"""The SavedModel of a run: encoded images in, predictions out, preprocessing included.

serve(image_bytes)    encoded images [B] to predictions by name
preprocess(image)     one decoded image to what the model takes
classify(images)      preprocessed images to logits by label name
explain(images)       preprocessed images to where the model looks, if it has feature maps
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification import files
from tf_image_classification.dataset.decode import decode_image
from tf_image_classification.dataset.pipeline import Pipeline
from tf_image_classification.errors import DataError
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.labels import SEPARATOR, LabelSchema
from tf_image_classification.serving.explain import heat_maps_of

_STEP_FILE = "step.json"
_UNFINISHED = ".saved_model-"
_OLD = ".old"


def export_saved_model(
    path: str,
    model: keras.Model,
    *,
    schema: LabelSchema,
    forward: Callable[[tf.Tensor, bool], dict[str, tf.Tensor]],
    pipeline: Pipeline,
    step: int,
) -> None:
    """Write the SavedModel, whole or not at all; until then the one that was there remains.

    Args:
        path: the folder; one that is there is replaced.
        model: the model with the weights to export.
        schema: the labels with their vocabularies.
        forward: images and whether training, to logits by label.
        pipeline: the evaluation input, whose decoding and preprocessing are exported.
        step: steps done when the weights were saved.
    """
    image_spec = pipeline.image_spec

    def preprocess(image: tf.Tensor) -> tf.Tensor:
        return pipeline.preprocess(image, tf.constant(0, tf.int64))

    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return forward(images, False)

    def serve(image_bytes: tf.Tensor) -> dict[str, Any]:
        images = tf.map_fn(
            lambda data: preprocess(decode_image(data, max_pixels=pipeline.max_image_pixels)),
            image_bytes,
            fn_output_signature=image_spec,
        )
        predictions = predictions_from(schema, classify(images))
        for label in schema.class_labels:
            names = tf.constant(label.named_classes())
            predictions[f"{label.name}_class_name"] = tf.gather(names, predictions[label.name])
        for label in schema.labels_with_classes:
            if label.value_shape:
                names = tf.where(predictions[label.name], label.named_classes(), "")
                kept = tf.ragged.boolean_mask(names, predictions[label.name])
                joined = tf.strings.reduce_join(kept, axis=1, separator=SEPARATOR)
                predictions[f"{label.name}_class_names"] = joined
        return predictions

    archive = keras.export.ExportArchive()
    archive.track(model)
    images_spec = tf.TensorSpec([None, *image_spec.shape], image_spec.dtype, "images")
    archive.add_endpoint("serve", serve, [tf.TensorSpec([None], tf.string, "image_bytes")])
    archive.add_endpoint(
        "preprocess", preprocess, [tf.TensorSpec([None, None, 3], tf.uint8, "image")]
    )
    archive.add_endpoint("classify", classify, [images_spec])
    explain = heat_maps_of(model, schema)
    if explain is not None:
        archive.add_endpoint("explain", explain, [images_spec])
    content = {"step": step, "labels": schema.to_json()}
    near = None if files.is_remote(path) else os.path.dirname(os.path.abspath(path))
    for name in os.listdir(near) if near else ():
        if name.startswith(_UNFINISHED):  # of a process that was killed
            files.remove(os.path.join(str(near), name))
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=near) as temporary:
        written = os.path.join(temporary, "saved_model")
        archive.write_out(written, verbose=False)
        if files.is_remote(path):
            _upload(written, path)
        else:
            files.write_json(os.path.join(written, _STEP_FILE), content)
            replace_folder(written, path)
    if files.is_remote(path):  # last: without it the folder is not taken for complete
        files.write_json(files.join(path, _STEP_FILE), content)


def replace_folder(source: str, target: str) -> None:
    """Put a folder in the place of another; a kill at any instant leaves one to be found."""
    _find(target)
    old = target + _OLD
    files.remove(old)
    if os.path.isdir(target):
        os.rename(target, old)
    try:
        os.rename(source, target)
    except BaseException:
        _find(target)
        raise
    files.remove(old)


def _find(path: str) -> None:
    """Put a model back that a killed process had moved away without writing the new one."""
    if not files.is_remote(path) and not os.path.isdir(path) and os.path.isdir(path + _OLD):
        os.rename(path + _OLD, path)


def _upload(source: str, target: str) -> None:
    files.remove_file(files.join(target, _STEP_FILE))  # first: what is left is not complete
    files.remove(target)
    for folder, _, names in os.walk(source):
        inner = files.join(target, os.path.relpath(folder, source)).removesuffix("/.")
        for name in names:
            files.write_bytes(files.join(inner, name), files.read_bytes(os.path.join(folder, name)))


def exported_step(path: str) -> int | None:
    """The step of the exported model in a folder, or None when there is no complete one."""
    _find(path)
    step_path = files.join(path, _STEP_FILE)
    return int(files.read_json(step_path)["step"]) if files.exists(step_path) else None


class ExportedModel:
    """An exported model as a program: preprocessing and logits, without the code that made it.

    Attributes:
        path: the SavedModel's folder.
        step: steps done when its weights were saved; -1 before it is loaded.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.step = -1
        self._loaded: Any = None

    def load(self) -> ExportedModel:
        """Read it from its folder.

        Raises:
            DataError: there is no SavedModel, or it is damaged.
        """
        step = exported_step(self.path)
        if step is None:
            raise DataError(
                f"{self.path} holds no exported model. Complete the run with export_saved_model, "
                "or name the spec (--spec file.py:Class) to evaluate a checkpoint."
            )
        try:
            self._loaded, self.step = tf.saved_model.load(self.path), step
        except (OSError, ValueError, IndexError, tf.errors.OpError) as error:
            reason = str(error).rstrip(".")
            raise DataError(
                f"The exported model {self.path} cannot be read: {reason}. Remove it and start the "
                "run's command again, which exports it anew."
            ) from error
        return self

    def preproc(self, image: tf.Tensor, width: int, height: int) -> tf.Tensor:
        """The evaluation preprocessing, in the form of ``get_preproc_fn``."""
        return self._loaded.preprocess(image)

    def forward(self, images: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        """Preprocessed images [B, H, W, C] to logits by label name."""
        return dict(self._loaded.classify(images))

    def explain(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Preprocessed images to where the model looks, as ``heat_maps_of``; {} if it cannot."""
        function = getattr(self._loaded, "explain", None)
        return {} if function is None else dict(function(images))

    @property
    def loaded(self) -> Any:
        """The SavedModel itself, with its functions."""
        return self._loaded

    @property
    def image_spec(self) -> tf.TensorSpec:
        """Shape and dtype of one preprocessed image."""
        batched = self._loaded.classify.concrete_functions[0].structured_input_signature[0][0]
        return tf.TensorSpec(batched.shape[1:], batched.dtype)
