"""``tfic serve MODEL_DIR``: an HTTP server for the exported model of a folder."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence

from tf_image_classification.cli import arguments as cli_arguments
from tf_image_classification.config import make_settings
from tf_image_classification.errors import ConfigError
from tf_image_classification.system import files
from tf_image_classification.system.process_exit import ends_the_process
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

_EXAMPLE = "example: tfic serve runs/pets --port 8501, then open http://127.0.0.1:8501"
_TOKEN = "TFIC_TOKEN"
_LAST_PORT = 65535


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop; returns the exit status."""
    given = _parser().parse_args(cli_arguments.with_model_dir_first(arguments))
    with ends_the_process():
        _check(given)
        prepare_tensorflow(make_settings({"deterministic": False}))
        try:
            from tf_image_classification.serving import server
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"The server needs {error.name}. Install it with: "
                "pip install 'tf_image_classification[serve]'."
            ) from error
        from tf_image_classification.serving.app import ServerOptions
        from tf_image_classification.serving.batcher import Limits
        from tf_image_classification.serving.connections import ConnectionLimits
        from tf_image_classification.workflows.serve import serve_folder

        told = server.environment_options(os.environ)
        told_port = _port(told.pop("port", ""), "AIP_HTTP_PORT")
        port = given.port or told_port or 8501
        host = given.host or ("0.0.0.0" if told_port and not given.port else "127.0.0.1")
        options = ServerOptions(
            name=_name(given),
            limits=Limits(given.max_batch_size, given.max_wait_ms, given.max_queue),
            connections=ConnectionLimits(
                given.max_connections, given.header_timeout_secs, given.timeout_secs
            ),
            max_body_bytes=int(given.max_body_mb * 2**20),
            max_request_pixels=given.max_request_pixels,
            timeout_secs=given.timeout_secs,
            token=_token(given.token_file),
            predict_route=told.get("predict_route", ""),
            health_route=told.get("health_route", ""),
        )
        serve_folder(given.model_dir, options, host, port, max_pixels=given.max_image_pixels)
    return 0


def _check(given: argparse.Namespace) -> None:
    """See that every number is one that the server can work with."""
    _port(str(given.port), "--port")
    for name in ("max_batch_size", "max_queue", "max_image_pixels", "max_connections"):
        if getattr(given, name) < 1:
            raise ConfigError(f"--{name} is {getattr(given, name)}, expected at least 1.")
    if given.max_request_pixels and given.max_request_pixels < given.max_image_pixels:
        raise ConfigError(
            f"--max_request_pixels is {given.max_request_pixels}, less than --max_image_pixels "
            f"{given.max_image_pixels}. Raise it, or lower --max_image_pixels."
        )
    for name in ("max_body_mb", "timeout_secs", "header_timeout_secs", "max_wait_ms"):
        value = getattr(given, name)
        is_possible = value >= 0 if name == "max_wait_ms" else value > 0
        if not (is_possible and math.isfinite(value)):
            least = "at least 0" if name == "max_wait_ms" else "a number above 0"
            raise ConfigError(f"--{name} is {value:g}, expected {least}.")


def _name(given: argparse.Namespace) -> str:
    """The model's name in addresses.

    Raises:
        ConfigError: an address cannot hold it.
    """
    name: str = given.name or os.path.basename(os.path.abspath(given.model_dir))
    if not name or set(name) & set("/{}?#%"):
        raise ConfigError(
            f"The model's name {name!r} cannot stand in an address. Choose another with --name."
        )
    return name


def _port(text: str, origin: str) -> int:
    """A port, or 0 where none is given."""
    if text and not (text.isdecimal() and int(text) <= _LAST_PORT):
        raise ConfigError(f"{origin} is {text}, expected a port, 1 to {_LAST_PORT}.")
    return int(text or 0)


def _token(path: str) -> str:
    if not path:
        return os.environ.get(_TOKEN, "")
    try:
        token = files.read_text(path).strip()
    except OSError as error:
        raise ConfigError(f"--token_file {path} cannot be read: {error}.") from error
    if not token:
        raise ConfigError(f"--token_file {path} is empty.")
    return token


def _parser() -> cli_arguments.Parser:
    parser = cli_arguments.Parser(
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
    add(
        "--max_image_pixels",
        type=int,
        default=50_000_000,
        help="larger images are refused (50000000)",
    )
    add(
        "--max_request_pixels",
        type=int,
        default=0,
        help="of all images of a request together (four times --max_image_pixels)",
    )
    add("--max_connections", type=int, default=512, help="open at the same time (512)")
    add("--header_timeout_secs", type=float, default=10.0, help="for the headers of a request (10)")
    add(
        "--timeout_secs", type=float, default=30.0, help="for a request's body, and its answer (30)"
    )
    return parser
