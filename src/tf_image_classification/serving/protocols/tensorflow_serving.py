"""TensorFlow Serving's REST API.

    GET  /v1/models                                     names of all models, as KServe's version 1
    GET  /v1/models/NAME[/versions/V|/labels/L]         state
    GET  /v1/models/NAME[...]/metadata                  inputs, outputs and class names
    POST /v1/models/NAME[...]:predict                   {"instances": [...]} or {"inputs": ...}
    POST /v1/models/NAME[...]:classify, :regress        {"examples": [...]}

The signature ``serving_default`` takes encoded images, ``images`` preprocessed ones, as those of an
exported SavedModel. A body that is not JSON is an image or a form with images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from tf_image_classification.export.names import IS_UNKNOWN, UNKNOWN_SCORE
from tf_image_classification.labels import Label, LabelSchema
from tf_image_classification.labels.outputs import (
    calibrated_key,
    class_names_key,
    probabilities_key,
)
from tf_image_classification.serving import raw_bodies
from tf_image_classification.serving.hosted_model import HostedModel, ModelVersion
from tf_image_classification.serving.requests import (
    B64,
    INPUT,
    PREPARED_INPUT,
    RefusedError,
    RequestImages,
    closed_schema,
    decoded_b64,
    list_schema,
    object_schema,
    parsed,
    prepared_images,
)
from tf_image_classification.serving.responses import OutputsResponse
from tf_image_classification.serving.routes import Routes, versioned
from tf_image_classification.serving.service import InferenceService
from tf_image_classification.serving.tensors import (
    BOOL,
    BYTES,
    ENCODED,
    Tensor,
    output_tensors,
    prepared_input,
)

DEFAULT = "serving_default"
_SIGNATURES = (DEFAULT, PREPARED_INPUT)

_SIGNATURE = {"signature_name": {"enum": ["", DEFAULT]}}


def _without(schema: dict[str, Any], name: str, **optional: Any) -> dict[str, Any]:
    """The schema with further properties, of objects that lack a property."""
    properties = {**schema["properties"], **optional}
    return {**schema, "properties": properties, "not": {"required": [name]}}


_ROW = {"oneOf": [_without(B64, INPUT), object_schema(**{INPUT: B64})]}
BODY = {
    "oneOf": [
        _without(object_schema(instances=list_schema(_ROW)), "inputs", **_SIGNATURE),
        _without(
            object_schema(inputs=object_schema(**{INPUT: list_schema(B64)})),
            "instances",
            **_SIGNATURE,
        ),
    ]
}
"""Schema of a request for predictions, in TensorFlow Serving's row or column format."""

ANSWER = {
    "oneOf": [
        closed_schema(predictions={"type": "array"}),
        closed_schema(outputs={"type": ["object", "array"]}),
    ]
}
"""Schema of the answer, in the format of the request."""

RESULTS = closed_schema(results={"type": "array"})

_STATUS = closed_schema(error_code={"type": "string"}, error_message={"type": "string"})
_STATE = closed_schema(
    model_version_status={
        "type": "array",
        "items": closed_schema(
            version={"type": "string"}, state={"type": "string"}, status=_STATUS
        ),
    }
)
_DTYPES = {
    "FP64": "DT_DOUBLE",
    "FP32": "DT_FLOAT",
    "FP16": "DT_HALF",
    "BF16": "DT_BFLOAT16",
    BYTES: "DT_STRING",
    BOOL: "DT_BOOL",
}


