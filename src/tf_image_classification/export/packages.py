"""Folders for model hubs: the exported model with all that ``load_model`` needs, and metadata.

exports/huggingface/        README.md (model card with front matter), config.json
    run.json, calibration.json, unknown.json, unknown.npz, saved_model/, light/
exports/mlflow/             MLmodel (flavour python_function), requirements.txt
    model/                  the same files

``model.json``, ``labels.txt`` and ``parity.json`` lie in the folder itself, as with all formats.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy.typing as npt
import tensorflow as tf
import yaml

import tf_image_classification
from tf_image_classification.evaluation.calibration import Calibration
from tf_image_classification.export.inference_module import ExportPlan
from tf_image_classification.export.names import IS_UNKNOWN, UNKNOWN_SCORE
from tf_image_classification.export.saved_model import ExportedModel
from tf_image_classification.labels import LabelSchema
from tf_image_classification.labels.outputs import (
    calibrated_key,
    class_names_key,
    exported_outputs,
    label_of_output,
    probabilities_key,
)
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.run_manifest import RunManifest
from tf_image_classification.system import files

MLFLOW_DATA = "model"
"""The model folder in a folder for MLflow."""

MLFLOW_LOADER = "tf_image_classification.serving.mlflow_model"
_PACKAGE = "tf_image_classification"
_TASK = "image-classification"
_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "mean_absolute_error": "mae"}
"""Names on the Hugging Face hub by names of our measures."""


def write_huggingface(exported: ExportedModel, plan: ExportPlan, path: str) -> Mapping[str, Any]:
    """Write a folder for the Hugging Face hub; ``path`` is that of its SavedModel."""
    source, target = _source(exported), os.path.dirname(path)
    manifest = _copy_model(source, target, plan)
    card = _front_matter(source, manifest) + _card(source, manifest)
    files.write_bytes(os.path.join(target, "README.md"), card.encode())
    files.write_json(os.path.join(target, "config.json"), _config(manifest))
    return plan.description


def write_mlflow(exported: ExportedModel, plan: ExportPlan, path: str) -> Mapping[str, Any]:
    """Write a folder that MLflow loads as a ``pyfunc``; ``path`` is that of its SavedModel."""
    source, target = _source(exported), os.path.dirname(path)
    manifest = _copy_model(source, target, plan)
    folder = os.path.dirname(target)
    requirement = f"{_PACKAGE}[cpu]=={tf_image_classification.__version__}\npandas\n"
    files.write_bytes(os.path.join(folder, "requirements.txt"), requirement.encode())
    environment = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    text = yaml.safe_dump(environment, sort_keys=False)
    files.write_bytes(os.path.join(folder, "python_env.yaml"), text.encode())
    text = yaml.safe_dump(_mlmodel(manifest, plan), sort_keys=False)
    files.write_bytes(os.path.join(folder, "MLmodel"), text.encode())
    return plan.description


def load_packaged(path: str) -> Callable[[npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """The inference function of a folder's SavedModel, with the calibration beside it."""
    model = tf.saved_model.load(path)
    folder = ModelFolder(os.path.dirname(path))
    schema = folder.known_manifest().schema
    stored = files.read_json(folder.calibration) if files.exists(folder.calibration) else {}
    calibrations = {
        name: Calibration.from_json(one) for name, one in stored.get("labels", {}).items()
    }
    outputs = [
        name
        for label in schema
        for name in exported_outputs(label, is_calibrated=label.name in calibrations)
    ]
    outputs += [class_names_key(label) for label in schema.labels_with_classes]

    def infer(images: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        encoded = tf.constant(images.tolist(), tf.string)
        found = {name: value.numpy() for name, value in model.serve(encoded).items()}
        for name, calibration in calibrations.items():
            found[calibrated_key(name)] = calibration.apply(found[probabilities_key(name)])
        return {name: found[name] for name in outputs}

    return infer


def _source(exported: ExportedModel) -> ModelFolder:
    return ModelFolder(os.path.dirname(exported.path))


def _copy_model(source: ModelFolder, target: str, plan: ExportPlan) -> RunManifest:
    """Copy what inference needs, without paths of this machine; returns the manifest."""
    manifest = source.known_manifest()
    there = ModelFolder(target)
    os.makedirs(target, exist_ok=True)
    content = {**files.read_json(source.manifest), "spec": manifest.spec.rpartition("/")[2]}
    files.write_json(there.manifest, _without_folders(content))
    shutil.copytree(source.saved_model, there.saved_model)
    if os.path.isdir(source.light):
        shutil.copytree(source.light, there.light)
    if plan.calibrations:
        stored = files.read_json(source.calibration)
        files.write_json(there.calibration, _without_folders(stored))
    if plan.detector is not None:
        for name in ("unknown", "unknown_arrays"):
            files.write_bytes(getattr(there, name), files.read_bytes(getattr(source, name)))
    return manifest


def _without_folders(value: Any) -> Any:
    """Plain values with the names of absolute paths alone."""
    if isinstance(value, dict):
        return {key: _without_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_folders(one) for one in value]
    if isinstance(value, str) and os.path.isabs(value):
        return os.path.basename(value.rstrip("/"))
    return value


def _name(source: ModelFolder) -> str:
    return os.path.basename(os.path.abspath(source.path))


def _config(manifest: RunManifest) -> dict[str, Any]:
    """``config.json``: network, image size and classes."""
    config: dict[str, Any] = {
        "library_name": _PACKAGE,
        "model_type": _PACKAGE,
        "architectures": [manifest.model_facts()["network"]],
        "image_size": manifest.settings["image_size"],
        "labels": manifest.schema.to_json(),
    }
    with_classes = manifest.schema.labels_with_classes
    if len(with_classes) == len(manifest.schema.labels) == 1:
        names = with_classes[0].named_classes()
        config["num_labels"] = len(names)
        config["id2label"] = {str(number): name for number, name in enumerate(names)}
        config["label2id"] = {name: number for number, name in enumerate(names)}
    return config


def _front_matter(source: ModelFolder, manifest: RunManifest) -> str:
    """The metadata at the head of a model card, with the last evaluation's results."""
    data: dict[str, Any] = {
        "library_name": _PACKAGE,
        "pipeline_tag": _TASK,
        "tags": [_TASK, "tensorflow", "keras", manifest.model_facts()["network"]],
    }
    metrics = list(_metrics(source, manifest.schema))
    if metrics:
        given = manifest.settings.get("eval_metadata") or manifest.settings.get("train_metadata")
        name = os.path.basename(str((given or ["evaluation set"])[0]).rstrip("/*"))
        result = {
            "task": {"type": _TASK},
            "dataset": {"name": name or "evaluation set", "type": "own"},
            "metrics": metrics,
        }
        data["model-index"] = [{"name": _name(source), "results": [result]}]
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n\n"


def _metrics(source: ModelFolder, schema: LabelSchema) -> Iterator[dict[str, Any]]:
    if not files.exists(source.analysis):
        return
    labels = files.read_json(source.analysis)["labels"]
    for label in labels:
        for name, measure in labels[label]["measures"]["overall"].items():
            if name in _METRICS and measure["value"] is not None:
                title = name.replace("_", " ")
                title = title if len(schema.labels) == 1 else f"{label}: {title}"
                value = round(float(measure["value"]), 6)
                yield {"type": _METRICS[name], "name": title, "value": value}


def _card(source: ModelFolder, manifest: RunManifest) -> str:
    """The text of the model card: how to use the model, and the report's card if there is one."""
    report = files.join(source.path, "model_card.md")
    text = files.read_text(report) if files.exists(report) else _short_card(source, manifest)
    title, _, rest = text.partition("\n")
    return f"{title}\n{_USE}{rest}"


_USE = """
## Use

```python
from huggingface_hub import snapshot_download
from tf_image_classification import load_model

model = load_model(snapshot_download("OWNER/NAME"))
[one] = model.predict("cat.jpg")
print({name: label.name for name, label in one.labels.items()})
```
"""


def _short_card(source: ModelFolder, manifest: RunManifest) -> str:
    facts = "".join(f"- {name}: {value}\n" for name, value in manifest.model_facts().items())
    labels = "".join(f"- label {one.name}: {one.describe()}\n" for one in manifest.schema)
    return f"# {_name(source)}\n\n## Model\n\n{facts}{labels}"


def _mlmodel(manifest: RunManifest, plan: ExportPlan) -> dict[str, Any]:
    """The content of ``MLmodel``."""
    outputs = [
        {"name": name, "type": "double"}
        if not manifest.schema[label_of_output(name)].has_classes
        else {"name": name, "type": "array", "items": {"type": "double"}}
        for label in manifest.schema
        for name in exported_outputs(label, is_calibrated=label.name in plan.calibrations)
    ]
    if plan.detector is not None:
        outputs.append({"name": UNKNOWN_SCORE, "type": "float"})
        if plan.detector.limit.exists:
            outputs.append({"name": IS_UNKNOWN, "type": "boolean"})
    inputs = [{"name": "image_bytes", "type": "binary"}]
    return {
        "flavors": {
            "python_function": {
                "loader_module": MLFLOW_LOADER,
                "data": MLFLOW_DATA,
                "env": {"virtualenv": "python_env.yaml"},
                "python_version": platform.python_version(),
            },
            _PACKAGE: {"version": tf_image_classification.__version__, "data": MLFLOW_DATA},
        },
        "signature": {
            "inputs": json.dumps(inputs),
            "outputs": json.dumps(outputs),
            "params": None,
        },
        "model_uuid": uuid.uuid4().hex,
        "utc_time_created": str(datetime.datetime.now(datetime.timezone.utc)).partition("+")[0],
    }
