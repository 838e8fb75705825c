"""An HTTP server for a trained model.

It speaks TensorFlow Serving's REST API and the contract of Vertex AI's prediction containers:

    GET  /v1/models/NAME                state
    GET  /v1/models/NAME/metadata       what goes in and comes out
    POST /v1/models/NAME:predict        {"instances": [{"b64": "..."}]} to {"predictions": [...]}

and has /metrics for Prometheus, and a page at / to drop a picture on.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import dataclasses
import importlib.resources
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
import prometheus_client
import tensorflow as tf
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from tf_image_classification import signals
from tf_image_classification.errors import BadImageError
from tf_image_classification.serving.batcher import Batcher, Limits, QueueFullError
from tf_image_classification.serving.pictures import heat_png, seen_image
from tf_image_classification.serving.predictor import Predictor

_INPUT = "image_bytes"
_MOST_AT_ONCE = 128


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """How a server behaves.

    Attributes:
        name: of the model, in the addresses.
        limits: of batches and queue.
        max_body_bytes: larger requests are refused.
        timeout_secs: for a request's body, and then for its answer.
        token: what requests must bring as a bearer token, or "".
        predict_route: a further address for predictions, or "".
        health_route: one for health, or "".
    """

    name: str = "model"
    limits: Limits = dataclasses.field(default_factory=Limits)
    max_body_bytes: int = 32 * 2**20
    timeout_secs: float = 30.0
    token: str = ""
    predict_route: str = ""
    health_route: str = ""


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Counts:
    """What Prometheus is told; of each server its own."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "tfic_requests_total", "Requests by their status.", ["status"], **own
        )
        self.seconds = prometheus_client.Histogram(
            "tfic_request_seconds", "Time from a request's first byte to its answer.", **own
        )
        self.images = prometheus_client.Counter("tfic_images_total", "Images answered.", **own)
        self.batches = prometheus_client.Histogram(
            "tfic_batch_size", "Images in a call.", buckets=(1, 2, 4, 8, 16, 32, 64), **own
        )
        self.waiting = prometheus_client.Gauge("tfic_waiting_images", "Images that wait.", **own)


def make_app(model: Predictor, options: ServerOptions) -> FastAPI:
    """The server as an ASGI application."""
    counts = _Counts()
    batcher = Batcher(
        lambda images: _answers(model, images), options.limits, counts.batches.observe
    )
    counts.waiting.set_function(lambda: batcher.num_waiting)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()

    app = FastAPI(title=options.name, lifespan=life, docs_url=None, redoc_url=None)
    service = _Service(model, options, batcher, counts)
    service.add_to(app)
    return app


def _answers(model: Predictor, images: Sequence[tf.Tensor]) -> list[dict[str, Any]]:
    found = model.answers(tf.stack(list(images)))
    return [{name: _plain(value[i]) for name, value in found.items()} for i in range(len(images))]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


