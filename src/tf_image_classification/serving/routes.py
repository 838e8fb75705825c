"""Adds addresses to the application, with their descriptions in openapi.json."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import tf_image_classification
from tf_image_classification.serving.hosted_model import LABELS
from tf_image_classification.serving.requests import ERROR

_JSON = "application/json"
_BEARER = "HTTPBearer"
_PARAMETERS = {
    "version": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    "label": {"type": "string", "enum": [*LABELS]},
}


class _Part(Convertor[str]):
    """A part of an address that ends before a colon."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("part", _Part())


def versioned(at: str, end: str = "", *, labels: bool = True) -> list[str]:
    """The addresses of a model's current version, of a version and of a version label.

    Example:
        >>> versioned("/v1/models/pets", ":predict", labels=False)
        ['/v1/models/pets:predict', '/v1/models/pets/versions/{version:part}:predict']
    """
    inner = ["", "/versions/{version:part}", *(["/labels/{label:part}"] if labels else [])]
    return [f"{at}{each}{end}" for each in inner]


Handler = Callable[..., Awaitable[Response]]
"""Takes the request or nothing."""


class Routes:
    """Addresses of an application.

    Attributes:
        all: the routes, in the order in which they are tried.
        free: addresses that need no token, with the methods for which they need none.
    """

    def __init__(self, title: str, *, has_token: bool) -> None:
        self.all: list[Route] = []
        self.free: set[tuple[str, str]] = set()
        self._title, self._has_token = title, has_token
        self._described: list[Callable[[dict[str, Any]], None]] = []

    def get(
        self,
        path: str,
        handler: Handler,
        answer: Mapping[str, Any] | None = None,
        *,
        media: str = _JSON,
        is_free: bool = False,
        is_described: bool = True,
    ) -> None:
        """Add an address for GET and HEAD.

        Args:
            path: the address.
            handler: takes the request or nothing.
            answer: schema of the answer; None: any object.
            media: its content type.
            is_free: whether it needs no token.
            is_described: whether it is part of the API's description.
        """
        if is_free:
            self.free |= {("GET", path), ("HEAD", path)}
        schema = {"type": "object"} if answer is None else answer
        ok = {200: {"description": "OK", "content": {media: {"schema": schema}}}}
        self._add(path, handler, "GET", ok, {} if is_described else None)

    def post(
        self,
        path: str,
        handler: Handler,
        bodies: Mapping[str, Mapping[str, Any]],
        answers: Mapping[str, Mapping[str, Any]],
        *,
        is_described: bool = True,
    ) -> None:
        """Add an address for POST.

        Args:
            path: the address.
            handler: takes the request.
            bodies: schemas of the body by content type.
            answers: schemas of the answer by content type.
            is_described: whether it is part of the API's description.
        """
        ok = {200: {"description": "Predictions", "content": _content(answers)}}
        body = {"requestBody": {"required": True, "content": _content(bodies)}}
        self._add(path, handler, "POST", _errors(_OF_BODY) | ok, body if is_described else None)

    def description(self) -> dict[str, Any]:
        """The API as OpenAPI describes it."""
        paths: dict[str, Any] = {}
        for add_to in self._described:
            add_to(paths)
        found = {
            "openapi": "3.1.0",
            "info": {"title": self._title, "version": tf_image_classification.__version__},
            "paths": paths,
        }
        if self._has_token:
            found["components"] = {
                "securitySchemes": {_BEARER: {"type": "http", "scheme": "bearer"}}
            }
        return found

    def _add(
        self,
        path: str,
        handler: Handler,
        method: str,
        responses: Mapping[int, Any],
        more: Mapping[str, Any] | None,
    ) -> None:
        """Add an address; ``more`` is of its description, None without one."""
        self.all.append(Route(path, _of_request(handler), methods=[method]))
        if more is None:
            return
        is_free = (method, path) in self.free

        def add_to(paths: dict[str, Any]) -> None:
            plain = path.replace(":part}", "}")
            parameters = [
                {"name": name, "in": "path", "required": True, "schema": schema}
                for name, schema in _PARAMETERS.items()
                if f"{{{name}}}" in plain
            ]
            errors = self._errors(is_free=is_free, has_parameters=bool(parameters))
            all_responses = {**errors, **responses}
            name = handler.__name__
            paths.setdefault(plain, {})[method.lower()] = {
                "summary": name.title(),
                "description": inspect.getdoc(handler),
                "operationId": re.sub(r"\W", "_", f"{name}{plain}_{method.lower()}"),
                **({"parameters": parameters} if parameters else {}),
                **more,
                "responses": {
                    str(status): all_responses[status] for status in sorted(all_responses)
                },
                **({"security": [{_BEARER: []}]} if self._has_token and not is_free else {}),
            }

        self._described.append(add_to)

    def _errors(self, *, is_free: bool, has_parameters: bool) -> dict[int, dict[str, Any]]:
        texts = {}
        if self._has_token and not is_free:
            texts[401] = "The bearer token is missing or wrong."
        if has_parameters:
            texts[404] = "There is no such version."
        return _errors(texts)


def _of_request(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The handler as a function of the request."""
    if inspect.signature(handler).parameters:
        return handler

    async def without_request(request: Request) -> Response:
        return await handler()

    return without_request


_OF_BODY = {
    400: "The body is not such a request, or an image cannot be used.",
    413: "The request is too large.",
    415: "The body is compressed.",
    500: "A fault of the server.",
    503: "The server is busy; try again later.",
    504: "It took too long.",
}


def _errors(texts: Mapping[int, str]) -> dict[int, dict[str, Any]]:
    return {
        status: {"description": text, "content": _content({_JSON: ERROR})}
        for status, text in texts.items()
    }


def _content(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {media: {"schema": dict(schema)} for media, schema in schemas.items()}
