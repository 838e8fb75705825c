"""An HTTP server for a trained model.

It implements TensorFlow Serving's REST API and the contract of Vertex AI's prediction containers:

    GET  /v1/models/NAME                state
    GET  /v1/models/NAME/metadata       inputs, outputs and class names
    POST /v1/models/NAME:predict        {"instances": [{"b64": "..."}]} to {"predictions": [...]}

There are also /metrics for Prometheus, and a page at / on which an image can be dropped.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import functools
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import prometheus_client
import tensorflow as tf
from fastapi import FastAPI, Request, Response, Security
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from tf_image_classification.errors import BadImageError
from tf_image_classification.pages.render import render
from tf_image_classification.serving.batcher import (
    Batcher,
    Limits,
    QueueFullError,
    StoppedError,
)
from tf_image_classification.serving.connections import ConnectionLimits, limited_protocol
from tf_image_classification.serving.decoding import LARGE_PIXELS, FairDecoder, Share
from tf_image_classification.serving.pictures import heat_png, seen_image
from tf_image_classification.serving.predictor import Predictor, declared_pixels
from tf_image_classification.serving.requests import (
    ANSWER,
    BODY,
    ERROR,
    INPUT,
    RefusedError,
    images_of,
    parsed,
)
from tf_image_classification.system import signals

_MOST_BODIES = 8  # of the largest size, held in memory at the same time
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """How a server behaves.

    Attributes:
        name: of the model, in the addresses.
        limits: of batches and queue.
        connections: of clients and their connections.
        max_body_bytes: larger requests are refused.
        max_request_pixels: of all images of a request together; 0: four images of the model's
            max_pixels.
        timeout_secs: for a request's body, and then for its answer.
        token: the bearer token that requests must bring, or "".
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


