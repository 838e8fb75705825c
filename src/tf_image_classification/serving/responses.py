"""Responses with the outputs of a model."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse


class OutputsResponse(JSONResponse):
    """Outputs of a model as JSON, with NaN and Infinity as TensorFlow Serving writes them."""

    def render(self, content: Any) -> bytes:
        """The text of some outputs."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