class TensorFlowServing:
    """The addresses of one model."""

    def __init__(self, service: InferenceService, model: HostedModel) -> None:
        self._service, self._model = service, model

    def add_to(self, routes: Routes, predict_routes: Sequence[str] = ()) -> None:
        """Add the addresses.

        Args:
            routes: of the application.
            predict_routes: further addresses for predictions.
        """
        at = f"/v1/models/{self._model.name}"
        bodies: dict[str, dict[str, Any]] = {"application/json": BODY, **raw_bodies.BODIES}
        for path in [*versioned(at, ":predict"), *predict_routes]:
            routes.post(path, self.predict, bodies, {"application/json": ANSWER})
        for verb, handler, has_classes in (
            (":classify", self.classify, True),
            (":regress", self.regress, False),
        ):
            labels = _labels(self._model.schema, has_classes=has_classes)
            for path in versioned(at, verb) if labels else ():
                body = {"application/json": _examples_schema([*labels])}
                routes.post(path, handler, body, {"application/json": RESULTS})
        for path in versioned(at):
            routes.get(path, self.state, _STATE)
        for path in versioned(at, "/metadata"):
            routes.get(path, self.metadata)

    async def state(self, request: Request) -> JSONResponse:
        """The model's state."""
        with self._model.use(request.path_params) as version:
            status = {"error_code": "OK", "error_message": ""}
            state = {"version": version.version, "state": "AVAILABLE", "status": status}
        return JSONResponse({"model_version_status": [state]})

    async def metadata(self, request: Request) -> JSONResponse:
        """The model's inputs and outputs, with the class names."""
        with self._model.use(request.path_params) as version:
            model = version.model
            outputs = output_tensors(model)
            names = {class_names_key(label) for label in model.schema.labels_with_classes}
            numeric = [one for one in outputs if one.name not in names]
            signatures = {
                DEFAULT: _signature([ENCODED], outputs),
                PREPARED_INPUT: _signature([prepared_input(version)], numeric),
            }
            spec = {"name": self._model.name, "signature_name": "", "version": version.version}
            labels = {label.name: list(label.named_classes()) for label in model.schema}
            found = {
                "signature_def": {"signature_def": signatures},
                "labels": labels,
                "is_calibrated": sorted(model.calibrations),
            }
        return JSONResponse({"model_spec": spec, "metadata": found})

    async def predict(self, request: Request) -> JSONResponse:
        """Predictions for the images of a request."""
        content_type = request.headers.get("content-type", "")
        async with self._service.request_to(self._model, request) as (version, data):
            is_columnar = is_numeric = False

            def images() -> RequestImages:
                nonlocal is_columnar, is_numeric
                found = raw_bodies.raw_images(content_type, data)
                if found is None:
                    body = parsed(data)
                    found = images_of(body, version)
                    is_columnar = "inputs" in body
                    is_numeric = body.get("signature_name") == PREPARED_INPUT
                return found

            rows = await self._service.outputs(version, images, len(data))
            if is_numeric:
                rows = [_numeric(row, version) for row in rows]
        return OutputsResponse(_columns(rows) if is_columnar else _rows(rows))

    async def classify(self, request: Request) -> JSONResponse:
        """The classes with their (calibrated) probabilities of each example, by class number."""
        async with self._service.request_to(self._model, request) as (version, data):
            rows, label = await self._examples(version, data, has_classes=True)
        name = label.name
        columns = [row.get(calibrated_key(name), row[probabilities_key(name)]) for row in rows]
        classes = label.named_classes()
        pairs = [[list(pair) for pair in zip(classes, row, strict=True)] for row in columns]
        return OutputsResponse({"results": pairs})

    async def regress(self, request: Request) -> JSONResponse:
        """The regression value of each example."""
        async with self._service.request_to(self._model, request) as (version, data):
            rows, label = await self._examples(version, data, has_classes=False)
        return OutputsResponse({"results": [row[label.name] for row in rows]})

    async def _examples(
        self, version: ModelVersion, data: bytes, *, has_classes: bool
    ) -> tuple[list[Mapping[str, Any]], Label]:
        """The outputs of a request's examples, and the label that it asks for."""
        labels = _labels(version.model.schema, has_classes=has_classes)
        if not labels:
            raise RefusedError(400, f"{self._model.name} has no such label any more.")
        name = next(iter(labels))

        def images() -> RequestImages:
            nonlocal name
            body = parsed(data)
            given = body.get("examples") if isinstance(body, dict) else None
            if not isinstance(given, list) or not given or "context" in body:
                raise RefusedError(
                    400, f'Expected {{"examples": [{{"{INPUT}": {{"b64": ...}}}}]}} alone.'
                )
            asked = _signature_name(body)
            if asked in labels:
                name = asked
            elif asked != DEFAULT or len(labels) > 1:
                raise RefusedError(
                    400, f"signature_name is {asked!r}, expected a label: {', '.join(labels)}."
                )
            return _encoded(given, "examples")

        return await self._service.outputs(version, images, len(data)), labels[name]


