"""The SavedModel of a run: encoded images in, predictions out, preprocessing included.

serve(image_bytes)    encoded images [B] to predictions by name
preprocess(image)     one decoded image to what the model takes
classify(images)      preprocessed images to logits by label name
classify_one(images)  the same of a single image, of models with recurrent layers, for LiteRT
features(images)      preprocessed images to logits and FEATURES, if the model has a last layer
explain(images)       preprocessed images to Grad-CAM heat maps, if the model has feature maps
"""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_image_classification.config import PixelRange
from tf_image_classification.dataset.image.decode import decoder
from tf_image_classification.errors import DataError, SpecError, brief
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.export.features import logits_and_features
from tf_image_classification.export.folding import FoldedModel
from tf_image_classification.export.grad_cam import Explain, heat_maps_of, reason_of
from tf_image_classification.export.identity import saved_model_fingerprint
from tf_image_classification.export.names import FEATURES
from tf_image_classification.labels import SEPARATOR, LabelSchema
from tf_image_classification.labels.outputs import class_names_key
from tf_image_classification.system import files, quiet, signals
from tf_image_classification.system.autograph import unconverted

log = logging.getLogger("tf_image_classification")

_STEP_FILE = "step.json"
_NO_HEAT_MAPS, _NO_FEATURES = "no_heat_maps", "no_features"
_RECURRENT = "TensorListReserve"  # in the graph of layers that keep their results in a list
_BEFORE_FEATURES = (
    "an earlier version exported the model. Remove its saved_model and start the training's "
    "command again, which exports it anew"
)
_UNFINISHED = ".saved_model-"
_OLD = ".old"


@dataclasses.dataclass(frozen=True)
class Servable:
    """The functions and labels that are exported with the weights.

    Attributes:
        folded: the model with the weights to export.
        schema: the labels with their vocabularies.
        forward: images and whether training, to logits by label; called in ``folded.applied``.
        preprocess: one decoded image, uint8 [h, w, 3], to the model's input.
        image_spec: shape and dtype of one preprocessed image.
        max_pixels: larger images are rejected.
        png16_range: as ``decode_image`` takes it.
        heat_maps: as ``heat_maps_of`` returns it; None: that of the model.
    """

    folded: FoldedModel
    schema: LabelSchema
    forward: Callable[[tf.Tensor, bool], dict[str, tf.Tensor]]
    preprocess: Callable[[tf.Tensor], tf.Tensor]
    image_spec: tf.TensorSpec
    max_pixels: int
    png16_range: PixelRange
    heat_maps: Explain | None = None


def export_saved_model(path: str, servable: Servable, *, step: int) -> None:
    """Write the SavedModel atomically; an existing one stays until the new one is complete.

    Args:
        path: the folder; an existing one is replaced.
        servable: the model, its functions and labels.
        step: steps done when the weights were saved.
    """
    archive, notes = _archive(servable)
    notes = {"step": step, "labels": servable.schema.to_json()} | notes
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
            files.write_json(os.path.join(written, _STEP_FILE), notes)
            replace_folder(written, path)
    if files.is_remote(path):  # last: it marks the folder as complete
        files.write_json(files.join(path, _STEP_FILE), notes)


