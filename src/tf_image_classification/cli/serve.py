"""``tfic serve MODEL_DIR``: an HTTP server for the exported models of folders."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence

from tf_image_classification.cli.verb import engine_argument, hide_absl, verb
from tf_image_classification.config import Settings, declare
from tf_image_classification.errors import ConfigError, UsageError
from tf_image_classification.system import faults, files
from tf_image_classification.workflows.setup.environment import prepare_tensorflow

TOKEN = "TFIC_TOKEN"
_MAX_PORT = 65535
_ABOVE_0 = (lambda number: number > 0, "a number above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of ``tfic serve``."""

    models: tuple[str, ...] = declare(
        (), "Further model folders to serve, also as NAME=DIR.", separator=""
    )
    host: str = declare("", "Address to listen on; empty: 127.0.0.1, or 0.0.0.0 under Vertex AI.")
    port: int = declare(
        0,
        "Port; 0: AIP_HTTP_PORT or SAGEMAKER_BIND_TO_PORT, or else 8501.",
        minimum=0,
        maximum=_MAX_PORT,
    )
    name: str = declare("", "Name of the first model in addresses; empty: that of its folder.")
    token_file: str = declare("", f"File with the bearer token to require; empty: ${TOKEN}.")
    cors: tuple[str, ...] = declare(
        (), "Origins whose web pages may use the server, e.g. https://example.org; * for all."
    )
    reload_secs: float = declare(
        10.0, "Seconds between looks for a newer export in the folders; 0: never.", minimum=0.0
    )
    max_batch_size: int = declare(32, "Maximum images per batch.", minimum=1)
    max_wait_ms: float = declare(
        0.0, "Milliseconds to wait for more images before a batch is computed.", minimum=0.0
    )
    max_queue: int = declare(512, "Maximum images in the queue.", minimum=1)
    max_body_mb: float = declare(32.0, "Maximum size of a request in MiB.", form=_ABOVE_0)
    max_image_pixels: int = declare(50_000_000, "Maximum pixels per image.", minimum=1)
    max_request_pixels: int = declare(
        0, "Maximum pixels per request; 0: four times --max_image_pixels.", minimum=0
    )
    max_connections: int = declare(512, "Maximum open connections.", minimum=1)
    header_timeout_secs: float = declare(
        10.0, "Timeout for the headers of a request.", form=_ABOVE_0
    )
    timeout_secs: float = declare(
        30.0, "Timeout for the body of a request, and for its response.", form=_ABOVE_0
    )
    engine: str = engine_argument()


@verb(
    "serve",
    Arguments,
    description="Serve the exported models of model folders over HTTP: TensorFlow Serving's REST "
    "API, the Open Inference Protocol of KServe and Triton, the contracts of Vertex AI and "
    "SageMaker, and a page for trying out images.",
    example="tfic serve runs/pets --port 8501",
    positions=("model_dir", "models"),
    required=("model_dir",),
    may_need_no_tensorflow=True,
)
def main(given: Arguments, settings: Settings) -> int:
    """Serve until a signal stops the server; returns the exit status."""
    if 0 < given.max_request_pixels < given.max_image_pixels:
        raise UsageError(
            f"--max_request_pixels is {given.max_request_pixels}, less than --max_image_pixels "
            f"{given.max_image_pixels}. Raise it, or lower --max_image_pixels."
        )
    model_dirs = _model_dirs([settings.run.model_dir, *given.models], given.name)
    origins = tuple(_origin(text) for text in given.cors)
    faults.allow_open_files()
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
    from tf_image_classification.workflows.serve import serve_folders

    from_platform = server.environment_options(os.environ)
    platform_port = _platform_port(from_platform.pop("port", ""))
    port = given.port or platform_port or 8501
    host = given.host or ("0.0.0.0" if platform_port and not given.port else "127.0.0.1")
    options = ServerOptions(
        limits=Limits(given.max_batch_size, given.max_wait_ms, given.max_queue),
        connections=ConnectionLimits(
            given.max_connections, given.header_timeout_secs, given.timeout_secs
        ),
        max_body_bytes=int(given.max_body_mb * 2**20),
        max_request_pixels=given.max_request_pixels,
        timeout_secs=given.timeout_secs,
        token=read_token(given.token_file),
        predict_route=from_platform.get("predict_route", ""),
        health_route=from_platform.get("health_route", ""),
        cors_origins=origins,
        reload_secs=given.reload_secs,
    )

    def prepare(with_onednn: bool) -> None:
        hide_absl()
        prepare_tensorflow(
            settings.replace(deterministic=False), with_onednn=with_onednn, is_inference=True
        )

    serve_folders(
        model_dirs,
        options,
        host,
        port,
        max_pixels=given.max_image_pixels,
        engine=given.engine,
        before_tensorflow=prepare,
    )
    return 0


def _model_dirs(words: Sequence[str], first_name: str) -> dict[str, str]:
    """The model folders by their names in addresses.

    Raises:
        ConfigError: an address cannot contain a name, or two folders have the same.
        UsageError: a word is a port.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, model_dir = word.partition("=")
        if not equals or files.exists(word):
            name, model_dir = "", word
        if word.isdecimal() and found and not os.path.exists(word):
            raise UsageError(f"{word!r} belongs to no flag. Write --port {word} for a port.")
        name = name or (first_name if not found else "")
        name = name or os.path.basename(os.path.abspath(model_dir))
        if not name or set(name) & set("/{}?#%:"):
            raise ConfigError(
                f"The model's name {name!r} cannot be part of an address. Choose another with "
                "--name, or write NAME=DIR."
            )
        if name in found:
            raise ConfigError(
                f"Two models have the name {name}: {found[name]} and {model_dir}. Write NAME=DIR."
            )
        found[name] = model_dir
    return found


def _origin(text: str) -> str:
    """An origin as browsers send it.

    Raises:
        UsageError: it is something else, e.g. an address with a path.
    """
    if text != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/]+/?", text):
        raise UsageError(
            f"--cors {text}: expected an origin without a path, e.g. https://example.org, or *."
        )
    return text.rstrip("/")


def _platform_port(text: str) -> int:
    """The port of the platform, or 0 if it gives none."""
    if text and not (text.isdecimal() and int(text) <= _MAX_PORT):
        raise ConfigError(
            f"AIP_HTTP_PORT or SAGEMAKER_BIND_TO_PORT is {text}, expected a port, 1 to {_MAX_PORT}."
        )
    return int(text or 0)


def read_token(path: str) -> str:
    """The token in a file; without one that of the environment, or ""."""
    if not path:
        return os.environ.get(TOKEN, "")
    try:
        token = files.read_text(path).strip()
    except OSError as error:
        raise ConfigError(f"--token_file {path} cannot be read: {error}.") from error
    if not token:
        raise ConfigError(f"--token_file {path} is empty.")
    return token
