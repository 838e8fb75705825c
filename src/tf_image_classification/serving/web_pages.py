"""The pages of the server for people, and the data that they show.

GET  /          a page to drop images on; /?model=NAME for another model than the first
GET  /docs      the description of the API
GET  /about     the data of a model
POST /explain   the data of the image in the body
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse

from tf_image_classification.errors import BadImageError
from tf_image_classification.serving.hosted_model import HostedModel
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.serving.rendering import heat_png, seen_image
from tf_image_classification.serving.request_bodies import within_time
from tf_image_classification.serving.requests import RefusedError
from tf_image_classification.serving.routes import Routes
from tf_image_classification.serving.service import InferenceService


class WebPages:
    """The pages; they contain nothing of the models, and their own requests send the token."""

    def __init__(self, service: InferenceService) -> None:
        self._service = service

    def add_to(self, routes: Routes) -> None:
        """Add the addresses."""
        routes.get("/", self.page, is_free=True, is_described=False)
        routes.get("/docs", self.docs, is_free=True, is_described=False)
        routes.get("/about", self.about, is_described=False)
        routes.post("/explain", self.explain, {}, {}, is_described=False)

    async def page(self) -> HTMLResponse:
        """The page to drop images on."""
        return HTMLResponse(_rendered("serving.html", "serving.js"))

    async def docs(self) -> HTMLResponse:
        """The page that shows the description of the API."""
        return HTMLResponse(_rendered("docs.html", "docs.js"))

    async def about(self, request: Request) -> JSONResponse:
        """The data that the page shows of a model."""
        hosted = self._model(request)
        with hosted.use() as version:
            model = version.model
            facts = {
                **model.facts,
                "engine": model.engine.name,
                **({"heat maps": model.no_heat_maps} if model.no_heat_maps else {}),
                "calibrated": ", ".join(sorted(model.calibrations)) or "no",
                **_refusal_fact(model),
            }
            found = {
                "name": hosted.name,
                "step": model.step,
                "predict": f"/v1/models/{hosted.name}:predict",
                "facts": facts,
                "labels": {label.name: list(label.named_classes()) for label in model.schema},
                "models": list(self._service.models),
            }
        return JSONResponse(found)

    async def explain(self, request: Request) -> JSONResponse:
        """The data that the page shows of the image in the body."""
        timeout = self._service.timeout_secs
        async with self._service.request_to(self._model(request), request) as (version, data):
            try:
                image = await within_time(version.queue.prepare(data), timeout)
            except BadImageError as error:
                raise RefusedError(400, f"The image cannot be used: {error}") from error
            work = asyncio.to_thread(_explained, version.model, image)
            return JSONResponse(await within_time(work, timeout))

    def _model(self, request: Request) -> HostedModel:
        """The model that the query names, or the first one."""
        name = request.query_params.get("model", self._service.first.name)
        if name not in self._service.models:
            raise RefusedError(404, f"There is no model {name!r}.")
        return self._service.models[name]


def _rendered(template: str, script: str) -> str:
    from tf_image_classification.pages.render import render  # late: servers start without Jinja2

    return render(template, scripts=("server.js", script))


def _explained(model: Predictor, image: Any) -> dict[str, Any]:
    [one_image] = model.predict_each_prepared([image])
    predictions = one_image.labels
    heat = model.explain([image])
    labels = {
        name: {
            "name": one.name if one.probability is not None else f"{one.value:.4g}",
            "top": [{"name": c, "probability": p} for c, p in one.top],
            "set": one.conformal_set,
            "coverage": model.calibrations[name].coverage if one.conformal_set else None,
            "heat": _data_uri(heat_png(heat[name][0])) if name in heat else None,
        }
        for name, one in predictions.items()
    }
    unknown = {"score": one_image.unknown_score, "is_unknown": one_image.is_unknown}
    return {"labels": labels, "unknown": unknown, "seen": _data_uri(seen_image(np.asarray(image)))}


def _refusal_fact(model: Predictor) -> dict[str, str]:
    """Whether the model refuses pictures of none of its classes."""
    if model.detector is None:
        return {}
    limit = model.detector.limit
    text = f"at most {limit.rate:.0%} of known ones" if limit.exists else f"no limit: {limit.note}"
    return {"refused as unknown": text}


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
