"""The process of a model's HTTP server: start, warm-up, shutdown.

serve(load_model("runs/pets"), ServerOptions(name="pets"), "127.0.0.1", 8501)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import uvicorn

from tf_image_classification.serving.app import ServerOptions, make_app
from tf_image_classification.serving.connections import limited_protocol
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.serving.rendering import seen_image
from tf_image_classification.system import signals


def environment_options(environment: Mapping[str, str]) -> dict[str, str]:
    """The routes and port that Vertex AI sets for a prediction container, by option name.

    Example:
        >>> environment_options({"AIP_HTTP_PORT": "8080"})
        {'port': '8080'}
    """
    names = {
        "predict_route": "AIP_PREDICT_ROUTE",
        "health_route": "AIP_HEALTH_ROUTE",
        "port": "AIP_HTTP_PORT",
    }
    return {name: environment[key] for name, key in names.items() if environment.get(key)}


def serve(model: Predictor, options: ServerOptions, host: str, port: int) -> None:
    """Serve until a signal stops the server; accepted requests are answered first.

    Raises:
        Stopped: by a signal.
    """
    _warm_up(model)
    config = uvicorn.Config(
        make_app(model, options), host=host, port=port, **uvicorn_options(options)
    )
    running = uvicorn.Server(config)

    def stop() -> None:
        running.should_exit = True

    # uvicorn itself handles SIGTERM and Ctrl-C, and raises them again when all is answered.
    with signals.deferred(then=stop):
        running.run()
    signals.check()
    if not running.started:
        raise SystemExit(1)  # uvicorn has written why


def _warm_up(model: Predictor) -> None:
    """Call every function of a request, so that the first client does not wait for it."""
    picture = np.zeros([8, 8, 3], np.uint8)
    images = [seen_image(picture, side=8), seen_image(picture)]  # JPEG and PNG
    for image in images:
        model.declared_pixels(image)
    model.outputs([model.prepare(image) for image in images])


def uvicorn_options(options: ServerOptions) -> dict[str, Any]:
    """Uvicorn's settings for a server."""
    return {
        "http": limited_protocol(options.connections),
        "ws": "none",
        "log_level": os.environ.get("TFIC_LOG_LEVEL", "warning"),
        "timeout_keep_alive": 5,
        "timeout_graceful_shutdown": int(options.timeout_secs) + 1,
    }
