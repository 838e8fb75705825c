"""Inference with a run's exported model and its calibration.

    model = load_model("runs/pets")
    for prediction in model.predict(["cat.jpg", open("dog.jpg", "rb").read(), pixels]):
        print(prediction.labels["label"].name, prediction.labels["label"].probability)

Decoding and preprocessing are those of the evaluation, bit for bit, and run on all cores. An
``Engine`` computes them and the model; this module needs no TensorFlow.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tf_image_classification.config import FULL_RANGE, read_pixel_range
from tf_image_classification.dataset.file_kinds import image_format
from tf_image_classification.dataset.image import headers
from tf_image_classification.errors import DataError, TficError
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.evaluation.unknown_detector import Detector
from tf_image_classification.export.names import FEATURES, IS_UNKNOWN, TENSORFLOW, UNKNOWN_SCORE
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.outputs import (
    calibrated_key,
    class_names_key,
    predicted_names,
    probabilities_key,
)
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.serving.engines import choose_engine
from tf_image_classification.serving.label_predictions import (
    LabelPrediction,
    Prediction,
    PredictOptions,
    label_predictions,
)
from tf_image_classification.serving.light.engine import LightEngine
from tf_image_classification.serving.light.files import LightFile
from tf_image_classification.serving.light.preprocess import as_rgb, preprocessing_of
from tf_image_classification.system import files

Image = str | os.PathLike[str] | bytes | npt.NDArray[np.uint8]
"""A path, local or gs://; an encoded image; or pixels, uint8 [h, w, 3] or [h, w]."""


def load_model(
    model_dir: str | os.PathLike[str],
    *,
    max_pixels: int | None = None,
    engine: str = TENSORFLOW,
    before_tensorflow: Callable[[], None] = lambda: None,
) -> Predictor:
    """The exported model of a model folder.

    Args:
        model_dir: folder of a run.
        max_pixels: larger images are rejected; None: the limit of the training.
        engine: as ``engines.choose_engine`` takes it.
        before_tensorflow: called before TensorFlow is imported, if the engine needs it.

    Raises:
        CheckpointError: the folder is not a run's.
        ConfigError: the engine cannot run the model, or is not installed.
        DataError: its exported model is missing or damaged.
    """
    folder = ModelFolder(os.fspath(model_dir))
    manifest = folder.known_manifest()
    if max_pixels is None:
        max_pixels = int(manifest.settings["max_image_pixels"])
    name, file = choose_engine(folder, engine)
    if file is None:
        before_tensorflow()
        loaded = _tensorflow_engine(folder, manifest, max_pixels)
    else:
        loaded = _light_engine(name, file, folder, manifest, max_pixels)
    return Predictor(
        loaded,
        manifest.schema,
        read_calibrations(folder, loaded.step),
        detector=read_detector(folder, loaded.made_from),
        max_pixels=max_pixels,
        facts=manifest.model_facts(),
    )


def _tensorflow_engine(folder: ModelFolder, manifest: RunManifest, max_pixels: int) -> Engine:
    from tf_image_classification.export.saved_model import ExportedModel  # late: TensorFlow
    from tf_image_classification.serving.tensorflow_engine import TensorFlowEngine

    return TensorFlowEngine(
        ExportedModel(folder.saved_model).load(),
        manifest.schema,
        max_pixels=max_pixels,
        png16_range=read_pixel_range(manifest.settings.get("png16_range", "full")) or FULL_RANGE,
    )


def _light_engine(
    name: str, file: LightFile, folder: ModelFolder, manifest: RunManifest, max_pixels: int
) -> Engine:
    run = {"spec": manifest.spec, "settings": manifest.settings}
    preprocessing = preprocessing_of(run, max_pixels=max_pixels)
    return LightEngine(name, file, folder, manifest.schema, preprocessing)


