"""Amazon SageMaker's contract of inference containers.

GET  /ping            health
POST /invocations     predictions of the server's first model, as TensorFlow Serving's :predict
"""

from __future__ import annotations

from starlette.responses import JSONResponse

from tf_image_classification.serving.routes import Routes

INVOCATIONS = "/invocations"
"""A further address of ``TensorFlowServing.predict``."""


class SageMaker:
    """The address for health; predictions have ``INVOCATIONS``."""

    def add_to(self, routes: Routes) -> None:
        """Add the address."""
        routes.get("/ping", self.ping, is_free=True)

    async def ping(self) -> JSONResponse:
        """Whether the server answers."""
        return JSONResponse({"status": "ok"})
