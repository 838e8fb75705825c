"""``Classifier``, a trained model: evaluate, predict, report, export.

model = load_model("models/pets")
model.predict("cat.jpg")
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tf_image_classification.classifier import html
from tf_image_classification.classifier.history import History, read_history
from tf_image_classification.classifier.inputs import named_images
from tf_image_classification.classifier.keyword_errors import keyword_errors
from tf_image_classification.classifier.options import settings_of
from tf_image_classification.classifier.shown import Predictions, ReportPage
from tf_image_classification.config import Settings
from tf_image_classification.export.names import AUTO, TENSORFLOW, check_limits, format_named
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.system import screen
from tf_image_classification.workflows.result import TrainResult
from tf_image_classification.workflows.setup.environment import cache_dir, prepare_tensorflow

if TYPE_CHECKING:
    import keras
    import numpy as np
    import numpy.typing as npt

    from tf_image_classification.estimator_specs import EstimatorSpec
    from tf_image_classification.evaluation.calibration import Calibration
    from tf_image_classification.evaluation.unknown_detector import Detector
    from tf_image_classification.labels import LabelSchema
    from tf_image_classification.serving.label_predictions import Prediction
    from tf_image_classification.serving.predictor import Image, Predictor
    from tf_image_classification.workflows.export import Exported

_CACHED = ("predictor", "model", "_explaining")


class Classifier(TrainResult):
    """A trained model, and the result of its training.

    It is also a mapping from the names of the last evaluation's metrics to their values. Every
    method works on the model folder, so that another process can do the same with ``load_model``.

    Attributes:
        model_dir: the model folder.
        step: steps done; of ``load_model`` the step of the exported model.
        metrics: the last evaluation's numbers by name; empty without evaluation.
        arrays: its arrays by name.
    """

    def __init__(self, result: TrainResult, spec: EstimatorSpec | None = None) -> None:
        """Wrap the result of a training.

        Args:
            result: of the training.
            spec: the user's own spec; None: a built-in backbone, or the spec is not at hand.
        """
        super().__init__(
            result.model_dir, result.step, result.metrics, result.arrays, result.analysis
        )
        self._spec = spec

    # What it has learned from, and how.

    @property
    def history(self) -> History:
        """The curves of the training and the metrics of its evaluations, by step."""
        return read_history(self.model_dir)

    @property
    def schema(self) -> LabelSchema:
        """The labels with their class names."""
        return ModelFolder(self.model_dir).known_manifest().schema

    @property
    def classes(self) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
        """The names of the classes in the order of their numbers; by label if there are several.

        () for a regression label.
        """
        names = {label.name: tuple(label.named_classes()) for label in self.schema}
        return names if len(names) > 1 else next(iter(names.values()))

    # Inference.

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The exported model, for inference from several threads.

        Raises:
            CheckpointError: the folder is not a run's.
            DataError: its exported model is missing or damaged.
        """
        return _load_predictor(self.model_dir)

    @keyword_errors()
    def predict(
        self,
        images: Any,
        *,
        top_k: int = 5,
        reject_below: float = 0.0,
        is_calibrated: bool = True,
        batch_size: int = 32,
    ) -> Predictions:
        """The prediction of each image, in order; an image that cannot be used has an error.

        Args:
            images: a path, a folder, a pattern or any source of ``tfic predict``; pixels [h, w] or
                [h, w, 3]; a batch [n, h, w, 3]; a PIL image; encoded bytes; or several of these.
                Numbers are from 0 to 255, or real numbers from 0 to 1.
            top_k: number of most probable classes per image.
            reject_below: mark predictions below this probability as rejected, 0..1.
            is_calibrated: whether to apply the calibration of the last evaluation.
            batch_size: images that are computed together.

        Raises:
            ConfigError: an option is out of its range.
            DataError: the model is missing, ``images`` are none, or a pattern matches no file.
        """
        return Predictions(
            self.predict_each(
                named_images(images),
                top_k=top_k,
                reject_below=reject_below,
                is_calibrated=is_calibrated,
                batch_size=batch_size,
            )
        )

    def predict_each(
        self, images: Iterable[tuple[str, Image | Exception]], **options: Any
    ) -> Iterator[Prediction]:
        """The prediction of each named image, as soon as it is computed; memory is bounded.

        Args:
            images: a name, and the path, encoded bytes or pixels; or the error of reading it.
            options: as those of ``predict``.
        """
        return self.predictor.predict_each(images, **options)

    def prepare(self, image: Image) -> Any:
        """One image as the model's input, decoded and preprocessed, [H, W, C].

        A tensor, or of an engine without TensorFlow a NumPy array.

        Raises:
            TficError: it cannot be read, or is not an image that can be used.
        """
        return self.predictor.prepare(image)

    def explain(self, images: Any) -> dict[str, npt.NDArray[np.float32]]:
        """Prepared images to Grad-CAM heat [B, h, w], 0..1, by label; {} for a model without.

        They are computed by TensorFlow where the engine that predicts has none.
        """
        return self._explaining.explain(images)

    @functools.cached_property
    def _explaining(self) -> Predictor:
        """The model in the engine that has heat maps."""
        if self.predictor.engine.name == TENSORFLOW or not self.predictor.no_heat_maps:
            return self.predictor
        return _load_predictor(self.model_dir, self.max_pixels, TENSORFLOW)

    def predict_prepared(self, images: Any, options: Any = None) -> list[dict[str, Any]]:
        """The predictions of prepared images [B, H, W, C], by label name."""
        return self.predictor.predict_prepared(images, options)

    def predict_each_prepared(self, images: Any, options: Any = None) -> list[Prediction]:
        """The predictions of prepared images [B, H, W, C], with their scores."""
        return self.predictor.predict_each_prepared(images, options)

    @property
    def added_outputs(self) -> tuple[str, ...]:
        """The outputs beside those of the labels, of a model that recognises unknown pictures."""
        return self.predictor.added_outputs

    def outputs(self, images: Any) -> dict[str, npt.NDArray[Any]]:
        """Prepared images [B, H, W, C] to the outputs of an exported SavedModel, by name."""
        return self.predictor.outputs(images)

    def declared_pixels(self, data: bytes) -> int:
        """Width times height in the header of an encoded image; 0 without such a header."""
        return self.predictor.declared_pixels(data)

    @property
    def max_pixels(self) -> int:
        """Width times height of the largest image that is not rejected."""
        return self.predictor.max_pixels

    @property
    def num_calls(self) -> int:
        """The number of batches that are best computed at the same time."""
        return self.predictor.num_calls

    @property
    def no_heat_maps(self) -> str:
        """Reason why ``explain`` returns {}, or ""."""
        return self._explaining.no_heat_maps

    @property
    def calibrations(self) -> Mapping[str, Calibration]:
        """The calibrations by label name; labels without one keep the model's probabilities."""
        return self.predictor.calibrations

    @property
    def detector(self) -> Detector | None:
        """The score of unknown pictures, with its limit; None where predictions have none."""
        return self.predictor.detector

    def fingerprint(self) -> str:
        """A hash of the model and its calibrations."""
        return self.predictor.fingerprint()

    @keyword_errors()
    def embed(self, images: Any) -> npt.NDArray[np.float32]:
        """The features of images [n, d]: the values that the model's last layer takes.

        They are kept in ``cache_dir``, by the content of the image: a second call computes only
        the images that are new.

        Args:
            images: as ``predict``.

        Raises:
            BadImageError: one of them cannot be used; names it.
            ConfigError: the labels have different features, or the spec is not at hand.
        """
        settings = self._settings()
        prepare_tensorflow(settings)
        from tf_image_classification.workflows import embedding

        given = self.model, self.schema.names, self.predictor, list(named_images(images))
        with screen.progress("features", "img") as show:
            found = embedding.features(*given, cache_dir=cache_dir(settings), on_images=show)
        return found.values

    @functools.cached_property
    @keyword_errors()
    def model(self) -> keras.Model:
        """The Keras model with the weights of the best checkpoint.

        Its input is preprocessed, see ``prepare``; its outputs are logits.

        Raises:
            CheckpointError: there is no readable checkpoint, or it does not fit the spec.
            ConfigError: the run has a spec of its own that is not at hand.
        """
        prepare_tensorflow(self._settings())
        from tf_image_classification.workflows import export_keras

        return export_keras.best_model(self.model_dir, self._spec)

    # Evaluation and what it is for.

    @keyword_errors()
    def evaluate(
        self,
        data: Any = None,
        *,
        group_column: str = "",
        keep_evaluation: str = "auto",
        **options: Any,
    ) -> TrainResult:
        """The metrics on a whole evaluation set, by name; prints them and keeps the predictions.

        Args:
            data: as ``train`` takes it; None: the evaluation set of the training.
            group_column: column that groups dependent examples, e.g. person.
            keep_evaluation: whether reports, exports and predictions are based on it from now on:
                "auto", "yes" or "no", as in ``tfic evaluate``.
            options: options of ``tfic evaluate``, e.g. ``batch_size=16``.

        Raises:
            TficError: there is no model or no data, or one of them is unusable.
        """
        settings = self._settings(data, options)
        from tf_image_classification.workflows.run import evaluate

        return evaluate(self._spec, settings, group_column, keep_evaluation)

    @keyword_errors()
    def report(
        self,
        data: Any = None,
        *,
        output: str | os.PathLike[str] = "",
        group_column: str = "",
        inspect: bool = True,
        **options: Any,
    ) -> ReportPage:
        """Write the report, an HTML page, and the model card; a notebook shows the page.

        Args:
            data: evaluation set, as ``train`` takes it; None: the one that was evaluated last.
            output: HTML file to write; empty: ``report.html`` in the model folder.
            group_column: column that groups dependent examples, e.g. person.
            inspect: look for images that are in training and evaluation set.
            options: options of ``tfic report``.

        Raises:
            TficError: there is no exported model, or there are no evaluation examples.
        """
        settings = self._settings(data, options)
        prepare_tensorflow(settings)
        from tf_image_classification.workflows.report import write_report

        paths = write_report(
            settings,
            group=group_column,
            output=os.fspath(output),
            is_inspected=inspect,
            spec=self._spec,
        )
        return ReportPage(*paths)

    @keyword_errors()
    def export(
        self,
        format: str,
        *,
        quantize: str = "none",
        input_type: str = "float32",
        examples: int = 500,
        **limits: float,
    ) -> Exported:
        """Write the model in another format and verify it; the result has its ``path``.

        Args:
            format: "saved_model", "litert", "onnx", "keras", "web", "huggingface" or "mlflow", or
                another name of one, e.g. "tflite".
            quantize: "none", "dynamic", "int8" or "float16".
            input_type: "float32": preprocessed images; "uint8", LiteRT only: cropped and resized
                pixels, with probabilities as 0-255; "pixels", ONNX only: decoded images of any
                size.
            examples: images to compare with the evaluation's predictions.
            limits: ``tolerance`` or ``max_accuracy_drop``, as in ``tfic export``.

        Raises:
            ParityError: the predictions differ too much; nothing is kept.
            ExportError: the file cannot be written.
            TficError: the model, the evaluation examples or a package is missing.
        """
        settings = self._settings()
        name = format_named(format)
        check_limits(limits, quantize, input_type)
        prepare_tensorflow(settings)
        from tf_image_classification.export.request import ExportRequest
        from tf_image_classification.workflows.export import export_folder

        request = ExportRequest(name, quantize, examples, input_type=input_type, **limits)
        return export_folder(settings, request, self._spec)

    def _settings(self, data: Any = None, options: Mapping[str, Any] | None = None) -> Settings:
        given = {} if data is None else {"eval_metadata": data}
        return settings_of({"model_dir": self.model_dir, **given, **(options or {})})

    # How it shows itself.

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _CACHED}

    def __repr__(self) -> str:
        numbers = [f"{name}={value:.4g}" for name, value in [*self.metrics.items()][:4]]
        return f"Classifier({', '.join([repr(self.model_dir), f'step={self.step}', *numbers])})"

    def _repr_html_(self) -> str:
        if not ModelFolder(self.model_dir).has_manifest:
            return html.text(repr(self))
        rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in self.metrics.items()]
        labels = "; ".join(f"{label.name}: {label.describe()}" for label in self.schema)
        facts = [("model folder", self.model_dir), ("labels", labels), ("step", str(self.step))]
        return html.table(("Classifier", ""), [*facts, *rows]) + self.history._repr_html_()