def read_calibrations(folder: ModelFolder, step: int) -> dict[str, Calibration]:
    """The calibrations by label name that were fitted to the model of a step; {} without any.

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


def read_detector(folder: ModelFolder, made_from: str) -> Detector | None:
    """The detector of unknown pictures that was fitted to an exported model; None without one.

    Args:
        folder: of the run.
        made_from: fingerprint of the exported model.

    Raises:
        DataError: its files are damaged.
    """
    if not files.exists(folder.unknown):
        return None
    try:
        facts = files.read_json(folder.unknown)
        if facts["saved_model"] != made_from or "none" in facts:
            return None
        content = files.read_bytes(folder.unknown_arrays)
        if facts["sha256"] != hashlib.sha256(content).hexdigest():
            raise ValueError(f"it belongs to another {os.path.basename(folder.unknown_arrays)}")
        return Detector.from_files(facts, content)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise DataError(
            f"{folder.unknown} is damaged ({' '.join(str(error).split())[:80]}). Evaluate the "
            f"model again: tfic evaluate --model_dir {folder.path}"
        ) from error


class Engine(Protocol):
    """Preprocessing, model and heat maps, in one runtime; may be used from several threads.

    A prepared image is whatever array [H, W, C] of its own the engine takes.

    Attributes:
        name: e.g. "tensorflow".
        step: of the model.
        num_calls: calls of ``predictions`` that are worth making at the same time.
        made_from: fingerprint of the exported model that it runs, or that its file was made from.
        scores_of: fingerprint of the detector whose UNKNOWN_SCORE its file computes itself, or "".
    """

    name: str
    step: int
    num_calls: int
    made_from: str
    scores_of: str

    def fingerprint(self) -> str:
        """A hash of graph and weights."""

    def prepare(self, data: bytes) -> Any:
        """One encoded image, decoded and preprocessed.

        Raises:
            BadImageError: it cannot be used; gives the reason.
        """

    def prepare_pixels(self, pixels: npt.NDArray[np.uint8]) -> Any:
        """An image of pixels [h, w, 3], preprocessed."""

    def predictions(self, images: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
        """Prepared images to predictions, as ``estimator_specs.predictions_from``.

        With FEATURES where ``no_features`` is "".
        """

    @property
    def no_features(self) -> str:
        """Reason why ``predictions`` has no FEATURES, or ""."""

    @property
    def no_heat_maps(self) -> str:
        """Reason why ``explain`` returns {}, or ""."""

    def explain(self, images: Sequence[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Prepared images to heat [B, h, w], 0..1, by label; {} without maps."""


