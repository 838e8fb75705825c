"""``tfic serve``: an HTTP server for a run's exported model."""

from __future__ import annotations

import socket
from collections.abc import Callable

from tf_image_classification.errors import ConfigError
from tf_image_classification.serving import predictor, server
from tf_image_classification.serving.app import ServerOptions
from tf_image_classification.serving.engines import AUTO


def serve_folder(
    model_dir: str,
    options: ServerOptions,
    host: str,
    port: int,
    *,
    max_pixels: int,
    engine: str = AUTO,
    before_tensorflow: Callable[[], None] = lambda: None,
) -> None:
    """Serve a run's exported model until a signal stops the server.

    Args:
        model_dir: folder of the run.
        options: of the server.
        host: address to listen at.
        port: port to listen at.
        max_pixels: larger images are rejected.
        engine: one of ``serving.engines.ENGINES``.
        before_tensorflow: called before TensorFlow is imported, if the engine needs it.

    Raises:
        ConfigError: the port is taken.
        TficError: the model cannot be loaded.
        Stopped: by a signal.
    """
    _check_free(host, port)

    def prepare() -> None:
        before_tensorflow()
        from tf_image_classification.serving import tensorflow_engine  # late: TensorFlow

        tensorflow_engine.prepare_threads()

    model = predictor.load_model(
        model_dir, max_pixels=max_pixels, engine=engine, before_tensorflow=prepare
    )
    how = f"step {model.step}, engine {model.engine.name}"
    print(f"{options.name}, {how}: http://{host}:{port}", flush=True)
    server.serve(model, options, host, port)


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConfigError(
            f"Nothing can listen at {host}, port {port}: {error.strerror}. Choose another --port "
            "or --host."
        ) from error
