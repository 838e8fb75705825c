"""The images of a request, base64, and the JSON schemas that the protocols share."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

INPUT = "image_bytes"
"""Name of the input that takes encoded images."""

PREPARED_INPUT = "images"
"""Name of the input that takes preprocessed images, as in an exported SavedModel."""

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


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """A preprocessed image.

    Attributes:
        values: the model's input [H, W, C].
    """

    values: npt.NDArray[Any]


RequestImage = bytes | npt.NDArray[np.uint8] | PreparedImage
"""An encoded image; decoded pixels [h, w, 3]; or a preprocessed image."""


@dataclasses.dataclass(frozen=True)
class RequestImages:
    """The images of a request.

    Attributes:
        images: the images.
        field: name of their list in the request, for messages.
    """

    images: Sequence[RequestImage]
    field: str

    def __post_init__(self) -> None:
        if len(self.images) > MAX_IMAGES:
            raise RefusedError(
                413, f"{len(self.images)} images in a request, at most {MAX_IMAGES}."
            )


def object_schema(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has these keys."""
    return {"type": "object", "properties": properties, "required": [*properties]}


def closed_schema(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has these keys alone."""
    return object_schema(**properties) | {"additionalProperties": False}


def list_schema(items: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list with an entry for each image."""
    text = f"at most {MAX_IMAGES} images"
    return {"type": "array", "items": items, "minItems": 1, "description": text}


B64 = object_schema(
    b64={
        "type": "string",
        "format": "byte",
        "description": "an encoded image in base64; line breaks, the URL-safe alphabet, "
        "missing padding and a data: prefix are accepted",
    }
)
"""Schema of an encoded image."""

ERROR = closed_schema(error={"type": "string"})
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


def decoded_b64(value: Any, where: str) -> bytes:
    """The bytes of ``{"b64": "..."}``.

    Args:
        value: of the request.
        where: its place in the request, for messages.

    Raises:
        RefusedError: it has another form, or is not base64.
    """
    if not isinstance(value, dict) or not isinstance(value.get("b64"), str):
        raise RefusedError(400, f'{where} is not of the form {{"b64": "..."}}.')
    try:
        return base64_bytes(value["b64"])
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


def prepared_images(
    values: Any, shape: Sequence[int], dtype: npt.DTypeLike, field: str
) -> RequestImages:
    """The preprocessed images in nested lists of numbers, or in an array.

    Args:
        values: [n, H, W, C].
        shape: of the model's input, [H, W, C].
        dtype: of the model's input.
        field: their name in the request, for messages.

    Raises:
        RefusedError: they have another shape, or are no numbers.
    """
    expected = f"preprocessed images of shape {['n', *shape]}".replace("'", "")
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise RefusedError(400, f"{field} has rows of several lengths, expected {expected}.") from (
            error
        )
    is_number = np.issubdtype(array.dtype, np.number) or array.dtype == dtype
    if not is_number or array.shape[1:] != tuple(shape) or not array.shape[0]:
        found = f"an array of {array.dtype.name} {list(array.shape)}"
        raise RefusedError(400, f"{field} is {found}, expected {expected}.")
    with np.errstate(over="ignore", invalid="ignore"):
        images = array.astype(dtype, copy=False)
    return RequestImages([PreparedImage(one) for one in images], field)