class _Service:
    """The requests and their answers."""

    def __init__(
        self, model: Predictor, options: ServerOptions, batcher: Batcher, counts: _Counts
    ) -> None:
        self.model, self.options = model, options
        self.batcher, self.counts = batcher, counts

    def add_to(self, app: FastAPI) -> None:
        """Route everything."""
        at = f"/v1/models/{self.options.name}"
        body = {
            "requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}
        }
        predict = {at + ":predict", f"{at}/versions/{self.model.step}:predict"}
        for path in sorted({*predict, self.options.predict_route} - {""}):
            app.add_api_route(path, self.predict, methods=["POST"], openapi_extra=body)
        for path in sorted({"/health", self.options.health_route} - {""}):
            app.add_api_route(path, self.health, methods=["GET"])
        app.add_api_route(at, self.state, methods=["GET"])
        app.add_api_route(at + "/metadata", self.metadata, methods=["GET"])
        app.add_api_route("/metrics", self.metrics, methods=["GET"])
        app.add_api_route("/explain", self.explain, methods=["POST"], include_in_schema=False)
        app.add_api_route("/", self.page, methods=["GET"], include_in_schema=False)
        app.add_exception_handler(HTTPException, _unrouted)
        app.middleware("http")(self.counted)

    async def counted(self, request: Request, call_next: Any) -> Response:
        """Every request: its token, its errors in the form of TensorFlow Serving, its counts."""
        began = time.monotonic()
        try:
            self._check_token(request)
            response: Response = await call_next(request)
        except _RefusedError as error:
            response = _error(error.status, str(error))
        except Exception as error:  # ours: the client is told, the server goes on
            response = _error(500, f"{type(error).__name__}")
        self.counts.requests.labels(str(response.status_code)).inc()
        self.counts.seconds.observe(time.monotonic() - began)
        return response

    def _check_token(self, request: Request) -> None:
        is_health = request.url.path in ("/health", self.options.health_route)
        if not self.options.token or is_health:
            return
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {self.options.token}".encode()):
            raise _RefusedError(401, "A bearer token is needed: Authorization: Bearer TOKEN.")

    async def health(self) -> dict[str, str]:
        """Whether it answers."""
        return {"status": "ok"}

    async def state(self) -> dict[str, Any]:
        """The model's state, as TensorFlow Serving tells it."""
        status = {"error_code": "OK", "error_message": ""}
        version = {"version": str(self.model.step), "state": "AVAILABLE", "status": status}
        return {"model_version_status": [version]}

    async def metadata(self) -> dict[str, Any]:
        """What goes in and comes out, with the class names."""
        spec = {"name": self.options.name, "signature_name": "", "version": str(self.model.step)}
        inputs = {_INPUT: {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}}
        signature = {"inputs": inputs, "method_name": "tensorflow/serving/predict"}
        labels = {label.name: list(label.named_classes()) for label in self.model.schema}
        return {
            "model_spec": spec,
            "metadata": {
                "signature_def": {"signature_def": {"serving_default": signature}},
                "labels": labels,
                "is_calibrated": sorted(self.model.calibrations),
            },
        }

    async def metrics(self) -> Response:
        """For Prometheus."""
        text = prometheus_client.generate_latest(self.counts.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    async def page(self) -> HTMLResponse:
        """The page to drop a picture on."""
        files = importlib.resources.files("tf_image_classification.serving")
        return HTMLResponse((files / "page.html").read_text(encoding="utf-8"))

    async def predict(self, request: Request) -> JSONResponse:
        """Predictions for the images of a request."""
        body = _parsed(await self._body(request))
        images, is_columnar = _images_of(body)
        answers = await self._within_time(self._answered(images))
        self.counts.images.inc(len(images))
        if not is_columnar:
            return JSONResponse({"predictions": answers})
        names = answers[0] if answers else {}
        return JSONResponse({"outputs": {name: [a[name] for a in answers] for name in names}})

    async def _answered(self, images: Sequence[bytes]) -> list[Mapping[str, Any]]:
        waiting = self.batcher.num_waiting + len(images)
        if waiting > self.options.limits.max_queue:
            raise _RefusedError(503, f"{waiting} images would wait. Try again later.")
        prepared = await asyncio.gather(
            *(asyncio.to_thread(self.model.prepare, image) for image in images),
            return_exceptions=True,
        )
        for number, image in enumerate(prepared):
            if isinstance(image, BadImageError):
                raise _RefusedError(400, f"instances[{number}]: {image}")
            if isinstance(image, BaseException):
                raise image
        try:
            return list(await asyncio.gather(*(self.batcher.answer(each) for each in prepared)))
        except QueueFullError as error:
            raise _RefusedError(503, f"{error}. Try again later.") from error

    async def explain(self, request: Request) -> JSONResponse:
        """What the page shows of the picture in the body."""
        data = await self._body(request)
        try:
            image = await asyncio.to_thread(self.model.prepare, data)
        except BadImageError as error:
            raise _RefusedError(400, f"That is no image that can be used: {error}") from error
        shown = await self._within_time(asyncio.to_thread(self._shown, image[tf.newaxis]))
        return JSONResponse(shown)

    def _shown(self, images: tf.Tensor) -> dict[str, Any]:
        said = self.model.say(images)[0]
        heat = self.model.explain(images)
        labels = {
            name: {
                "name": one.name if one.probability is not None else f"{one.value:.4g}",
                "top": [{"name": c, "probability": p} for c, p in one.top],
                "set": one.conformal_set,
                "heat": _data_uri(heat_png(heat[name][0])) if name in heat else None,
            }
            for name, one in said.items()
        }
        return {"labels": labels, "seen": _data_uri(seen_image(images[0].numpy()))}

    async def _body(self, request: Request) -> bytes:
        """All of a request's body, if it is not too long and does not take too long."""
        most = self.options.max_body_bytes
        declared = request.headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > most:
            raise _RefusedError(413, f"The body is {declared} bytes, at most {most} are taken.")

        async def read() -> bytes:
            parts, size = [], 0
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > most:
                    raise _RefusedError(413, f"The body is longer than {most} bytes.")
            return b"".join(parts)

        found: bytes = await self._within_time(read())
        return found

    async def _within_time(self, work: Any) -> Any:
        try:
            return await asyncio.wait_for(work, self.options.timeout_secs)
        except asyncio.TimeoutError as error:
            text = f"It took longer than {self.options.timeout_secs:g} s."
            raise _RefusedError(504, text) from error


async def _unrouted(request: Request, error: Exception) -> JSONResponse:
    """An address that is not there, or another method than it takes."""
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": text}, error.status_code, headers=error.headers)


def _error(status: int, text: str) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse({"error": text}, status, headers=headers)


_B64 = {
    "type": "object",
    "properties": {"b64": {"type": "string", "description": "an encoded image in base64"}},
    "required": ["b64"],
}
_NAMED = {"type": "object", "properties": {_INPUT: _B64}, "required": [_INPUT]}
_BODY = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"instances": {"type": "array", "items": {"oneOf": [_B64, _NAMED]}}},
            "required": ["instances"],
        },
        {
            "type": "object",
            "properties": {
                "inputs": {
                    "type": "object",
                    "properties": {_INPUT: {"type": "array", "items": _B64}},
                }
            },
            "required": ["inputs"],
        },
    ]
}
"""The body of a request for predictions: by rows or by columns, as TensorFlow Serving takes it."""


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(400, "The body is no JSON.") from error


