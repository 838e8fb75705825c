"""The Open Inference Protocol, version 2, of KServe and Triton, with binary tensors.

    GET  /v2                                           the server
    GET  /v2/health/live, /v2/health/ready
    GET  /v2/models/NAME[/versions/V]                  inputs and outputs
    GET  /v2/models/NAME[/versions/V]/ready
    POST /v2/models/NAME[/versions/V]/infer

A request has one input: ``image_bytes`` (BYTES [n], encoded; in JSON as base64), ``pixels``
(UINT8 [n, h, w, 3], decoded) or ``images`` (preprocessed, of the model's own type and shape).
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import tf_image_classification
from tf_image_classification.labels.outputs import label_of_output
from tf_image_classification.serving.hosted_model import HostedModel, ModelVersion
from tf_image_classification.serving.requests import (
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
    BYTES,
    ENCODED,
    Tensor,
    output_tensors,
    prepared_input,
)

PIXELS = "pixels"
"""Name of the input that takes decoded images of one size."""

_HEADER = "inference-header-content-length"
_OCTETS = "application/octet-stream"
_NUMPY = {"FP64": "<f8", "FP32": "<f4", "FP16": "<f2", "UINT8": "u1", "INT8": "i1", "INT32": "<i4",
          "BOOL": "?"}  # fmt: skip

_NAME = {"type": "string"}
_SHAPE = {"type": "array", "items": {"type": "integer"}}
_TENSOR = object_schema(name=_NAME, datatype=_NAME, shape=_SHAPE)
_SERVER = closed_schema(name=_NAME, version=_NAME, extensions={"type": "array", "items": _NAME})
_MODEL = closed_schema(
    name=_NAME,
    versions={"type": "array", "items": _NAME},
    platform=_NAME,
    inputs={"type": "array", "items": _TENSOR},
    outputs={"type": "array", "items": _TENSOR},
)
_ANSWER = object_schema(model_name=_NAME, model_version=_NAME, outputs={"type": "array"})
_READY = closed_schema(name=_NAME, ready={"type": "boolean"})


def _body_schema(outputs: Sequence[str]) -> dict[str, Any]:
    """Schema of a request with one encoded image in JSON."""
    one = object_schema(
        name={"const": INPUT},
        datatype={"const": BYTES},
        shape={"const": [1]},
        data={"type": "array", "items": {"type": "string", "format": "byte"}, "minItems": 1,
              "maxItems": 1},
    )  # fmt: skip
    output = object_schema(name={"enum": [*outputs]})
    schema = object_schema(inputs=list_schema(one) | {"maxItems": 1})
    schema["properties"] |= {
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": output, "minItems": 1},
    }
    return schema


class OpenInferenceServer:
    """The addresses that describe the server."""

    def add_to(self, routes: Routes) -> None:
        """Add the addresses."""
        routes.get("/v2", self.server, _SERVER)
        live, ready = ({"type": "boolean"} for _ in range(2))
        routes.get("/v2/health/live", self.live, closed_schema(live=live), is_free=True)
        routes.get("/v2/health/ready", self.ready, closed_schema(ready=ready), is_free=True)

    async def server(self) -> JSONResponse:
        """Name, version and extensions of the server."""
        return JSONResponse(
            {
                "name": "tf_image_classification",
                "version": tf_image_classification.__version__,
                "extensions": ["binary_tensor_data", "classification"],
            }
        )

    async def live(self) -> JSONResponse:
        """Whether the server answers."""
        return JSONResponse({"live": True})

    async def ready(self) -> JSONResponse:
        """Whether all models are loaded."""
        return JSONResponse({"ready": True})


class OpenInference:
    """The addresses of one model."""

    def __init__(self, service: InferenceService, model: HostedModel) -> None:
        self._service, self._model = service, model

    def add_to(self, routes: Routes) -> None:
        """Add the addresses."""
        at = f"/v2/models/{self._model.name}"
        with self._model.use() as version:
            body = _body_schema([one.name for one in output_tensors(version.model)])
        for path in versioned(at, "/infer", labels=False):
            answers = {"application/json": _ANSWER}
            routes.post(path, self.infer, {"application/json": body}, answers)
        for path in versioned(at, labels=False):
            routes.get(path, self.metadata, _MODEL)
        for path in versioned(at, "/ready", labels=False):
            routes.get(path, self.ready, _READY)

    async def metadata(self, request: Request) -> JSONResponse:
        """Names, types and shapes of the model's inputs and outputs."""
        with self._model.use(request.path_params) as version:
            return JSONResponse(
                {
                    "name": self._model.name,
                    "versions": [version.version],
                    "platform": "tf_image_classification",
                    "inputs": [dataclasses.asdict(ENCODED)],
                    "outputs": [dataclasses.asdict(one) for one in output_tensors(version.model)],
                }
            )

    async def ready(self, request: Request) -> JSONResponse:
        """Whether the model is loaded."""
        with self._model.use(request.path_params):
            return JSONResponse({"name": self._model.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """The outputs of the images of a request; a binary tensor follows the JSON."""
        asked = None
        async with self._service.request_to(self._model, request) as (version, data):
            length = request.headers.get(_HEADER, "")

            def images() -> RequestImages:
                nonlocal asked
                asked = _parsed(data, length, version)
                return asked.images

            rows = await self._service.outputs(version, images, len(data))
        assert asked is not None
        head: dict[str, Any] = {"model_name": self._model.name, "model_version": version.version}
        if asked.id:
            head["id"] = asked.id
        tensors = [_output(one, rows, version) for one in asked.outputs]
        head["outputs"] = [described for described, _ in tensors]
        binary = b"".join(part for _, part in tensors)
        if not any(one.is_binary for one in asked.outputs):
            return OutputsResponse(head)
        text = json.dumps(head).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        return Response(text + binary, media_type=_OCTETS, headers=headers)


@dataclasses.dataclass(frozen=True)
class _Output:
    """An output that is asked for.

    Attributes:
        tensor: the output.
        is_binary: whether its values follow the JSON.
        num_classes: Triton's classification: the most probable classes as text; 0: the values.
    """

    tensor: Tensor
    is_binary: bool
    num_classes: int


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A request for inference."""

    id: str
    images: RequestImages
    outputs: Sequence[_Output]


def _parsed(data: bytes, header_length: str, version: ModelVersion) -> _Asked:
    """The request in a body.

    Args:
        data: the body.
        header_length: length of its JSON, or "" without binary tensors.
        version: the model.

    Raises:
        RefusedError: it has another form.
    """
    length = len(data)
    if header_length:
        if not (header_length.isdecimal() and len(header_length) < 19):
            raise RefusedError(400, f"Inference-Header-Content-Length is {header_length[:50]!r}.")
        length = int(header_length)
    if length > len(data):
        raise RefusedError(400, f"The JSON has {length} bytes, the body only {len(data)}.")
    body, binary = parsed(data[:length]), data[length:]
    if not isinstance(body, dict) or not isinstance(body.get("id", ""), str):
        raise RefusedError(400, 'Expected {"inputs": [...]}, and the id as text.')
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RefusedError(400, "inputs: expected a list of one tensor.")
    images = _images(inputs[0], binary, version)
    return _Asked(body.get("id", ""), images, list(_outputs(body, version)))


def _images(tensor: Mapping[str, Any], binary: bytes, version: ModelVersion) -> RequestImages:
    """The images of an input tensor."""
    prepared = prepared_input(version)
    expected = {INPUT: BYTES, PIXELS: "UINT8", PREPARED_INPUT: prepared.datatype}
    name, datatype, shape = (tensor.get(key) for key in ("name", "datatype", "shape"))
    if not isinstance(name, str) or name not in expected:
        raise RefusedError(400, f"inputs[0].name is {name!r}, expected one of {list(expected)}.")
    where = f"inputs[0] ({name})"
    if datatype != expected[name]:
        raise RefusedError(400, f"{where}.datatype is {datatype!r}, expected {expected[name]}.")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise RefusedError(400, f"{where}.shape is {shape!r}, expected whole numbers.")
    count = math.prod(shape)
    size = _parameters(tensor, where).get("binary_data_size")
    if size is not None and ("data" in tensor or size != len(binary) or type(size) is not int):
        raise RefusedError(
            400,
            f"{where}.binary_data_size is {size!r}, but {len(binary)} bytes follow the JSON; "
            "expected as many, and no data.",
        )
    if size is None and binary:
        raise RefusedError(400, f"{len(binary)} bytes follow the JSON, of no tensor.")
    if size is None and not isinstance(tensor.get("data"), list):
        raise RefusedError(400, f"{where}.data: expected a list.")
    values = None if size is not None else tensor["data"]
    if name == INPUT:
        return _encoded_images(values, binary, count, where)
    array = _array(values, binary, expected[name], shape, where)
    if name == PREPARED_INPUT:
        return prepared_images(array, version.image_shape, version.image_dtype, where)
    if array.ndim != 4 or array.shape[3] != 3 or not count:
        raise RefusedError(400, f"{where}.shape is {shape}, expected [n, h, w, 3].")
    return RequestImages(list(array), where)


def _encoded_images(values: Any, binary: bytes, count: int, where: str) -> RequestImages:
    found = list(_elements(binary, where)) if values is None else list(_flat(values))
    if len(found) != count or not found:
        raise RefusedError(400, f"{where} has {len(found)} elements, its shape says {count}.")
    RequestImages(found, where)  # their number, before the work
    if values is not None:
        found = [
            decoded_b64({"b64": one} if isinstance(one, str) else one, f"{where}.data[{number}]")
            for number, one in enumerate(found)
        ]
    return RequestImages(found, where)


def _elements(binary: bytes, where: str) -> Iterator[bytes]:
    """The elements of a binary tensor of type BYTES, each after its length."""
    at = 0
    while at < len(binary):
        end = at + 4
        if end <= len(binary):
            end += struct.unpack_from("<I", binary, at)[0]
        if end > len(binary) or end < at + 4:
            raise RefusedError(400, f"{where}: the binary data ends inside an element.")
        yield binary[at + 4 : end]
        at = end


def _flat(values: Any) -> Iterator[Any]:
    """The elements of nested lists."""
    for one in values:
        if isinstance(one, list):
            yield from _flat(one)
        else:
            yield one


def _array(
    values: Any, binary: bytes, datatype: str, shape: Sequence[int], where: str
) -> npt.NDArray[Any]:
    """The numbers of a tensor."""
    dtype = _NUMPY.get(datatype, "")
    if not dtype:
        raise RefusedError(400, f"{where}.datatype {datatype} cannot be sent. Send {INPUT}.")
    try:
        if values is None:
            flat = np.frombuffer(binary, dtype)
        else:
            given = np.asarray(values)
            if not np.issubdtype(given.dtype, np.number):
                raise ValueError("its data are no numbers")
            low, high = (0, 255) if datatype == "UINT8" else (-np.inf, np.inf)
            if given.size and not (low <= given.min() and given.max() <= high):
                raise ValueError(f"its data are not in {low}..{high}")
            with np.errstate(over="ignore"):
                flat = given.astype(dtype).reshape(-1)
        return flat.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise RefusedError(400, f"{where} is no tensor of shape {list(shape)}: {error}.") from error


def _parameters(tensor: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    found = tensor.get("parameters", {})
    if not isinstance(found, dict):
        raise RefusedError(400, f"{where}.parameters: expected an object.")
    return found


def _outputs(body: Mapping[str, Any], version: ModelVersion) -> Iterator[_Output]:
    """The outputs that a request asks for; all without a list."""
    are_binary = _parameters(body, "request").get("binary_data_output") is True
    tensors = {one.name: one for one in output_tensors(version.model)}
    wanted = body.get("outputs", [{"name": name} for name in tensors])
    if not isinstance(wanted, list) or not wanted:
        raise RefusedError(400, "outputs: expected a list of outputs, or none at all.")
    for number, one in enumerate(wanted):
        where = f"outputs[{number}]"
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str) or name not in tensors:
            raise RefusedError(400, f"{where}.name is {name!r}, expected one of {list(tensors)}.")
        given = _parameters(one, where)
        count = given.get("classification", 0)
        has_classes = len(tensors[name].shape) == 2
        if type(count) is not int or count < 0 or (count and not has_classes):
            raise RefusedError(400, f"{where}.classification is {count!r}; {name} has no classes.")
        is_binary = given.get("binary_data", are_binary) is True
        yield _Output(tensors[name], is_binary, count)


def _output(
    asked: _Output, rows: Sequence[Mapping[str, Any]], version: ModelVersion
) -> tuple[dict[str, Any], bytes]:
    """An output's description, with its values or with their size, and its binary values."""
    name, datatype = asked.tensor.name, asked.tensor.datatype
    values: Any = [row[name] for row in rows]
    shape = [len(rows), *asked.tensor.shape[1:]]
    if asked.num_classes:
        label = version.model.schema[label_of_output(name)]
        values = [_classes(row, label.named_classes(), asked.num_classes) for row in values]
        datatype, shape = BYTES, [len(rows), len(values[0])]
    found = {"name": name, "datatype": datatype, "shape": shape}
    if not asked.is_binary:
        return found | {"data": list(_flat(values))}, b""
    if datatype == BYTES:
        texts = [str(one).encode() for one in _flat(values)]
        binary = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    else:
        binary = np.asarray(values, _NUMPY[datatype]).tobytes()
    return found | {"parameters": {"binary_data_size": len(binary)}}, binary


def _classes(row: Sequence[float], names: Sequence[str], count: int) -> list[str]:
    """The most probable classes as probability, number and name."""
    order = sorted(range(len(row)), key=lambda k: -row[k])[:count]
    return [f"{row[k]:f}:{k}:{names[k]}" for k in order]
