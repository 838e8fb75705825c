"""The process of a model's HTTP server: start, warm-up, shutdown.

serve(load_model("runs/pets"), ServerOptions(name="pets"), "127.0.0.1", 8501)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import uvicorn

from tf_image_classification.serving.app import ServerOptions, make_app
from tf_image_classification.serving.connections import limited_protocol
from tf_image_classification.serving.inference_queue import declared_pixels
from tf_image_classification.serving.predictor import Predictor
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


def prepare_threads() -> None:
    """Let TensorFlow begin more operations at once than there are cores.

    Otherwise the decoding of large images occupies all of its threads, and small images wait.
    """
    if "TF_NUM_INTEROP_THREADS" in os.environ:
        return
    with contextlib.suppress(RuntimeError):  # TensorFlow is in use already, in a larger program
        tf.config.threading.set_inter_op_parallelism_threads(2 * (os.cpu_count() or 1) + 2)


def _warm_up(model: Predictor) -> None:
    """Trace every function of a request, so that the first client does not wait for it."""
    pixels = tf.zeros([8, 8, 3], tf.uint8)
    images = [tf.io.encode_jpeg(pixels).numpy(), tf.io.encode_png(pixels).numpy()]
    for image in images:
        declared_pixels(image)
    model.outputs(tf.stack([model.prepare(image) for image in images]))


def uvicorn_options(options: ServerOptions) -> dict[str, Any]:
    """Uvicorn's settings for a server."""
    return {
        "http": limited_protocol(options.connections),
        "ws": "none",
        "log_level": os.environ.get("TFIC_LOG_LEVEL", "warning"),
        "timeout_keep_alive": 5,
        "timeout_graceful_shutdown": int(options.timeout_secs) + 1,
    }
