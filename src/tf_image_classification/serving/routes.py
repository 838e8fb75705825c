"""Adds addresses to the application, with their descriptions in openapi.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Security
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from starlette.convertors import Convertor, register_url_convertor

from tf_image_classification.serving.hosted_model import LABELS
from tf_image_classification.serving.requests import ERROR

_JSON = "application/json"
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


class Routes:
    """Addresses of an application.

    Attributes:
        free: those that need no token, with the methods for which they need none.
    """

    def __init__(self, app: FastAPI, *, has_token: bool) -> None:
        self._app = app
        self._tokens = [Security(HTTPBearer(auto_error=False))] if has_token else []
        self.free: set[tuple[str, str]] = set()

    def get(
        self,
        path: str,
        handler: Callable[..., Any],
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
        responses = self._errors(is_free=is_free, has_parameters="{" in path)
        schema = {"type": "object"} if answer is None else answer
        responses[200] = {"description": "OK", "content": {media: {"schema": schema}}}
        kind = JSONResponse if media == _JSON else PlainTextResponse
        for method, is_shown in (("GET", is_described), ("HEAD", False)):
            self._add(path, handler, method, responses, kind, is_described=is_shown)

    def post(
        self,
        path: str,
        handler: Callable[..., Any],
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
        responses = self._errors(has_parameters="{" in path) | _errors(_OF_BODY)
        responses[200] = {"description": "Predictions", "content": _content(answers)}
        body = {"required": True, "content": _content(bodies)}
        more = {"requestBody": body}
        self._add(path, handler, "POST", responses, JSONResponse, more, is_described=is_described)

    def _add(
        self,
        path: str,
        handler: Callable[..., Any],
        method: str,
        responses: dict[int | str, dict[str, Any]],
        kind: type[Response],
        more: Mapping[str, Any] | None = None,
        *,
        is_described: bool,
    ) -> None:
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": schema}
            for name, schema in _PARAMETERS.items()
            if f"{{{name}:part}}" in path
        ]
        self._app.add_api_route(
            path,
            handler,
            methods=[method],
            dependencies=[] if (method, path) in self.free else self._tokens,
            responses=dict(sorted(responses.items(), key=lambda item: str(item[0]))),
            response_class=kind,
            response_model=None,
            openapi_extra={**(more or {}), **({"parameters": parameters} if parameters else {})},
            include_in_schema=is_described,
        )

    def _errors(
        self, *, is_free: bool = False, has_parameters: bool
    ) -> dict[int | str, dict[str, Any]]:
        texts = {}
        if self._tokens and not is_free:
            texts[401] = "The bearer token is missing or wrong."
        if has_parameters:
            texts[404] = "There is no such version."
        return _errors(texts)


_OF_BODY = {
    400: "The body is not such a request, or an image cannot be used.",
    413: "The request is too large.",
    415: "The body is compressed.",
    500: "A fault of the server.",
    503: "The server is busy; try again later.",
    504: "It took too long.",
}


def _errors(texts: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": text, "content": _content({_JSON: ERROR})}
        for status, text in texts.items()
    }


def _content(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {media: {"schema": dict(schema)} for media, schema in schemas.items()}
