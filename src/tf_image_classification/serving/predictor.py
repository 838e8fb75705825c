"""What a trained model says of images: the exported model of a folder, with its calibration.

    model = load_model("runs/pets")
    for prediction in model.predict(["cat.jpg", open("dog.jpg", "rb").read(), pixels]):
        print(prediction.labels["label"].name, prediction.labels["label"].probability)

Decoding and preprocessing are those of the evaluation, bit for bit, and run on all cores.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.config import FULL_RANGE, PixelRange, read_pixel_range
from tf_image_classification.dataset.image.byte_ops import as_node
from tf_image_classification.dataset.image.decode import DECLARED_SIZES, decoder
from tf_image_classification.dataset.image.diagnose import explain_failure, image_format
from tf_image_classification.errors import (
    BadImageError,
    ConfigError,
    DataError,
    TficError,
)
from tf_image_classification.estimator_specs import predictions_from
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import SEPARATOR, Label, LabelSchema
from tf_image_classification.labels.outputs import calibrated_key, probabilities_key
from tf_image_classification.labels.schema import MULTILABEL
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import files

Image = str | os.PathLike[str] | bytes | npt.NDArray[np.uint8]
"""A path, local or gs://; an encoded image; or pixels, uint8 [h, w, 3] or [h, w]."""

BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class LabelPrediction:
    """What is said of one label of an image.

    Attributes:
        name: the class; classes joined by "|" where there can be several; "" of a real value.
        value: the class's number or the real value; of several classes the number of classes.
        probability: of the class, calibrated if the model is; of several the least sure decision;
            None of a real value.
        probabilities: of all classes, in the order of the class names.
        top: the likeliest classes with their probabilities.
        conformal_set: classes one of which is the true one as often as was asked for when the model
            was judged; None without calibration.
        above_threshold: classes whose probability reaches their threshold, which gave the best F1
            when the model was judged: none, one or several; None without calibration.
        is_rejected: whether the probability is below the limit that was given.
    """

    name: str
    value: float
    probability: float | None = None
    probabilities: Sequence[float] = ()
    top: Sequence[tuple[str, float]] = ()
    conformal_set: Sequence[str] | None = None
    above_threshold: Sequence[str] | None = None
    is_rejected: bool = False


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is said of one image.

    Attributes:
        uri: its path, or its number in the given images.
        labels: by label name; empty for a bad image.
        error: why it could not be used, or "".
    """

    uri: str
    labels: dict[str, LabelPrediction]
    error: str = ""


def load_model(model_dir: str | os.PathLike[str], *, max_pixels: int | None = None) -> Predictor:
    """The exported model of a model folder.

    Args:
        model_dir: folder of a run.
        max_pixels: larger images are refused; None: the limit of the training.

    Raises:
        CheckpointError: the folder is none of a run.
        DataError: it holds no exported model, or what it holds is damaged.
    """
    folder = ModelFolder(os.fspath(model_dir))
    record = folder.known_manifest()
    exported = ExportedModel(folder.saved_model).load()
    return Predictor(
        exported,
        record.schema,
        read_calibrations(folder, exported.step),
        max_pixels=int(record.settings["max_image_pixels"]) if max_pixels is None else max_pixels,
        png16_range=read_pixel_range(record.settings.get("png16_range", "full")) or FULL_RANGE,
    )


def read_calibrations(folder: ModelFolder, step: int) -> dict[str, Calibration]:
    """By label name what an evaluation of the model of this step has fitted; {} without one.

    Raises:
        DataError: the file is damaged.
    """
    if not files.exists(folder.calibration):
        return {}
    try:
        stored = files.read_json(folder.calibration)
        labels = stored["labels"] if stored["step"] == step else {}
        return {name: Calibration.from_json(value) for name, value in labels.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder.calibration} is damaged ({' '.join(str(error).split())[:80]}). Evaluate the "
            f"model again: tfic evaluate --model_dir {folder.path}"
        ) from error


def declared_pixels(data: bytes) -> int:
    """Width times height in the header of an encoded image; 0 when there is no such header."""
    kind = image_format(data)
    if kind not in DECLARED_SIZES:
        return 0
    try:
        height, width = as_node(DECLARED_SIZES[kind])(tf.constant(data)).numpy().tolist()
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        return 0
    return max(0, int(height) * int(width))


class Predictor:
    """A model that is ready to look at images; may be used from several threads.

    Attributes:
        schema: the labels with their class names.
        calibrations: by label name; labels without one keep the model's own probabilities.
        step: of the model.
        max_pixels: larger images are refused.
    """

    def __init__(
        self,
        exported: ExportedModel,
        schema: LabelSchema,
        calibrations: dict[str, Calibration],
        *,
        max_pixels: int,
        png16_range: PixelRange = FULL_RANGE,
    ) -> None:
        self.schema = schema
        self.calibrations = calibrations
        self.step = exported.step
        self._exported = exported
        self.max_pixels = max_pixels
        decode = decoder(max_pixels, png16_range)
        self._prepare_bytes = tf.function(
            lambda data: exported.preproc(decode(data), 0, 0),
            input_signature=[tf.TensorSpec([], tf.string)],
        )
        self._prepare_pixels = tf.function(
            lambda image: exported.preproc(image, 0, 0),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
        )

    def fingerprint(self) -> str:
        """A number that another model, or another calibration of this one, does not have."""
        calibrations = {name: value.to_json() for name, value in self.calibrations.items()}
        described = json.dumps([self.schema.to_json(), calibrations], sort_keys=True)
        return hashlib.sha256(f"{self._exported.fingerprint()}{described}".encode()).hexdigest()

    def predict(self, images: Iterable[Image] | Image, **options: Any) -> list[Prediction]:
        """What the model says of each image, in order.

        Args:
            images: paths, encoded images or pixels; one or several.
            options: as ``predict_each``.

        Raises:
            ConfigError: as ``predict_each``.
        """
        several = [images] if isinstance(images, (str, bytes, os.PathLike, np.ndarray)) else images
        return list(self.predict_each(_named(several), **options))

    def predict_each(
        self,
        images: Iterable[tuple[str, Image | Exception]],
        *,
        top_k: int = 5,
        reject_below: float = 0.0,
        is_calibrated: bool = True,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[Prediction]:
        """What the model says of each image, as soon as it is known; memory is bounded.

        Args:
            images: what each is called, and its path, encoded bytes or pixels; or the error that
                kept it from being read.
            top_k: how many of the likeliest classes are named.
            reject_below: probability below which a prediction is marked as rejected, 0..1.
            is_calibrated: whether probabilities are calibrated where the model has been judged.
            batch_size: images that are computed together.

        Raises:
            ConfigError: an argument is out of its range.
        """
        check_arguments(top_k, reject_below, batch_size)
        how = {"top_k": top_k, "reject_below": reject_below, "is_calibrated": is_calibrated}
        for part in self._prepared(images, batch_size):
            yield from self._said(part, **how)

    def prepare(self, image: Image) -> tf.Tensor:
        """One image as the model takes it.

        Raises:
            TficError: it cannot be read, or is no image that can be used; says why.
        """
        if isinstance(image, np.ndarray):
            return self._prepare_pixels(tf.constant(self._colours(image)))
        data = image if isinstance(image, bytes) else files.read_bytes(os.fspath(image))
        try:
            return self._prepare_bytes(tf.constant(data))
        except tf.errors.InvalidArgumentError as error:
            raise BadImageError(explain_failure(data, max_pixels=self.max_pixels)) from error

    def _colours(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if image.dtype != np.uint8 or not is_image:
            raise BadImageError(
                f"pixels are {image.dtype} {list(image.shape)}, expected uint8 [h, w, 3] or [h, w]"
            )
        if not 0 < image.shape[0] * image.shape[1] <= self.max_pixels:
            raise BadImageError(f"{image.shape[0]} x {image.shape[1]} pixels: none, or too many")
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)

    @property
    def no_heat_maps(self) -> str:
        """Why ``explain`` gives nothing, or ""."""
        return self._exported.no_heat_maps

    def explain(self, images: tf.Tensor) -> dict[str, npt.NDArray[np.float32]]:
        """Prepared images to heat [B, h, w], 0..1, by label; {} for a model without maps."""
        return {name: heat.numpy() for name, heat in self._exported.explain(images).items()}

    def say(
        self,
        images: tf.Tensor,
        *,
        top_k: int = 5,
        reject_below: float = 0.0,
        is_calibrated: bool = True,
    ) -> list[dict[str, LabelPrediction]]:
        """What is said of prepared images [B, H, W, C], by label; arguments as ``predict_each``."""
        outputs = self._outputs(images)
        rows: list[dict[str, LabelPrediction]] = [{} for _ in range(len(images))]
        for label in self.schema:
            calibration = self.calibrations.get(label.name) if is_calibrated else None
            predicted = outputs[label.name]
            if not label.has_classes:
                for row, value in zip(rows, predicted.tolist(), strict=True):
                    row[label.name] = LabelPrediction("", float(value))
                continue
            exact = outputs[probabilities_key(label.name)].astype(np.float64)
            exact = calibration.apply(exact) if calibration else exact
            of_label = [
                _of_label(label, chosen, p, top_k, reject_below)
                for chosen, p in zip(predicted, exact, strict=True)
            ]
            if calibration:
                of_label = _with_sets(of_label, label, calibration, exact)
            for row, said in zip(rows, of_label, strict=True):
                row[label.name] = said
        return rows

    def answers(self, images: tf.Tensor) -> dict[str, npt.NDArray[Any]]:
        """Prepared images [B, H, W, C] to what the exported SavedModel would answer, by output."""
        outputs = self._outputs(images)
        found: dict[str, npt.NDArray[Any]] = {}
        for label in self.schema:
            predicted = outputs[label.name]
            if not label.has_classes:
                found[label.name] = predicted
                continue
            probabilities = outputs[probabilities_key(label.name)]
            found[probabilities_key(label.name)] = probabilities
            if label.name in self.calibrations:
                found[calibrated_key(label.name)] = self.calibrations[label.name].apply(
                    probabilities
                )
            names = np.array(label.named_classes(), object)
            if label.kind == MULTILABEL:
                joined = [SEPARATOR.join(names[row]) for row in predicted]
                found[f"{label.name}_class_names"] = np.array(joined, object)
            else:
                found[f"{label.name}_class_name"] = names[predicted]
        return found

    def _outputs(self, images: tf.Tensor) -> dict[str, npt.NDArray[Any]]:
        logits = self._exported.forward(images, training=False)
        return {key: value.numpy() for key, value in predictions_from(self.schema, logits).items()}

    def _prepared(
        self, images: Iterable[tuple[str, Image | Exception]], batch_size: int
    ) -> Iterator[list[tuple[str, tf.Tensor | Exception]]]:
        """Batches of names with prepared images or errors; decoded ahead, on all cores."""

        def prepare(image: Image | Exception) -> tf.Tensor | Exception:
            if isinstance(image, Exception):
                return image
            try:
                return self.prepare(image)
            except (TficError, OSError, ValueError, tf.errors.OpError) as error:
                return error  # a ValueError: a path that no file can have

        cores = os.cpu_count() or 1
        ahead = 2 * batch_size + cores
        waiting: collections.deque[tuple[str, Any]] = collections.deque()
        part: list[tuple[str, tf.Tensor | Exception]] = []
        pool = concurrent.futures.ThreadPoolExecutor(cores)
        try:
            for name, image in images:
                waiting.append((name, pool.submit(prepare, image)))
                if len(waiting) > ahead:
                    name, future = waiting.popleft()
                    part.append((name, future.result()))
                if len(part) == batch_size:
                    yield part
                    part = []
            for name, future in waiting:
                part.append((name, future.result()))
                if len(part) == batch_size:
                    yield part
                    part = []
        finally:  # whoever has enough does not wait for images that nobody wants any more
            pool.shutdown(wait=True, cancel_futures=True)
        if part:
            yield part

    def _said(self, part: list[tuple[str, Any]], **how: Any) -> Iterator[Prediction]:
        usable = [image for _, image in part if not isinstance(image, Exception)]
        said = iter(self.say(tf.stack(usable), **how) if usable else [])
        for name, image in part:
            if isinstance(image, Exception):
                yield Prediction(name, {}, _reason(image).removeprefix(f"{name}: "))
            else:
                yield Prediction(name, next(said))


def check_arguments(top_k: int, reject_below: float, batch_size: int) -> None:
    """See that arguments of ``predict_each`` are in their range.

    Raises:
        ConfigError: one is not.
    """
    if top_k < 1 or batch_size < 1 or not 0 <= reject_below <= 1:
        raise ConfigError(
            f"top_k is {top_k}, batch_size {batch_size}, reject_below {reject_below}; expected "
            "at least 1, at least 1, and 0 to 1."
        )


def _reason(error: Exception) -> str:
    """Why an image cannot be used, in words that follow its name."""
    for kind, text in _REASONS.items():
        if isinstance(error, kind):
            return text
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:500] or type(error).__name__


_REASONS = {
    FileNotFoundError: "there is no such file",
    IsADirectoryError: "this is a folder, expected an image",
    PermissionError: "permission denied",
}


def _named(images: Iterable[Image]) -> Iterator[tuple[str, Image]]:
    """Each image with its path, or its number where it has none."""
    for number, image in enumerate(images):
        if isinstance(image, (str, os.PathLike)):
            yield os.fspath(image), image
        else:
            yield str(number), image


def _of_label(
    label: Label,
    chosen: Any,
    probabilities: npt.NDArray[np.float64],
    top_k: int,
    reject_below: float,
) -> LabelPrediction:
    names = label.named_classes()
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    top = [(names[k], float(probabilities[k])) for k in order]
    if label.kind == MULTILABEL:
        classes = np.flatnonzero(chosen)
        name, value = SEPARATOR.join(names[k] for k in classes), len(classes)
        probability = float(np.where(chosen, probabilities, 1 - probabilities).min())
    else:
        name, value = names[int(chosen)], int(chosen)
        probability = float(probabilities[int(chosen)])
    return LabelPrediction(
        name,
        float(value),
        probability,
        probabilities.tolist(),
        top,
        is_rejected=probability < reject_below,
    )


def _with_sets(
    said: Sequence[LabelPrediction],
    label: Label,
    calibration: Calibration,
    probabilities: npt.NDArray[np.float64],
) -> list[LabelPrediction]:
    """The predictions with what a calibration says of their calibrated probabilities [n, D]."""
    names = np.array(label.named_classes(), object)
    above = calibration.above_threshold(probabilities)
    found = [
        dataclasses.replace(one, above_threshold=names[row].tolist())
        for one, row in zip(said, above, strict=True)
    ]
    if label.kind == MULTILABEL:
        return found
    return [
        dataclasses.replace(one, conformal_set=names[row].tolist())
        for one, row in zip(found, calibration.conformal_set(probabilities), strict=True)
    ]
