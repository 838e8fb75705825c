"""The process of an HTTP server: start, warm-up, shutdown.

serve({"pets": load_model("runs/pets")}, ServerOptions(), "127.0.0.1", 8501)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import uvicorn

from tf_image_classification.serving.app import ServerOptions, make_app
from tf_image_classification.serving.connections import limited_protocol
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.serving.reloading import Source
from tf_image_classification.serving.rendering import seen_image
from tf_image_classification.system import signals


def environment_options(environment: Mapping[str, str]) -> dict[str, str]:
    """The routes and port that Vertex AI or SageMaker set for a container, by option name.

    Example:
        >>> environment_options({"AIP_HTTP_PORT": "8080"})
        {'port': '8080'}
    """
    names = {
        "SAGEMAKER_BIND_TO_PORT": "port",
        "AIP_PREDICT_ROUTE": "predict_route",
        "AIP_HEALTH_ROUTE": "health_route",
        "AIP_HTTP_PORT": "port",
    }
    return {name: environment[key] for key, name in names.items() if environment.get(key)}


def serve(
    models: MutableMapping[str, Predictor],
    options: ServerOptions,
    host: str,
    port: int,
    sources: Mapping[str, Source] | None = None,
) -> None:
    """Serve until a signal stops the server; accepted requests are answered first.

    Args:
        models: by their names in addresses; taken out, as by ``make_app``.
        options: of the server.
        host: address to listen at.
        port: port to listen at.
        sources: the folders of the models that are reloaded.

    Raises:
        Stopped: by a signal.
    """
    for name in models:
        warm_up(models[name])
    app = make_app(models, options, sources)
    config = uvicorn.Config(app, host=host, port=port, **uvicorn_options(options))
    running = uvicorn.Server(config)

    def stop() -> None:
        running.should_exit = True

    # uvicorn itself handles SIGTERM and Ctrl-C, and raises them again when all is answered.
    with signals.deferred(then=stop):
        running.run()
    signals.check()
    if not running.started:
        raise SystemExit(1)  # uvicorn has written why


def warm_up(model: Predictor) -> None:
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
