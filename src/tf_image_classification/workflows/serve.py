"""``tfic serve``: an HTTP server for the exported models of runs."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Mapping

from tf_image_classification.errors import ConfigError
from tf_image_classification.export.names import AUTO
from tf_image_classification.export.weight_size import has_small_weights
from tf_image_classification.model_folder import ModelFolder
from tf_image_classification.serving import predictor, server
from tf_image_classification.serving.app import ServerOptions
from tf_image_classification.serving.predictor import Predictor
from tf_image_classification.serving.reloading import Source, folder_state


def serve_folders(
    model_dirs: Mapping[str, str],
    options: ServerOptions,
    host: str,
    port: int,
    *,
    max_pixels: int,
    engine: str = AUTO,
    before_tensorflow: Callable[[bool], None] = lambda with_onednn: None,
) -> None:
    """Serve the exported models of runs until a signal stops the server.

    Args:
        model_dirs: folders of the runs by the models' names in addresses.
        options: of the server.
        host: address to listen at.
        port: port to listen at.
        max_pixels: larger images are rejected.
        engine: one of ``export.names.ENGINES``.
        before_tensorflow: called before TensorFlow is imported, if the engine needs it, with
            whether oneDNN makes no request slower: with the weights of all models as constants.

    Raises:
        ConfigError: the port is taken.
        TficError: a model cannot be loaded.
        Stopped: by a signal.
    """
    _check_free(host, port)

    def prepare() -> None:
        folders = map(ModelFolder, model_dirs.values())
        before_tensorflow(all(has_small_weights(folder.saved_model) for folder in folders))
        from tf_image_classification.serving import tensorflow_engine  # late: TensorFlow

        tensorflow_engine.prepare_threads()

    models, sources = {}, {}
    for name, model_dir in model_dirs.items():
        state = folder_state(model_dir)
        load = functools.partial(
            predictor.load_model,
            model_dir,
            max_pixels=max_pixels,
            engine=engine,
            before_tensorflow=prepare,
        )
        models[name] = load()
        sources[name] = Source(model_dir, state, functools.partial(_newer, name, load))
        print(f"{_described(name, models[name])}: http://{host}:{port}", flush=True)
    server.serve(models, options, host, port, sources)


def _newer(name: str, load: Callable[[], Predictor]) -> Predictor:
    """A newer export of a folder, as fast for its first request as for the next ones."""
    model = load()
    server.warm_up(model)
    print(f"{_described(name, model)}: loaded from a folder that has changed", flush=True)
    return model


def _described(name: str, model: Predictor) -> str:
    return f"{name}, step {model.step}, engine {model.engine.name}"


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConfigError(
            f"Nothing can listen at {host}, port {port}: {error.strerror}. Choose another --port "
            "or --host."
        ) from error
