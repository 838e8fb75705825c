"""The routes of a model's HTTP server, as an ASGI application.

They implement TensorFlow Serving's REST API and the contract of Vertex AI's prediction containers:

    GET  /v1/models/NAME                state
    GET  /v1/models/NAME/metadata       inputs, outputs and class names
    POST /v1/models/NAME:predict        {"instances": [{"b64": "..."}]} to {"predictions": [...]}

and besides /metrics for Prometheus, a page at / that shows the predictions of dropped images, and
one at /docs with the description of the API.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import prometheus_client
from fastapi import FastAPI, Request, Response, Security
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from tf_image_classification.errors import BadImageError
from tf_image_classification.pages.render import render
from tf_image_classification.serving.batcher import Limits
from tf_image_classification.serving.connections import ConnectionLimits
from tf_image_classification.serving.inference_queue import InferenceQueue
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.serving.rendering import heat_png, seen_image
from tf_image_classification.serving.request_bodies import BodyReader, within_time
from tf_image_classification.serving.requests import (
    ANSWER,
    BODY,
    ERROR,
    INPUT,
    RefusedError,
    images_of,
    parsed,
)
from tf_image_classification.serving.server_metrics import ServerMetrics


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """Options of a server.

    Attributes:
        name: of the model, in the addresses.
        limits: of batches and queue.
        connections: of clients and their connections.
        max_body_bytes: larger requests are rejected.
        max_request_pixels: of all images of a request together; 0: four images of the model's
            max_pixels.
        timeout_secs: for a request's body, and then for its answer.
        token: the bearer token that requests must send, or "".
        predict_route: a further address for predictions, or "".
        health_route: one for health, or "".
    """

    name: str = "model"
    limits: Limits = dataclasses.field(default_factory=Limits)
    connections: ConnectionLimits = dataclasses.field(default_factory=ConnectionLimits)
    max_body_bytes: int = 32 * 2**20
    max_request_pixels: int = 0
    timeout_secs: float = 30.0
    token: str = ""
    predict_route: str = ""
    health_route: str = ""


def make_app(model: Predictor, options: ServerOptions) -> FastAPI:
    """The server as an ASGI application."""
    metrics = ServerMetrics()
    queue = InferenceQueue(
        model, options.limits, options.max_request_pixels, metrics.batches.observe
    )
    metrics.waiting.set_function(lambda: queue.num_accepted)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        await queue.stop()

    app = FastAPI(title=options.name, lifespan=lifespan, docs_url=None, redoc_url=None)
    _Routes(model, options, queue, metrics).add_to(app)
    return app


class _Routes:
    """The handlers of all requests."""

    def __init__(
        self,
        model: Predictor,
        options: ServerOptions,
        queue: InferenceQueue,
        metrics: ServerMetrics,
    ) -> None:
        self._model, self._options = model, options
        self._queue, self._metrics = queue, metrics
        self._bodies = BodyReader(options.max_body_bytes, options.timeout_secs)

    def add_to(self, app: FastAPI) -> None:
        """Add the routes and the middleware."""
        at = f"/v1/models/{self._options.name}"
        tokens = [Security(HTTPBearer(auto_error=False))] if self._options.token else []
        body = {"required": True, "content": {"application/json": {"schema": BODY}}}
        predict = {at + ":predict", f"{at}/versions/{self._model.step}:predict"}
        for path in sorted({*predict, self._options.predict_route} - {""}, key=len):
            app.add_api_route(
                path,
                self.predict,
                methods=["POST"],
                dependencies=tokens,
                responses={200: _described("Predictions", ANSWER), **self._errors(of_body=True)},
                openapi_extra={"requestBody": body},
            )
        guarded: dict[str, Any] = {"dependencies": tokens, "responses": self._errors()}
        readable: dict[str, tuple[Any, dict[str, Any]]] = {
            at: (self.state, guarded),
            at + "/metadata": (self.metadata, guarded),
            "/metrics": (self.metrics, guarded | {"response_class": PlainTextResponse}),
            "/": (self.page, {"include_in_schema": False}),
            "/docs": (self.docs, {"include_in_schema": False}),
            "/about": (self.about, guarded | {"include_in_schema": False}),
        }
        for path in sorted({"/health", self._options.health_route} - {""}):
            readable[path] = self.health, {}
        for path, (function, more) in readable.items():
            app.add_api_route(path, function, methods=["GET"], **more)
            app.add_api_route(path, function, methods=["HEAD"], include_in_schema=False)
        app.add_api_route("/explain", self.explain, methods=["POST"], include_in_schema=False)
        app.add_exception_handler(HTTPException, _unrouted)
        app.middleware("http")(self.observed)

    def _errors(self, *, of_body: bool = False) -> dict[int | str, dict[str, Any]]:
        """The errors of an address, for the description of the API."""
        texts = {401: "The bearer token is missing or wrong."} if self._options.token else {}
        if of_body:
            texts |= {
                400: "The body is not such a request, or an image cannot be used.",
                413: "The request is too large.",
                415: "The body is compressed.",
                500: "A fault of the server.",
                503: "The server is busy; try again later.",
                504: "It took too long.",
            }
        return {status: _described(text, ERROR) for status, text in sorted(texts.items())}

    async def observed(self, request: Request, call_next: Any) -> Response:
        """Middleware: the token, errors in TensorFlow Serving's form, metrics."""
        began = time.monotonic()
        try:
            self._check_token(request)
            response: Response = await call_next(request)
        except RefusedError as error:
            response = _error(error.status, str(error))
        except Exception as error:  # a fault of this server, which goes on
            logging.getLogger("uvicorn.error").error(
                "%s %s: %r", request.method, request.url.path, error
            )
            response = _error(500, f"{type(error).__name__}")
        self._metrics.requests.labels(str(response.status_code)).inc()
        self._metrics.seconds.observe(time.monotonic() - began)
        return response

    def _check_token(self, request: Request) -> None:
        path = request.url.path
        # The pages contain nothing of the model; their own requests send the token.
        is_page = path in ("/", "/docs") and request.method in ("GET", "HEAD")
        is_free = is_page or path in ("/health", self._options.health_route)
        if not self._options.token or is_free:
            return
        given = request.headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        is_right = secrets.compare_digest(token.strip().encode(), self._options.token.encode())
        if scheme.lower() != "bearer" or not is_right:
            state = "is wrong" if given else "is missing"
            raise RefusedError(401, f"The token {state}. Send Authorization: Bearer TOKEN.")

    async def health(self) -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    async def state(self) -> dict[str, Any]:
        """The model's state, in TensorFlow Serving's form."""
        status = {"error_code": "OK", "error_message": ""}
        version = {"version": str(self._model.step), "state": "AVAILABLE", "status": status}
        return {"model_version_status": [version]}

    async def metadata(self) -> dict[str, Any]:
        """The model's inputs and outputs, with the class names."""
        model = self._model
        spec = {"name": self._options.name, "signature_name": "", "version": str(model.step)}
        inputs = {INPUT: {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}}
        signature = {"inputs": inputs, "method_name": "tensorflow/serving/predict"}
        labels = {label.name: list(label.named_classes()) for label in model.schema}
        return {
            "model_spec": spec,
            "metadata": {
                "signature_def": {"signature_def": {"serving_default": signature}},
                "labels": labels,
                "is_calibrated": sorted(model.calibrations),
            },
        }

    async def metrics(self) -> Response:
        """For Prometheus."""
        text = self._metrics.text()
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    async def page(self) -> HTMLResponse:
        """The page to drop images on."""
        return HTMLResponse(render("serving.html", scripts=("server.js", "serving.js")))

    async def docs(self) -> HTMLResponse:
        """The page that shows the description of the API."""
        return HTMLResponse(render("docs.html", scripts=("server.js", "docs.js")))

    async def about(self) -> dict[str, Any]:
        """The data that the page shows of the model."""
        model = self._model
        return {
            "name": self._options.name,
            "step": model.step,
            "predict": f"/v1/models/{self._options.name}:predict",
            "facts": {
                **model.facts,
                "engine": model.engine.name,
                **({"heat maps": model.no_heat_maps} if model.no_heat_maps else {}),
                "calibrated": ", ".join(sorted(model.calibrations)) or "no",
            },
            "labels": {label.name: list(label.named_classes()) for label in model.schema},
        }

    async def predict(self, request: Request) -> JSONResponse:
        """Predictions for the images of a request."""
        timeout = self._options.timeout_secs
        async with self._bodies.body(request) as data:
            images, field = await asyncio.to_thread(lambda: images_of(parsed(data)))
            answers = await within_time(self._queue.predict(images, field), timeout)
        self._metrics.images.inc(len(images))
        if field == "instances":
            return JSONResponse({"predictions": answers})
        return JSONResponse({"outputs": {n: [a[n] for a in answers] for n in answers[0]}})

    async def explain(self, request: Request) -> JSONResponse:
        """The data that the page shows of the image in the body."""
        timeout = self._options.timeout_secs
        async with self._bodies.body(request) as data:
            try:
                image = await within_time(self._queue.prepare(data), timeout)
            except BadImageError as error:
                raise RefusedError(400, f"The image cannot be used: {error}") from error
        work = asyncio.to_thread(self._explained, image)
        return JSONResponse(await within_time(work, timeout))

    def _explained(self, image: Any) -> dict[str, Any]:
        [predictions] = self._model.predict_prepared([image])
        heat = self._model.explain([image])
        labels = {
            name: {
                "name": one.name if one.probability is not None else f"{one.value:.4g}",
                "top": [{"name": c, "probability": p} for c, p in one.top],
                "set": one.conformal_set,
                "coverage": self._model.calibrations[name].coverage if one.conformal_set else None,
                "heat": _data_uri(heat_png(heat[name][0])) if name in heat else None,
            }
            for name, one in predictions.items()
        }
        return {"labels": labels, "seen": _data_uri(seen_image(np.asarray(image)))}


def _described(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


async def _unrouted(request: Request, error: Exception) -> JSONResponse:
    """An unknown address, or a method that the address does not have."""
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": text}, error.status_code, headers=error.headers)


def _error(status: int, text: str) -> JSONResponse:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(status)
    return JSONResponse({"error": text}, status, headers=headers)


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