class _Counts:
    """The metrics for Prometheus, in a registry of this server's own."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "tfic_requests_total", "Requests by their status.", ["status"], **own
        )
        self.seconds = prometheus_client.Histogram(
            "tfic_request_seconds", "Time from a request's headers to its answer.", **own
        )
        self.images = prometheus_client.Counter("tfic_images_total", "Images answered.", **own)
        self.batches = prometheus_client.Histogram(
            "tfic_batch_size", "Images in a call.", buckets=(1, 2, 4, 8, 16, 32, 64), **own
        )
        self.waiting = prometheus_client.Gauge(
            "tfic_waiting_images", "Images accepted and not yet answered.", **own
        )


def make_app(model: Predictor, options: ServerOptions) -> FastAPI:
    """The server as an ASGI application."""
    counts = _Counts()
    batcher = Batcher(
        lambda images: _answers(model, images), options.limits, counts.batches.observe
    )
    decoder = FairDecoder()
    service = _Service(model, options, batcher, decoder, counts)
    counts.waiting.set_function(lambda: service.num_accepted)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()
        await asyncio.to_thread(decoder.close)

    app = FastAPI(title=options.name, lifespan=life, docs_url=None, redoc_url=None)
    service.add_to(app)
    return app


def _answers(model: Predictor, images: Sequence[tf.Tensor]) -> list[dict[str, Any]]:
    found = model.answers(tf.stack(list(images)))
    return [{name: _plain(value[i]) for name, value in found.items()} for i in range(len(images))]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


class _Service:
    """The requests and their answers.

    Attributes:
        num_accepted: images of requests that have been accepted and not yet answered.
    """

    def __init__(
        self,
        model: Predictor,
        options: ServerOptions,
        batcher: Batcher,
        decoder: FairDecoder,
        counts: _Counts,
    ) -> None:
        self.model, self.options = model, options
        self.batcher, self.decoder, self.counts = batcher, decoder, counts
        self.num_accepted = 0
        self._body_bytes = 0  # of the bodies in memory

    def add_to(self, app: FastAPI) -> None:
        """Route everything."""
        at = f"/v1/models/{self.options.name}"
        tokens = [Security(HTTPBearer(auto_error=False))] if self.options.token else []
        body = {"required": True, "content": {"application/json": {"schema": BODY}}}
        predict = {at + ":predict", f"{at}/versions/{self.model.step}:predict"}
        for path in sorted({*predict, self.options.predict_route} - {""}):
            app.add_api_route(
                path,
                self.predict,
                methods=["POST"],
                dependencies=tokens,
                responses={200: _described("Predictions", ANSWER), **self._errors(of_body=True)},
                openapi_extra={"requestBody": body},
            )
        readable: dict[str, tuple[Any, dict[str, Any]]] = {
            at: (self.state, {"dependencies": tokens, "responses": self._errors()}),
            at + "/metadata": (
                self.metadata,
                {"dependencies": tokens, "responses": self._errors()},
            ),
            "/metrics": (
                self.metrics,
                {
                    "dependencies": tokens,
                    "responses": self._errors(),
                    "response_class": PlainTextResponse,
                },
            ),
            "/": (self.page, {"include_in_schema": False}),
        }
        for path in sorted({"/health", self.options.health_route} - {""}):
            readable[path] = self.health, {}
        for path, (function, more) in readable.items():
            app.add_api_route(path, function, methods=["GET"], **more)
            app.add_api_route(path, function, methods=["HEAD"], include_in_schema=False)
        app.add_api_route("/explain", self.explain, methods=["POST"], include_in_schema=False)
        app.add_exception_handler(HTTPException, _unrouted)
        app.middleware("http")(self.counted)

    def _errors(self, *, of_body: bool = False) -> dict[int | str, dict[str, Any]]:
        """The errors of an address, for the description of the API."""
        texts = {401: "The bearer token is missing or wrong."} if self.options.token else {}
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

    async def counted(self, request: Request, call_next: Any) -> Response:
        """Every request: its token, its errors in TensorFlow Serving's form, its metrics."""
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
        self.counts.requests.labels(str(response.status_code)).inc()
        self.counts.seconds.observe(time.monotonic() - began)
        return response

    def _check_token(self, request: Request) -> None:
        path = request.url.path
        # The page holds nothing of the model; its own requests bring the token.
        is_page = path == "/" and request.method in ("GET", "HEAD")
        is_free = is_page or path in ("/health", self.options.health_route)
        if not self.options.token or is_free:
            return
        given = request.headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        is_right = secrets.compare_digest(token.strip().encode(), self.options.token.encode())
        if scheme.lower() != "bearer" or not is_right:
            state = "is wrong" if given else "is missing"
            raise RefusedError(401, f"The token {state}. Send Authorization: Bearer TOKEN.")

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
        inputs = {INPUT: {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}}
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
        """The page that classifies an image dropped on it."""
        return HTMLResponse(render("serving.html", script="serving.js"))

    async def predict(self, request: Request) -> JSONResponse:
        """Predictions for the images of a request."""
        async with self._body(request) as data:
            images, field = await asyncio.to_thread(lambda: images_of(parsed(data)))
            answers = await self._within_time(self._answered(images, field))
        self.counts.images.inc(len(images))
        if field == "instances":
            return JSONResponse({"predictions": answers})
        return JSONResponse({"outputs": {n: [a[n] for a in answers] for n in answers[0]}})

    async def _answered(self, images: Sequence[bytes], field: str) -> list[Mapping[str, Any]]:
        waiting = self.num_accepted + len(images)
        if waiting > self.options.limits.max_queue:
            raise RefusedError(503, f"{waiting} images would wait. Try again later.")
        self.num_accepted += len(images)
        share = self.decoder.share()
        # Of one request no more than one batch at a time, so that others find a place in the next.
        places = asyncio.Semaphore(self.options.limits.max_batch_size)

        async def answer(number: int, image: bytes, pixels: int) -> Mapping[str, Any]:
            async with places:
                try:
                    prepared = await self._prepared(image, pixels, share)
                except BadImageError as error:
                    raise RefusedError(400, f"{field}[{number}]: {error}") from error
                return await self.batcher.answer(prepared)

        try:
            sizes = await self._sizes(images, share)
            return await _all_or_none(
                [answer(k, *each) for k, each in enumerate(zip(images, sizes, strict=True))]
            )
        except (QueueFullError, StoppedError) as error:
            raise RefusedError(503, f"{error}. Try again later.") from error
        finally:
            self.num_accepted -= len(images)

    async def _sizes(self, images: Sequence[bytes], share: Share) -> list[int]:
        """The pixels of each image, from its header.

        An image that is no image or has too many pixels by itself is not counted: it is refused
        when it is decoded.

        Raises:
            RefusedError: together they have too many.
        """
        jobs = [
            self.decoder.run(share, functools.partial(declared_pixels, image)) for image in images
        ]
        sizes = await _all_or_none(jobs)
        limit = self.options.max_request_pixels or 4 * self.model.max_pixels
        total = sum(size for size in sizes if size <= self.model.max_pixels)
        if total > limit:
            raise RefusedError(
                413,
                f"The {len(images)} images have {total:,} pixels together, at most {limit:,} are "
                "taken. Send them in several requests.",
            )
        return sizes

    async def _prepared(self, image: bytes, pixels: int, share: Share) -> tf.Tensor:
        work = functools.partial(self.model.prepare, image)
        is_large = LARGE_PIXELS < pixels <= self.model.max_pixels
        return await self.decoder.run(share, work, is_large=is_large)

    async def explain(self, request: Request) -> JSONResponse:
        """The data that the page shows of the image in the body."""
        async with self._body(request) as data:
            share = self.decoder.share()

            async def prepare() -> tf.Tensor:
                [pixels] = await self._sizes([data], share)
                return await self._prepared(data, pixels, share)

            try:
                image = await self._within_time(prepare())
            except BadImageError as error:
                raise RefusedError(400, f"The image cannot be used: {error}") from error
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
                "coverage": self.model.calibrations[name].coverage if one.conformal_set else None,
                "heat": _data_uri(heat_png(heat[name][0])) if name in heat else None,
            }
            for name, one in said.items()
        }
        return {"labels": labels, "seen": _data_uri(seen_image(images[0].numpy()))}

    @contextlib.asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """A request's body; inside the block it counts as held in memory.

        Raises:
            RefusedError: it is too long, takes too long, is compressed, or too many are held.
        """
        most = self.options.max_body_bytes
        declared = request.headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > most:
            raise RefusedError(413, f"The body is {declared} bytes, at most {most} are taken.")
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise RefusedError(415, f"The body is compressed ({encoding}). Send it as it is.")
        size = 0

        async def read() -> bytes:
            nonlocal size
            parts = []
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                self._body_bytes += len(part)
                if size > most:
                    raise RefusedError(413, f"The body is longer than {most} bytes.")
                if self._body_bytes > _MOST_BODIES * most:
                    raise RefusedError(503, "Too many large requests at once. Try again later.")
            return b"".join(parts)

        try:
            yield await self._within_time(read())
        finally:
            self._body_bytes -= size

    async def _within_time(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return await asyncio.wait_for(work, self.options.timeout_secs)
        except asyncio.TimeoutError as error:
            text = f"It took longer than {self.options.timeout_secs:g} s."
            raise RefusedError(504, text) from error


async def _all_or_none(jobs: Sequence[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """The results of all; the first error ends the others, which nobody needs any more."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


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


def environment_options(environment: Mapping[str, str]) -> dict[str, str]:
    """What Vertex AI tells a prediction container: routes and port, by the names of settings."""
    names = {
        "predict_route": "AIP_PREDICT_ROUTE",
        "health_route": "AIP_HEALTH_ROUTE",
        "port": "AIP_HTTP_PORT",
    }
    return {name: environment[key] for name, key in names.items() if environment.get(key)}


def serve(model: Predictor, options: ServerOptions, host: str, port: int) -> None:
    """Serve until a signal asks to stop; accepted requests are answered before it ends.

    Raises:
        Stopped: one did.
    """
    import uvicorn

    _trace(model)
    config = uvicorn.Config(
        make_app(model, options), host=host, port=port, **uvicorn_options(options)
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


def prepare_threads() -> None:
    """Let TensorFlow begin more operations at once than there are cores.

    Otherwise the decoding of large images occupies all of its threads, and small images wait.
    """
    if "TF_NUM_INTEROP_THREADS" in os.environ:
        return
    with contextlib.suppress(RuntimeError):  # it has begun its work already, in a larger program
        tf.config.threading.set_inter_op_parallelism_threads(2 * (os.cpu_count() or 1) + 2)


def _trace(model: Predictor) -> None:
    """Run everything once that a request runs, so that the first client does not wait for it."""
    pixels = tf.zeros([8, 8, 3], tf.uint8)
    images = [tf.io.encode_jpeg(pixels).numpy(), tf.io.encode_png(pixels).numpy()]
    for image in images:
        declared_pixels(image)
    model.answers(tf.stack([model.prepare(image) for image in images]))


def uvicorn_options(options: ServerOptions) -> dict[str, Any]:
    """The settings of uvicorn that belong to a server with these options."""
    return {
        "http": limited_protocol(options.connections),
        "ws": "none",
        "log_level": os.environ.get("TFIC_LOG_LEVEL", "warning"),
        "timeout_keep_alive": 5,
        "timeout_graceful_shutdown": int(options.timeout_secs) + 1,
    }
