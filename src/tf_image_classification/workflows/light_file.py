"""The file that predicts without TensorFlow, written at the end of a training and verified.

print(write_light_file(folder, manifest, examples))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_image_classification.batches import evenly_spaced
from tf_image_classification.dataset.pipeline.protocols import BatchSource
from tf_image_classification.errors import BadImageError, ParityError, SpecError, TficError, brief
from tf_image_classification.export.class_activation import LinearHead, linear_head
from tf_image_classification.export.description import describe
from tf_image_classification.export.formats import FORMATS, Format, load_file, write_file
from tf_image_classification.export.identity import file_fingerprint
from tf_image_classification.export.inference_module import ExportPlan
from tf_image_classification.export.names import FEATURES, LITERT
from tf_image_classification.export.pixel_scaling import pixel_scaling
from tf_image_classification.export.runtimes import Runtime
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.export.verify import Reference, verify_file
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.outputs import probabilities_key
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.serving.light import files as light_files
from tf_image_classification.serving.light import heat_maps
from tf_image_classification.serving.light.preprocess import LightPreprocessing, preprocessing_of
from tf_image_classification.serving.tensorflow_engine import TensorFlowEngine
from tf_image_classification.system import files, packages, screen, signals
from tf_image_classification.workflows.export import replaced_folder, write_notes

_NUM_EXAMPLES = 32


def write_light_file(
    folder: ModelFolder, manifest: RunManifest, examples: BatchSource | None
) -> str:
    """Write the file, unless it disagrees with the exported model; returns a line on it, or "".

    Preprocessing and predictions are compared on examples of the run; "" where the run has its own
    preprocessing, which needs TensorFlow.

    Args:
        folder: of the run, with its exported model.
        manifest: of the run.
        examples: its evaluation set, or without one its training set.
    """
    try:
        preprocessing = preprocessing_of({"spec": manifest.spec, "settings": manifest.settings})
    except SpecError:
        return ""
    if files.is_remote(folder.path):
        return ""
    kinds = [
        name
        for name, needed in light_files.CONVERTERS.items()
        if all(map(packages.is_installed, needed))
    ]
    if not kinds:
        return _line("none: it needs ai-edge-litert, or onnx, tf2onnx and onnxruntime")
    if examples is None or examples.table is None:
        return _line("none: it is verified on examples by number (input_mode indexed)")
    table = examples.table
    numbers = tf.constant(evenly_spaced(table.num_examples, _NUM_EXAMPLES), tf.int64)
    try:
        encoded = table.fetch(numbers).numpy().tolist()
        with screen.working("writing the light file"):
            return _line(_written(FORMATS[kinds[0]], folder, manifest, preprocessing, encoded))
    except (TficError, OSError, tf.errors.OpError) as error:  # the exported model serves as well
        if (stopped := signals.cause_of(error)) is not None:
            raise stopped from None
        return _line(f"none: {error if isinstance(error, TficError) else brief(error)}")


def _line(text: str) -> str:
    return f"light file:    {text}"


def _written(
    kind: Format,
    folder: ModelFolder,
    manifest: RunManifest,
    preprocessing: LightPreprocessing,
    encoded: Sequence[bytes],
) -> str:
    """Write and verify the file; returns its folder and its difference.

    Raises:
        ParityError: it disagrees with the exported model.
        TficError: it cannot be written or run.
    """
    schema = manifest.schema
    exported = ExportedModel(folder.saved_model).load()
    engine = TensorFlowEngine(
        exported,
        schema,
        max_pixels=preprocessing.max_pixels,
        png16_range=preprocessing.png16_range,
    )
    images = _prepared_by_both(engine, preprocessing, encoded)
    scaling = pixel_scaling(exported)
    about = describe(manifest, exported, {}, kind, scaling=scaling)
    head, reason = _head(exported)
    has_features = not exported.no_features and not (
        kind.name == LITERT and exported.is_traced_for_one
    )
    plan = ExportPlan(
        schema,
        {},
        about,
        scaling=scaling,
        has_feature_maps=head is not None,
        has_features=has_features,
    )
    with replaced_folder(folder.light) as new:
        path = files.join(new, kind.file_name)
        description = write_file(kind, exported, plan, path)
        expected = engine.predictions(list(images))
        references, added = _references(schema, expected), {}
        if has_features:
            added[FEATURES] = expected[FEATURES]
        verification = verify_file(load_file(kind, path), [images], references, schema, path, added)
        difference = verification.max_difference
        of_features = verification.added.get(FEATURES, 0.0)
        if not (
            difference <= light_files.MAX_DIFFERENCE
            and of_features <= light_files.MAX_FEATURE_DIFFERENCE
        ):
            raise ParityError(
                f"The {kind.name} file differs from the exported model by "
                f"{max(difference, of_features):.2g}."
            )
        heat: dict[str, Any] = {"no_heat_maps": reason}
        if head is not None:
            heat = _write_head(
                new, head, schema, engine, light_files.open_file(kind.name, path), images
            )
        write_notes(new, path, schema, description, verification, heat)
    return f"{folder.light} ({kind.name}, max difference {difference:.1g})"


def _head(exported: ExportedModel) -> tuple[LinearHead | None, str]:
    """The head of a model with class activation maps; else the reason why it has none."""
    if exported.no_heat_maps:
        return None, exported.no_heat_maps
    try:
        return linear_head(exported), ""
    except SpecError as error:
        return None, str(error)


def _write_head(
    new: str,
    head: LinearHead,
    schema: LabelSchema,
    engine: TensorFlowEngine,
    runtime: Runtime,
    images: npt.NDArray[np.float32],
) -> dict[str, Any]:
    """Write the weights of the head, unless the heat differs; returns the notes on it."""
    kernels = {name: (head.kernels[name], head.offsets[name]) for name in head.kernels}
    found = heat_maps.heat_from(runtime.feature_maps(images), kernels)
    expected = engine.explain(list(images))
    difference = max(float(np.abs(found[name] - expected[name]).max()) for name in expected)
    if not difference <= heat_maps.MAX_DIFFERENCE:
        return {"no_heat_maps": f"they differ from the exported model's by {difference:.2g}"}
    path = files.join(new, light_files.HEAD)
    files.write_bytes(path, heat_maps.head_bytes(kernels, schema))
    return {light_files.HEAD: {"largest": difference, "sha256": file_fingerprint(path)}}


def _prepared_by_both(
    engine: TensorFlowEngine, preprocessing: LightPreprocessing, encoded: Sequence[bytes]
) -> npt.NDArray[np.float32]:
    """The images that can be used, prepared.

    Raises:
        ParityError: TensorFlow's pixels are not the same, or no image can be used.
    """
    prepared = []
    for data in encoded:
        image = _prepared(engine.prepare, data)
        if not np.array_equal(image, _prepared(preprocessing.prepare, data)):
            raise ParityError("The preprocessing differs from that without TensorFlow.")
        if len(image):
            prepared.append(image)
    if not prepared:
        raise ParityError("No example can be decoded to verify it.")
    return np.stack(prepared)


def _prepared(prepare: Callable[[bytes], Any], data: bytes) -> npt.NDArray[np.float32]:
    """The prepared image; empty where it cannot be used."""
    try:
        return np.asarray(prepare(data))
    except BadImageError:
        return np.zeros(0, np.float32)


def _references(
    schema: LabelSchema, predictions: Mapping[str, npt.NDArray[Any]]
) -> dict[str, Reference]:
    """The exported model's predictions; their truth is not asked for."""
    found = {}
    for label in schema:
        predicted = predictions[label.name]
        key = probabilities_key(label.name) if label.has_classes else label.name
        mask = np.zeros(len(predicted), bool)
        found[label.name] = Reference(predictions[key], predicted, predicted, mask)
    return found