class Predictor:
    """A loaded model for inference; may be used from several threads.

    Attributes:
        engine: computes images and model.
        schema: the labels with their class names.
        calibrations: by label name; labels without one keep the model's own probabilities.
        detector: of unknown pictures; None where there is no score.
        step: of the model.
        max_pixels: larger images are rejected.
        facts: network, weights and image size of the run, by name, for people.
    """

    def __init__(
        self,
        engine: Engine,
        schema: LabelSchema,
        calibrations: dict[str, Calibration],
        *,
        max_pixels: int,
        facts: Mapping[str, str] | None = None,
        detector: Detector | None = None,
    ) -> None:
        self.engine = engine
        has_scores = not engine.no_features or (
            detector is not None and engine.scores_of == detector.fingerprint()
        )
        self.detector = detector if has_scores else None
        self.facts = dict(facts or {})
        self.schema = schema
        self.calibrations = calibrations
        self.step = engine.step
        self.max_pixels = max_pixels

    def fingerprint(self) -> str:
        """A hash of the model, its calibrations and its detector of unknown pictures."""
        calibrations = {name: value.to_json() for name, value in self.calibrations.items()}
        parts = [self.schema.to_json(), calibrations]
        if self.detector is not None:
            parts.append(self.detector.facts())
        described = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(f"{self.engine.fingerprint()}{described}".encode()).hexdigest()

    def predict(self, images: Iterable[Image] | Image, **options: Any) -> list[Prediction]:
        """The prediction of each image, in order.

        Args:
            images: paths, encoded images or pixels; or a single one.
            options: fields of ``PredictOptions``.

        Raises:
            ConfigError: an option is out of its range.
        """
        is_single = isinstance(images, (str, bytes, os.PathLike, np.ndarray))
        named = _named([images] if is_single else images)  # type: ignore[arg-type,list-item]
        return list(self.predict_each(named, **options))

    def predict_each(
        self, images: Iterable[tuple[str, Image | Exception]], **options: Any
    ) -> Iterator[Prediction]:
        """The prediction of each image, as soon as it is computed; memory is bounded.

        Args:
            images: a name, and the path, encoded bytes or pixels; or the error of reading it.
            options: fields of ``PredictOptions``.

        Raises:
            ConfigError: an option is out of its range.
        """
        checked = PredictOptions(**options)
        checked.check()
        ahead = 2 * checked.batch_size + (os.cpu_count() or 1)
        with contextlib.closing(self._prepared(images, ahead=ahead)) as prepared:
            while batch := list(itertools.islice(prepared, checked.batch_size)):
                usable = [image for _, image in batch if not isinstance(image, Exception)]
                found = iter(self.predict_each_prepared(usable, checked) if usable else [])
                for name, image in batch:
                    if isinstance(image, Exception):
                        yield Prediction(name, {}, _reason(image).removeprefix(f"{name}: "))
                    else:
                        yield dataclasses.replace(next(found), uri=name)

    def prepare(self, image: Image) -> Any:
        """One image, decoded and preprocessed, [H, W, C]; an array of the engine.

        Raises:
            TficError: it cannot be read, or is not an image that can be used; gives the reason.
        """
        if isinstance(image, np.ndarray):
            return self.engine.prepare_pixels(as_rgb(image, max_pixels=self.max_pixels))
        data = image if isinstance(image, bytes) else files.read_bytes(os.fspath(image))
        return self.engine.prepare(data)

    def declared_pixels(self, data: bytes) -> int:
        """Width times height in the header of an encoded image; 0 without such a header."""
        kind = image_format(data)
        if kind == "unknown":
            return 0
        try:
            height, width = headers.declared_size(data, kind)
        except headers.HeaderError:
            return 0
        return max(0, height * width)

    @property
    def num_calls(self) -> int:
        """The number of batches that are best computed at the same time."""
        return self.engine.num_calls

    @property
    def no_heat_maps(self) -> str:
        """Reason why ``explain`` returns {}, or ""."""
        return self.engine.no_heat_maps

    def explain(self, images: Any) -> dict[str, npt.NDArray[np.float32]]:
        """Prepared images [B, H, W, C] to heat [B, h, w], 0..1, by label; {} without maps."""
        return self.engine.explain(images)

    def predict_prepared(
        self, images: Any, options: PredictOptions | None = None
    ) -> list[dict[str, LabelPrediction]]:
        """The predictions of prepared images [B, H, W, C], by label name."""
        return [one.labels for one in self.predict_each_prepared(images, options)]

    def predict_each_prepared(
        self, images: Any, options: PredictOptions | None = None
    ) -> list[Prediction]:
        """The predictions of prepared images [B, H, W, C], with their numbers as names."""
        options = options or PredictOptions()
        outputs = self.engine.predictions(images)
        columns = {
            label.name: label_predictions(
                label,
                outputs,
                self.calibrations.get(label.name) if options.is_calibrated else None,
                options,
            )
            for label in self.schema
        }
        labels = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        scores = self._scores(outputs)
        added = {name: values.tolist() for name, values in scores.items()}  # named as the fields
        return [
            Prediction(str(i), one, **{name: values[i] for name, values in added.items()})
            for i, one in enumerate(labels)
        ]

    def _scores(self, outputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """UNKNOWN_SCORE and, with a limit, IS_UNKNOWN of each image; {} without a detector."""
        if self.detector is None:
            return {}
        scores = outputs.get(UNKNOWN_SCORE)
        if FEATURES in outputs:
            scores = self.detector.scores(outputs[FEATURES])
        assert scores is not None
        are_unknown = self.detector.are_unknown(scores)
        return {UNKNOWN_SCORE: scores} | ({} if are_unknown is None else {IS_UNKNOWN: are_unknown})

    @property
    def added_outputs(self) -> tuple[str, ...]:
        """The outputs beside those of the labels: UNKNOWN_SCORE and, with a limit, IS_UNKNOWN."""
        if self.detector is None:
            return ()
        return (UNKNOWN_SCORE, *((IS_UNKNOWN,) if self.detector.limit.exists else ()))

    def outputs(self, images: Any) -> dict[str, npt.NDArray[Any]]:
        """Prepared images [B, H, W, C] to the outputs of an exported SavedModel, by name.

        With a limit also IS_UNKNOWN, bool [B].
        """
        predictions = self.engine.predictions(images)
        found: dict[str, npt.NDArray[Any]] = {}
        for label in self.schema:
            predicted = predictions[label.name]
            if not label.has_classes:
                found[label.name] = predicted
                continue
            probabilities = predictions[probabilities_key(label.name)]
            found[probabilities_key(label.name)] = probabilities
            calibration = self.calibrations.get(label.name)
            if calibration is not None:
                found[calibrated_key(label.name)] = calibration.apply(probabilities)
            found[class_names_key(label)] = np.array(predicted_names(label, predicted), object)
        return found | self._scores(predictions)

    def _prepared(
        self, images: Iterable[tuple[str, Image | Exception]], *, ahead: int
    ) -> Generator[tuple[str, Any], None, None]:
        """Names with prepared images or errors, in order; decoded ahead, on all cores."""

        def prepare(image: Image | Exception) -> Any:
            if isinstance(image, Exception):
                return image
            try:
                return self.prepare(image)
            except (TficError, OSError, ValueError) as error:
                return error  # a ValueError: a path that no file can have

        waiting: collections.deque[tuple[str, Any]] = collections.deque()
        pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        try:
            for name, image in images:
                waiting.append((name, pool.submit(prepare, image)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for name, future in waiting:
                yield name, future.result()
        finally:  # a caller that stops early does not wait for the rest
            pool.shutdown(wait=True, cancel_futures=True)


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
