"""Images in bodies that are not JSON: one image file, or a form whose parts are image files.

curl --data-binary @cat.jpg URL
curl -H 'Content-Type: image/jpeg' --data-binary @cat.jpg URL
curl -F image=@cat.jpg -F image=@dog.jpg URL
"""

from __future__ import annotations

import email.message
from typing import Any

from tf_image_classification.serving.requests import RefusedError, RequestImages

_FORM = "multipart/form-data"
_RAW = ("application/octet-stream", "application/x-image")
_UNKNOWN = ("", "application/x-www-form-urlencoded")  # curl's own choice for any body

BODIES: dict[str, dict[str, Any]] = {
    "image/jpeg": {"type": "string", "format": "binary"},
    _FORM: {
        "type": "object",
        "properties": {"image": {"type": "string", "format": "binary"}},
        "minProperties": 1,
        "additionalProperties": {"type": "string", "format": "binary"},
    },
}
"""Schemas of such bodies by content type, for the description of the API."""


def raw_images(content_type: str, data: bytes) -> RequestImages | None:
    """The images of a body that is not JSON; None for JSON.

    Args:
        content_type: the header.
        data: the body.

    Raises:
        RefusedError: a form is damaged or empty.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _FORM:
        return _of_form(content_type, data)
    is_json = data.lstrip()[:1] in (b"{", b"[", b"")
    if kind.startswith("image/") or kind in _RAW or (kind in _UNKNOWN and not is_json):
        return RequestImages([data], "body")
    return None


def _of_form(content_type: str, data: bytes) -> RequestImages:
    header = email.message.Message()
    header["content-type"] = content_type
    boundary = header.get_boundary("")
    if not boundary or not boundary.isascii():
        raise RefusedError(400, f"The content type {_FORM} has no boundary. Let the client set it.")
    first, *parts = (b"\r\n" + data).split(b"\r\n--" + boundary.encode())
    if first or not parts or not parts[-1].startswith(b"--"):
        raise RefusedError(400, "The form is incomplete: its boundary is missing at an end.")
    files = [part.partition(b"\r\n\r\n")[2] for part in parts[:-1]]  # after its headers
    if not files:
        raise RefusedError(400, "The form is empty. Send images as curl -F image=@cat.jpg.")
    return RequestImages(files, "files")
