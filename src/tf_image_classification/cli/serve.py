"""``tfic serve MODEL_DIR``: an HTTP server for the exported model of a folder."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from tf_image_classification import files, train_estimator
from tf_image_classification.config import make_settings
from tf_image_classification.errors import ConfigError

_EXAMPLE = "example: tfic serve runs/pets --port 8501, then open http://127.0.0.1:8501"
_TOKEN = "TFIC_TOKEN"


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop; returns the exit status."""
    given = _parser().parse_args(arguments)
    with train_estimator.ends_the_process():
        train_estimator.prepare_tensorflow(make_settings({"deterministic": False}))
        try:
            from tf_image_classification.serving import server
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"The server needs {error.name}. Install it with: "
                "pip install 'tf_image_classification[serve]'."
            ) from error
        from tf_image_classification.serving.batcher import Limits
        from tf_image_classification.serving.predictor import load_model

        told = server.environment_options(os.environ)
        port = given.port or int(told.pop("port", 0))
        host = given.host or ("0.0.0.0" if port and not given.port else "127.0.0.1")
        options = server.ServerOptions(
            name=given.name or os.path.basename(os.path.abspath(given.model_dir)),
            limits=Limits(given.max_batch_size, given.max_wait_ms, given.max_queue),
            max_body_bytes=int(given.max_body_mb * 2**20),
            timeout_secs=given.timeout_secs,
            token=_token(given.token_file),
            **told,
        )
        model = load_model(given.model_dir, max_pixels=given.max_image_pixels)
        port = port or 8501
        print(f"{options.name}, step {model.step}: http://{host}:{port}", flush=True)
        server.serve(model, options, host, port)
    return 0


def _token(path: str) -> str:
    if not path:
        return os.environ.get(_TOKEN, "")
    token = files.read_text(path).strip()
    if not token:
        raise ConfigError(f"--token_file {path} is empty.")
    return token


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "tfic serve",
        description="Serve the exported model of a folder over HTTP: TensorFlow Serving's REST "
        "API, Vertex AI's contract of prediction containers, and a page to drop pictures on.",
        epilog=_EXAMPLE,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model_dir", help="folder of a run with an exported model")
    add("--host", default="", help="address to listen at (127.0.0.1; 0.0.0.0 under Vertex AI)")
    add("--port", type=int, default=0, help="port (AIP_HTTP_PORT, or else 8501)")
    add("--name", default="", help="the model's name in addresses (the folder's)")
    add("--token_file", default="", help=f"file with the bearer token to ask for (else ${_TOKEN})")
    add("--max_batch_size", type=int, default=32, help="images computed together (32)")
    add("--max_wait_ms", type=float, default=0.0, help="how long to wait for more of them (0)")
    add("--max_queue", type=int, default=512, help="images that may wait (512)")
    add("--max_body_mb", type=float, default=32.0, help="MiB of a request (32)")
    add("--max_image_pixels", type=int, default=50_000_000, help="larger images are refused")
    add(
        "--timeout_secs", type=float, default=30.0, help="for a request's body, and its answer (30)"
    )
    return parser
