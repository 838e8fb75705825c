"""Requests for predictions: parsing their JSON, and the JSON schemas of the API.

images, field = images_of(parsed(body))      encoded images, and their field's name for errors
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from typing import Any

INPUT = "image_bytes"
MAX_IMAGES = 128
"""Max images of a request."""


class RefusedError(Exception):
    """A request is answered with an HTTP error.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _object(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has these keys."""
    return {"type": "object", "properties": properties, "required": [*properties]}


def _closed(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has these keys alone."""
    return _object(**properties) | {"additionalProperties": False}


def _images(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": MAX_IMAGES}


_B64 = _object(
    b64={
        "type": "string",
        "description": "an encoded image in base64; line breaks, the URL-safe alphabet, "
        "missing padding and a data: prefix are accepted",
    }
)
BODY = {
    "oneOf": [
        _object(instances=_images({"oneOf": [_B64, _object(**{INPUT: _B64})]})),
        _object(inputs=_object(**{INPUT: _images(_B64)})),
    ]
}
"""Schema of a request, in TensorFlow Serving's row or column format."""

ANSWER = {
    "oneOf": [
        _closed(predictions={"type": "array", "items": {"type": "object"}}),
        _closed(outputs={"type": "object", "additionalProperties": {"type": "array"}}),
    ]
}
"""Schema of the answer, in the format of the request."""

ERROR = _closed(error={"type": "string"})
"""Schema of an error."""


def parsed(data: bytes) -> Any:
    """The value of a JSON body.

    Raises:
        RefusedError: it is not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "The body is no JSON.") from error


def images_of(body: Any) -> tuple[list[bytes], str]:
    """The encoded images of a request, and their field.

    The field is ``instances`` (row format) or ``inputs.image_bytes`` (column format).

    Raises:
        RefusedError: the body has another form, holds too many images, or one is not base64.
    """
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        raise RefusedError(400, 'Expected {"instances": [...]} or {"inputs": {...}}.')
    signature = body.get("signature_name", "serving_default")
    if signature not in ("", "serving_default"):
        raise RefusedError(400, "There is one signature, serving_default.")
    field = "inputs" if "inputs" in body else "instances"
    given = body[field]
    if field == "inputs" and isinstance(given, dict):
        field, given = f"inputs.{INPUT}", given.get(INPUT)
    if not isinstance(given, list) or not given:
        raise RefusedError(
            400, f'{field}: expected a list of images, as {{"{INPUT}": {{"b64": ...}}}}.'
        )
    if len(given) > MAX_IMAGES:
        raise RefusedError(413, f"{len(given)} images in a request, at most {MAX_IMAGES}.")
    return [_decoded(one, f"{field}[{number}]") for number, one in enumerate(given)], field


def _decoded(value: Any, where: str) -> bytes:
    if isinstance(value, dict) and INPUT in value:
        value = value[INPUT]
    if not isinstance(value, dict) or not isinstance(value.get("b64"), str):
        raise RefusedError(400, f'{where} is not of the form {{"b64": "..."}}.')
    text = value["b64"]
    try:
        return base64_bytes(text)
    except ValueError as error:
        raise RefusedError(400, f"{where} is not base64: {error}.") from error


def base64_bytes(text: str) -> bytes:
    r"""The bytes of a base64 text, in any of the usual variants.

    Line breaks with blanks around them, the URL-safe alphabet, missing padding and a prefix
    ``data:image/png;base64,`` are accepted.

    Raises:
        ValueError: it is not base64; names the character and its place.

    Example:
        >>> base64_bytes("_-8\n")
        b'\xff\xef'
    """
    with contextlib.suppress(ValueError):  # the usual form, several times as fast
        return base64.b64decode(text, validate=True)
    prefix = re.match(r"\s*data:[^,]{0,200};base64,", text)
    start = prefix.end() if prefix else 0
    lines = [line.strip() for line in text[start:].splitlines()]
    packed = "".join(lines).rstrip("=").translate(_FROM_URL_SAFE)
    wrong = re.search(r"[^A-Za-z0-9+/]", packed)
    if wrong is not None:
        found, at = wrong[0], wrong.start()
        hint = " (a + that was decoded like a form's becomes a blank)" if found == " " else ""
        raise ValueError(
            f"{found!r} at character {at + 1}{hint}, expected an image file's bytes in base64"
        )
    if len(packed) % 4 == 1:
        raise ValueError(f"{len(packed)} characters, so at least one is missing or too many")
    return base64.b64decode(packed + "=" * (-len(packed) % 4))


_FROM_URL_SAFE = str.maketrans("-_", "+/")
