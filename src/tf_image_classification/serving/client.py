"""A client of a served model, for its predictions of many images.

    server = ModelServer("http://localhost:8080", timeout_secs=60)
    server.classes                       {"label": ("cat", "dog")}
    server.predict(images)               a dictionary of outputs for each

It speaks TensorFlow Serving's REST API as ``tfic serve`` does, whose metadata hold class names.
"""

from __future__ import annotations

import base64
import functools
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from tf_image_classification.errors import ConfigError, DataError, did_you_mean

_MAX_IMAGES, _MAX_BYTES = 16, 8 * 2**20  # of a request
_NUM_TRIES = 4
_WAIT_SECS = 0.5  # before the second try; doubled before each further one
_BUSY = (429, 502, 503, 504)
_MODEL = re.compile(r"/v1/models/([^/:]+)((?:/versions/[^/:]+|/labels/[^/:]+)?)(?::predict)?/?$")
_ROOT = re.compile(r"^(.*?)/?(?:v1(?:/models)?|v2|health|docs)?/?$")


def is_server(given: str) -> bool:
    """Whether a text is the address of a server.

    Raises:
        ConfigError: it looks like one without its scheme.
    """
    if given.startswith(("http://", "https://")):
        return True
    if re.fullmatch(r"(localhost|[\w-]+(\.[\w-]+)+|\[[0-9a-f:]+\]):\d+(/.*)?", given):
        raise ConfigError(f"{given} looks like a server. Write http://{given}")
    return False


class ModelServer:
    """One model of a server.

    Attributes:
        url: as it was given.
    """

    def __init__(self, url: str, *, token: str = "", timeout_secs: float = 60.0) -> None:
        """Store the address; nothing is sent.

        Args:
            url: of the server, of one of its models, or of the model's predictions.
            token: bearer token, or "".
            timeout_secs: of each request.
        """
        self.url = url
        self._token, self._timeout_secs = token, timeout_secs
        parts = urllib.parse.urlsplit(url)
        found = _MODEL.search(parts.path)
        self._name, self._version = (found[1], found[2]) if found else ("", "")
        before = parts.path[: found.start()] if found else _ROOT.sub(r"\1", parts.path)
        self._root = urllib.parse.urlunsplit((parts.scheme, parts.netloc, before, "", ""))

    @functools.cached_property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """The class names by label; () of a regression label.

        Raises:
            DataError: the server cannot be reached, or does not name its classes.
            ConfigError: it has several models and the address names none of them.
        """
        metadata = self._json(f"{self._address}/metadata")
        try:
            return {
                name: tuple(classes) for name, classes in metadata["metadata"]["labels"].items()
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{self.url} does not name its classes. Compare its predictions as a CSV, or serve "
                "the model with tfic serve."
            ) from error

    def predict(self, images: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        """The outputs of each encoded image by name, in order.

        Raises:
            DataError: the server cannot be reached, or rejects an image.
        """
        start = 0
        while start < len(images):
            end, size = start, 0
            while end < len(images) and end - start < _MAX_IMAGES:
                size += len(images[end])
                if size > _MAX_BYTES and end > start:
                    break
                end += 1
            yield from self._predicted(images[start:end])
            start = end

    @functools.cached_property
    def _address(self) -> str:
        if not self._name:
            names = self._json(f"{self._root}/v1/models").get("models") or []
            names = [one["name"] if isinstance(one, dict) else one for one in names]
            if len(names) != 1:
                raise ConfigError(
                    f"{self.url} serves {len(names)} models ({', '.join(names)}). Name one: "
                    f"{self._root}/v1/models/{names[0] if names else 'NAME'}"
                )
            self._name = names[0]
        return f"{self._root}/v1/models/{self._name}{self._version}"

    def _predicted(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        encoded = [{"b64": base64.b64encode(one).decode()} for one in images]
        try:
            found = self._json(f"{self._address}:predict", {"instances": encoded})
        except _TooLargeError:
            if len(images) == 1:
                raise
            half = len(images) // 2
            return self._predicted(images[:half]) + self._predicted(images[half:])
        rows = found.get("predictions")
        if not isinstance(rows, list) or len(rows) != len(images):
            raise DataError(f"{self.url} gave no predictions for {len(images)} images.")
        if not rows or isinstance(rows[0], dict):
            return rows
        [(name, classes)] = self.classes.items()  # a single output has no name
        return [{name if not classes else f"{name}_probabilities": row} for row in rows]

    def _json(self, address: str, body: Any = None) -> dict[str, Any]:
        """The value of an answer; busy servers are asked again."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        for attempt in range(_NUM_TRIES):
            try:
                request = urllib.request.Request(address, data, headers)
                with urllib.request.urlopen(request, timeout=self._timeout_secs) as answer:
                    found = json.loads(answer.read())
                    return found if isinstance(found, dict) else {}
            except urllib.error.HTTPError as error:
                problem, is_temporary = self._problem(error, address), error.code in _BUSY
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                problem = f"it cannot be reached ({reason}). Is it running, and is the port right?"
                is_temporary = not isinstance(reason, ConnectionRefusedError) or body is not None
            except ValueError:
                problem, is_temporary = "its answer is not JSON. Is it tfic serve?", False
            if not is_temporary or attempt == _NUM_TRIES - 1:
                break
            time.sleep(_WAIT_SECS * 2**attempt)
        raise DataError(f"{address}: {problem}")

    def _problem(self, error: urllib.error.HTTPError, address: str) -> str:
        """What a server says about a request that it rejects.

        Raises:
            ConfigError: it wants a token, or lacks the model.
            DataError: the request is too large.
        """
        try:
            text = str(json.loads(error.read())["error"])
        except (ValueError, KeyError, TypeError, OSError):
            text = str(error.reason)
        if error.code in (401, 403):
            raise ConfigError(f"{self.url}: {text} Give --token_file.") from error
        listing = f"{self._root}/v1/models"
        if error.code == 404 and self._name and address != listing:
            known = self._json(listing).get("models") or []
            names = [one for one in known if isinstance(one, str)]
            if names and self._name not in names:
                raise ConfigError(
                    f"{self.url}: there is no model {self._name!r}. "
                    f"{did_you_mean(self._name, names)}"
                ) from error
        if error.code == 413:
            raise _TooLargeError(f"{self.url}: {text}") from error
        return f"HTTP {error.code}: {text}"


class _TooLargeError(DataError):
    """A request has too many or too large images; fewer are sent."""