def _archive(servable: Servable) -> tuple[keras.export.ExportArchive, dict[str, Any]]:
    """The traced functions, and notes on them for ``step.json``."""
    folded, schema, image_spec = servable.folded, servable.schema, servable.image_spec
    images_spec = tf.TensorSpec([None, *image_spec.shape], image_spec.dtype, "images")

    def plain_logits(images: tf.Tensor) -> dict[str, tf.Tensor]:
        with folded.applied():
            return servable.forward(images, False)

    both, no_features = _features_of(servable, images_spec)

    def logits_beside_features(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: value for name, value in both(images).items() if name != FEATURES}

    logits = plain_logits if no_features else logits_beside_features
    classify = tf.function(unconverted(logits), input_signature=[images_spec])

    decode = decoder(servable.max_pixels, servable.png16_range)

    def serve(image_bytes: tf.Tensor) -> dict[str, Any]:
        images = tf.map_fn(
            lambda data: servable.preprocess(decode(data)),
            image_bytes,
            fn_output_signature=image_spec,
        )
        return named_predictions(schema, classify(images))

    archive = keras.export.ExportArchive()
    # Keras's variables would be stored beside those of TensorFlow inside them.
    resources = tf.Module()
    resources.model = folded.model
    archive.track(resources)
    archive.add_variable_collection("weights", folded.weights)
    archive.add_endpoint(
        "serve", unconverted(serve), [tf.TensorSpec([None], tf.string, "image_bytes")]
    )
    image = tf.TensorSpec([None, None, 3], tf.uint8, "image")
    archive.add_endpoint("preprocess", unconverted(servable.preprocess), [image])
    graph = classify.get_concrete_function().graph.as_graph_def()
    archive.add_endpoint("classify", classify)
    if any(node.op == _RECURRENT for node in graph.node):
        one = tf.TensorSpec([1, *image_spec.shape], image_spec.dtype, "images")
        archive.add_endpoint("classify_one", plain_logits, [one])
    notes = {}
    if no_features:
        notes[_NO_FEATURES] = no_features
    else:
        archive.add_endpoint("features", both)
    heat_maps = servable.heat_maps or heat_maps_of(folded.model, schema)

    def explained(images: tf.Tensor) -> dict[str, tf.Tensor]:
        with folded.applied():
            return heat_maps(images)

    explain = tf.function(unconverted(explained), input_signature=[images_spec])
    try:
        explain.get_concrete_function()
    except Exception as error:  # of any layer's gradient: the model is exported without heat maps
        if (stopped := signals.cause_of(error)) is not None:
            raise stopped from None
        return archive, notes | {_NO_HEAT_MAPS: reason_of(error)}
    archive.add_endpoint("explain", explain)
    return archive, notes