def _images_of(body: Any) -> tuple[list[bytes], bool]:
    """The encoded images of a request, and whether they stand in columns."""
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        raise _RefusedError(400, 'Expected {"instances": [...]} or {"inputs": {...}}.')
    signature = body.get("signature_name", "serving_default")
    if signature not in ("", "serving_default"):
        raise _RefusedError(400, "There is one signature, serving_default.")
    is_columnar = "inputs" in body
    given = body["inputs"] if is_columnar else body["instances"]
    if is_columnar and isinstance(given, dict):
        given = given.get(_INPUT)
    if not isinstance(given, list) or not given:
        raise _RefusedError(400, f'Expected a list of images, as {{"{_INPUT}": {{"b64": ...}}}}.')
    if len(given) > _MOST_AT_ONCE:
        raise _RefusedError(413, f"{len(given)} images in a request, at most {_MOST_AT_ONCE}.")
    return [_decoded(one, number) for number, one in enumerate(given)], is_columnar


def _decoded(value: Any, number: int) -> bytes:
    if isinstance(value, dict) and _INPUT in value:
        value = value[_INPUT]
    if not isinstance(value, dict) or not isinstance(value.get("b64"), str):
        raise _RefusedError(400, f'instances[{number}] is not of the form {{"b64": "..."}}.')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _RefusedError(400, f"instances[{number}] is not base64.") from error


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def environment_options(environment: Mapping[str, str]) -> dict[str, str]:
    """What Vertex AI tells a prediction container: routes and port, by the names of settings."""
    names = {
        "predict_route": "AIP_PREDICT_ROUTE",
        "health_route": "AIP_HEALTH_ROUTE",
        "port": "AIP_HTTP_PORT",
    }
    return {name: environment[key] for name, key in names.items() if environment.get(key)}


def serve(model: Predictor, options: ServerOptions, host: str, port: int) -> None:
    """Serve until a signal asks to stop; requests that are under way are then answered.

    Raises:
        Stopped: one did.
    """
    import uvicorn

    model.predict(np.zeros([8, 8, 3], np.uint8))  # traced, so that the first client need not wait
    config = uvicorn.Config(
        make_app(model, options),
        host=host,
        port=port,
        log_level=os.environ.get("TFIC_LOG_LEVEL", "warning"),
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(options.timeout_secs) + 1,
    )
    running = uvicorn.Server(config)

    def stop() -> None:
        running.should_exit = True

    # uvicorn itself handles SIGTERM and Ctrl-C, and raises them again when all is answered.
    with signals.deferred(then=stop):
        running.run()
    signals.check()
    if not running.started:
        raise SystemExit(1)  # uvicorn has written why