@keyword_errors()
def load_model(
    model_dir: str | os.PathLike[str], *, max_pixels: int | None = None, engine: str = AUTO
) -> Classifier:
    """The exported model of a model folder.

    Args:
        model_dir: folder of a run.
        max_pixels: larger images are rejected; None: the limit of the training.
        engine: engine that runs the model: "litert", "onnx", "openvino" or "tensorflow"; "auto":
            one without TensorFlow where a file of the model folder agrees with its exported model,
            else TensorFlow.

    Raises:
        CheckpointError: the folder is not a run's.
        ConfigError: the engine cannot run the model, or is not installed.
        DataError: its exported model is missing or damaged.
    """
    folder = ModelFolder(os.fspath(model_dir))
    predictor = _load_predictor(folder.path, max_pixels, engine)
    loaded = Classifier(TrainResult(folder.path, predictor.step, folder.last_metrics()))
    vars(loaded)["predictor"] = predictor
    return loaded


def _load_predictor(model_dir: str, max_pixels: int | None = None, engine: str = AUTO) -> Predictor:
    settings = settings_of({"deterministic": False})
    from tf_image_classification.serving import predictor  # late: it is slow to import

    return predictor.load_model(
        model_dir,
        max_pixels=max_pixels,
        engine=engine,
        before_tensorflow=functools.partial(prepare_tensorflow, settings, is_inference=True),
    )