def named_predictions(schema: LabelSchema, logits: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Predictions with class names, as ``serve`` gives them, from logits by label; traced."""
    predictions = predictions_from(schema, logits)
    for label in schema.class_labels:
        names = tf.constant(label.named_classes())
        predictions[class_names_key(label)] = tf.gather(names, predictions[label.name])
    for label in schema.labels_with_classes:
        if not label.is_class:
            names = tf.where(predictions[label.name], label.named_classes(), "")
            kept = tf.ragged.boolean_mask(names, predictions[label.name])
            joined = tf.strings.reduce_join(kept, axis=1, separator=SEPARATOR)
            predictions[class_names_key(label)] = joined
    return predictions


def _features_of(servable: Servable, images_spec: tf.TensorSpec) -> tuple[Any, str]:
    """The function of images to logits and FEATURES, and the reason why it cannot be traced."""
    folded = servable.folded
    forward = logits_and_features(folded.model, servable.forward)

    def run(images: tf.Tensor) -> dict[str, tf.Tensor]:
        with folded.applied():
            logits, features = forward(images)
        return logits | {FEATURES: features}

    both = tf.function(unconverted(run), input_signature=[images_spec])
    try:
        both.get_concrete_function()
    except SpecError as error:
        return both, str(error)
    except Exception as error:  # of any layer: the model is exported without features
        if (stopped := signals.cause_of(error)) is not None:
            raise stopped from None
        return both, brief(error)
    return both, ""


def replace_folder(source: str, target: str) -> None:
    """Replace a folder by another; after a kill at any instant one of them is found again."""
    _restore(target)
    old = target + _OLD
    files.remove(old)
    if os.path.isdir(target):
        os.rename(target, old)
    try:
        os.rename(source, target)
    except BaseException:
        _restore(target)
        raise
    files.remove(old)


def _restore(path: str) -> None:
    """Put back a folder that a killed process had moved away before writing the new one."""
    if not files.is_remote(path) and not os.path.isdir(path) and os.path.isdir(path + _OLD):
        os.rename(path + _OLD, path)


def _upload(source: str, target: str) -> None:
    files.remove_file(
        files.join(target, _STEP_FILE)
    )  # first: without it the folder is not complete
    files.remove(target)
    for folder, _, names in os.walk(source):
        inner = files.join(target, os.path.relpath(folder, source)).removesuffix("/.")
        for name in names:
            files.write_bytes(files.join(inner, name), files.read_bytes(os.path.join(folder, name)))


def exported_step(path: str) -> int | None:
    """The training step of a folder's exported model; None without a complete one."""
    notes = _notes(path)
    return notes["step"] if notes else None


def _notes(path: str) -> dict[str, Any]:
    """The content of ``step.json``; {} when the folder holds no complete model."""
    _restore(path)
    step_path = files.join(path, _STEP_FILE)
    if not files.exists(step_path):
        return {}
    try:
        notes = dict(files.read_json(step_path))
        return notes | {"step": int(notes["step"])}
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s is damaged (%s): the exported model is incomplete.", step_path, error)
        return {}


class ExportedModel:
    """An exported model: its preprocessing and logits, without the spec's code.

    Attributes:
        path: the SavedModel's folder.
        step: steps done when its weights were saved; -1 before it is loaded.
        no_heat_maps: reason why ``explain`` returns {}, or "".
        no_features: reason why there is no ``forward_with_features``, or "".
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.step = -1
        self.no_heat_maps = ""
        self.no_features = ""
        self._loaded: Any = None

    def load(self) -> ExportedModel:
        """Read it from its folder.

        Raises:
            DataError: the SavedModel is missing or damaged.
        """
        notes = _notes(self.path)
        if not notes:
            raise DataError(
                f"{self.path} holds no exported model. Complete the run with export_saved_model, "
                "or name the spec (--spec file.py:Class) to evaluate a checkpoint."
            )
        try:
            with quiet.hidden():
                self._loaded = tf.saved_model.load(self.path)
            self.step = int(notes["step"])
        except (OSError, ValueError, IndexError, tf.errors.OpError) as error:
            reason = str(error).rstrip(".")
            raise DataError(
                f"The exported model {self.path} cannot be read: {reason}. Remove it and start the "
                "run's command again, which exports it anew."
            ) from error
        self.no_heat_maps = str(notes.get(_NO_HEAT_MAPS, ""))
        if "features" not in self._loaded.signatures:
            self.no_features = str(notes.get(_NO_FEATURES, _BEFORE_FEATURES))
        return self

    def fingerprint(self) -> str:
        """A hash of the graph and the weights, whose checksums are in their index."""
        return saved_model_fingerprint(self.path)

    def preproc(self, image: tf.Tensor, width: int, height: int) -> tf.Tensor:
        """The evaluation preprocessing, in the form of ``get_preproc_fn``."""
        return self._loaded.preprocess(image)

    def forward(self, images: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        """Preprocessed images [B, H, W, C] to logits by label name."""
        return dict(self._loaded.classify(images))

    def forward_with_features(self, images: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Preprocessed images to logits by label name, and features [B, D]."""
        found = dict(self._loaded.features(images))
        return found, found.pop(FEATURES)

    @property
    def is_traced_for_one(self) -> bool:
        """Whether ``forward_one`` exists: for models with recurrent layers."""
        return "classify_one" in self._loaded.signatures

    def forward_one(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """One preprocessed image [1, H, W, C] to logits by label name."""
        return dict(self._loaded.classify_one(image))

    def explain(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Preprocessed images to heat maps by label, as ``heat_maps_of``; {} without any."""
        return dict(self._loaded.explain(images)) if "explain" in self._loaded.signatures else {}

    @property
    def loaded(self) -> Any:
        """The SavedModel itself, with its functions."""
        return self._loaded

    @property
    def image_spec(self) -> tf.TensorSpec:
        """Shape and dtype of one preprocessed image."""
        batched = self._loaded.classify.concrete_functions[0].structured_input_signature[0][0]
        return tf.TensorSpec(batched.shape[1:], batched.dtype)
