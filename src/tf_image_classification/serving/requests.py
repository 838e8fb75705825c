"""Requests for predictions: their JSON, the images in it, and how the API describes both.

images, origin = images_of(parsed(body))      encoded images, and what they are called in errors
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from typing import Any

INPUT = "image_bytes"
MAX_IMAGES = 128
"""Images in one request."""


class RefusedError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


_B64 = {
    "type": "object",
    "properties": {
        "b64": {
            "type": "string",
            "description": "an encoded image in base64; line breaks, the URL-safe alphabet, "
            "missing padding and a data: prefix are accepted",
        }
    },
    "required": ["b64"],
}
_NAMED = {"type": "object", "properties": {INPUT: _B64}, "required": [INPUT]}
BODY = {
    "oneOf": [
        {
            "type": "object",
            "properties": {
                "instances": {
                    "type": "array",
                    "items": {"oneOf": [_B64, _NAMED]},
                    "minItems": 1,
                    "maxItems": MAX_IMAGES,
                }
            },
            "required": ["instances"],
        },
        {
            "type": "object",
            "properties": {
                "inputs": {
                    "type": "object",
                    "properties": {
                        INPUT: {
                            "type": "array",
                            "items": _B64,
                            "minItems": 1,
                            "maxItems": MAX_IMAGES,
                        }
                    },
                    "required": [INPUT],
                }
            },
            "required": ["inputs"],
        },
    ]
}
"""The body of a request for predictions: by rows or by columns, as TensorFlow Serving takes it."""

ANSWER = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"predictions": {"type": "array", "items": {"type": "object"}}},
            "required": ["predictions"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "outputs": {"type": "object", "additionalProperties": {"type": "array"}}
            },
            "required": ["outputs"],
            "additionalProperties": False,
        },
    ]
}
"""The answer, in rows or in columns like the request."""

ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
}
"""The body of every answer that is an error."""


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
    """The encoded images of a request, and the field that they came in.

    The field is ``instances``, or ``inputs.image_bytes`` where the answer goes in columns as well.

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
    r"""The bytes that base64 stands for, in all of the forms that programs write.

    Line breaks and the blanks around them, the URL-safe alphabet, missing padding and a prefix
    ``data:image/png;base64,`` are accepted.

    Raises:
        ValueError: it is not base64; says what was found where.

    Example:
        >>> base64_bytes("_-8\\n")
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
