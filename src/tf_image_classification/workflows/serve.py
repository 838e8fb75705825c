"""``tfic serve``: an HTTP server for the exported models of runs."""

from __future__ import annotations

import functools
import socket
from collections.abc import Mapping

from tf_image_classification.errors import ConfigError
from tf_image_classification.serving import predictor, server
from tf_image_classification.serving.app import ServerOptions
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.serving.reloading import Source, folder_state


def serve_folders(
    model_dirs: Mapping[str, str], options: ServerOptions, host: str, port: int, *, max_pixels: int
) -> None:
    """Serve the exported models of runs until a signal stops the server.

    Args:
        model_dirs: folders of the runs by the models' names in addresses.
        options: of the server.
        host: address to listen at.
        port: port to listen at.
        max_pixels: larger images are rejected.

    Raises:
        ConfigError: the port is taken.
        TficError: a model cannot be loaded.
        Stopped: by a signal.
    """
    _check_free(host, port)
    from tf_image_classification.serving import tensorflow_engine  # late: TensorFlow

    tensorflow_engine.prepare_threads()
    models, sources = {}, {}
    for name, model_dir in model_dirs.items():
        load = functools.partial(_load, model_dir, max_pixels)
        state = folder_state(model_dir)
        models[name] = predictor.load_model(model_dir, max_pixels=max_pixels)
        sources[name] = Source(model_dir, state, load)
        print(f"{name}, step {models[name].step}: http://{host}:{port}", flush=True)
    server.serve(models, options, host, port, sources)


def _load(model_dir: str, max_pixels: int) -> Predictor:
    """A newer export of a folder, as fast for its first request as for the next ones."""
    model = predictor.load_model(model_dir, max_pixels=max_pixels)
    server.warm_up(model)
    return model


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConfigError(
            f"Nothing can listen at {host}, port {port}: {error.strerror}. Choose another --port "
            "or --host."
        ) from error