def _labels(schema: LabelSchema, *, has_classes: bool) -> dict[str, Label]:
    return {label.name: label for label in schema if label.has_classes == has_classes}


def _examples_schema(labels: Sequence[str]) -> dict[str, Any]:
    """Schema of a request of one label's classes or values."""
    names = [*labels, *(["", DEFAULT] if len(labels) == 1 else [])]
    examples = list_schema(object_schema(**{INPUT: B64}))
    schema = (
        object_schema(examples=examples)
        if len(labels) == 1
        else (object_schema(examples=examples, signature_name={"enum": names}))
    )
    return _without(schema, "context", signature_name={"enum": names})


def _signature_name(body: Mapping[str, Any]) -> str:
    """The signature that a request names."""
    name = body.get("signature_name", DEFAULT)
    if not isinstance(name, str):
        raise RefusedError(400, f"signature_name is {str(name)[:50]}, expected text.")
    return name or DEFAULT


def images_of(body: Any, version: ModelVersion) -> RequestImages:
    """The images of a request for predictions.

    Args:
        body: the value of its JSON.
        version: the model.

    Raises:
        RefusedError: the body has another form, holds too many images, or one is not base64.
    """
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        raise RefusedError(400, 'Expected {"instances": [...]} or {"inputs": {...}}.')
    signature = _signature_name(body)
    if signature not in _SIGNATURES:
        raise RefusedError(
            400, f"signature_name is {signature!r}, expected one signature of {_SIGNATURES}."
        )
    name = INPUT if signature == DEFAULT else PREPARED_INPUT
    field = "inputs" if "inputs" in body else "instances"
    given = body[field]
    if field == "inputs" and isinstance(given, dict):
        field, given = f"inputs.{name}", given.get(name)
    if not isinstance(given, list) or not given:
        form = f'{{"{INPUT}": {{"b64": ...}}}}' if name == INPUT else "[[[0.5, ...], ...], ...]"
        raise RefusedError(400, f"{field}: expected a list of images, as {form}.")
    if name == INPUT:
        return _encoded(given, field)
    rows = [one.get(name) if isinstance(one, dict) else one for one in given]
    return prepared_images(rows, version.image_shape, version.image_dtype, field)


def _encoded(given: Sequence[Any], field: str) -> RequestImages:
    values = [one[INPUT] if isinstance(one, dict) and INPUT in one else one for one in given]
    RequestImages(values, field)  # their number, before the work
    images = [decoded_b64(one, f"{field}[{number}]") for number, one in enumerate(values)]
    return RequestImages(images, field)


def _numeric(row: Mapping[str, Any], version: ModelVersion) -> dict[str, Any]:
    """The outputs of the signature ``images``."""
    names = {class_names_key(label) for label in version.model.schema.labels_with_classes}
    return {name: value for name, value in row.items() if name not in names}


def _rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row format; a single output has no name."""
    rows = _without_score_beside_a_number(rows)
    if len(rows[0]) == 1:
        return {"predictions": [value for row in rows for value in row.values()]}
    return {"predictions": list(rows)}


def _without_score_beside_a_number(
    rows: Sequence[Mapping[str, Any]],
) -> Sequence[Mapping[str, Any]]:
    """The rows; of a model with one regression label the number alone, as its clients expect."""
    added = {UNKNOWN_SCORE, IS_UNKNOWN} & rows[0].keys()
    if len(rows[0]) - len(added) != 1:
        return rows
    return [{name: value for name, value in row.items() if name not in added} for row in rows]


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The column format; a single output has no name."""
    rows = _without_score_beside_a_number(rows)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}


def _signature(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> dict[str, Any]:
    return {
        "inputs": {one.name: _tensor_info(one) for one in inputs},
        "outputs": {one.name: _tensor_info(one) for one in outputs},
        "method_name": "tensorflow/serving/predict",
    }


def _tensor_info(tensor: Tensor) -> dict[str, Any]:
    dim = [{"size": str(size), "name": ""} for size in tensor.shape]
    return {
        "dtype": _DTYPES.get(tensor.datatype, f"DT_{tensor.datatype}"),
        "tensor_shape": {"dim": dim, "unknown_rank": False},
        "name": tensor.name,
    }
