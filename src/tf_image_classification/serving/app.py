"""A server's ASGI application: models, protocols, and what all requests have in common.

app = make_app({"pets": load_model("runs/pets")}, ServerOptions())
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence

import prometheus_client
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tf_image_classification.serving.batcher import Limits
from tf_image_classification.serving.connections import ConnectionLimits
from tf_image_classification.serving.hosted_model import HostedModel
from tf_image_classification.serving.inference_queue import InferenceQueue
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.serving.protocols.open_inference import (
    OpenInference,
    OpenInferenceServer,
)
from tf_image_classification.serving.protocols.sagemaker import INVOCATIONS, SageMaker
from tf_image_classification.serving.protocols.tensorflow_serving import TensorFlowServing
from tf_image_classification.serving.reloading import Source, watch
from tf_image_classification.serving.requests import RefusedError, closed_schema
from tf_image_classification.serving.routes import Routes
from tf_image_classification.serving.server_metrics import ServerMetrics
from tf_image_classification.serving.service import InferenceService
from tf_image_classification.serving.web_pages import WebPages


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """Options of a server.

    Attributes:
        limits: of batches and queue, for each model.
        connections: of clients and their connections.
        max_body_bytes: larger requests are rejected.
        max_request_pixels: of all images of a request together; 0: four images of the model's
            max_pixels.
        timeout_secs: for a request's body, and then for its answer.
        token: the bearer token that requests must send, or "".
        predict_route: a further address for predictions of the first model, or "".
        health_route: one for health, or "".
        cors_origins: origins whose web pages may use the server; "*" for all.
        reload_secs: time between looks for a newer export; 0: never.
    """

    limits: Limits = dataclasses.field(default_factory=Limits)
    connections: ConnectionLimits = dataclasses.field(default_factory=ConnectionLimits)
    max_body_bytes: int = 32 * 2**20
    max_request_pixels: int = 0
    timeout_secs: float = 30.0
    token: str = ""
    predict_route: str = ""
    health_route: str = ""
    cors_origins: tuple[str, ...] = ()
    reload_secs: float = 0.0


def make_app(
    models: MutableMapping[str, Predictor],
    options: ServerOptions,
    sources: Mapping[str, Source] | None = None,
) -> Starlette:
    """The server as an ASGI application.

    Args:
        models: by their names in addresses; the first one is that of addresses without a name.
            They are taken out, so that nobody else keeps a model that is replaced.
        options: of the server.
        sources: the folders of the models that are reloaded.
    """
    metrics = ServerMetrics()

    def make_queue(model: Predictor) -> InferenceQueue:
        pixels = options.max_request_pixels
        return InferenceQueue(model, options.limits, pixels, metrics.batches.observe)

    hosted = [HostedModel(name, models.pop(name), make_queue) for name in list(models)]
    metrics.waiting.set_function(lambda: sum(model.num_accepted for model in hosted))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        for model in hosted:
            model.start()
        watching = [
            asyncio.create_task(watch(model, sources[model.name], options.reload_secs))
            for model in hosted
            if sources and options.reload_secs
        ]
        yield
        for task in watching:
            task.cancel()
        await asyncio.gather(*(model.stop() for model in hosted))

    service = InferenceService(
        hosted,
        metrics,
        max_body_bytes=options.max_body_bytes,
        timeout_secs=options.timeout_secs,
    )
    title = ", ".join(model.name for model in hosted)
    routes = Routes(title, has_token=bool(options.token))
    _add_protocols(routes, service, options)
    observed = Middleware(_Observed, guard=_Guard(options.token, routes), metrics=metrics)
    return Starlette(
        routes=routes.all,
        middleware=[*_for_pages_elsewhere(options.cors_origins), observed],
        exception_handlers={HTTPException: _unrouted},
        lifespan=lifespan,
    )


def _for_pages_elsewhere(origins: Sequence[str]) -> list[Middleware]:
    """The outermost layer: errors are for those pages, too."""
    if not origins:
        return []
    from starlette.middleware.cors import CORSMiddleware  # late: few servers need it

    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "Content-Type", "Inference-Header-Content-Length"],
            expose_headers=["Inference-Header-Content-Length", "Retry-After"],
        )
    ]


def _add_protocols(routes: Routes, service: InferenceService, options: ServerOptions) -> None:
    for number, model in enumerate(service.models.values()):
        more = {INVOCATIONS, options.predict_route} - {""} if number == 0 else ()
        TensorFlowServing(service, model).add_to(routes, sorted(more))
        OpenInference(service, model).add_to(routes)
    OpenInferenceServer().add_to(routes)
    SageMaker().add_to(routes)
    WebPages(service).add_to(routes)
    names = list(service.models)

    async def models() -> JSONResponse:
        """The names of all models."""
        return JSONResponse({"models": names})

    async def health() -> JSONResponse:
        """Whether the server answers."""
        return JSONResponse({"status": "ok"})

    async def metrics() -> Response:
        """For Prometheus."""
        text = service.metrics.text()
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    async def description() -> JSONResponse:
        """The API as OpenAPI describes it."""
        return JSONResponse(routes.description())

    routes.get("/openapi.json", description, is_described=False)
    listed = closed_schema(models={"type": "array", "items": {"type": "string"}})
    routes.get("/v1/models", models, listed)
    for path in sorted({"/health", options.health_route} - {""}):
        routes.get(path, health, closed_schema(status={"type": "string"}), is_free=True)
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        routes.get(path, metrics, {"type": "string"}, media="text/plain")


class _Guard:
    """Checks the token of requests."""

    def __init__(self, token: str, routes: Routes) -> None:
        self._token, self._routes = token, routes

    def check(self, request: Request) -> None:
        """Check a request's token.

        Raises:
            RefusedError: it is missing or wrong.
        """
        if not self._token or (request.method, request.url.path) in self._routes.free:
            return
        given = request.headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        is_right = secrets.compare_digest(token.strip().encode(), self._token.encode())
        if scheme.lower() != "bearer" or not is_right:
            state = "is wrong" if given else "is missing"
            raise RefusedError(401, f"The token {state}. Send Authorization: Bearer TOKEN.")


class _Observed:
    """Middleware: the token, errors in the form of all protocols, metrics."""

    def __init__(self, app: ASGIApp, guard: _Guard, metrics: ServerMetrics) -> None:
        self._app, self._guard, self._metrics = app, guard, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        request = Request(scope)
        error = None
        try:
            self._guard.check(request)
            await self._app(scope, receive, observed)
        except RefusedError as refused:
            error = _error(refused.status, str(refused))
        except Exception as fault:  # of this server, which goes on
            logging.getLogger("uvicorn.error").error(
                "%s %s: %r", request.method, request.url.path, fault
            )
            error = _error(500, f"{type(fault).__name__}")
        if error is not None and not status:
            await error(scope, receive, observed)
        self._metrics.requests.labels(str(status)).inc()
        self._metrics.seconds.observe(time.monotonic() - began)


async def _unrouted(request: Request, error: Exception) -> JSONResponse:
    """An unknown address, or a method that the address does not have."""
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": text}, error.status_code, headers=error.headers)


def _error(status: int, text: str) -> JSONResponse:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(status)
    return JSONResponse({"error": text}, status, headers=headers)
